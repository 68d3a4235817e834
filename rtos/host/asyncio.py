"""For asyncio programs: the system inside the same loop, by Trio's guest mode.

Both loops take turns in one thread, so the host's own steps are steps that
block: the bound on latency then includes the longest of them. asyncio's ways of
signals are kept.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the host that this file is for
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import trio

from rtos.host.bridge import Bridge, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    import outcome

System = TypeVar("System")


class AsyncioHost(Generic[System]):
    """A system inside an asyncio loop. Made by ``open_in_asyncio``."""

    def __init__(self, bridge: Bridge[System], system: System) -> None:
        self._bridge = bridge
        self.system = system

    async def call(
        self, body: Callable[..., Awaitable[Any]], *args: object, timeout: float | None = None
    ) -> Any:
        """Run ``body(*args)`` on the Trio side, and await what it returns.

        Args:
          body: an async function, written for Trio.
          *args: what it is called with.
          timeout: seconds until it is cancelled; none by default.

        Raises:
          TimeoutError: it had not ended in time, and has been cancelled.
          DaemonDown: the system was stopped before it ended.
          Exception: whatever it raised.

        An asyncio cancellation cancels it, and goes on once it has unwound.
        """
        future: asyncio.Future[outcome.Outcome[Any]] = asyncio.get_running_loop().create_future()
        work = Work(lambda: body(*args), timeout=timeout, done=future.set_result)
        self._bridge.submit(work)
        try:
            reply = await asyncio.shield(future)
        except asyncio.CancelledError:
            self._bridge.cancel(work)
            await future
            raise
        try:
            return reply.unwrap()
        except trio.TooSlowError:
            raise TimeoutError(f"call: not done within {timeout!r} s, and cancelled") from None


@asynccontextmanager
async def open_in_asyncio(
    opener: Callable[[], AbstractAsyncContextManager[System]],
) -> AsyncIterator[AsyncioHost[System]]:
    """Open a system inside the running asyncio loop while the block runs.

    Args:
      opener: ``lambda: open_runtime(configuration)``, say, or ``open_scheduler``.

    Raises:
      Exception: whatever opening or closing the system raised.
    """
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[System] = loop.create_future()
    ended: asyncio.Future[outcome.Outcome[None]] = loop.create_future()
    bridge: Bridge[System] = Bridge(opener, opened.set_result)
    trio.lowlevel.start_guest_run(
        bridge.run,
        run_sync_soon_threadsafe=loop.call_soon_threadsafe,
        done_callback=ended.set_result,
        host_uses_signal_set_wakeup_fd=True,
    )
    await asyncio.wait((opened, ended), return_when=asyncio.FIRST_COMPLETED)
    try:
        if opened.done():
            yield AsyncioHost(bridge, opened.result())
    finally:
        bridge.stop()
        result = await ended
    result.unwrap()
