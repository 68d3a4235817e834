"""What forty scans of a large collection do to a page of a list, and to an urgent task.

The scans ask ``data/list`` with a filter that no index serves and few records satisfy,
over 30 000 messages, without a pause; half of them by equality, half for a word inside a text.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio

from bench import stores
from bench.harness import Sample, Stopwatch
from bench.switching import short_switch_interval
from rtos.daemons.data import RecordClock, open_sqlite_backend
from rtos.scheduler import periodic

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.bus import Bus

SCANS: Final = 40
LEVEL: Final = 4
"""Of the scans and of the page alike: nobody is more urgent but the urgent task."""
PERIOD: Final = 0.005


@cache
def messages(count: int) -> Path:
    """A database of ``count`` messages, made once in a process and removed at its end."""
    folder = tempfile.mkdtemp(prefix="rtos-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    path = Path(folder) / "messages.db"
    trio.run(_fill, path, count)
    return path


async def _fill(path: Path, count: int) -> None:
    def message(number: int) -> dict[str, Any]:
        return stores.DATA | {"author": f"somebody-{number % 1000}"}

    opened = open_sqlite_backend(lambda _: path, stores.COLLECTIONS, RecordClock(), lambda *_: None)
    async with opened as backend:
        await stores.fill(backend, (f"{number:06}" for number in range(count)), message)


def measure(
    what: Callable[[Bus, int, float], Awaitable[list[int]]],
    scans: int,
    count: int,
    samples: int,
    limit: float,
) -> Sample:
    """The waits of ``what``, beside so many scans.

    Args:
      what: ``page`` or ``wakeups``.
      scans: how many.
      count: how many messages they go through.
      samples: how many waits are wanted.
      limit: seconds after which fewer have to do.
    """
    path = messages(count)

    async def run() -> Sample:
        async with stores.on_bus(path) as bus, trio.open_nursery() as nursery:
            with bus.scheduler.context("scans", level=LEVEL):
                for number in range(scans):
                    nursery.start_soon(_scan, bus, number)
            # Until the scans have all been asked for.
            await page(bus, 1, limit)
            with Stopwatch() as watch:
                waits = await what(bus, samples, limit)
            nursery.cancel_scope.cancel()
        p99 = sorted(waits)[(len(waits) * 99 + 99) // 100 - 1]
        return watch.sample(len(waits), latencies=waits, p99_ms=p99 / 1e6)

    with short_switch_interval():
        return trio.run(run)


async def _scan(bus: Bus, number: int) -> None:
    wanted = (
        {"author": f"nobody-{number}"} if number % 2 else {"text": {"$contains": f"no such word {number}"}}
    )
    while True:
        await bus.commands.execute("data/list", collection=stores.NOTES, filter=wanted, limit=10)


async def page(bus: Bus, samples: int, limit: float) -> list[int]:
    """Ten messages in the order in which they were made, again and again."""
    waits: list[int] = []

    async def ask() -> None:
        until = trio.current_time() + limit
        while len(waits) < samples and trio.current_time() < until:
            sent = perf_counter_ns()
            found = await bus.commands.execute("data/list", collection=stores.NOTES, limit=10)
            assert found["count"] == 10
            waits.append(perf_counter_ns() - sent)

    await _in_context(bus, "page", LEVEL, ask)
    return waits


async def wakeups(bus: Bus, samples: int, limit: float) -> list[int]:
    """How late an urgent periodic task is."""
    waits: list[int] = []

    async def wake() -> None:
        until = trio.current_time() + limit
        async for release in periodic(bus.scheduler, PERIOD):
            waits.append(max(int(release.late * 1e9), 1))
            if len(waits) == samples or trio.current_time() > until:
                return

    await _in_context(bus, "urgent", 0, wake)
    return waits


async def _in_context(bus: Bus, name: str, level: int, body: Callable[[], Awaitable[None]]) -> None:
    async with trio.open_nursery() as nursery:
        with bus.scheduler.context(name, level=level):
            nursery.start_soon(body)
