"""Run a system in a thread of its own, for synchronous programs.

The calling thread blocks only while it opens or closes the system and in
``ThreadHost.call``. No signal handler and no other global state is changed.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from rtos.host.bridge import Bridge, HostCall

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

System = TypeVar("System")
Result = TypeVar("Result")


class ThreadHost(Generic[System]):
    """A system in a thread of its own. Made by ``open_thread``.

    Attributes:
      system: what the opener yielded.
    """

    def __init__(self, bridge: Bridge[System], system: System, thread: threading.Thread) -> None:
        self._bridge = bridge
        self._thread = thread
        self.system = system

    def call(
        self, function: Callable[..., Awaitable[Result]], *args: object, timeout: float | None = None
    ) -> Result:
        """Run ``function(*args)`` inside Trio and wait for its result.

        Args:
          function: an async function written for Trio.
          *args: its arguments.
          timeout: seconds until it is cancelled; ``None`` for no limit.

        Raises:
          TimeoutError: it did not end in time, and was cancelled.
          ValueError: the timeout is negative or NaN.
          RuntimeError: called from the system's own thread, which would wait for itself.
          DaemonDown: the system was stopped before the call ended.
          Exception: any exception that the function raises, unchanged.

        A ``KeyboardInterrupt`` in the calling thread cancels the function.
        """
        if threading.current_thread() is self._thread:
            msg = "call: called from the system's own thread, which would wait for itself; await the function"
            raise RuntimeError(msg)
        future: Future[Result] = Future()
        call = HostCall(lambda: function(*args), timeout=timeout, done=lambda reply: _resolve(future, reply))
        self._bridge.submit(call)
        try:
            return future.result()
        finally:
            # Still running only if this thread was interrupted; otherwise without effect.
            self._bridge.cancel(call)


@contextmanager
def open_thread(
    opener: Callable[[], AbstractAsyncContextManager[System]],
) -> Iterator[ThreadHost[System]]:
    """Open a system in a thread of its own while the block runs.

    Args:
      opener: returns the async context manager of the system, for example
        ``open_scheduler`` or ``lambda: open_runtime(configuration)``.

    Raises:
      Exception: any exception that opening or closing the system raises, unchanged.

    A ``KeyboardInterrupt`` while the system opens cancels the opening.
    """
    opened: Future[System] = Future()
    bridge: Bridge[System] = Bridge(opener, opened.set_result)
    ended: list[outcome.Outcome[None]] = []

    def main() -> None:
        ended.append(outcome.capture(trio.run, bridge.run))
        if not opened.done():
            opened.set_exception(RuntimeError("the system ended before it was open"))

    thread = threading.Thread(target=main, name="rtos", daemon=True)
    thread.start()
    try:
        if opened.exception() is None:
            yield ThreadHost(bridge, opened.result(), thread)
    finally:
        bridge.stop()
        thread.join()
    ended[0].unwrap()


def _resolve(future: Future[Any], reply: outcome.Outcome[Any]) -> None:
    if isinstance(reply, outcome.Error):
        future.set_exception(reply.error)
    else:
        future.set_result(reply.unwrap())
