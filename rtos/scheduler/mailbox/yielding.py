"""When a mailbox operation that need not wait gives way to other tasks.

Law: under the run queue, consecutive short operations on one mailbox extend their step to one
quantum at most, and to ``_MOST`` operations, since in virtual time no quantum ever ends.
Without the run queue, in Trio's own order, and in strict mode, every operation is a
checkpoint as in Trio: there the kernel does not decide which task runs next.

A checkpoint costs 2.5 to 3 µs, as much as all else that a message costs. The decision not
to give way costs 0.3 µs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rtos.scheduler.kernel import current_kernel

if TYPE_CHECKING:
    from rtos.scheduler.dispatch.run_queue import RunQueue

_MOST: Final = 64
"""Most operations in a row without a checkpoint."""


class YieldPolicy:
    """Decides for the tasks of one mailbox whether they go on within their step."""

    __slots__ = ("_left", "_queue")

    def __init__(self) -> None:
        # The run queue of the loop at the last checkpoint. If it has been closed since, its
        # last pass began more than a quantum ago, so that the next operation is a checkpoint.
        self._queue: RunQueue | None = None
        self._left = 0

    def may_continue(self) -> bool:
        """Whether the running task may do another operation in its step; false if it was cancelled."""
        queue = self._queue
        if (
            self._left
            and queue is not None
            and queue.step_age_ns() <= queue.donation_limit_ns
            and not queue.is_cancelled()
        ):
            self._left -= 1
            return True
        kernel = current_kernel()
        queue = None if kernel is None else kernel.direct
        # Without time for direct calls, as in strict mode, every operation is a checkpoint.
        self._queue = queue if queue is not None and queue.donation_limit_ns > 0 else None
        self._left = _MOST
        return False
