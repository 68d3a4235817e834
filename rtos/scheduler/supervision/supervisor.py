"""Supervision: children that are started in order, watched, restarted, stopped in order.

Specifications are data, and are checked before anything starts. Children start
left to right, each only when the one before has said that it is ready, and stop
right to left, each within its time limit.

A child that fails too often takes everything down, or is parked, as declared.
Parking and unparking concern that child alone, whatever the strategy: those that
a restart would have taken along go on, and are answered that it is down. One that
cannot do without it fails by itself, and is judged by its own declaration. Were
the group parked, ``one for all`` would make parking the same as giving up, and
the first child of ``rest for one`` would take along the operator's way in.

Law: a child is never run twice at once; never more than ``intensity`` restarts
happen within any ``period``, of a child that parks and of all others together;
a parked child is started by nobody but an operator; when the supervisor is left,
no child is running.

Must not know: what a child does.
"""

from __future__ import annotations

import logging
import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import ConfigurationError, DaemonDown
from rtos.scheduler.supervision.child import Child, ChildSpec, ChildState, CrashReport
from rtos.scheduler.supervision.operator import BY_HAND, GROUP, NOT_WATCHING, OperatorQueue, Order, What
from rtos.scheduler.supervision.restart_policy import (
    Backoff,
    Restart,
    RestartWindow,
    Strategy,
    affected,
    wants_restart,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rtos.scheduler.scheduler import Scheduler

log = logging.getLogger("rtos.supervisor")

_REPORTS: Final = 100
"""How many crash reports are kept, the latest."""


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
        self._backoff = backoff
        self._on_ready = on_ready
        self._children = {
            spec.name: Child(spec, scheduler.context(spec.name, level=spec.level), window)
            for spec in children
        }
        # Unbounded: each restart can add one, and is counted by the window; the
        # rest is one for every task that waits for its order.
        self._tell, self._told = trio.open_memory_channel[Child | Order](math.inf)
        self._desk = OperatorQueue(self._children, self._tell.send_nowait)
        self._nursery: trio.Nursery
        self._held = trio.Event()
        self._release = trio.Event()
        self._watching = trio.CancelScope()
        self._watched = trio.Event()
        self._watched.set()
        self._stopping = False
        self.reports: list[CrashReport] = []
        self.failure: DaemonDown | None = None

    def children(self) -> tuple[ChildState, ...]:
        """Every child, in start order."""
        return tuple(child.state() for child in self._children.values())

    async def park(self, name: str) -> None:
        """Stop a child, within its limit, and leave it stopped until it is unparked.

        Its callers are answered with ``DaemonDown``; everybody else goes on.

        Raises:
          CommandRejected: there is no such child, or it is parked already.
          Refused: the supervisor is stopping, or stops children to restart them.

        Always a checkpoint. Waits for its turn behind restarts under way. A
        cancellation takes it back, unless it has begun; then it goes on.
        """
        await trio.lowlevel.checkpoint()
        await self._desk.place(What.PARK, name)

    async def unpark(self, name: str) -> None:
        """Start a parked child again, as if it had never failed, and wait until it is ready.

        Raises:
          CommandRejected: there is no such child, or it is not parked.
          Refused: the supervisor is stopping, or stops children to restart them.
          DaemonDown: it did not start, and is parked again.

        Always a checkpoint, and to be cancelled as ``park``.
        """
        await trio.lowlevel.checkpoint()
        await self._desk.place(What.UNPARK, name)

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
        with self._scheduler.context("supervisor", level=0):
            nursery.start_soon(self._watch, host, name="supervisor")
        self._desk.open()
        return host

    async def _watch(self, host: trio.CancelScope) -> None:
        """Restart what fails, until it fails too often; then stop all and cancel the host's block."""
        try:
            with self._watching:
                try:
                    async for each in self._told:
                        await self._deal_with(each)
                finally:
                    # Before any child is stopped: one may be serving the command that ordered it.
                    self._desk.close(NOT_WATCHING)
        except DaemonDown as down:
            self.failure = down
            await self._stop_children()
            host.cancel()
        finally:
            self._watched.set()

    async def stop(self) -> None:
        """Stop all children, the last first. Shielded from cancellation, and bounded in time."""
        with trio.CancelScope(shield=True):
            # Nobody is started any more, or it would be started behind our back.
            self._watching.cancel()
            await self._watched.wait()
        await self._stop_children()
        self._release.set()

    async def _stop_children(self) -> None:
        self._stopping = True
        with trio.CancelScope(shield=True):
            for child in reversed(self._children.values()):
                await self._stop_child(child)
                self._report(child, "left")
                self._declare_down(child, "it has been stopped")

    async def _deal_with(self, told: Child | Order) -> None:
        if isinstance(told, Order):
            if not told.is_settled:
                await self._carry_out(told)
        elif not told.is_stopping and not told.running:
            await self._replace(told)

    async def _carry_out(self, order: Order) -> None:
        child = order.child
        try:
            # Another order may have done it by now.
            if order.what is What.PARK and child.parked is None:
                await self._park(child, BY_HAND)
            elif order.what is What.UNPARK and child.parked is not None:
                await self._unpark(child)
        except DaemonDown as down:
            order.settle(down)
        else:
            order.settle()

    async def _park(self, child: Child, why: str) -> None:
        await self._stop_child(child)
        child.parked = why
        self._report(child, "parked")
        self._declare_down(child, f"it is parked until `daemon/unpark {child.spec.name}` ({why})")

    async def _unpark(self, child: Child) -> None:
        child.forgive()
        try:
            await self._start_child(child)
        except DaemonDown as down:
            await self._park(child, down.reason)
            raise
        child.parked = None

    async def _replace(self, failed: Child) -> None:
        """Restart a child, then whichever does not come up, until all run that should."""
        left: Child | None = failed
        while left is not None:
            left = await self._restart(left)

    async def _restart(self, failed: Child) -> Child | None:
        """Restart a child and those that go with it; return the one that did not come up."""
        spec, error = failed.spec, failed.error
        if not wants_restart(spec.restart, failed=error is not None):
            self._report(failed, "left")
            self._declare_down(failed, "it has ended, and is not restarted")
            return None
        now = self._scheduler.now()
        if not failed.admit(now):
            return await self._give_up(failed)
        self._report(failed, "restarted")
        group = self._group_of(failed)
        await self._stop_group(group)
        if failed.settled(now):
            failed.consecutive = 0
        failed.restarts += 1
        failed.consecutive += 1
        await trio.sleep(self._backoff.delay(failed.consecutive))
        return await self._start_group(group)

    async def _give_up(self, failed: Child) -> Child | None:
        """Escalate, or park it and go on; return one of the others that did not come up."""
        why = _describe(failed.error)
        if not failed.spec.parks:
            self._report(failed, "gave up")
            raise DaemonDown(failed.spec.name, why, failed.restarts) from failed.error
        await self._park(failed, why)
        # If it failed while a group was being started, the rest of it still waits.
        return await self._start_group(
            [child for child in self._group_of(failed) if child.is_stopping and not child.running]
        )

    def _group_of(self, failed: Child) -> list[Child]:
        names = affected(self._strategy, tuple(self._children), failed.spec.name)
        return [self._children[name] for name in names]

    async def _stop_group(self, group: Sequence[Child]) -> None:
        if len(group) > 1:
            # One of them may be serving the command that waits for its turn here,
            # and would not end before it has had it.
            self._desk.close(GROUP)
        for child in reversed(group):
            await self._stop_child(child)
            is_left = child.spec.restart is Restart.TEMPORARY
            self._report(child, "left" if is_left else "restarted")
            if is_left:
                self._declare_down(child, "it was stopped with another, and is not restarted")
        self._desk.open()

    async def _start_group(self, group: Sequence[Child]) -> Child | None:
        for child in group:
            if child.spec.restart is not Restart.TEMPORARY and child.parked is None:
                try:
                    await self._start_child(child)
                except DaemonDown:
                    # That is one more failure of it, and counts.
                    return child
        return None

    async def _start_child(self, child: Child) -> None:
        spec = child.spec
        child.begin()
        began = self._scheduler.now()
        with child.context:
            self._nursery.start_soon(self._run_child, child, name=f"daemon {spec.name}")
        with trio.move_on_after(spec.start_timeout):
            await child.ready.wait()
        if not child.became_ready:
            late = child.running
            await self._cancel_child(child)
            reason = f"not ready after {spec.start_timeout} s" if late else _describe(child.error)
            down = DaemonDown(spec.name, f"it did not start: {reason}", child.restarts)
            cause, child.error = child.error, child.error or down
            raise down from cause
        child.ready_at = self._scheduler.now()
        child.took = child.ready_at - began
        if self._on_ready is not None:
            self._on_ready(spec.name, child.took)

    async def _run_child(self, child: Child) -> None:
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
            self._tell.send_nowait(child)

    async def _stop_child(self, child: Child) -> None:
        child.is_stopping = True
        if not child.running:
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

    async def _cancel_child(self, child: Child) -> None:
        child.is_stopping = True
        child.scope.cancel()
        await child.ended.wait()

    def _declare_down(self, child: Child, reason: str) -> None:
        if child.spec.on_down is not None and not child.is_down:
            child.is_down = True
            child.spec.on_down(DaemonDown(child.spec.name, reason, child.restarts))

    def _report(self, child: Child, what: str) -> None:
        if child.error is not None and not child.is_reported:
            child.is_reported = True
            self._record(child, child.error, what)

    def _record(self, child: Child, error: BaseException, what: str) -> None:
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
      intensity: most restarts within ``period`` seconds, 0 or more; of each child
        that parks, where it does not say otherwise, and of all others together. One
        counts from the failure, before the wait of the backoff.
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
