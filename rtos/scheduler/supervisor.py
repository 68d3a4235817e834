"""Supervision: children that are started in order, watched, restarted, stopped in order.

Specifications are data, and are checked before anything starts. Children start
left to right, each only when the one before has said that it is ready, and stop
right to left, each within its time limit. What a child owns beyond its run (its
port, with what waits in it) belongs to the specification and survives a restart.

Law: a child is never run twice at once; never more than ``intensity`` restarts
happen within any ``period``; when the supervisor is left, no child is running.

Must not know: what a child does.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import attrs
import trio

from rtos.errors import ConfigurationError, DaemonDown
from rtos.scheduler.context import DEFAULT_LEVEL, SchedulingContext, check_level
from rtos.scheduler.restart import Backoff, Restart, RestartWindow, Strategy, affected, wants_restart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from rtos.scheduler.core import Scheduler

log = logging.getLogger("rtos.supervisor")


def _level(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_level(f"ChildSpec({attribute.name})", value)


@attrs.frozen(kw_only=True)
class ChildSpec:
    """How a child is started, restarted and stopped.

    Attributes:
      name: unique under its supervisor.
      run: the child. Called with a function that it calls once it is ready;
        returning is a normal end, raising a failure.
      level: base level of the context that it runs under.
      restart: when it is started again.
      stop: asks it to finish what it has accepted and return; ``None`` if it
        can only be cancelled.
      shutdown: seconds from ``stop`` until it is cancelled.
      start_timeout: seconds until it must be ready.
      on_down: told when it will not be started again.
    """

    name: str
    run: Callable[[Callable[[], None]], Awaitable[None]]
    level: int = attrs.field(default=DEFAULT_LEVEL, validator=_level)
    restart: Restart = Restart.PERMANENT
    stop: Callable[[], None] | None = None
    shutdown: float = 5.0
    start_timeout: float = 30.0
    on_down: Callable[[DaemonDown], None] | None = None


@attrs.frozen
class CrashReport:
    """What is known of one failure.

    Attributes:
      at: Trio time.
      child: its name.
      error: what it raised.
      restarts: how often it had been restarted before.
      outcome: ``restarted``, ``gave up`` or ``left``.
    """

    at: float
    child: str
    error: BaseException
    restarts: int
    outcome: str


class _Child:
    """A child's present run, or the last one."""

    def __init__(self, spec: ChildSpec, context: SchedulingContext) -> None:
        self.spec = spec
        self.context = context
        self.scope = trio.CancelScope()
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.ended.set()
        self.is_stopping = False
        self.error: BaseException | None = None
        self.restarts = 0
        self.consecutive = 0
        self.became_ready = False

    def become_ready(self) -> None:
        """What the child calls once it serves."""
        self.became_ready = True
        self.ready.set()


@attrs.frozen
class ChildState:
    """A child as an operator sees it; times in seconds of Trio time."""

    name: str
    level: int
    running: bool
    ready: bool
    restarts: int
    ready_after: float


class Supervisor:
    """Watches its children. Made by ``open_supervisor``."""

    def __init__(
        self,
        scheduler: Scheduler,
        children: Sequence[ChildSpec],
        *,
        strategy: Strategy,
        window: RestartWindow,
        backoff: Backoff,
        on_ready: Callable[[str, float], None] | None,
    ) -> None:
        self._scheduler = scheduler
        self._strategy = strategy
        self._window = window
        self._backoff = backoff
        self._on_ready = on_ready
        self._children = {
            spec.name: _Child(spec, scheduler.context(spec.name, level=spec.level)) for spec in children
        }
        self._exits, self._failures = trio.open_memory_channel[_Child](len(children) * 2)
        self._nursery: trio.Nursery
        self._release = trio.Event()
        self._stopping = False
        self._took: dict[str, float] = {}
        self.reports: list[CrashReport] = []
        self.failure: DaemonDown | None = None

    def children(self) -> tuple[ChildState, ...]:
        """Every child, in start order."""
        return tuple(
            ChildState(
                name=name,
                level=child.context.level,
                running=not child.ended.is_set(),
                ready=child.became_ready and not child.ended.is_set(),
                restarts=child.restarts,
                ready_after=self._took.get(name, math.inf),
            )
            for name, child in self._children.items()
        )

    async def hold(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the children's nursery, apart from the host's cancellation, until ``stop``."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._release.wait()

    async def start(self) -> None:
        """Start all children in order, each when the one before is ready."""
        for child in self._children.values():
            await self._start_child(child)

    async def watch(self, host: trio.CancelScope) -> None:
        """Restart what fails, until it fails too often; then stop all and cancel the host's block."""
        async for child in self._failures:
            if self._stopping or child.is_stopping or not child.ended.is_set():
                continue
            try:
                await self._replace(child)
            except DaemonDown as down:
                self.failure = down
                await self.stop()
                host.cancel()
                return

    async def stop(self) -> None:
        """Stop all children, the last first. Shielded from cancellation, and bounded in time."""
        self._stopping = True
        with trio.CancelScope(shield=True):
            for child in reversed(self._children.values()):
                await self._stop_child(child)
        self._release.set()

    async def _replace(self, failed: _Child) -> None:
        spec, error = failed.spec, failed.error
        if not wants_restart(spec.restart, failed=error is not None):
            self._report(failed, "left")
            self._declare_down(failed, "it has ended, and is not restarted")
            return
        if not self._window.admit(self._scheduler.now()):
            self._report(failed, "gave up")
            raise DaemonDown(spec.name, _describe(error), failed.restarts)
        self._report(failed, "restarted")
        names = affected(self._strategy, tuple(self._children), spec.name)
        for name in reversed(names):
            await self._stop_child(self._children[name])
        failed.restarts += 1
        failed.consecutive += 1
        await trio.sleep(self._backoff.delay(failed.consecutive))
        for name in names:
            await self._restart_child(self._children[name])

    async def _restart_child(self, child: _Child) -> None:
        try:
            await self._start_child(child)
        except DaemonDown:
            # It did not come up: that is one more failure of it, and counts.
            child.is_stopping = False
            await self._replace(child)

    async def _start_child(self, child: _Child) -> None:
        spec = child.spec
        child.ready, child.ended = trio.Event(), trio.Event()
        child.scope = trio.CancelScope()
        child.error, child.is_stopping, child.became_ready = None, False, False
        began = self._scheduler.now()
        with child.context:
            self._nursery.start_soon(self._run_child, child, name=f"daemon {spec.name}")
        with trio.move_on_after(spec.start_timeout):
            await child.ready.wait()
        if not child.became_ready:
            late = not child.ended.is_set()
            await self._cancel_child(child)
            reason = f"not ready after {spec.start_timeout} s" if late else _describe(child.error)
            raise DaemonDown(spec.name, f"it did not start: {reason}", child.restarts) from child.error
        self._took[spec.name] = took = self._scheduler.now() - began
        if self._on_ready is not None:
            self._on_ready(spec.name, took)

    async def _run_child(self, child: _Child) -> None:
        with child.scope:
            try:
                await child.spec.run(child.become_ready)
            except Exception as error:  # noqa: BLE001 - a crash is a report, and the strategy's business
                child.error = error
        child.ended.set()
        child.ready.set()
        if not child.is_stopping and not self._stopping:
            self._exits.send_nowait(child)

    async def _stop_child(self, child: _Child) -> None:
        child.is_stopping = True
        if child.ended.is_set():
            return
        if child.spec.stop is not None:
            child.spec.stop()
            with trio.move_on_after(child.spec.shutdown):
                await child.ended.wait()
        await self._cancel_child(child)

    async def _cancel_child(self, child: _Child) -> None:
        child.is_stopping = True
        child.scope.cancel()
        await child.ended.wait()

    def _declare_down(self, child: _Child, reason: str) -> None:
        if child.spec.on_down is not None:
            child.spec.on_down(DaemonDown(child.spec.name, reason, child.restarts))

    def _report(self, child: _Child, what: str) -> None:
        if child.error is None:
            return
        self.reports.append(
            CrashReport(self._scheduler.now(), child.spec.name, child.error, child.restarts, what)
        )
        del self.reports[:-100]
        log.error("daemon %s failed, %s", child.spec.name, what, exc_info=child.error)


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
    """Start the children, watch them while the block runs, and stop them when it ends.

    Args:
      scheduler: the open scheduler.
      children: in start order.
      strategy: who is restarted together.
      intensity: most restarts within ``period`` seconds.
      period: see ``intensity``.
      backoff: waits between restarts in a row.
      on_ready: told of each child that has become ready, with the seconds it took.

    Raises:
      ConfigurationError: two children have one name; nothing was started.
      DaemonDown: a child did not start, or failed too often; all have been stopped.

    A checkpoint on entering and on leaving. A cancellation stops the children in
    order, each within its limit, before it goes on.
    """
    names = [spec.name for spec in children]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"two children are named {twice[0]!r}", "give each a name of its own")
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
            await nursery.start(supervisor.hold, name="children")
            await supervisor.start()
            with scheduler.context("supervisor", level=0):
                nursery.start_soon(supervisor.watch, nursery.cancel_scope, name="supervisor")
            yield supervisor
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
        await supervisor.stop()
        nursery.cancel_scope.cancel()
    if supervisor.failure is not None and (error is None or isinstance(error, trio.Cancelled)):
        raise supervisor.failure
    if error is not None:
        raise error


def _describe(error: BaseException | None) -> str:
    return "it returned" if error is None else f"{type(error).__name__}: {error}"
