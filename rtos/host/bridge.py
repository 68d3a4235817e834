"""The Trio side of an embedding: a system that is held open, and work that is sent to it.

Shared by the two hosts, which differ only in how they wait. Nothing here knows
which loop, or whether a loop, is on the other side.

Law: every piece of work that was accepted ends in exactly one call of its
``done``, also when the system stops before it has begun.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from rtos.errors import DaemonDown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

System = TypeVar("System")


class Work:
    """One piece of work: an async function, its deadline, and where its outcome goes."""

    def __init__(
        self,
        body: Callable[[], Awaitable[Any]],
        *,
        timeout: float | None,
        done: Callable[[outcome.Outcome[Any]], None],
    ) -> None:
        self.body = body
        self.timeout = timeout
        self.done = done
        self.scope = trio.CancelScope()


class Bridge(Generic[System]):
    """A system held open inside Trio, for a host outside of it.

    Args:
      opener: makes the context manager that opens the system.
      on_open: told, inside Trio, once it is open.
    """

    def __init__(
        self,
        opener: Callable[[], AbstractAsyncContextManager[System]],
        on_open: Callable[[System], None],
    ) -> None:
        self._opener = opener
        self._on_open = on_open
        self._nursery: trio.Nursery | None = None
        self._stop = trio.Event()
        self._token: trio.lowlevel.TrioToken | None = None

    async def run(self) -> None:
        """Open the system, hold it open until ``stop``, and close it in order."""
        self._token = trio.lowlevel.current_trio_token()
        async with self._opener() as system, trio.open_nursery() as nursery:
            self._nursery = nursery
            self._on_open(system)
            await self._stop.wait()
            self._nursery = None
            nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Close the system; from any thread, and harmless when it is closed."""
        self._soon(self._stop.set, _nothing)

    def submit(self, work: Work) -> None:
        """Send work; from any thread. Its ``done`` is called inside Trio."""
        self._soon(lambda: self._begin(work), lambda: work.done(_gone()))

    def cancel(self, work: Work) -> None:
        """Cancel work; from any thread. Its ``done`` is called when it has unwound."""
        self._soon(work.scope.cancel, _nothing)

    def _begin(self, work: Work) -> None:
        if self._nursery is None:
            work.done(_gone())
        else:
            self._nursery.start_soon(self._do, work, name="host call")

    async def _do(self, work: Work) -> None:
        reply: outcome.Outcome[Any] = _gone()
        try:
            with work.scope:
                if work.timeout is not None:
                    work.scope.deadline = trio.current_time() + work.timeout
                try:
                    reply = outcome.Value(await work.body())
                except Exception as error:  # noqa: BLE001 - it is the host's to see
                    reply = outcome.Error(error)
            if work.scope.cancelled_caught:
                reply = outcome.Error(trio.TooSlowError())
        finally:
            work.done(reply)

    def _soon(self, action: Callable[[], None], otherwise: Callable[[], None]) -> None:
        try:
            if self._token is None:
                otherwise()
            else:
                self._token.run_sync_soon(action)
        except trio.RunFinishedError:
            otherwise()


def _gone() -> outcome.Error:
    return outcome.Error(DaemonDown("runtime", "it was stopped before this call ended"))


def _nothing() -> None:
    """There is nobody to tell."""
