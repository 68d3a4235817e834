"""The public scheduler: ``open_scheduler`` and the ``Scheduler`` that it yields.

Life of a scheduler::

    OPENING --observers started--> OPEN --block ends--> CLOSING --kernel left--> CLOSED

Only an open scheduler can be used; in every other state its operations raise
``SchedulerClosed``. On the way from OPEN to CLOSED it tells the objects that registered
with ``on_close``, which end their own waits, and cancels its timers. Other schedulers of
the same loop are not affected.

The state that several schedulers of one loop share is in ``kernel.py``.
"""

from __future__ import annotations

import enum
import logging
import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVarTuple
from weakref import WeakKeyDictionary

import trio

from rtos.errors import ConfigurationError, SchedulerClosed
from rtos.scheduler.kernel import Kernel, Settings, current_kernel, join_kernel, leave_kernel
from rtos.scheduler.policy.context import SchedulingContext
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, RESERVE, check_deadline, check_level
from rtos.scheduler.statistics import SchedulerStatistics, account_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rtos.scheduler.diagnosis.attribution import MissReport
    from rtos.scheduler.diagnosis.miss_log import MissLog
    from rtos.scheduler.diagnosis.watchdog import Alarm
    from rtos.scheduler.dispatch.accounting import Accounts
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.scheduler.tracing.ring import Trace

Arguments = TypeVarTuple("Arguments")

log = logging.getLogger("rtos.scheduler")


class SchedulerState(enum.Enum):
    """Where a scheduler is in its life; see the module's docstring."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


# A look-up in the enumeration takes longer than the rest of the check.
_OPEN: Final = SchedulerState.OPEN


class ClosesWithScheduler(Protocol):
    """An object with waits that must end when its scheduler closes."""

    def scheduler_closed(self) -> None:
        """End every wait with ``SchedulerClosed``; called once, must be synchronous."""


class Scheduler:
    """Priorities, deadlines and CPU accounts for the running Trio loop.

    Made by ``open_scheduler``. Not thread-safe: use it in the thread of its loop.

    Attributes:
      state: whether it can be used.
      accounts: the accounts of the loop, to which its contexts belong; for kernel code.
      trace: what the loop did recently; ``scheduler.trace.snapshot()`` reads it.
      host: the context of tasks that have no context of their own.
      now: ``now()`` reads the current Trio time in seconds, as ``trio.current_time()``
        does, in less time.
      cpu_ns: ``cpu_ns(context)`` is the CPU time that ``context`` has used, in nanoseconds,
        the running step included.
      settle: ``settle(context)`` bills what the running step has spent; for kernel code,
        before it changes ``context.payer``.
      next_timer: ``next_timer()`` reserves a position for ``add_timer``, so that the timer
        fires before timers added later for the same instant; for kernel code.
      direct: the run queue, if a call may be served inside its caller's step, else
        ``None``; for kernel code.
      record: ``record(raw)`` writes to the trace; ``None`` if the trace is off.
      next_call: ``next_call()`` is a new number for a call in the trace.
    """

    def __init__(self, kernel: Kernel, *, on_miss: Callable[[MissReport], None] | None = None) -> None:
        queue = kernel.queue
        self.state = SchedulerState.OPENING
        self.accounts: Accounts = queue
        self.trace: Trace = queue.trace
        self.host: SchedulingContext = queue.host
        self.now: Callable[[], float] = kernel.now
        self.cpu_ns: Callable[[SchedulingContext], int] = queue.cpu_ns
        self.settle: Callable[[SchedulingContext], None] = queue.settle
        self.next_timer: Callable[[], int] = kernel.timers.next_place
        self.direct = kernel.direct
        self.record = queue.recorder.record
        self.next_call: Callable[[], int] = self.trace.next_call
        self._kernel = kernel
        self._on_miss = on_miss
        self._miss_log: MissLog | None = None
        # Weak: a context goes with its last task and reference, an owner with its last reference.
        self._contexts: WeakKeyDictionary[SchedulingContext, None] = WeakKeyDictionary()
        self._owners: WeakKeyDictionary[ClosesWithScheduler, None] = WeakKeyDictionary()

    def __repr__(self) -> str:
        return f"<Scheduler {self.state.value}>"

    @property
    def host_level(self) -> int:
        """The level of tasks that have no context of their own."""
        return self._kernel.queue.host.base_level

    @property
    def ordered(self) -> bool:
        """Whether tasks run by level and deadline; otherwise Trio chooses the next task."""
        return self._kernel.settings.ordered

    @property
    def reserve(self) -> float:
        """The share of the CPU time that is kept for less urgent levels."""
        return self._kernel.settings.reserve

    # Tasks.

    @trio.lowlevel.enable_ki_protection
    def start_soon(
        self,
        nursery: trio.Nursery,
        async_fn: Callable[[*Arguments], Awaitable[object]],
        *args: *Arguments,
        level: int = DEFAULT_LEVEL,
        deadline: float = math.inf,
        name: str | None = None,
    ) -> None:
        """Start ``async_fn(*args)`` in ``nursery``, under a context of its own.

        The tasks that the new task starts belong to the same context.

        Args:
          nursery: where the task runs.
          async_fn: an async function.
          *args: its arguments.
          level: 0 (most urgent) to 7; 4 by default.
          deadline: absolute Trio time in seconds, which decides among tasks of one level:
            the nearest runs first. None by default.
          name: for the statistics, the trace and Trio; the function's name by default.

        Raises:
          ValueError: ``level`` does not exist, or ``deadline`` is NaN.
          TypeError: ``name`` is not a string, or ``async_fn`` is not an async function.
          SchedulerClosed: the scheduler is not open.
          RuntimeError: the nursery is closed.

        Not a checkpoint. After an error nothing was started.
        """
        with self._make(
            "start_soon", _name_of(async_fn) if name is None else name, level=level, deadline=deadline
        ):
            nursery.start_soon(async_fn, *args, name=name)

    @trio.lowlevel.enable_ki_protection
    def context(
        self,
        name: str,
        *,
        level: int = DEFAULT_LEVEL,
        deadline: float = math.inf,
        budget: Budget | BandwidthServer | None = None,
    ) -> SchedulingContext:
        """A scheduling context; tasks that are started inside its ``with`` block belong to it.

        Its record and its row in ``statistics()`` exist until its block and its last task
        have ended and the program holds no reference to it.

        Args:
          name: for the statistics and the trace; need not be unique.
          level: 0 (most urgent) to 7; 4 by default.
          deadline: absolute Trio time in seconds, which decides among contexts of one
            level: the nearest goes first. None by default.
          budget: how much CPU time its tasks may use, or the ``budget`` of another context
            to share that one; no limit by default. Among contexts of one level the budget
            decides the order, instead of ``deadline``. A daemon without a budget that
            serves a call of this context charges its CPU time to this budget.

        Raises:
          ValueError: ``level`` does not exist, ``deadline`` is NaN, or a budget with
            ``Exhausted.DEMOTE`` would not make the context less urgent.
          TypeError: ``name`` is not a string.
          ConfigurationError: there is a budget, but ``open_scheduler(ordered=False)``.
          SchedulerClosed: the scheduler is not open.
        """
        return self._make(f"context({name!r})", name, level=level, deadline=deadline, budget=budget)

    def _make(
        self,
        operation: str,
        name: str,
        *,
        level: int,
        deadline: float,
        budget: Budget | BandwidthServer | None = None,
    ) -> SchedulingContext:
        self.check_open(operation)
        _check_name(operation, name)
        check_level(operation, level)
        check_deadline(operation, deadline)
        server = None if budget is None else self._server(operation, level, budget)
        context = SchedulingContext(name, level=level, deadline=deadline)
        context.owner = self.accounts
        self._contexts[context] = None
        if server is not None:
            self._kernel.join_budget(context, server)
        return context

    def _server(self, operation: str, level: int, budget: Budget | BandwidthServer) -> BandwidthServer:
        if not self.ordered:
            raise ConfigurationError(
                f"{operation}: budgets do not work with ordered=False",
                "leave out the budget, or open_scheduler(ordered=True)",
            )
        # Not imported before it is needed: most programs have no budgets.
        from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, Exhausted

        server = BandwidthServer(budget) if isinstance(budget, Budget) else budget
        budget = server.budget
        if budget.on_exhausted is Exhausted.DEMOTE and budget.level <= level:
            msg = (
                f"{operation}: the budget demotes to level {budget.level}, which is not below level {level};"
                " use a less urgent level for the budget"
            )
            raise ValueError(msg)
        return server

    def may_continue(self) -> bool:
        """Whether the running step is still within the quantum for a batch of short steps."""
        queue = self._kernel.queue
        return queue.step_age_ns() < queue.quantum_ns

    # Timers and the end.

    @trio.lowlevel.enable_ki_protection
    def add_timer(self, at: float, action: Callable[[], None], place: int = 0) -> Timer:
        """Call ``action`` at an absolute Trio time, in a system task.

        Args:
          at: seconds; a time that has passed fires at once, ``math.inf`` never.
          action: must be synchronous and short; an exception is logged.
          place: position among timers of one instant, from ``next_timer``; last by default.

        Returns:
          The timer; ``cancel()`` stops it. The scheduler cancels it when it closes.

        Raises:
          ValueError: ``at`` is NaN.
          SchedulerClosed: the scheduler is not open.

        In guest mode the host's code may call this too; it wakes the loop.
        """
        if self.state is not _OPEN:
            raise SchedulerClosed("add_timer")
        return self._kernel.add_timer(at, action, place, self)

    def check_open(self, operation: str) -> None:
        """Raise ``SchedulerClosed``, naming ``operation``, unless this scheduler is open."""
        if self.state is not _OPEN:
            raise SchedulerClosed(operation)

    def check_loop(self, operation: str) -> None:
        """Raise ``ValueError``, naming ``operation``, unless this scheduler's Trio loop is running."""
        if current_kernel() is not self._kernel:
            msg = f"{operation}: the scheduler belongs to another Trio loop; use a scheduler of this loop"
            raise ValueError(msg)

    def on_close(self, owner: ClosesWithScheduler) -> None:
        """Call ``owner.scheduler_closed()`` when this scheduler closes.

        Owners are called in the order in which they registered, while the state is
        CLOSING, and before the timers are cancelled. The reference to ``owner`` is weak.

        Raises:
          SchedulerClosed: the scheduler is not open.
        """
        self.check_open("on_close")
        self._owners[owner] = None

    def _close(self) -> None:
        """Answer everything that waits for this scheduler."""
        self.state = SchedulerState.CLOSING
        for owner in list(self._owners):
            try:
                owner.scheduler_closed()
            except Exception:
                # The waits of the other owners must end too.
                log.exception("closing the scheduler: %r raised", owner)
        self._kernel.timers.cancel_all(self)
        if self._miss_log is not None:
            self._miss_log.close()

    # What it has counted.

    @property
    def miss_log(self) -> MissLog:
        """Where a port reports that a call missed its deadline; for kernel code."""
        if self._miss_log is None:
            # Not imported before it is needed: most of its cost is that of the reports.
            from rtos.scheduler.diagnosis.miss_log import MissLog

            self._miss_log = MissLog(
                self.trace, now=self.now, add_timer=self.add_timer, on_miss=self._on_miss
            )
        return self._miss_log

    @property
    def misses(self) -> tuple[MissReport, ...]:
        """Reports on the latest calls that missed their deadline, the oldest first.

        A report appears one pass of the loop after the miss; later if many calls miss, or
        never: ``statistics().unexplained`` counts misses without a report.
        """
        return () if self._miss_log is None else tuple(self._miss_log.reports)

    def statistics(self) -> SchedulerStatistics:
        """A snapshot of the counters. Not a checkpoint; also works after closing."""
        kernel, misses = self._kernel, self._miss_log
        contexts = (kernel.queue.system, kernel.queue.host, *self._contexts)
        return SchedulerStatistics(
            passes=kernel.queue.passes,
            donated=kernel.queue.donated,
            sleeps=kernel.sleeps,
            ready=kernel.queue.waiting(),
            timers=len(kernel.timers),
            misses=0 if misses is None else misses.count,
            unexplained=0 if misses is None else misses.unexplained,
            contexts=tuple(account_of(each) for each in sorted(contexts, key=lambda each: each.level)),
        )


@asynccontextmanager
@trio.lowlevel.enable_ki_protection
async def open_scheduler(
    *,
    quantum: float | None = None,
    host_level: int = DEFAULT_LEVEL,
    reserve: float | None = None,
    direct: bool | None = None,
    ordered: bool = True,
    trace: int = 0,
    on_miss: Callable[[MissReport], None] | None = None,
    watchdog: float | None = None,
    on_alarm: Callable[[Alarm], None] | None = None,
) -> AsyncIterator[Scheduler]:
    """Run the tasks of this Trio loop by priority and deadline, until the block ends.

    Several schedulers may be open in one loop; they share one run queue, so ``quantum``,
    ``host_level``, ``reserve``, ``direct`` and ``ordered`` must be equal. The first one
    that asks for a trace or a watchdog decides about it, until the last one closes.

    Args:
      quantum: longest batch of short steps between two looks at I/O, in seconds. 0 runs
        one step at a time (strict mode). By default 100 µs, and 0 with a virtual clock.
      host_level: level of tasks without a context, 0 (most urgent) to 7; 4 by default.
      reserve: share of the CPU time that less urgent levels get even if more urgent tasks
        could use all of it, so that no level starves: 0 (strict priorities) up to, but
        not including, 1. By default 0.05, and 0 if ``ordered`` is false.
      direct: serve a call to an idle worker inside its caller's step if both together fit
        into the quantum. Results are the same either way, sooner with it. By default the
        value of ``ordered``.
      ordered: whether this scheduler chooses the next task. If false, Trio does, and every
        Trio version works: calls, messages, timers, periodic jobs, supervision, trace and
        accounts work as before, but tasks run in Trio's order, and budgets, ``reserve``
        and ``direct`` raise ``ConfigurationError``.
      trace: number of records of recent activity to keep, at about 250 bytes each;
        4096 records are 1 MB. Off (0) by default. Reports on missed deadlines need the
        trace to tell what took the time. Garbage collections of the process are recorded
        too.
      on_miss: called with the report on each call that missed its deadline, in a system
        task; must be synchronous and short. By default reports are only kept in ``misses``.
      watchdog: length of a step, in seconds, above which a thread logs a report while the
        step still runs. No watchdog by default. Has no use with a virtual clock.
      on_alarm: called with each report of the watchdog, in the watchdog's thread.

    Raises:
      ValueError: a number is out of its range.
      ConfigurationError: another scheduler of this loop has other settings, or
        ``ordered`` is false and ``reserve`` or ``direct`` is not.
      UnsupportedTrio: the run queue does not know this Trio version; ``ordered=False``
        works with it.

    Entering is not a checkpoint. Leaving always is one, also during cancellation or after
    ``KeyboardInterrupt``. Tasks that still wait then continue in Trio's own order.
    Periodic loops, calls and other waits that need the scheduler raise
    ``SchedulerClosed``.
    """
    settings = _check_settings(quantum, host_level, reserve, direct, ordered=ordered)
    _check_observers(trace, watchdog)
    kernel = join_kernel(settings)
    try:
        kernel.start_trace(trace)
        if watchdog is not None:
            kernel.start_watchdog(watchdog, on_alarm)
        scheduler = Scheduler(kernel, on_miss=on_miss)
        scheduler.state = SchedulerState.OPEN
        try:
            yield scheduler
        finally:
            scheduler._close()
    finally:
        try:
            await leave_kernel(kernel)
        finally:
            scheduler.state = SchedulerState.CLOSED


def _check_settings(
    quantum: float | None, host_level: int, reserve: float | None, direct: bool | None, *, ordered: bool
) -> Settings:
    check_level("open_scheduler(host_level)", host_level)
    if quantum is not None and not 0 <= quantum < math.inf:
        msg = f"open_scheduler: quantum {quantum!r} is not a duration; use seconds, or 0 for strict mode"
        raise ValueError(msg)
    if reserve is None:
        reserve = RESERVE if ordered else 0.0
    if not 0 <= reserve < 1:
        msg = f"open_scheduler: reserve {reserve!r} is not a share; use 0 for none, or a share below 1"
        raise ValueError(msg)
    if direct is None:
        direct = ordered
    if not ordered and (reserve or direct):
        option = f"reserve={reserve!r}" if reserve else "direct=True"
        raise ConfigurationError(
            f"open_scheduler: {option} does not work with ordered=False", "leave out one of the two"
        )
    return Settings(quantum, host_level, reserve, direct, ordered)


def _check_observers(trace: int, watchdog: float | None) -> None:
    if trace < 0:
        msg = f"open_scheduler: trace {trace!r} is not a number of records; use 0 for no trace"
        raise ValueError(msg)
    if watchdog is not None and not 0 < watchdog < math.inf:
        msg = f"open_scheduler: watchdog {watchdog!r} is not a limit; use seconds, or None for no watchdog"
        raise ValueError(msg)


def _check_name(operation: str, name: str) -> None:
    given: object = name
    if not isinstance(given, str):
        msg = f"{operation}: name {given!r} is not a string; use a str"
        raise TypeError(msg)


def _name_of(function: Any) -> str:
    """The name of a function that a person would recognize, also of a ``functools.partial``."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "__qualname__", None) or repr(function)
