"""The kernel: the state that all schedulers of one Trio loop share.

Owns the run queue, the timer heap, the two system tasks that wake the loop and fire
timers. One loop has one kernel: the first scheduler installs it, and the last one removes
it. With ``ordered=False`` Trio's own run queue stays in place and no private module of
Trio is imported.
"""

from __future__ import annotations

import logging
import math
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import trio

from rtos.errors import ConfigurationError
from rtos.scheduler.dispatch.trio_versions import unsupported
from rtos.scheduler.dispatch.wakeup import ClockWakeUp, TimerfdWakeUp, is_system, open_wakeup
from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.policy.levels import LEVELS
from rtos.scheduler.policy.timer_heap import Timer, TimerHeap
from rtos.scheduler.tracing.cpu_sampler import CollectionRecorder
from rtos.scheduler.tracing.ring import Trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.diagnosis.watchdog import Alarm, Watchdog
    from rtos.scheduler.dispatch.run_queue import RunQueue
    from rtos.scheduler.dispatch.trio_order import TrioOrder
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer

log = logging.getLogger("rtos.scheduler")

QUANTUM: Final = 100e-6
"""Default of the longest batch of short steps in one pass of the loop, in seconds."""

# Ctrl-C must not interrupt it while it moves tasks in the run queue: they would never run.
# Its own module must not know Trio.
trio.lowlevel.enable_ki_protection(SchedulingContext.rebase)

_kernel: trio.lowlevel.RunVar[Kernel | None] = trio.lowlevel.RunVar("rtos_kernel")


class Settings(NamedTuple):
    """The options of ``open_scheduler`` that all schedulers of one loop share."""

    quantum: float | None
    host_level: int
    reserve: float
    direct: bool
    ordered: bool

    @property
    def quantum_ns(self) -> int:
        """Longest batch of steps in one pass; by default 0 with a virtual clock, where steps take no time."""
        if self.quantum is None and not is_system(trio.lowlevel.current_clock()):
            return 0
        return self.donation_ns

    @property
    def donation_ns(self) -> int:
        """Longest step that may include a donated step, with a virtual clock too."""
        return int((QUANTUM if self.quantum is None else self.quantum) * 1e9)


class Kernel(trio.abc.Instrument):
    """The state of one loop, shared by the schedulers that are open in it.

    Attributes:
      timers: all timers of the loop.
      settings: what its schedulers have in common.
      queue: the run queue, or what stands in for it in Trio's own order.
      direct: the run queue, for step donation; ``None`` in Trio's own order, and with an
        untested release of Trio.
      users: number of schedulers that have joined and not left.
      sleeps: how often the loop has gone to sleep.
      now: reads the Trio time, in seconds.
    """

    def __init__(self, settings: Settings) -> None:
        self.timers = TimerHeap()
        self.settings = settings
        self.direct: RunQueue | None = None
        self._run_queue: RunQueue | None = None
        self.queue: RunQueue | TrioOrder
        if settings.ordered:
            self.queue = self._run_queue = _open_run_queue(settings, self.timers)
            self.direct = self._run_queue if self._run_queue.imitates_trio else None
        else:
            from rtos.scheduler.dispatch.trio_order import TrioOrder

            self.queue = TrioOrder(
                quantum_ns=settings.quantum_ns,
                host_level=settings.host_level,
                timers=self.timers,
            )
        self._token = trio.lowlevel.current_trio_token()
        self._collections: CollectionRecorder | None = None
        self._watchdog: Watchdog | None = None
        self._has_budgets = False
        self.users = 0
        self.sleeps = 0
        self.now = self.queue.clock
        # Made for the first timer: a scheduler without timers adds no task to the loop.
        self._wakeup: ClockWakeUp | TimerfdWakeUp | None = None
        self._timer_task: trio.lowlevel.Task | None = None
        self._timer_parked = False
        self._scopes: list[trio.CancelScope] = []
        self._stopped = trio.Event()

    def before_io_wait(self, timeout: float) -> None:
        """Close the account of the pass, and arm the wake-up if the loop will sleep. Called by Trio."""
        self.queue.close_pass()
        if timeout > 0:
            self.sleeps += 1
            self.queue.fall_asleep(timeout)
            if self._wakeup is not None:
                self._wakeup.arm(self.timers.next_at())
            return
        if not self.queue.is_real:
            # Virtual time passes here, whatever timeout Trio reports.
            self.queue.fall_asleep(math.inf)
        self._arm_early()

    def join_budget(self, context: SchedulingContext, server: BandwidthServer) -> None:
        """Put ``context`` under the budget of ``server``."""
        assert self._run_queue is not None, "budgets need the run queue"
        if not self._has_budgets:
            self._has_budgets = True
            self._run_queue.enforce_budgets(self.add_timer, self._notify)
        # A budget sets its timers between passes, where no task can be started.
        self.start()
        self._run_queue.enforcement.join(context, server)

    def install(self) -> None:
        """Replace the run queue of the running loop, and start to observe it."""
        self.queue.wake_timers = self._wake_timers
        self.queue.install()
        trio.lowlevel.add_instrument(self)

    def start_trace(self, records: int) -> None:
        """Record what the loop does, in a ring of ``records`` records; does nothing if a trace is on."""
        queue = self.queue
        if records and not queue.trace.size:
            queue.trace = trace = Trace(records, epoch=queue.trace.epoch)
            queue.recorder.record = trace.record
            self._collections = CollectionRecorder(trace, queue.ticks_ns)
            self._collections.start()

    def start_watchdog(self, limit: float, on_alarm: Callable[[Alarm], None] | None) -> None:
        """Report steps longer than ``limit`` seconds; does nothing if a watchdog is running."""
        # Not imported before it is needed: most programs have no watchdog.
        from rtos.scheduler.diagnosis.watchdog import Watchdog

        if self._watchdog is None:
            watchdog = Watchdog(self.queue, limit=limit, on_alarm=on_alarm)
            watchdog.start()
            self.queue.recorder.watch = self._watchdog = watchdog

    def _stop_observers(self) -> None:
        if self._collections is not None:
            self._collections.stop()
        if self._watchdog is not None:
            self.queue.recorder.watch = None
            self._watchdog.stop()

    def start(self) -> None:
        """Start the system tasks that timers need, unless they run. Call it in a task, not between passes."""
        if self._wakeup is not None:
            return
        self._wakeup = open_wakeup(trio.lowlevel.current_clock())
        for body in (self._run_timers, self._run_wakeup):
            scope = trio.CancelScope()
            self._scopes.append(scope)
            trio.lowlevel.spawn_system_task(self._run_system, body, scope)

    async def remove(self) -> None:
        """Put Trio's run queue back, and end the system tasks. A checkpoint, also during cancellation."""
        # Trio's own queue is back before any other task runs, so that a scheduler can be
        # opened while the system tasks of this one still end.
        with suppress(KeyError):  # Trio removes an instrument that has raised.
            trio.lowlevel.remove_instrument(self)
        self._stop_observers()
        self.queue.close_pass()
        self.queue.uninstall()
        for scope in tuple(self._scopes):
            scope.cancel()
        if self._wakeup is None:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        with trio.CancelScope(shield=True):
            await self._stopped.wait()

    async def _run_system(self, body: Callable[[], Any], scope: trio.CancelScope) -> None:
        # The run queue sets this for every system task; Trio's own order does not.
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
                    # Other timers must still fire.
                    log.exception("the action of a timer raised")
            self._arm_early()

    async def _run_wakeup(self) -> None:
        # The least urgent task: its step only ends the sleep. Each pass fires the timers
        # that are due, and the loop cannot sleep again before this step has run.
        assert self._wakeup is not None
        with SchedulingContext("wake-up", level=LEVELS - 1):
            await self._wakeup.run()

    def _wake_timers(self) -> None:
        if self._timer_parked:
            assert self._timer_task is not None
            self._timer_parked = False
            trio.lowlevel.reschedule(self._timer_task)

    def _notify(self, notify: Callable[[], None]) -> None:
        def call() -> None:
            try:
                notify()
            except Exception:
                log.exception("the notify function of an exhausted budget raised")

        # From a system task, and not from the end of the pass: a task that it makes ready
        # then could lie in the queue while the loop goes to sleep.
        self._token.run_sync_soon(call)

    def add_timer(self, at: float, action: Callable[[], None], place: int = 0, owner: object = None) -> Timer:
        """Call ``action`` at an absolute Trio time; see ``Scheduler.add_timer``.

        Args:
          at: absolute Trio time, seconds.
          action: synchronous and short.
          place: position among timers of one instant.
          owner: the scheduler whose timer it is; ``None`` for the kernel's own.
        """
        timer = self.timers.add(at, action, place, owner)
        if self._wakeup is None:
            self.start()
        wakeup = self._wakeup
        # As ``_arm_early`` does, inline: each call that has a deadline adds a timer.
        if wakeup is not None and (not wakeup.lazy or self.queue.recorder.asleep):
            wakeup.arm(self.timers.next_at())
        return timer

    def _arm_early(self) -> None:
        # In guest mode the host may add a timer while the loop sleeps: armed now, it ends
        # the sleep. Otherwise only Trio's own deadlines must be armed before the loop
        # decides how long to sleep; a timerfd is armed once it has decided.
        if self._wakeup is not None and (self.queue.asleep or not self._wakeup.lazy):
            self._wakeup.arm(self.timers.next_at())


def _open_run_queue(settings: Settings, timers: TimerHeap) -> RunQueue:
    # Not imported before it is needed: ordered=False works with a Trio that lacks what it imports.
    try:
        from rtos.scheduler.dispatch.run_queue import RunQueue
        from rtos.scheduler.dispatch.trio_compat import check_trio
    except ImportError as error:
        raise unsupported(str(error)) from error
    check_trio()
    return RunQueue(
        quantum_ns=settings.quantum_ns,
        host_level=settings.host_level,
        timers=timers,
        reserve=settings.reserve,
        donation_limit_ns=(settings.donation_ns if settings.direct else 0) or -1,
    )


def current_kernel() -> Kernel | None:
    """The kernel of the running loop; ``None`` if no scheduler is open in it."""
    return _kernel.get(None)


def join_kernel(settings: Settings) -> Kernel:
    """The kernel of the running loop, which is installed first if there is none.

    Call ``leave_kernel`` once for each call of this.

    Args:
      settings: must equal those of an installed kernel.

    Raises:
      ConfigurationError: the kernel that is installed has other settings.
      UnsupportedTrio: the run queue does not know this Trio version.
    """
    kernel = current_kernel()
    if kernel is None:
        kernel = Kernel(settings)
        kernel.install()
        _kernel.set(kernel)
    elif kernel.settings != settings:
        other = ", ".join(f"{name}={value!r}" for name, value in kernel.settings._asdict().items())
        raise ConfigurationError(
            f"another scheduler is open in this loop with {other}", "open both with the same settings"
        )
    kernel.users += 1
    return kernel


async def leave_kernel(kernel: Kernel) -> None:
    """Remove the kernel if no other scheduler uses it. A checkpoint, also during cancellation."""
    kernel.users -= 1
    if kernel.users:
        await trio.lowlevel.cancel_shielded_checkpoint()
    else:
        _kernel.set(None)
        await kernel.remove()
