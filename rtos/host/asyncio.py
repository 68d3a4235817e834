"""Run a system inside an asyncio event loop, by Trio's guest mode.

Both loops take turns in one thread. A callback of the asyncio program that blocks
therefore also delays the system: its latency bound includes the longest of them.
Signal handling stays asyncio's.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the host that this module is for
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Generic, TypeVar

import trio

from rtos.host.bridge import Bridge, HostCall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from contextlib import AbstractAsyncContextManager

    import outcome

System = TypeVar("System")
Result = TypeVar("Result")


class AsyncioHost(Generic[System]):
    """A system inside an asyncio event loop. Made by ``open_in_asyncio``.

    Attributes:
      system: what the opener yielded.
    """

    def __init__(self, bridge: Bridge[System], system: System) -> None:
        self._bridge = bridge
        self.system = system

    async def call(
        self, function: Callable[..., Awaitable[Result]], *args: object, timeout: float | None = None
    ) -> Result:
        """Run ``function(*args)`` inside Trio and return its result.

        Args:
          function: an async function written for Trio.
          *args: its arguments.
          timeout: seconds until it is cancelled; ``None`` for no limit.

        Raises:
          TimeoutError: it did not end in time, and was cancelled.
          ValueError: the timeout is negative or NaN.
          DaemonDown: the system was stopped before the call ended.
          Exception: any exception that the function raises, unchanged.

        An asyncio cancellation cancels the function, waits until it has unwound, and
        then goes on.
        """
        future: asyncio.Future[outcome.Outcome[Result]] = asyncio.get_running_loop().create_future()
        call = HostCall(lambda: function(*args), timeout=timeout, done=future.set_result)
        self._bridge.submit(call)
        reply = await _uninterrupted(future, lambda: self._bridge.cancel(call))
        return reply.unwrap()


@asynccontextmanager
async def open_in_asyncio(
    opener: Callable[[], AbstractAsyncContextManager[System]],
) -> AsyncIterator[AsyncioHost[System]]:
    """Open a system inside the running asyncio event loop while the block runs.

    Args:
      opener: returns the async context manager of the system, for example
        ``open_scheduler`` or ``lambda: open_runtime(configuration)``.

    Raises:
      Exception: any exception that opening or closing the system raises, unchanged.

    An asyncio cancellation while the system opens cancels the opening and goes on
    when the system has been closed again; so does one while it closes.
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
    try:
        await asyncio.wait((opened, ended), return_when=asyncio.FIRST_COMPLETED)
        if opened.done():
            yield AsyncioHost(bridge, opened.result())
    finally:
        bridge.stop()
        result = await _uninterrupted(ended, bridge.stop)
    result.unwrap()


async def _uninterrupted(future: asyncio.Future[Result], on_cancel: Callable[[], None]) -> Result:
    """Wait for the future also while cancelled; then raise the first cancellation.

    The future is set from inside Trio, which must not find it cancelled.
    """
    cancellation: asyncio.CancelledError | None = None
    while not future.done():
        try:
            await asyncio.wait((future,))
        except asyncio.CancelledError as error:
            cancellation = cancellation or error
            on_cancel()
    if cancellation is not None:
        raise cancellation
    return future.result()
