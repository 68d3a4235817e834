"""The Trio side of an embedding: keeps a system open and runs calls sent to it.

Shared by the asyncio host and the thread host, which differ only in how they wait
for an outcome. Knows nothing of the program outside Trio.

Invariant: ``done`` of every submitted call is called exactly once, also when the
system stops before the call has begun.
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


class HostCall:
    """One call from the host: an async function, its timeout, and the callback for its outcome.

    Args:
      function: what to run inside Trio.
      timeout: seconds until it is cancelled, 0 or more; ``None`` for no limit.
      done: called with the outcome. A call that has timed out gets a ``TimeoutError``.

    Raises:
      ValueError: the timeout is negative or NaN.
    """

    def __init__(
        self,
        function: Callable[[], Awaitable[Any]],
        *,
        timeout: float | None,
        done: Callable[[outcome.Outcome[Any]], None],
    ) -> None:
        if timeout is not None and not timeout >= 0:
            msg = f"call: timeout {timeout!r} is not a duration; use seconds, or None for no limit"
            raise ValueError(msg)
        self.function = function
        self.timeout = timeout
        self.done = done
        self.scope = trio.CancelScope()


class Bridge(Generic[System]):
    """Keeps a system open inside Trio for a host outside of it.

    Args:
      opener: returns the async context manager that opens the system.
      on_open: called inside Trio once the system is open.
    """

    def __init__(
        self,
        opener: Callable[[], AbstractAsyncContextManager[System]],
        on_open: Callable[[System], None],
    ) -> None:
        self._opener = opener
        self._on_open = on_open
        self._opening = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self._stop = trio.Event()
        self._is_stopped = False
        self._token: trio.lowlevel.TrioToken | None = None

    async def run(self) -> None:
        """Open the system, keep it open until ``stop``, and close it.

        If ``stop`` comes while the system is opening, the opening is cancelled.
        """
        # First the token, then the flag; ``stop`` uses them in the other order, so one of
        # the two sides sees the other also when they run in different threads.
        self._token = trio.lowlevel.current_trio_token()
        if self._is_stopped:
            return
        with self._opening:
            async with self._opener() as system, trio.open_nursery() as nursery:
                self._nursery = nursery
                self._on_open(system)
                await self._stop.wait()
                self._nursery = None
                nursery.cancel_scope.cancel()

    def stop(self) -> None:
        """Close the system. May be called from any thread, also when the system is closed."""
        self._is_stopped = True
        self._soon(self._stop_now, _nothing)

    def submit(self, call: HostCall) -> None:
        """Send a call. May be called from any thread; ``done`` is called inside Trio."""
        self._soon(lambda: self._begin(call), lambda: call.done(_stopped()))

    def cancel(self, call: HostCall) -> None:
        """Cancel a call. May be called from any thread; ``done`` is called when it has unwound."""
        self._soon(call.scope.cancel, _nothing)

    def _stop_now(self) -> None:
        if self._nursery is None:
            self._opening.cancel()
        else:
            self._stop.set()

    def _begin(self, call: HostCall) -> None:
        if self._nursery is None:
            call.done(_stopped())
        else:
            self._nursery.start_soon(self._run_call, call, name="host call")

    async def _run_call(self, call: HostCall) -> None:
        reply: outcome.Outcome[Any] = _stopped()
        try:
            with call.scope:
                if call.timeout is not None:
                    call.scope.deadline = trio.current_time() + call.timeout
                try:
                    reply = outcome.Value(await call.function())
                except Exception as error:  # noqa: BLE001 - the host's call raises it
                    reply = outcome.Error(error)
            if call.scope.cancelled_caught:
                # Not trio.TooSlowError: the function may raise that one itself.
                reply = outcome.Error(
                    TimeoutError(f"call: not done within {call.timeout!r} s, and cancelled")
                )
        finally:
            call.done(reply)

    def _soon(self, action: Callable[[], None], otherwise: Callable[[], None]) -> None:
        try:
            if self._token is None:
                otherwise()
            else:
                self._token.run_sync_soon(action)
        except trio.RunFinishedError:
            otherwise()


def _stopped() -> outcome.Error:
    return outcome.Error(DaemonDown("runtime", "it was stopped before this call ended"))


def _nothing() -> None:
    pass
