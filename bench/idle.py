"""What something that does nothing costs: memory, the CPU time to make it, and wake-ups.

Personas in a running system, up to as many as the size allows; beside them parked
Trio tasks, and ports with a worker each, a hundred thousand of both. Each in a
process of its own, so that its memory is all there is.
"""

from __future__ import annotations

import gc
import math
import sys
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

import trio
import trio.testing

from bench.child import measure, resident_bytes
from bench.harness import Benchmark, Sample, Size
from rtos.runtime import Configuration, open_runtime
from rtos.scheduler import open_crowd, open_scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.scheduler import Scheduler

WATCHED: Final = 1.0
"""Seconds in which nothing happens, and wake-ups are counted."""


def rest(kind: str, number: str, seconds: str) -> dict[str, Any]:
    """Make ``number`` of a kind, and watch them do nothing. In the child."""
    bodies = {"task": _tasks, "port": _ports, "persona": _personas}
    return trio.run(bodies[kind], int(number), float(seconds))


async def _tasks(number: int, seconds: float) -> dict[str, Any]:
    async def parked() -> None:
        await trio.sleep_forever()

    async def make(scheduler: Scheduler) -> dict[str, Any]:
        async with open_crowd(scheduler) as crowd:

            async def start() -> None:
                for _ in range(number):
                    crowd.start_soon(parked)

            return await _watch(scheduler, start, number, seconds)

    async with open_scheduler() as scheduler:
        return await make(scheduler)


async def _ports(number: int, seconds: float) -> dict[str, Any]:
    async def serve(_: object) -> None:
        return None

    async with open_scheduler() as scheduler, open_crowd(scheduler) as crowd:

        async def start() -> None:
            for _ in range(number):
                context = scheduler.context("actor")
                with context:
                    crowd.start_soon(partial(scheduler.port("actor").serve, serve, context=context))

        return await _watch(scheduler, start, number, seconds)


async def _personas(number: int, seconds: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        settings = Configuration(root=Path(folder), storage="memory", socket=False)
        async with open_runtime(settings) as runtime:

            async def start() -> None:
                for index in range(number):
                    await runtime.commands.execute("user/create", type="persona", name=f"Persona {index}")

            return await _watch(runtime.scheduler, start, number, seconds)


async def _watch(
    scheduler: Scheduler, start: Callable[[], Awaitable[None]], number: int, seconds: float
) -> dict[str, Any]:
    gc.collect()
    memory, cpu, wall = resident_bytes(), process_time(), perf_counter()
    await start()
    await trio.testing.wait_all_tasks_blocked()
    made = process_time() - cpu, perf_counter() - wall
    gc.collect()
    memory = resident_bytes() - memory
    before, cpu = scheduler.statistics(), process_time()
    await trio.sleep(seconds)
    spent = process_time() - cpu
    after = scheduler.statistics()
    return {
        "cpu_seconds": made[0],
        "wall_seconds": made[1],
        "kib_each": memory / 1024 / number,
        # The one that ends the watch is not theirs.
        "count_wakeups": after.sleeps - before.sleeps - 1,
        "idle_cpu_ms": spent * 1e3,
    }


def _sample(kind: str, number: int, seconds: float) -> Sample:
    found = measure("idle", "rest", kind, str(number), str(seconds))
    cpu, wall = found.pop("cpu_seconds"), found.pop("wall_seconds")
    assert all(math.isfinite(value) for value in found.values())
    return Sample(operations=number, cpu_seconds=cpu, wall_seconds=wall, extra=found)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """In a check the crowds are smaller; what is asserted does not follow their size."""
    seconds = 0.05 if size is Size.SMOKE else WATCHED
    crowd = size.of(100, 10_000, 100_000)
    found: dict[str, Callable[[], Sample]] = {
        "parked tasks": partial(_sample, "task", crowd, seconds),
        "ports with a worker": partial(_sample, "port", crowd, seconds),
        "personas, 1000": partial(_sample, "persona", size.of(20, 1000, 1000), seconds),
    }
    if size is Size.FULL:
        for number in (10_000, 100_000):
            found[f"personas, {number}"] = partial(_sample, "persona", number, seconds)
    return found


BENCHMARK = Benchmark(
    name="idle",
    summary="tasks, ports and personas that wait: what each takes, and who wakes",
    unit="idler",
    variants=variants,
    rounds=1,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["idle", *sys.argv[1:]]))
