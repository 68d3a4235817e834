"""Durable writes and point reads: ours beside the obvious ways on Trio, by 1 and by 100 callers.

A write is a transaction of its own that is synced before its caller goes on. The disk's
sync is much of what a write takes, so here the wall's clock counts, as a ratio within
a round; and once more on a disk whose syncs take a millisecond longer, as many do.
Further: a page of a list, and an urgent task's wake-up, while forty others list with a
filter over 30 000 messages.
"""

from __future__ import annotations

import random
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio

from bench import scans, stores
from bench.harness import Benchmark, Sample, Size, Stopwatch
from bench.peers.environments import Skipped, command

if TYPE_CHECKING:
    from collections.abc import Callable

READABLE: Final = 1000
"""Records that are there to be read."""
SLOW: Final = 0.001
"""Seconds that a sync takes longer on a slow disk; this machine's takes a tenth of that."""
WAYS: Final[dict[str, Callable[..., Any]]] = {
    "bus": stores.ours,
    "backend": stores.ours_alone,
    "apsw async": stores.apsw_async,
    "sqlite3 in threads": stores.standard_library,
}


def _ids() -> list[str]:
    return [f"{number:06}" for number in range(READABLE)]


async def _measure(way: Callable[..., Any], what: str, callers: int, calls: int) -> Sample:
    ids = _ids()
    latencies: list[int] = []

    async def call(store: stores.Store, caller: int) -> None:
        choose = random.Random(caller).choice
        for number in range(calls // callers):
            sent = perf_counter_ns()
            if what == "write":
                await store.create(f"{caller}-{number}")
            else:
                # Each one once, or any.
                id = ids[number * callers + caller] if what == "first read" else choose(ids)
                assert (await store.read(caller, id))["id"] == id
            latencies.append(perf_counter_ns() - sent)

    with tempfile.TemporaryDirectory() as folder:
        async with way(Path(folder), ids, callers) as store:
            await store.create("first")
            for caller in range(callers):
                await store.read(caller, ids[0])
            if what == "read":
                # What a store is after a while: everything has been read once.
                for id in ids:
                    await store.read(0, id)
            with Stopwatch() as watch:
                async with trio.open_nursery() as nursery:
                    for caller in range(callers):
                        nursery.start_soon(call, store, caller)
    # By the wall: a caller waits for the disk, and not for a processor.
    per_second = len(latencies) / watch.wall_seconds
    return watch.sample(len(latencies), latencies=latencies, per_second=per_second)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Each way, writing and reading, by one caller and by a hundred."""
    found: dict[str, Callable[[], Sample]] = {}
    # A process and an environment of its own, so in a full run only.
    words = _words() if size is Size.FULL else []
    for what, calls in (("write", size.of(100, 1000, 2000)), ("read", size.of(100, 3000, 5000))):
        for callers in (1, 100):
            number = calls // 4 if callers == 1 else calls
            for name, way in WAYS.items():
                variant = f"{name}, {callers} {what}"
                found[variant] = partial(trio.run, _measure, way, what, callers, number)
            if words:
                found[f"sqlite-anyio, {callers} {what}"] = partial(_theirs, words, (what, callers, number))
    for name in ("bus", "apsw async"):
        found[f"{name}, 100 write, slow disk"] = partial(_on_slow_disk, WAYS[name], size.of(100, 500, 1000))
        found[f"{name}, 100 first read"] = partial(
            trio.run, _measure, WAYS[name], "first read", 100, READABLE
        )
    each = partial(stores.apsw_async, readers_at_most=100)
    found["apsw async, a connection each, 100 read"] = partial(trio.run, _measure, each, "read", 100, calls)
    return found | _beside_scans(size)


def _beside_scans(size: Size) -> dict[str, Callable[[], Sample]]:
    count, samples, limit = size.of(200, 30_000, 30_000), size.of(5, 200, 400), size.of(1, 2, 4)
    return {
        f"{name}{beside}": partial(scans.measure, what, number, count, samples, limit)
        for name, what in (("page of 10", scans.page), ("urgent task", scans.wakeups))
        for beside, number in ((", alone", 0), (f", beside {scans.SCANS} scans", scans.SCANS))
    }


def _on_slow_disk(way: Callable[..., Any], calls: int) -> Sample:
    with stores.slow_disk(SLOW):
        return trio.run(_measure, way, "write", 100, calls)


def _theirs(words: list[str], scenario: tuple[str, int, int]) -> Sample:
    with tempfile.TemporaryDirectory() as folder:
        return stores.by_sqlite_anyio(words, Path(folder), _ids(), scenario)


def _words() -> list[str]:
    try:
        return command(stores.sqlite_anyio())
    except Skipped as why:
        print(f"storage: sqlite-anyio is left out: {why.reason}", file=sys.stderr)
        return []


BENCHMARK = Benchmark(
    name="storage",
    summary="durable writes and point reads, beside the obvious ways on Trio; pages beside forty scans",
    unit="call",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["storage", *sys.argv[1:]]))
