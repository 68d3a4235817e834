"""The scheduler: what is open while a loop runs by priority.

Owns the run queue, the timer heap and what wakes the loop for it. One loop has
one of them, however many schedulers are opened in it: the first one opened
installs it, and the last one closed puts Trio's own queue back. With
``ordered=False`` Trio's own queue stays where it is, and nothing private of Trio is
so much as imported.
"""

from __future__ import annotations

import logging
import math
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.errors import ConfigurationError
from rtos.scheduler.budget import Budget, Exhausted, Reservation
from rtos.scheduler.context import (
    DEFAULT_LEVEL,
    LEVELS,
    SchedulingContext,
    check_level,
    context_variable,
)
from rtos.scheduler.misses import MissLog
from rtos.scheduler.order import OverloadPolicy
from rtos.scheduler.plain import PlainOrder
from rtos.scheduler.port import Port
from rtos.scheduler.recorder import CollectionRecorder
from rtos.scheduler.tested import unsupported
from rtos.scheduler.timers import Timer, TimerHeap
from rtos.scheduler.wakeup import ClockWakeUp, TimerfdWakeUp, is_system, open_wakeup
from rtos.scheduler.watchdog import Watchdog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from rtos.scheduler._trio import RunQueue
    from rtos.scheduler.explain import MissReport
    from rtos.scheduler.misses import Report
    from rtos.scheduler.reaction import OnMiss
    from rtos.scheduler.trace import Trace
    from rtos.scheduler.watchdog import Alarm

log = logging.getLogger("rtos.scheduler")

QUANTUM: Final = 100e-6
"""Default length, in seconds, of a batch of short steps in one pass of the loop."""

RESERVE: Final = 0.05
"""Default share of the time that is kept for less urgent levels."""

RECORDS: Final = 65_536
"""Default length of the trace: some 12 MB when it is full."""

_kernel: trio.lowlevel.RunVar[_Kernel] = trio.lowlevel.RunVar("rtos_kernel")


@attrs.frozen
class SchedulerStatistics:
    """Counts since the first scheduler of this loop was opened.

    Attributes:
      passes: passes of Trio's loop that ran at least one step; in Trio's own order, steps.
      lent: steps of daemons that ran within the step of a caller, with no pass of their own.
      sleeps: times the loop went to sleep; a system that is idle adds none.
      ready: tasks that are released and wait to run.
      timers: timers that have not fired.
      misses: calls to ports of this scheduler that were not answered by their deadline.
      unexplained: those of them for which there is no report, since there were too many.
      contexts: the account of each context that is alive, most urgent first.
    """

    passes: int
    lent: int
    sleeps: int
    ready: int
    timers: int
    misses: int
    unexplained: int
    contexts: tuple[ContextStatistics, ...]


@attrs.frozen
class ContextStatistics:
    """The account of one scheduling context; times in seconds."""

    name: str
    level: int
    steps: int
    cpu: float
    longest_step: float
    billed: float


@attrs.frozen
class _Settings:
    """What all schedulers that are open in one loop share."""

    quantum: float | None
    host_level: int
    reserve: float
    direct: bool
    ordered: bool

    @property
    def quantum_ns(self) -> int:
        """How long a pass may go on; in virtual time, where steps take none of it, not unless told so."""
        if self.quantum is None and not is_system(trio.lowlevel.current_clock()):
            return 0
        return self.known_ns

    @property
    def known_ns(self) -> int:
        """How long steps within a step may be known to be."""
        return int((QUANTUM if self.quantum is None else self.quantum) * 1e9)


class _Kernel(trio.abc.Instrument):
    """What one loop has, shared by the schedulers that are open in it."""

    def __init__(self, *, records: int, settings: _Settings) -> None:
        self.timers = TimerHeap()
        self.settings = settings
        # Where steps may be run within others; nowhere in Trio's own order.
        self.direct: RunQueue | None = None
        self.queue: RunQueue | PlainOrder
        if settings.ordered:
            self.queue = self.direct = _open_run_queue(settings, self.timers, records)
        else:
            self.queue = PlainOrder(
                quantum_ns=settings.quantum_ns,
                host_level=settings.host_level,
                timers=self.timers,
                records=records,
            )
        self.queue.allowances.add_timer = self.add_timer
        self.queue.allowances.tell = self._tell
        self._token = trio.lowlevel.current_trio_token()
        self.collections = CollectionRecorder(self.queue.trace, self.queue.ticks_ns)
        self.users = 0
        self.sleeps = 0
        self.now = self.queue.clock
        # There with the first timer: a scheduler that has none adds no task to the loop.
        self._wakeup: ClockWakeUp | TimerfdWakeUp | None = None
        self._timer_task: trio.lowlevel.Task | None = None
        self._timer_parked = False
        self._scopes: list[trio.CancelScope] = []
        self._stopped = trio.Event()

    # Trio's instrument: the end of each pass.

    def before_io_wait(self, timeout: float) -> None:
        """Close the account of the pass, and arm the wake-up when the loop will sleep."""
        self.queue.close_pass()
        if timeout > 0:
            self.sleeps += 1
            self.queue.fall_asleep(timeout)
            if self._wakeup is not None:
                self._wakeup.arm(self.timers.next_at())
            return
        if not self.queue.is_real:
            # Virtual time passes here, whatever Trio says it waits for.
            self.queue.fall_asleep(math.inf)
        self._arm_early()

    def install(self) -> None:
        self.queue.wake_timers = self._wake_timers
        self.queue.take_over()
        trio.lowlevel.add_instrument(self)

    def start(self) -> None:
        """Start the tasks that timers need, unless they run; in a step of some task, not between passes."""
        if self._wakeup is not None:
            return
        self._wakeup = open_wakeup(trio.lowlevel.current_clock())
        for body in (self._run_timers, self._run_wakeup):
            scope = trio.CancelScope()
            self._scopes.append(scope)
            trio.lowlevel.spawn_system_task(self._run_system, body, scope)

    async def remove(self) -> None:
        # Trio's own queue is back before anybody else runs: a scheduler that is
        # opened while this one still winds down finds the loop as it must be.
        trio.lowlevel.remove_instrument(self)
        self.queue.close_pass()
        self.queue.hand_back()
        for scope in tuple(self._scopes):
            scope.cancel()
        if self._wakeup is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with trio.CancelScope(shield=True):
            await self._stopped.wait()

    async def _run_system(self, body: Callable[[], Any], scope: trio.CancelScope) -> None:
        # The run queue has told Trio so already; in Trio's own order nobody has.
        context_variable.set(self.queue.system)
        try:
            with scope:
                await body()
        finally:
            self._scopes.remove(scope)
            if not self._scopes:
                self._stopped.set()

    async def _run_timers(self) -> None:
        self._timer_task = trio.lowlevel.current_task()

        def abort(_: Any) -> trio.lowlevel.Abort:
            self._timer_parked = False
            return trio.lowlevel.Abort.SUCCEEDED

        while True:
            self._timer_parked = True
            await trio.lowlevel.wait_task_rescheduled(abort)
            for action in self.timers.due(self.now()):
                try:
                    action()
                except Exception:
                    # The timers of everybody else must go on.
                    log.exception("the action of a timer raised")
            self._arm_early()

    async def _run_wakeup(self) -> None:
        # Below everybody: its step says only that the sleep is over. Each pass looks
        # at the timers by itself, and the loop cannot sleep before this has run.
        assert self._wakeup is not None
        with SchedulingContext("wake-up", level=LEVELS - 1):
            await self._wakeup.run()

    def _wake_timers(self) -> None:
        if self._timer_parked:
            assert self._timer_task is not None
            self._timer_parked = False
            trio.lowlevel.reschedule(self._timer_task)

    def _tell(self, told: Callable[[], None]) -> None:
        def tell() -> None:
            try:
                told()
            except Exception:
                log.exception("what was told of an exhausted budget raised")

        # From a system task, and not from the end of the pass: what it makes ready
        # then could lie in the queue while the loop goes to sleep.
        self._token.run_sync_soon(tell)

    def add_timer(self, at: float, action: Callable[[], None], place: int = 0) -> Timer:
        timer = self.timers.add(at, action, place)
        self.start()
        self._arm_early()
        return timer

    def _arm_early(self) -> None:
        # Trio has chosen how long to sleep when an instrument is told of it.
        if self._wakeup is not None and not self._wakeup.lazy:
            self._wakeup.arm(self.timers.next_at())


class Scheduler:
    """Priorities, deadlines and accounts for the running loop. Made by ``open_scheduler``."""

    def __init__(self, kernel: _Kernel, *, on_miss: Report = None) -> None:
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
        budget: Budget | Reservation | None = None,
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
            budget = Reservation(budget)
        if budget is not None:
            _check_budget(name, level, budget.budget)
        context = SchedulingContext(name, level=level, deadline=deadline)
        self._contexts[context] = None
        if budget is not None:
            # A budget sets its timers between passes.
            self._kernel.start()
            self._kernel.queue.allowances.join(context, budget)
        return context

    def release(self, context: SchedulingContext) -> None:
        """Forget a context; its account leaves the statistics, and it shares no budget any more."""
        self._contexts.pop(context, None)
        self._kernel.queue.allowances.leave(context)

    def port(
        self,
        name: str,
        *,
        capacity: float = 1024,
        policy: OverloadPolicy = OverloadPolicy.REJECT,
        on_miss: OnMiss | None = None,
    ) -> Port:
        """A place where calls arrive, wait in order and are served. See ``Port``."""
        return Port(self, name, capacity=capacity, policy=policy, on_miss=on_miss)

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
        accounts = [_account(context) for context in (*own, *self._contexts)]
        return SchedulerStatistics(
            passes=kernel.queue.passes,
            lent=kernel.queue.lent,
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
    kernel = _join(_Settings(quantum, host_level, reserve, direct, ordered), trace)
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
        kernel.users -= 1
        if not kernel.users:
            _kernel.set(None)  # type: ignore[arg-type]
            await kernel.remove()


def _check_plain(*, reserve: float, direct: bool) -> None:
    asked = f"reserve={reserve!r}" if reserve else f"direct={direct!r}" if direct else None
    if asked is not None:
        raise ConfigurationError(
            f"open_scheduler: {asked} needs the run queue, and ordered is False",
            "leave it out, or leave ordered out",
        )


def _open_run_queue(settings: _Settings, timers: TimerHeap, records: int) -> RunQueue:
    # Not before it is asked for: a Trio that has nothing of the sort can be used without.
    try:
        from rtos.scheduler._trio import RunQueue, check_trio
    except ImportError as error:
        raise unsupported(str(error)) from error
    check_trio()
    return RunQueue(
        quantum_ns=settings.quantum_ns,
        host_level=settings.host_level,
        timers=timers,
        records=records,
        reserve=settings.reserve,
        lend_ns=(settings.known_ns if settings.direct else 0) or -1,
    )


def _check_observers(trace: int, watchdog: float | None) -> None:
    if trace < 0:
        msg = f"open_scheduler: trace {trace!r} is no number of records; use 0 for none"
        raise ValueError(msg)
    if watchdog is not None and not 0 < watchdog < math.inf:
        msg = f"open_scheduler: watchdog {watchdog!r} is no limit; use seconds, or None for no watchdog"
        raise ValueError(msg)


@contextmanager
def _watch(kernel: _Kernel, limit: float, on_alarm: Callable[[Alarm], None] | None) -> Iterator[None]:
    recorder = kernel.queue.recorder
    recorder.watch = watchdog = Watchdog(kernel.queue, limit=limit, on_alarm=on_alarm)
    watchdog.start()
    try:
        yield
    finally:
        recorder.watch = None
        watchdog.stop()


def _join(settings: _Settings, records: int) -> _Kernel:
    kernel = _kernel.get(None)  # type: ignore[arg-type]
    if kernel is None:
        kernel = _Kernel(settings=settings, records=records)
        kernel.install()
        _kernel.set(kernel)
    elif kernel.settings != settings:
        other = ", ".join(f"{name}={value!r}" for name, value in attrs.asdict(kernel.settings).items())
        raise ConfigurationError(
            f"another scheduler is open in this loop with {other}", "open both with the same settings"
        )
    kernel.users += 1
    return kernel


def _check_budget(name: str, level: int, budget: Budget) -> None:
    if budget.on_exhausted is Exhausted.DEMOTE and budget.level <= level:
        msg = f"context({name!r}): level {budget.level!r} of the budget is no demotion from {level!r}"
        raise ValueError(msg)


def _account(context: SchedulingContext) -> ContextStatistics:
    return ContextStatistics(
        name=context.name,
        level=context.level,
        steps=context.steps,
        cpu=context.cpu_ns / 1e9,
        longest_step=context.longest_ns / 1e9,
        billed=context.billed_ns / 1e9,
    )
