"""Accounts, timers and trace of the kernel on Trio's own order of tasks.

For a Trio whose internals the run queue cannot use: this module uses public API only.
Trio's instrument reports when the loop has polled for I/O and when a step begins; a step
ends where the next one begins, or where the loop polls again.

Not available here: the order of tasks by level and deadline, several steps per pass,
budgets, the reserve, and calls that are served inside their caller's step. Trio's system
tasks cannot be distinguished from the host's, and are billed to the host.

Must not use: any private name of Trio.
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
    from trio.lowlevel import Task

    from rtos.scheduler.policy.timer_heap import TimerHeap


class TrioOrder(Accounts, trio.abc.Instrument):
    """The accounts of a loop whose tasks run in Trio's order; ``passes`` counts steps."""

    def __init__(self, *, quantum_ns: int, host_level: int, timers: TimerHeap) -> None:
        clock = trio.lowlevel.current_clock()
        real = is_system(clock)
        super().__init__(
            quantum_ns=quantum_ns,
            host_level=host_level,
            timers=timers,
            clock=clock.current_time,
            epoch=nanoseconds(clock.current_time()) - perf_counter_ns() if real else 0,
            real=real,
        )
        # When the pass began; every task that it runs was ready then.
        self._looked_ns = self._began_ns
        self._task: Task | None = None

    # Trio's instrument.

    def after_io_wait(self, timeout: float) -> None:  # noqa: ARG002 - Trio's signature
        """Wake the timer task, in time for the pass that begins."""
        self._looked_ns = self._settled_ns = self.ticks_ns()
        at = self._timers.next_at()
        if at != math.inf and at <= self.clock():
            self.wake_timers()

    def before_task_step(self, task: Task) -> None:
        """Close the account of the step that has ended, and open that of ``task``."""
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
        """Bill the step, or record the sleep, that has just ended."""
        context = self._running
        if context is None:
            # Not in ``after_io_wait``: virtual time passes after that.
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
        """Start to observe the running loop."""
        trio.lowlevel.add_instrument(self)
        accounts_variable.set(self)

    def uninstall(self) -> None:
        """Stop observing the loop."""
        trio.lowlevel.remove_instrument(self)
        accounts_variable.set(None)

    def waiting(self) -> int:
        """How many released tasks wait to run, by Trio's count."""
        return trio.lowlevel.current_statistics().tasks_runnable

    def running_task(self) -> str:
        """The name of the running task, readable from any thread."""
        task = self._task
        return "none" if task is None else str(task.name)
