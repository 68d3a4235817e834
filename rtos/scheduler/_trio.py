"""The one place that touches Trio's internals: the run queue inside its loop.

What it relies on, and checks before it changes anything:

* the running loop is ``trio._core._run.GLOBAL_RUN_CONTEXT.runner``, and its ready
  queue is ``runner.runq``, a ``collections.deque`` that is looked up anew each time;
* of that queue only ``append``, truth, length, iteration and ``clear`` are used, and
  each pass of the loop copies it with ``list()`` and clears it right after;
* ``runner.init_task`` is the root of the task tree, ``runner.main_task`` the host's
  first task, and ``runner.system_context`` what new system tasks start from.

Everything else is public: instruments, a task's context, ``reschedule``.

Arrivals stay C appends; what is ordered is ordered once per pass. Trio shuffles
what one pass hands it. A pass is therefore one step, or several steps of one
single context, whose tasks have no order among themselves. Ordering on every
append, and a hook around every step, were tried: 50 to 200 % dearer per step
than Trio alone, where this costs about 10 %.

Invariant: a released task is in exactly one place: among the arrivals (the deque
itself) or in the ready order. While the ready order holds tasks the deque is not
empty (a placeholder stands in it), so the loop never sleeps on released tasks.
"""

from __future__ import annotations

import math
from collections import deque
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio
from trio._core import _run as trio_run

from rtos.errors import UnsupportedTrio
from rtos.scheduler.context import SYSTEM_LEVEL, SchedulingContext, context_variable
from rtos.scheduler.ready import ReadyQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context, Token

    from rtos.scheduler.timers import TimerHeap

TESTED: Final = ("0.30.0", "0.35.0")
"""The oldest and the newest Trio release that the suite has been run with."""

_PLACEHOLDER: Final = None
_length = deque.__len__
_arrivals = deque.__iter__
_clear = deque.clear


class RunQueue(deque[Any]):
    """Trio's ready queue, ordered by scheduling context.

    Attributes:
      host: the context of tasks that have none of their own.
      system: the context of Trio's system tasks and the kernel's own.
      passes: passes of the loop that ran at least one step.
    """

    def __init__(self, *, quantum_ns: int, host_level: int, timers: TimerHeap) -> None:
        super().__init__()
        self.host = SchedulingContext("host", level=host_level)
        self.system = SchedulingContext("system")
        self.system.base_level = self.system.level = SYSTEM_LEVEL
        self.passes = 0
        self.wake_timers: Callable[[], None] = _nothing
        self._timers = timers
        self.clock = _clock_reader(_runner().clock)
        self._quantum_ns = quantum_ns
        self._ready = ReadyQueue()
        self._running: SchedulingContext | None = None
        self._batch = 1
        self._began_ns = perf_counter_ns()
        self._marked: list[tuple[Context, Token[SchedulingContext]]] = []

    # What the loop calls: list(queue), then queue.clear().

    def __iter__(self) -> Iterator[Any]:
        """Choose what this pass runs. The loop calls it once a pass, before ``clear``."""
        self._began_ns = perf_counter_ns()
        at = self._timers.next_at()
        if at != math.inf and at <= self.clock():
            self.wake_timers()
        ready = self._ready
        if not ready.waiting and _length(self) == 1:
            # The common case of a calm system, kept out of the ready order.
            task = self[0]
            self._running = task.context.get(context_variable, self.host)
            self._batch = 1
            self.passes += 1
            return iter((task,))
        self._order_arrivals()
        if not ready.waiting:
            self._running = None
            return iter(())
        return iter(self._choose())

    def clear(self) -> None:
        """Drop the arrivals, which ``__iter__`` has taken over. The loop calls it once a pass."""
        _clear(self)
        if self._ready.waiting:
            self.append(_PLACEHOLDER)

    def _order_arrivals(self) -> None:
        push, host = self._ready.push, self.host
        for task in _arrivals(self):
            if task is not _PLACEHOLDER:
                push(task.context.get(context_variable, host), task)
        _clear(self)

    def _choose(self) -> list[Any]:
        head = self._ready.head()
        assert head is not None
        fitting = self._quantum_ns // head.step_ns if head.step_ns else 1
        self._running, tasks = self._ready.pop(max(fitting, 1))
        self._batch = len(tasks)
        self.passes += 1
        return tasks

    # What the kernel calls.

    def close_pass(self) -> None:
        """Bill the pass that has just ended. Called before the loop waits for I/O."""
        context = self._running
        if context is None:
            return
        self._running = None
        spent_ns, steps = perf_counter_ns() - self._began_ns, self._batch
        context.cpu_ns += spent_ns
        context.steps += steps
        mean_ns, known_ns = spent_ns // steps, context.step_ns
        if mean_ns > context.longest_ns:
            context.longest_ns = mean_ns
        # Rises at once and falls slowly, so that one lucky step does not make
        # the next batch long.
        context.step_ns = mean_ns if mean_ns > known_ns else known_ns - ((known_ns - mean_ns) >> 3)
        if context.payer is not None:
            context.payer.billed_ns += spent_ns

    def step_age_ns(self) -> int:
        """How long the running step, or batch of steps, has run so far."""
        return perf_counter_ns() - self._began_ns

    def tasks(self) -> list[Any]:
        """Every released task that waits here, in no particular order."""
        return [*self._ready, *(task for task in _arrivals(self) if task is not _PLACEHOLDER)]

    def install(self) -> None:
        """Take over from the queue of the running loop."""
        runner = _runner()
        for context in _system_contexts(runner):
            self._marked.append((context, context.run(context_variable.set, self.system)))
        self.extend(runner.runq)
        runner.runq = self

    def remove(self) -> None:
        """Put a plain queue back, with everything that waits."""
        runner = _runner()
        for context, token in self._marked:
            context.run(context_variable.reset, token)
        self._marked.clear()
        plain = deque(self.tasks())
        self._ready.clear()
        _clear(self)
        runner.runq = plain


def check_trio() -> None:
    """Check that the running loop is shaped as the run queue needs it.

    Raises:
      UnsupportedTrio: it is not; nothing has been changed.
    """
    runner = getattr(getattr(trio_run, "GLOBAL_RUN_CONTEXT", None), "runner", None)
    missing = [
        name for name in ("runq", "init_task", "main_task", "system_context") if not hasattr(runner, name)
    ]
    if missing or type(runner.runq) is not deque:
        found = f"runner lacks {missing}" if missing else f"runq is {type(runner.runq)!r}"
        raise UnsupportedTrio(
            f"trio {trio.__version__} is not shaped as the run queue needs it ({found})",
            f"use a version from {TESTED[0]} to {TESTED[1]}, or open the scheduler with ordered=False",
        )


def _runner() -> Any:
    return trio_run.GLOBAL_RUN_CONTEXT.runner


def _system_contexts(runner: Any) -> Iterator[Context]:
    """The contexts that Trio's system tasks run in, and that new ones are copied from."""
    yield runner.system_context
    here = trio.lowlevel.current_task()
    spawned = [task for nursery in runner.init_task.child_nurseries for task in nursery.child_tasks]
    for task in (runner.init_task, *spawned):
        if task is not runner.main_task and task is not here:
            yield task.context


def _clock_reader(clock: trio.abc.Clock) -> Callable[[], float]:
    """A function that reads ``clock``, inlined for Trio's own."""
    if type(clock) is not trio_run.SystemClock:
        return clock.current_time
    offset = clock.offset
    return lambda: offset + perf_counter()


def _nothing() -> None:
    """Stand in until the kernel's timer task is there."""
