"""The scheduler: what is open while a loop runs by priority.

Owns the run queue, the timer heap and what wakes the loop for it. One loop has
one of them, however many schedulers are opened in it: the first one opened
installs it, and the last one closed puts Trio's own queue back.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.errors import ConfigurationError
from rtos.scheduler._trio import RunQueue, check_trio
from rtos.scheduler.context import DEFAULT_LEVEL, SchedulingContext, check_level
from rtos.scheduler.order import OverloadPolicy
from rtos.scheduler.port import Port
from rtos.scheduler.timers import Timer, TimerHeap
from rtos.scheduler.wakeup import open_wakeup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

log = logging.getLogger("rtos.scheduler")

QUANTUM: Final = 100e-6
"""Default length, in seconds, of a batch of short steps in one pass of the loop."""

_kernel: trio.lowlevel.RunVar[_Kernel] = trio.lowlevel.RunVar("rtos_kernel")


@attrs.frozen
class SchedulerStatistics:
    """Counts since the first scheduler of this loop was opened.

    Attributes:
      passes: passes of Trio's loop that ran at least one step.
      sleeps: times the loop went to sleep; a system that is idle adds none.
      ready: tasks that are released and wait to run.
      timers: timers that have not fired.
      contexts: the account of each context that is alive, most urgent first.
    """

    passes: int
    sleeps: int
    ready: int
    timers: int
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


class _Kernel(trio.abc.Instrument):
    """What one loop has, shared by the schedulers that are open in it."""

    def __init__(self, *, quantum: float, host_level: int) -> None:
        self.timers = TimerHeap()
        self.quantum_ns = int(quantum * 1e9)
        self.queue = RunQueue(quantum_ns=self.quantum_ns, host_level=host_level, timers=self.timers)
        self.users = 0
        self.sleeps = 0
        self.now = self.queue.clock
        self._wakeup = open_wakeup(trio.lowlevel.current_clock())
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
            self._wakeup.arm(self.timers.next_at())

    def install(self) -> None:
        self.queue.wake_timers = self._wake_timers
        self.queue.install()
        trio.lowlevel.add_instrument(self)
        with self.queue.system:
            for body in (self._run_timers, self._wakeup.run):
                scope = trio.CancelScope()
                self._scopes.append(scope)
                trio.lowlevel.spawn_system_task(self._run_system, body, scope)

    async def remove(self) -> None:
        for scope in tuple(self._scopes):
            scope.cancel()
        with trio.CancelScope(shield=True):
            await self._stopped.wait()
        trio.lowlevel.remove_instrument(self)
        self.queue.remove()

    async def _run_system(self, body: Callable[[], Any], scope: trio.CancelScope) -> None:
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

    def _wake_timers(self) -> None:
        if self._timer_parked:
            assert self._timer_task is not None
            self._timer_parked = False
            trio.lowlevel.reschedule(self._timer_task)

    def add_timer(self, at: float, action: Callable[[], None]) -> Timer:
        timer = self.timers.add(at, action)
        if not self._wakeup.lazy:
            self._wakeup.arm(self.timers.next_at())
        return timer


class Scheduler:
    """Priorities, deadlines and accounts for the running loop. Made by ``open_scheduler``."""

    def __init__(self, kernel: _Kernel) -> None:
        self._kernel = kernel
        self._contexts: dict[SchedulingContext, None] = {}
        self.now: Callable[[], float] = kernel.now
        """The current Trio time, in seconds; the same as ``trio.current_time()``, and cheaper."""
        self.add_timer: Callable[[float, Callable[[], None]], Timer] = kernel.add_timer
        """``add_timer(at, action)``: call ``action`` (synchronous, short) at an absolute Trio time."""

    @property
    def host_level(self) -> int:
        """The level of tasks that have no context of their own."""
        return self._kernel.queue.host.base_level

    def context(
        self, name: str, *, level: int = DEFAULT_LEVEL, deadline: float = math.inf
    ) -> SchedulingContext:
        """A scheduling context; enter it with ``with`` to start tasks under it.

        Args:
          name: for people.
          level: 0, the most urgent, to 7.
          deadline: absolute Trio time; the nearer goes first among equals.

        Raises:
          ValueError: there is no such level.
        """
        check_level(f"context({name!r})", level)
        context = SchedulingContext(name, level=level, deadline=deadline)
        self._contexts[context] = None
        return context

    def release(self, context: SchedulingContext) -> None:
        """Forget a context; its account leaves the statistics."""
        self._contexts.pop(context, None)

    def port(
        self, name: str, *, capacity: float = 1024, policy: OverloadPolicy = OverloadPolicy.REJECT
    ) -> Port:
        """A place where calls arrive, wait in order and are served. See ``Port``."""
        return Port(self, name, capacity=capacity, policy=policy)

    def may_continue(self) -> bool:
        """Whether the running step is still within the quantum for short steps."""
        return self._kernel.queue.step_age_ns() < self._kernel.quantum_ns

    def statistics(self) -> SchedulerStatistics:
        """A snapshot. Not a checkpoint."""
        kernel = self._kernel
        own = (kernel.queue.system, kernel.queue.host)
        accounts = [_account(context) for context in (*own, *self._contexts)]
        return SchedulerStatistics(
            passes=kernel.queue.passes,
            sleeps=kernel.sleeps,
            ready=len(kernel.queue.tasks()),
            timers=len(kernel.timers),
            contexts=tuple(sorted(accounts, key=lambda account: account.level)),
        )


@asynccontextmanager
async def open_scheduler(
    *, quantum: float = QUANTUM, host_level: int = DEFAULT_LEVEL
) -> AsyncIterator[Scheduler]:
    """Run the tasks of this Trio loop by priority and deadline, until the block ends.

    Args:
      quantum: how long a pass may go on with short steps of one context, in
        seconds; 0 runs one step per pass (strict mode).
      host_level: where tasks without a context stand, 0 (most urgent) to 7.

    Raises:
      UnsupportedTrio: this Trio is not shaped as the run queue needs it.
      ConfigurationError: another scheduler is open in this loop with other settings.
      ValueError: there is no such level, or the quantum is negative.

    Entering is no checkpoint, leaving is one, also when cancelled. What waits
    when it is left goes on in Trio's own order.
    """
    check_level("open_scheduler(host_level)", host_level)
    if not quantum >= 0:
        msg = f"open_scheduler: quantum {quantum!r} is negative; use seconds, or 0 for one step per pass"
        raise ValueError(msg)
    kernel = _join(quantum, host_level)
    try:
        yield Scheduler(kernel)
    finally:
        kernel.users -= 1
        if not kernel.users:
            _kernel.set(None)  # type: ignore[arg-type]
            await kernel.remove()


def _join(quantum: float, host_level: int) -> _Kernel:
    kernel = _kernel.get(None)  # type: ignore[arg-type]
    if kernel is None:
        check_trio()
        kernel = _Kernel(quantum=quantum, host_level=host_level)
        kernel.install()
        _kernel.set(kernel)
    elif (kernel.quantum_ns, kernel.queue.host.base_level) != (int(quantum * 1e9), host_level):
        raise ConfigurationError(
            f"another scheduler is open in this loop with quantum {kernel.quantum_ns / 1e9!r} s"
            f" and host level {kernel.queue.host.base_level!r}",
            "open both with the same settings",
        )
    kernel.users += 1
    return kernel


def _account(context: SchedulingContext) -> ContextStatistics:
    return ContextStatistics(
        name=context.name,
        level=context.level,
        steps=context.steps,
        cpu=context.cpu_ns / 1e9,
        longest_step=context.longest_ns / 1e9,
        billed=context.billed_ns / 1e9,
    )
