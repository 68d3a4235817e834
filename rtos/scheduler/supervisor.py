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
from typing import TYPE_CHECKING, Final

import attrs
import trio

from rtos.errors import ConfigurationError, DaemonDown
from rtos.scheduler.context import DEFAULT_LEVEL, SchedulingContext, check_level
from rtos.scheduler.restart import Backoff, Restart, RestartWindow, Strategy, affected, wants_restart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from rtos.scheduler.core import Scheduler

log = logging.getLogger("rtos.supervisor")

_REPORTS: Final = 100
"""How many crash reports are kept, the latest."""


def _level(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_level(f"ChildSpec({attribute.name})", value)


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is no length of time; use seconds, or math.inf"
        raise ValueError(msg)


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
      on_down: told when it has ended and will not be started again, unless
        together with another child.

    Raises:
      ValueError: the level does not exist, or a limit is negative.
    """

    name: str
    run: Callable[[Callable[[], None]], Awaitable[None]]
    level: int = attrs.field(default=DEFAULT_LEVEL, validator=_level)
    restart: Restart = Restart.PERMANENT
    stop: Callable[[], None] | None = None
    shutdown: float = attrs.field(default=5.0, validator=_seconds)
    start_timeout: float = attrs.field(default=30.0, validator=_seconds)
    on_down: Callable[[DaemonDown], None] | None = None


@attrs.frozen
class CrashReport:
    """What is known of one failure.

    Attributes:
      at: Trio time.
      child: its name.
      error: what it raised.
      restarts: how often it had been restarted before.
      outcome: ``restarted``, ``gave up`` or ``left``, as when it failed while it was stopped.
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
        self.is_reported = False
        self.is_down = False
        self.restarts = 0
        self.consecutive = 0
        self.became_ready = False

    def begin(self) -> None:
        """Forget the last run."""
        self.ready, self.ended = trio.Event(), trio.Event()
        self.scope = trio.CancelScope()
        self.error = None
        self.is_stopping = self.is_reported = self.is_down = self.became_ready = False

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
        # Unbounded: each restart can add one, and is counted by the window.
        self._exits, self._failures = trio.open_memory_channel[_Child](math.inf)
        self._nursery: trio.Nursery
        self._held = trio.Event()
        self._release = trio.Event()
        self._watching = trio.CancelScope()
        self._watched = trio.Event()
        self._watched.set()
        self._stopping = False
        self._took: dict[str, float] = {}
        self._ready_at: dict[str, float] = {}
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

    async def hold(self) -> None:
        """Keep the children's nursery, apart from the host's cancellation, until ``stop``."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                self._held.set()
                await self._release.wait()

    async def start(self) -> None:
        """Start all children in order, each when the one before is ready."""
        # Shielded, and not ``nursery.start``: a shielded task that is started
        # under a cancelled scope is never handed over, and both wait forever.
        with trio.CancelScope(shield=True):
            await self._held.wait()
        for child in self._children.values():
            await trio.lowlevel.checkpoint_if_cancelled()
            await self._start_child(child)

    def watch_from(self, nursery: trio.Nursery) -> trio.CancelScope:
        """Start to watch; the scope returned is for the host's block, and is cancelled on giving up."""
        host = trio.CancelScope()
        self._watched = trio.Event()
        context = self._scheduler.context("supervisor", level=0)
        with context:
            nursery.start_soon(self._watch, host, context, name="supervisor")
        return host

    async def _watch(self, host: trio.CancelScope, context: SchedulingContext) -> None:
        """Restart what fails, until it fails too often; then stop all and cancel the host's block."""
        try:
            with self._watching:
                async for child in self._failures:
                    if not child.is_stopping and child.ended.is_set():
                        await self._replace(child)
        except DaemonDown as down:
            self.failure = down
            await self._stop_children()
            host.cancel()
        finally:
            self._scheduler.release(context)
            self._watched.set()

    async def stop(self) -> None:
        """Stop all children, the last first. Shielded from cancellation, and bounded in time."""
        with trio.CancelScope(shield=True):
            # Nobody is started any more, or it would be started behind our back.
            self._watching.cancel()
            await self._watched.wait()
        await self._stop_children()
        self._release.set()
        for child in self._children.values():
            self._scheduler.release(child.context)

    async def _stop_children(self) -> None:
        self._stopping = True
        with trio.CancelScope(shield=True):
            for child in reversed(self._children.values()):
                await self._stop_child(child)
                self._report(child, "left")
                self._declare_down(child, "it has been stopped")

    async def _replace(self, failed: _Child) -> None:
        """Restart a child, then whichever does not come up, until all run that should."""
        left: _Child | None = failed
        while left is not None:
            left = await self._restart(left)

    async def _restart(self, failed: _Child) -> _Child | None:
        """Restart a child and those that go with it; return the one that did not come up."""
        spec, error = failed.spec, failed.error
        if not wants_restart(spec.restart, failed=error is not None):
            self._report(failed, "left")
            self._declare_down(failed, "it has ended, and is not restarted")
            return None
        now = self._scheduler.now()
        if not self._window.admit(now):
            self._report(failed, "gave up")
            raise DaemonDown(spec.name, _describe(error), failed.restarts) from error
        self._report(failed, "restarted")
        group = [self._children[name] for name in affected(self._strategy, tuple(self._children), spec.name)]
        await self._stop_group(group)
        if failed.became_ready and now - self._ready_at[spec.name] > self._window.period:
            # It had run long enough for this failure to be the first in a row.
            failed.consecutive = 0
        failed.restarts += 1
        failed.consecutive += 1
        await trio.sleep(self._backoff.delay(failed.consecutive))
        return await self._start_group(group)

    async def _stop_group(self, group: Sequence[_Child]) -> None:
        for child in reversed(group):
            await self._stop_child(child)
            is_left = child.spec.restart is Restart.TEMPORARY
            self._report(child, "left" if is_left else "restarted")
            if is_left:
                self._declare_down(child, "it was stopped with another, and is not restarted")

    async def _start_group(self, group: Sequence[_Child]) -> _Child | None:
        for child in group:
            if child.spec.restart is not Restart.TEMPORARY:
                try:
                    await self._start_child(child)
                except DaemonDown:
                    # That is one more failure of it, and counts.
                    return child
        return None

    async def _start_child(self, child: _Child) -> None:
        spec = child.spec
        child.begin()
        began = self._scheduler.now()
        with child.context:
            self._nursery.start_soon(self._run_child, child, name=f"daemon {spec.name}")
        with trio.move_on_after(spec.start_timeout):
            await child.ready.wait()
        if not child.became_ready:
            late = not child.ended.is_set()
            await self._cancel_child(child)
            reason = f"not ready after {spec.start_timeout} s" if late else _describe(child.error)
            down = DaemonDown(spec.name, f"it did not start: {reason}", child.restarts)
            cause, child.error = child.error, child.error or down
            raise down from cause
        self._ready_at[spec.name] = now = self._scheduler.now()
        self._took[spec.name] = now - began
        if self._on_ready is not None:
            self._on_ready(spec.name, now - began)

    async def _run_child(self, child: _Child) -> None:
        try:
            # Inside the net: what a cancellation leaves of a group is an error like any other.
            with child.scope:
                await child.spec.run(child.become_ready)
        except Exception as error:  # noqa: BLE001 - a crash is a report, and the strategy's business
            child.error = error
        finally:
            # Also when the process is told to end: whoever stops the child waits for this.
            child.ended.set()
            child.ready.set()
        if not child.is_stopping and not self._stopping:
            self._exits.send_nowait(child)

    async def _stop_child(self, child: _Child) -> None:
        child.is_stopping = True
        if child.ended.is_set():
            return
        if child.spec.stop is not None:
            try:
                child.spec.stop()
            except Exception as error:  # noqa: BLE001 - the others must be stopped all the same
                self._record(child, error, "left")
            else:
                with trio.move_on_after(child.spec.shutdown):
                    await child.ended.wait()
        await self._cancel_child(child)

    async def _cancel_child(self, child: _Child) -> None:
        child.is_stopping = True
        child.scope.cancel()
        await child.ended.wait()

    def _declare_down(self, child: _Child, reason: str) -> None:
        if child.spec.on_down is not None and not child.is_down:
            child.is_down = True
            child.spec.on_down(DaemonDown(child.spec.name, reason, child.restarts))

    def _report(self, child: _Child, what: str) -> None:
        if child.error is not None and not child.is_reported:
            child.is_reported = True
            self._record(child, child.error, what)

    def _record(self, child: _Child, error: BaseException, what: str) -> None:
        self.reports.append(CrashReport(self._scheduler.now(), child.spec.name, error, child.restarts, what))
        del self.reports[:-_REPORTS]
        log.error("daemon %s failed, %s", child.spec.name, what, exc_info=error)


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
      intensity: most restarts within ``period`` seconds, 0 or more.
      period: see ``intensity``; also how long a child must have run for its
        next failure to be the first in a row.
      backoff: waits between restarts in a row.
      on_ready: told of each child that has become ready, with the seconds it took.

    Raises:
      ConfigurationError: two children have one name, or the intensity or the
        period is impossible; nothing was started.
      DaemonDown: a child did not start, or failed too often; all have been stopped.

    A checkpoint on entering and on leaving. A cancellation stops the children in
    order, each within its limit, before it goes on.
    """
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
            nursery.start_soon(supervisor.hold, name="children")
            await supervisor.start()
            with supervisor.watch_from(nursery):
                yield supervisor
        except BaseException as raised:  # noqa: BLE001 - raised again below
            error = raised
        await supervisor.stop()
    if error is not None:
        raise error
    if supervisor.failure is not None:
        raise supervisor.failure


def _describe(error: BaseException | None) -> str:
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        # What a nursery wraps around the one error says nothing.
        return _describe(error.exceptions[0])
    return "it returned" if error is None else f"{type(error).__name__}: {error}"
