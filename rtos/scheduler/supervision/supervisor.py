"""A supervisor: children that are started in order, watched, restarted, and stopped in reverse.

The decisions are made in ``lifecycle``, which is pure. This module carries them out: it
runs the children as Trio tasks and reports their ends, timers and operators' orders to
the life cycle, one after the other, in one task at level 0 that never waits for a child.

Children start in order, each when the one before has said that it is ready. They stop in
reverse order, each within its ``shutdown`` limit.

Invariant: no child is running when the supervisor has been closed.

Must not know what a child does.
"""

from __future__ import annotations

import inspect
import logging
import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import ConfigurationError, SchedulerClosed
from rtos.scheduler.supervision.child import ChildState, CrashReport
from rtos.scheduler.supervision.lifecycle import Lifecycle, Phase
from rtos.scheduler.supervision.operator import OperatorQueue
from rtos.scheduler.supervision.restart_policy import Backoff, RestartWindow, Strategy
from rtos.scheduler.supervision.run_state import Child, Operation, State

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from rtos.errors import DaemonDown
    from rtos.scheduler.scheduler import Scheduler
    from rtos.scheduler.supervision.child import ChildSpec

    Post = Callable[[Callable[[], None]], None]

log = logging.getLogger("rtos.supervisor")

_REPORTS: Final = 100
"""Number of crash reports that are kept, the latest."""


class Supervisor:
    """Watches its children. Made by ``open_supervisor``.

    Attributes:
      reports: the latest 100 failures of children, the oldest first.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        specs: Sequence[ChildSpec],
        *,
        strategy: Strategy,
        window: RestartWindow,
        backoff: Backoff,
        on_ready: Callable[[str, float], None] | None,
    ) -> None:
        self.reports: list[CrashReport] = []
        self._children = {spec.name: Child(spec, window) for spec in specs}
        # Unbounded: an event per run, timer and waiting operator, which are bounded.
        send, self._events = trio.open_memory_channel["Callable[[], None]"](math.inf)
        self._post = send.send_nowait
        self._tasks = _ChildTasks(scheduler, specs, self._post, self._record, on_ready)
        self._lifecycle = Lifecycle(self._children.values(), self._tasks, strategy=strategy, backoff=backoff)
        self._operators = OperatorQueue(
            self._children, lambda order: self._post(partial(self._lifecycle.place, order))
        )
        scheduler.on_close(self)
        self._opened = trio.Event()
        self._closed = trio.Event()
        self.host = trio.CancelScope()

    @property
    def failure(self) -> DaemonDown | None:
        """Why the supervisor gave up; ``None`` if it did not."""
        return self._lifecycle.failure

    def children(self) -> tuple[ChildState, ...]:
        """Return the state of every child, in start order."""
        return tuple(self._state_of(child) for child in self._children.values())

    async def park(self, name: str) -> None:
        """Stop a child within its ``shutdown`` limit and leave it stopped until it is unparked.

        Its callers get ``DaemonDown``; the other children go on. A child that is starting is
        cancelled at once, and the operators that unpark it get ``DaemonDown``.

        Raises:
          CommandRejected: there is no such child, or it is parked already.
          Refused: the supervisor is closing, or is stopping the child's group in order to
            restart it.

        Always a checkpoint. A cancellation withdraws the order if it waits behind another
        one for the same child; otherwise the order has begun, and goes on.
        """
        await trio.lowlevel.checkpoint()
        await self._operators.place(Operation.PARK, name)

    async def unpark(self, name: str) -> None:
        """Start a parked child, with its failures forgotten, and wait until it is ready.

        If its group is being started, it starts when its turn comes.

        Raises:
          CommandRejected: there is no such child, or it is not parked.
          Refused: the supervisor is closing, or is stopping the child's group in order to
            restart it; the child is still parked.
          DaemonDown: it did not start, or an operator parked it meanwhile; it is parked.

        Always a checkpoint. Cancellation: as with ``park``.
        """
        await trio.lowlevel.checkpoint()
        await self._operators.place(Operation.UNPARK, name)

    async def run(self) -> None:
        """Run the children, apart from the host's cancellation, until ``close``."""
        try:
            with trio.CancelScope(shield=True):
                async with trio.open_nursery() as self._tasks.nursery:
                    await self._handle_events()
        finally:
            # It refers to its task, and that one to this supervisor: a reference cycle.
            del self._tasks.nursery
            self._operators.close()
            self._tasks.drop_contexts()
            self._opened.set()
            self._closed.set()
            if self.failure is not None:
                self.host.cancel()

    async def open(self) -> None:
        """Start all children in order.

        Raises:
          DaemonDown: a child did not start; all have been stopped.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        self._post(self._lifecycle.open)
        await self._opened.wait()
        if self.failure is not None:
            raise self.failure

    async def close(self) -> None:
        """Stop all children, the last one first. Shielded from cancellation, and bounded in time."""
        with trio.CancelScope(shield=True):
            self._post(self._lifecycle.close)
            await self._closed.wait()

    def scheduler_closed(self) -> None:
        """Cancel the children and raise ``SchedulerClosed`` from the block; called by the scheduler."""
        self._post(_raise_scheduler_closed)

    async def _handle_events(self) -> None:
        async for handle in self._events:
            handle()
            if self._lifecycle.phase is Phase.OPEN:
                self._opened.set()
            elif self._lifecycle.phase is Phase.CLOSING:
                self._operators.close()
            elif self._lifecycle.phase is Phase.CLOSED:
                return

    def _state_of(self, child: Child) -> ChildState:
        return ChildState(
            name=child.spec.name,
            level=self._tasks.level_of(child.spec),
            state=child.state.value,
            running=child.has_run,
            ready=child.state is State.RUNNING,
            restarts=child.restarts,
            ready_after=child.took,
            reason=child.parked,
        )

    def _record(self, report: CrashReport) -> None:
        self.reports.append(report)
        del self.reports[:-_REPORTS]
        log.error("daemon %s failed, %s", report.child, report.outcome, exc_info=report.error)


def _raise_scheduler_closed() -> None:
    raise SchedulerClosed("supervisor")


class _Timer:
    """A kernel timer whose action is posted as an event; ``cancel`` also stops an event already posted."""

    def __init__(self, scheduler: Scheduler, at: float, action: Callable[[], None], post: Post) -> None:
        self._action: Callable[[], None] | None = action
        self._timer = scheduler.add_timer(at, lambda: post(self._fire))

    def cancel(self) -> None:
        self._action = None
        self._timer.cancel()

    def _fire(self) -> None:
        if self._action is not None:
            self._action()


class _ChildTasks:
    """Runs children as Trio tasks in ``nursery``, and posts what happens to them as events."""

    nursery: trio.Nursery

    def __init__(
        self,
        scheduler: Scheduler,
        specs: Sequence[ChildSpec],
        post: Post,
        record: Callable[[CrashReport], None],
        on_ready: Callable[[str, float], None] | None,
    ) -> None:
        self.now = scheduler.now
        self._scheduler = scheduler
        self._post = post
        self._record = record
        self._on_ready = on_ready
        self._contexts = {
            spec.name: scheduler.context(spec.name, level=spec.level, budget=spec.budget) for spec in specs
        }
        self._scopes: dict[str, trio.CancelScope] = {}

    def call_at(self, at: float, action: Callable[[], None]) -> _Timer:
        return _Timer(self._scheduler, at, action, self._post)

    def start(
        self, spec: ChildSpec, ready: Callable[[], None], ended: Callable[[BaseException | None], None]
    ) -> None:
        scope = self._scopes[spec.name] = trio.CancelScope()
        with self._contexts[spec.name]:
            self.nursery.start_soon(self._run, spec, scope, ready, ended, name=f"daemon {spec.name}")

    def cancel(self, spec: ChildSpec) -> None:
        self._scopes[spec.name].cancel()

    def report(self, child: Child, error: BaseException, outcome: str) -> None:
        self._record(CrashReport(self.now(), child.spec.name, error, child.restarts, outcome))

    def on_ready(self, child: Child) -> None:
        if self._on_ready is not None:
            self._on_ready(child.spec.name, child.took)

    def level_of(self, spec: ChildSpec) -> int:
        """Return the effective level of a child; its own after ``drop_contexts``."""
        context = self._contexts.get(spec.name)
        return spec.level if context is None else context.level

    def drop_contexts(self) -> None:
        """Let the scheduling contexts of the children go, and their rows in the statistics."""
        self._contexts.clear()

    async def _run(
        self,
        spec: ChildSpec,
        scope: trio.CancelScope,
        ready: Callable[[], None],
        ended: Callable[[BaseException | None], None],
    ) -> None:
        error: BaseException | None = None
        try:
            # Inside ``try``: if the cancellation leaves an ExceptionGroup, the run has failed.
            with scope:
                await _called(spec, lambda: self._post(ready))
        except Exception as raised:  # noqa: BLE001 - the life cycle decides what follows
            error = raised
        # Not after a KeyboardInterrupt or SystemExit: that one ends the supervisor.
        self._post(partial(ended, error))


def _called(spec: ChildSpec, ready: Callable[[], None]) -> Awaitable[None]:
    running = spec.run(ready)
    if not inspect.isawaitable(running):
        msg = f"ChildSpec({spec.name!r}): run returned {running!r}; it must be an async function"
        raise TypeError(msg)
    return running


@asynccontextmanager
async def open_supervisor(
    scheduler: Scheduler,
    children: Sequence[ChildSpec],
    *,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: int = 3,
    period: float = 5.0,
    backoff: Backoff | None = None,
    on_ready: Callable[[str, float], None] | None = None,
) -> AsyncIterator[Supervisor]:
    """Start children, watch and restart them while the block runs, and stop them when it ends.

    Args:
      scheduler: the open scheduler.
      children: their specifications, in start order.
      strategy: which children are restarted together.
      intensity: most restarts within ``period`` seconds, 0 or more. It applies to each
        child that parks, unless its specification has an intensity, and to all other
        children together. A restart counts from the failure, before the backoff.
      period: seconds. The time of restarts that fail, from the failure to the failed start,
        is left out, so that a child whose starts take long to fail exceeds the intensity
        too. A child that ran for longer than ``period`` has no backoff at its next restart.
      backoff: waits between restarts in a row; ``Backoff()`` by default.
      on_ready: called with the name of each child that has become ready, and the seconds
        that its start took.

    Raises:
      ConfigurationError: two children have the same name, the intensity or the period is
        impossible, or a child has a budget and the scheduler does not order tasks. Nothing
        was started.
      SchedulerClosed: the scheduler is not open. If it closes before the block ends, the
        children are cancelled, and the error leaves the block in an exception group.
      DaemonDown: a child did not start, or failed too often. All children have been stopped.

    A checkpoint on entering and on leaving. A cancellation stops the children in reverse
    order, each within its limit, before it goes on.
    """
    scheduler.check_open("open_supervisor")
    names = [spec.name for spec in children]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"two children are named {twice[0]!r}", "give each a name of its own")
    if not (intensity >= 0 and period > 0):
        raise ConfigurationError(
            f"an intensity of {intensity!r} restarts in {period!r} s is impossible",
            "use 0 or more restarts, in more than 0 s",
        )
    supervisor = Supervisor(
        scheduler,
        children,
        strategy=strategy,
        window=RestartWindow(intensity, period),
        backoff=backoff or Backoff(),
        on_ready=on_ready,
    )
    error: BaseException | None = None
    async with trio.open_nursery() as nursery:
        # What the host's block raises must come out as it is, and not in a group.
        try:
            with scheduler.context("supervisor", level=0):
                nursery.start_soon(supervisor.run, name="supervisor")
            await supervisor.open()
            with supervisor.host:
                yield supervisor
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
        await supervisor.close()
    if error is not None:
        raise error
    if supervisor.failure is not None:
        raise supervisor.failure
