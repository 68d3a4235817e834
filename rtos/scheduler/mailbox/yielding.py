"""When a task that need not wait goes on within its step, and when it gives way.

Law: under the run queue a step of short operations on one mailbox grows to one quantum
at most, and to ``_MOST`` operations, for in virtual time no quantum ever ends. Without
it, in Trio's own order, and in strict mode, each operation gives way as Trio's do: who
runs next is not ours to say there.

Giving way costs 2.5 to 3 µs, as much as all else that a message costs; looking whether
to costs 0.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rtos.scheduler.kernel import current_kernel

if TYPE_CHECKING:
    from rtos.scheduler.dispatch.run_queue import RunQueue

_MOST: Final = 64


class Pace:
    """How long the tasks of one mailbox go on."""

    __slots__ = ("_left", "_queue")

    def __init__(self) -> None:
        # The run queue of the loop when somebody last gave way. One that has been
        # closed is noticed by its pass, which has lasted more than a quantum.
        self._queue: RunQueue | None = None
        self._left = 0

    def goes_on(self) -> bool:
        """Whether the running task may do one thing more in its step; not if it was cancelled."""
        queue = self._queue
        if (
            self._left
            and queue is not None
            and queue.step_age_ns() <= queue.lend_ns
            and not queue.must_check_in()
        ):
            self._left -= 1
            return True
        kernel = current_kernel()
        queue = None if kernel is None else kernel.direct
        # In strict mode, and where steps are not to lend, there is no time to go on for.
        self._queue = queue if queue is not None and queue.lend_ns > 0 else None
        self._left = _MOST
        return False
