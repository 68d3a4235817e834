"""CPU accounts of one loop: which context runs, since when, and which context pays.

The base class of both orders that a loop can have, the run queue's and Trio's own. They
know when steps begin and end, set the private fields here, and close the accounts.

Must not know: Trio, and which order it is.

Invariant: each nanosecond of a step is billed to one context; the part in which it
served a call for another context is billed to that payer as well.
"""

from __future__ import annotations

import math
import threading
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.policy.levels import SYSTEM_LEVEL
from rtos.scheduler.tracing.cpu_sampler import Recorder
from rtos.scheduler.tracing.raw import BUDGET, STEP
from rtos.scheduler.tracing.ring import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.budgets.enforcement import BudgetEnforcement
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer
    from rtos.scheduler.policy.timer_heap import TimerHeap


_claim: Final = threading.Lock()
"""Held while a context gets its owner: several loops may see a new context at once."""


class Accounts:
    """The accounts of one loop, and the running step.

    Args:
      quantum_ns: how long a pass may run steps, in nanoseconds; 0 for one step per pass.
      host_level: level of tasks that have no context of their own.
      timers: the kernel's timers.
      clock: reads the Trio time of this loop, in seconds.
      epoch: ticks + epoch = nanoseconds of Trio time.
      real: whether the Trio clock is the system's.

    Attributes:
      host: the context of tasks that have no context of their own.
      system: the context of Trio's system tasks and of the kernel's.
      passes: number of passes of the loop that ran at least one step.
      is_real: whether the Trio clock is the system's; otherwise time is virtual.
      clock: reads the Trio time of this loop, in seconds.
      ticks_ns: reads the clock that steps are timed and billed by; in virtual time a step
        costs the time by which it moves the clock.
      quantum_ns: how long a pass may run steps, in nanoseconds; 0 for one step per pass.
      donated: number of steps that tasks have donated (``donation``).
      wake_timers: called when a timer is due; set by the kernel.
      enforcement: the CPU budgets; unset until a context gets one.
      trace: what the loop did recently; off until the kernel starts it.
      recorder: records the sleep of the loop and samples of its CPU time.
    """

    enforcement: BudgetEnforcement

    def __init__(
        self,
        *,
        quantum_ns: int,
        host_level: int,
        timers: TimerHeap,
        clock: Callable[[], float],
        epoch: int,
        real: bool,
    ) -> None:
        self.host = SchedulingContext("host", level=host_level)
        self.system = SchedulingContext("system")
        self.system.base_level = self.system.level = SYSTEM_LEVEL
        self.host.owner = self.system.owner = self
        self.passes = 0
        self.donated = 0
        self.wake_timers: Callable[[], None] = _nothing
        self._timers = timers
        self.is_real = real
        self.clock = clock
        self.ticks_ns: Callable[[], int] = perf_counter_ns if real else lambda: round(clock() * 1e9)
        self.quantum_ns = quantum_ns
        # The context that ran last, and the one of the running step.
        self._last: SchedulingContext | None = None
        self._running: SchedulingContext | None = None
        # The level that the running context was chosen with, and since when it was ready.
        self._level = 0
        self._since_ns = 0
        # When the pass began, and since when the running context has been running.
        self._pass_ns = self._began_ns = self._settled_ns = self.ticks_ns()
        self.trace = Trace(0, epoch=epoch)
        self.recorder = Recorder(self.trace, now_ns=self._began_ns, real=real)

    def owns(self, context: SchedulingContext) -> bool:
        """Whether ``context`` belongs to this loop; one that belongs to no loop yet does from now on."""
        if context.owner is None:
            with _claim:
                if context.owner is None:
                    context.owner = self
        return context.owner is self

    def context_of(self, task: Any) -> SchedulingContext:
        """The context that a task of this loop runs under and is billed to."""
        context: SchedulingContext = task.context.get(context_variable, self.host)
        return context if context.owner is self or self.owns(context) else self.host

    def _account_for(self, context: SchedulingContext, steps: int) -> None:
        """Bill ``context`` for the time up to now, in which it has completed ``steps`` steps."""
        if context.payer is None:
            self._settled_ns = self.ticks_ns()
        else:
            self._settle(context)
        began_ns = self._began_ns
        spent_ns = self._settled_ns - began_ns
        context.cpu_ns += spent_ns
        context.steps += steps
        if context.budget is not None:
            self._charge(context, context.budget, spent_ns)
        record = self.recorder.record
        if record is not None:
            record((STEP, began_ns, spent_ns, context.number, context.name, self._level, steps,
                    self._since_ns))  # fmt: skip

    def _learn(self, context: SchedulingContext, length_ns: int) -> None:
        """Update the expected and the longest step of ``context`` by a step of this length."""
        known_ns = context.step_ns
        if length_ns > context.longest_ns:
            context.longest_ns = length_ns
        # Rises at once and falls slowly, so that one short step does not make many expected.
        context.step_ns = length_ns if length_ns > known_ns else known_ns - ((known_ns - length_ns) >> 3)

    def _charge(self, context: SchedulingContext, budget: BandwidthServer, spent_ns: int) -> None:
        self.enforcement.charge_own(budget, spent_ns, self._level)
        if self.recorder.record is not None:
            name = context.name
            self.recorder.record((BUDGET, self._settled_ns, context.number, name, budget.remaining))

    def settle(self, context: SchedulingContext) -> None:
        """Bill the time up to now. Called before the payer of ``context`` changes.

        One step may serve many calls, each for another payer.
        """
        if context is self._running:
            self._settle(context)

    def _settle(self, context: SchedulingContext) -> None:
        now_ns = self.ticks_ns()
        payer = context.payer
        if payer is not None:
            settled_ns, began_ns = self._settled_ns, self._began_ns
            spent_ns = now_ns - max(settled_ns, began_ns)
            payer.billed_ns += spent_ns
            # A server with a budget of its own uses that.
            if payer.budget is not None and context.budget is None:
                self.enforcement.charge_payer(payer.budget, spent_ns)
        self._settled_ns = now_ns

    def fall_asleep(self, timeout: float) -> None:
        """Note that the loop will sleep, for ``timeout`` seconds at most. Called after ``close_pass``."""
        # Virtual time is never late.
        planned = min(timeout, self._timers.next_at() - self.clock()) if self.is_real else math.inf
        self.recorder.fall_asleep(self.ticks_ns(), planned, self._last)
        # Otherwise a context whose tasks have ended would live as long as the loop sleeps.
        self._last = None

    def step_age_ns(self) -> int:
        """How long the running pass has run so far, in nanoseconds."""
        return self.ticks_ns() - self._pass_ns

    def cpu_ns(self, context: SchedulingContext) -> int:
        """CPU time of ``context`` so far, the running step included, in nanoseconds."""
        return context.cpu_ns + (self.ticks_ns() - self._began_ns if context is self._running else 0)

    @property
    def running(self) -> SchedulingContext | None:
        """The context of the running step; ``None`` between passes."""
        return self._running

    @property
    def asleep(self) -> bool:
        """Whether the loop sleeps."""
        return self.recorder.asleep


def _nothing() -> None:
    """Stand in until the kernel sets ``wake_timers``."""
