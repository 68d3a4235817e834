"""Trio's own order, with the accounts, the timers and the trace of the kernel.

For a Trio whose internals are not what the run queue knows: here everything is public
API. Trio tells, through its instrument, when it has polled for I/O and when a step
begins; a step ends where the next one begins, or where the loop polls again.

What is lost: the order of tasks, batches of one context, budgets, the reserve, and
calls that are served within their caller's step. Trio's own system tasks cannot be
told from the host's, and are billed to the host.

Must not touch: anything of Trio that is not public.
"""

from __future__ import annotations

import math
from time import perf_counter_ns
from typing import TYPE_CHECKING

import trio

from rtos.scheduler.dispatch.accounting import Accounts
from rtos.scheduler.dispatch.current import accounts_variable
from rtos.scheduler.dispatch.wakeup import is_system
from rtos.scheduler.tracing.raw import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import Task

    from rtos.scheduler.policy.timer_heap import TimerHeap


class PlainOrder(Accounts, trio.abc.Instrument):
    """Tasks run as Trio chooses; ``passes`` counts steps, since each is watched by itself."""

    def __init__(self, *, quantum_ns: int, host_level: int, timers: TimerHeap) -> None:
        clock = trio.lowlevel.current_clock()
        real = is_system(clock)
        super().__init__(
            quantum_ns=quantum_ns,
            host_level=host_level,
            timers=timers,
            clock=clock.current_time,
            ticks_ns=perf_counter_ns if real else _ticks_of(clock),
            epoch=nanoseconds(clock.current_time()) - perf_counter_ns() if real else 0,
            real=real,
        )
        # When the loop looked last at what is ready: all that a pass runs was ready then.
        self._looked_ns = self._began_ns
        self._task: Task | None = None

    # Trio's instrument.

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Wake whoever runs the timers, in time for the pass that begins."""
        self._looked_ns = self._settled_ns = self.ticks_ns()
        at = self._timers.next_at()
        if at != math.inf and at <= self.clock():
            self.wake_timers()

    def before_task_step(self, task: Task) -> None:
        """End the step that has run, and begin that of ``task``."""
        self.close_pass()
        context = self.context_of(task)
        self._pass_ns = self._began_ns = self._settled_ns
        self._since_ns = self._looked_ns
        self._level = context.level
        self._task = task
        self.passes += 1
        self._running = context

    # What the kernel calls.

    def close_pass(self) -> None:
        """Bill the step, or note the sleep, that has just ended."""
        context = self._running
        if context is None:
            # Not as soon as the loop has polled: virtual time passes after that.
            if self.recorder.asleep:
                self._settled_ns = self.ticks_ns()
                self.recorder.wake_up(self._settled_ns)
            return
        self._account_for(context, 1)
        self._running, self._last, self._task = None, context, None
        self._learn(context, self._settled_ns - self._pass_ns)
        if self._settled_ns >= self.recorder.measure_at:
            self.recorder.measure(self._settled_ns, context)

    def install(self) -> None:
        """Begin to listen to the running loop."""
        trio.lowlevel.add_instrument(self)
        accounts_variable.set(self)

    def uninstall(self) -> None:
        """Listen no more."""
        trio.lowlevel.remove_instrument(self)
        accounts_variable.set(None)

    def waiting(self) -> int:
        """How many released tasks wait to run, as Trio counts them."""
        return trio.lowlevel.current_statistics().tasks_runnable

    def running_task(self) -> str:
        """The name of the task that is running, from any thread."""
        task = self._task
        return "none" if task is None else str(task.name)


def _ticks_of(clock: trio.abc.Clock) -> Callable[[], int]:
    return lambda: round(clock.current_time() * 1e9)
