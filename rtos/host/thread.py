"""For synchronous programs: the system in a thread of its own.

The host's thread blocks only in the calls it makes, each within its timeout.
No signal handler and no other global state is touched.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio

from rtos.host.bridge import Bridge, Work

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

System = TypeVar("System")


class ThreadHost(Generic[System]):
    """A system in a thread. Made by ``open_thread``."""

    def __init__(self, bridge: Bridge[System], system: System) -> None:
        self._bridge = bridge
        self.system = system

    def call(self, body: Callable[..., Awaitable[Any]], *args: object, timeout: float | None = None) -> Any:
        """Run ``body(*args)`` inside Trio, and wait for what it returns.

        Args:
          body: an async function.
          *args: what it is called with.
          timeout: seconds until it is cancelled; none by default.

        Raises:
          TimeoutError: it had not ended in time, and has been cancelled.
          DaemonDown: the system was stopped before it ended.
          Exception: whatever it raised.

        Must not be called from inside the system: it would wait for itself.
        """
        future: Future[Any] = Future()
        work = Work(lambda: body(*args), timeout=timeout, done=lambda reply: _resolve(future, reply))
        self._bridge.submit(work)
        try:
            return future.result()
        except trio.TooSlowError:
            raise TimeoutError(f"call: not done within {timeout!r} s, and cancelled") from None
        except BaseException:
            self._bridge.cancel(work)
            raise


@contextmanager
def open_thread(
    opener: Callable[[], AbstractAsyncContextManager[System]],
) -> Iterator[ThreadHost[System]]:
    """Open a system in a thread of its own while the block runs.

    Args:
      opener: ``lambda: open_runtime(configuration)``, say, or ``open_scheduler``.

    Raises:
      Exception: whatever opening or closing the system raised.
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
            yield ThreadHost(bridge, opened.result())
    finally:
        bridge.stop()
        thread.join()
    ended[0].unwrap()


def _resolve(future: Future[Any], reply: outcome.Outcome[Any]) -> None:
    if isinstance(reply, outcome.Error):
        future.set_exception(reply.error)
    else:
        future.set_result(reply.unwrap())
