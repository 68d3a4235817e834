"""The public scheduler: ``open_scheduler`` and the ``Scheduler`` that it yields.

Checks the settings and makes contexts. The state that several schedulers of one loop
share is in ``kernel.py``.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from rtos.errors import ConfigurationError
from rtos.scheduler.budgets.bandwidth_server import BandwidthServer, Budget, Exhausted
from rtos.scheduler.diagnosis.miss_log import MissLog
from rtos.scheduler.diagnosis.watchdog import Watchdog
from rtos.scheduler.kernel import Kernel, Settings, join_kernel, leave_kernel
from rtos.scheduler.policy.context import SchedulingContext
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, check_level
from rtos.scheduler.statistics import SchedulerStatistics, account_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from rtos.scheduler.diagnosis.attribution import MissReport
    from rtos.scheduler.diagnosis.miss_log import Report
    from rtos.scheduler.diagnosis.watchdog import Alarm
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.scheduler.tracing.ring import Trace

RESERVE: Final = 0.05
"""Default share of the time that is kept for less urgent levels."""

RECORDS: Final = 65_536
"""Default length of the trace: some 12 MB when it is full."""


class Scheduler:
    """Priorities, deadlines and accounts for the running loop. Made by ``open_scheduler``."""

    def __init__(self, kernel: Kernel, *, on_miss: Report = None) -> None:
        self._kernel = kernel
        self.trace: Trace = kernel.queue.trace
        """What the loop did lately; ``scheduler.trace.snapshot()`` reads it."""
        self.direct = kernel.direct
        """Where a step may be run within another, for the kernel's own parts; ``None`` for nowhere."""
        self.record = kernel.queue.recorder.record
        """Where raw records of the trace are written; ``None`` when there is no trace."""
        self.next_call: Callable[[], int] = self.trace.next_call
        """A number for a call in the trace."""
        self.miss_log = MissLog(self.trace, now=kernel.now, add_timer=kernel.add_timer, on_miss=on_miss)
        self._contexts: dict[SchedulingContext, None] = {}
        self.host: SchedulingContext = kernel.queue.host
        """The context of tasks that have none of their own."""
        self.settle: Callable[[SchedulingContext], None] = kernel.queue.settle
        """``settle(context)``: bill what the running step has spent; for whoever changes ``payer``."""
        self.cpu_ns: Callable[[SchedulingContext], int] = kernel.queue.cpu_ns
        """``cpu_ns(context)``: nanoseconds it has used so far, the running step included."""
        self.now: Callable[[], float] = kernel.now
        """The current Trio time, in seconds; the same as ``trio.current_time()``, and cheaper."""
        self.add_timer: Callable[..., Timer] = kernel.add_timer
        """``add_timer(at, action)``: call ``action`` (synchronous, short) at an absolute Trio time."""
        self.next_timer: Callable[[], int] = kernel.timers.next_place
        """A place for ``add_timer(at, action, place)``: before all that are added from now on."""

    @property
    def host_level(self) -> int:
        """The level of tasks that have no context of their own."""
        return self._kernel.queue.host.base_level

    @property
    def ordered(self) -> bool:
        """Whether tasks run by level and deadline, and not in Trio's own order."""
        return self._kernel.settings.ordered

    @property
    def reserve(self) -> float:
        """The share of the time that is kept for less urgent levels."""
        return self._kernel.settings.reserve

    def context(
        self,
        name: str,
        *,
        level: int = DEFAULT_LEVEL,
        deadline: float = math.inf,
        budget: Budget | BandwidthServer | None = None,
    ) -> SchedulingContext:
        """A scheduling context; enter it with ``with`` to start tasks under it.

        Args:
          name: for people.
          level: 0, the most urgent, to 7.
          deadline: absolute Trio time; the nearer goes first among equals.
          budget: how much CPU time it may use; another context's ``budget`` to
            share that one. It decides the order among equals instead of ``deadline``.
            What a daemon without a budget does for a call is charged to its caller.

        Raises:
          ConfigurationError: there is a budget, and Trio's own order, which keeps none.
          ValueError: there is no such level, or DEMOTE would not make it less urgent.
        """
        check_level(f"context({name!r})", level)
        if budget is not None and not self.ordered:
            raise ConfigurationError(
                f"context({name!r}): nobody keeps a budget in Trio's own order",
                "leave it out, or open_scheduler(ordered=True)",
            )
        if isinstance(budget, Budget):
            budget = BandwidthServer(budget)
        if budget is not None:
            _check_budget(name, level, budget.budget)
        context = SchedulingContext(name, level=level, deadline=deadline)
        self._contexts[context] = None
        if budget is not None:
            # A budget sets its timers between passes.
            self._kernel.start()
            self._kernel.queue.enforcement.join(context, budget)
        return context

    def release(self, context: SchedulingContext) -> None:
        """Forget a context; its account leaves the statistics, and it shares no budget any more."""
        self._contexts.pop(context, None)
        self._kernel.queue.enforcement.leave(context)

    def may_continue(self) -> bool:
        """Whether the running step is still within the quantum for short steps."""
        queue = self._kernel.queue
        return queue.step_age_ns() < queue.quantum_ns

    @property
    def misses(self) -> tuple[MissReport, ...]:
        """Reports on the latest calls that missed their deadline, the oldest first.

        A report is there a pass after the miss; later, or never, when many miss.
        """
        return tuple(self.miss_log.reports)

    def statistics(self) -> SchedulerStatistics:
        """A snapshot. Not a checkpoint."""
        kernel = self._kernel
        own = (kernel.queue.system, kernel.queue.host)
        accounts = [account_of(context) for context in (*own, *self._contexts)]
        return SchedulerStatistics(
            passes=kernel.queue.passes,
            donated=kernel.queue.donated,
            sleeps=kernel.sleeps,
            ready=kernel.queue.waiting(),
            timers=len(kernel.timers),
            misses=self.miss_log.count,
            unexplained=self.miss_log.unexplained,
            contexts=tuple(sorted(accounts, key=lambda account: account.level)),
        )


@asynccontextmanager
async def open_scheduler(
    *,
    quantum: float | None = None,
    host_level: int = DEFAULT_LEVEL,
    reserve: float | None = None,
    direct: bool | None = None,
    ordered: bool = True,
    trace: int = RECORDS,
    trace_gc: bool = False,
    on_miss: Report = None,
    watchdog: float | None = None,
    on_alarm: Callable[[Alarm], None] | None = None,
) -> AsyncIterator[Scheduler]:
    """Run the tasks of this Trio loop by priority and deadline, until the block ends.

    Args:
      quantum: how long a pass may go on with steps, in seconds; 0 runs one step per pass
        (strict mode). ``None`` for ``QUANTUM``, and in virtual time for 0.
      host_level: where tasks without a context stand, 0 (most urgent) to 7.
      reserve: share of each second that less urgent levels get although more
        urgent ones could use all of it, so that nobody can be locked out; 0 for
        strict priorities. ``None`` for ``RESERVE``, or 0 in Trio's own order.
      direct: serve a call to an idle daemon within the step of its caller, where both
        together fit the quantum. Nobody can tell by the outcome. ``None`` for yes,
        or no in Trio's own order.
      ordered: ``False`` leaves tasks in Trio's own order, and works with any Trio. Calls
        and messages still wait in order of level and deadline, and deadlines, timers,
        periodic releases, supervision, the trace and the accounts go on working;
        budgets, a reserve and the direct way of calls do not, and are refused. The
        quantum then bounds how long one step goes on with short pieces of work.
      trace: how many records of what happened are kept; 0 for none. Of several
        schedulers in one loop the first one decides.
      trace_gc: record garbage collections too, of the whole process.
      on_miss: what is done about a call that missed its deadline, besides telling
        its caller: ``"log"``, or a function that is called with its report in the
        kernel's timer task (synchronous, short).
      watchdog: longest step, in seconds, beyond which it is reported while it
        runs, by a thread of its own; ``None`` for no watchdog. Without use in
        virtual time. Of several schedulers in one loop the first to ask decides.
      on_alarm: called with each report of the watchdog, in its thread. They are
        logged in any case.

    Raises:
      UnsupportedTrio: this Trio is not shaped as the run queue needs it; ``ordered=False`` goes.
      ConfigurationError: another scheduler is open in this loop with other settings, or
        a reserve or the direct way is asked for in Trio's own order.
      ValueError: there is no such level, the quantum is negative or not finite,
        the reserve is no share, the trace has a negative length, or the watchdog would wait for nothing.

    Entering is no checkpoint, leaving is one, also when cancelled. What waits
    when it is left goes on in Trio's own order.
    """
    check_level("open_scheduler(host_level)", host_level)
    if quantum is not None and not 0 <= quantum < math.inf:
        msg = f"open_scheduler: quantum {quantum!r} is no length of time; use seconds, or 0 for strict mode"
        raise ValueError(msg)
    if reserve is None:
        reserve = RESERVE if ordered else 0.0
    if direct is None:
        direct = ordered
    if not 0 <= reserve < 1:
        msg = f"open_scheduler: reserve {reserve!r} is no share; use 0 for none, or less than 1"
        raise ValueError(msg)
    _check_observers(trace, watchdog)
    if not ordered:
        _check_plain(reserve=reserve, direct=direct)
    kernel = join_kernel(Settings(quantum, host_level, reserve, direct, ordered), trace)
    scheduler = Scheduler(kernel, on_miss=on_miss)
    try:
        with ExitStack() as observers:
            if trace_gc:
                observers.enter_context(kernel.collections)
            if watchdog is not None and kernel.queue.recorder.watch is None:
                observers.enter_context(_watch(kernel, watchdog, on_alarm))
            yield scheduler
    finally:
        scheduler.miss_log.close()
        await leave_kernel(kernel)


def _check_plain(*, reserve: float, direct: bool) -> None:
    asked = f"reserve={reserve!r}" if reserve else f"direct={direct!r}" if direct else None
    if asked is not None:
        raise ConfigurationError(
            f"open_scheduler: {asked} needs the run queue, and ordered is False",
            "leave it out, or leave ordered out",
        )


def _check_observers(trace: int, watchdog: float | None) -> None:
    if trace < 0:
        msg = f"open_scheduler: trace {trace!r} is no number of records; use 0 for none"
        raise ValueError(msg)
    if watchdog is not None and not 0 < watchdog < math.inf:
        msg = f"open_scheduler: watchdog {watchdog!r} is no limit; use seconds, or None for no watchdog"
        raise ValueError(msg)


@contextmanager
def _watch(kernel: Kernel, limit: float, on_alarm: Callable[[Alarm], None] | None) -> Iterator[None]:
    recorder = kernel.queue.recorder
    recorder.watch = watchdog = Watchdog(kernel.queue, limit=limit, on_alarm=on_alarm)
    watchdog.start()
    try:
        yield
    finally:
        recorder.watch = None
        watchdog.stop()


def _check_budget(name: str, level: int, budget: Budget) -> None:
    if budget.on_exhausted is Exhausted.DEMOTE and budget.level <= level:
        msg = f"context({name!r}): level {budget.level!r} of the budget is no demotion from {level!r}"
        raise ValueError(msg)
