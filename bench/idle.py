"""Cost of idle objects: memory, CPU time to create them, and wake-ups while nothing happens.

Measures personas in a running system, as many as the size allows, and up to 100,000 parked
Trio tasks and ports with one worker each. Each kind runs in a process of its own, whose memory
is divided by the number of objects. The memory of a persona is that of the whole system, with
its records in the memory store; the trace is full before the measurement.

Beside the personas, messages some milliseconds apart wake an urgent task. Its latency must not
depend on the number of personas. In a minute of virtual time every pass of the loop is counted,
so timers that are far away are found too.
"""

from __future__ import annotations

import gc
import math
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any, Final

import trio
import trio.testing

from bench.child import measure, resident_bytes
from bench.harness import Benchmark, Sample, Size
from bench.wakeup import measure as measure_waits
from rtos.runtime import Configuration, open_runtime
from rtos.scheduler import open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.supervision.task_group import open_task_group

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rtos.runtime import Runtime
    from rtos.scheduler import Scheduler

WATCHED: Final = 1.0
"""Seconds of idleness in which wake-ups are counted."""
MINUTE: Final = 60.0
ALLOWED: Final = 4096
"""Most bytes of an idle persona."""
TEN: Final = 10
BATCHES: Final = 8
FILLING: Final = 20_000
"""Commands that fill the trace, whose memory does not grow any more then."""


def rest(kind: str, number: str, seconds: str, samples: str) -> dict[str, Any]:
    """Create ``number`` objects of a kind, let them idle, and wake an urgent task; runs in the child."""
    if kind == "persona":
        return trio.run(_personas, int(number), float(seconds), int(samples))
    bodies = {"task": _tasks, "port": _ports}
    return trio.run(bodies[kind], int(number), float(seconds))


def rest_virtual(number: str, seconds: str) -> dict[str, Any]:
    """Create ``number`` personas and count the passes of the loop in ``seconds``; runs in the child."""
    clock = trio.testing.MockClock()
    return trio.run(_count_passes, clock, int(number), float(seconds), clock=clock)


async def _tasks(number: int, seconds: float) -> dict[str, Any]:
    async def parked() -> None:
        await trio.sleep_forever()

    async def make(scheduler: Scheduler) -> dict[str, Any]:
        async with open_task_group(scheduler) as crowd:

            async def start() -> None:
                for _ in range(number):
                    crowd.start_soon(parked)

            return await _watch(scheduler, start, number, seconds)

    async with open_scheduler() as scheduler:
        return await make(scheduler)


async def _ports(number: int, seconds: float) -> dict[str, Any]:
    async def serve(_: object) -> None:
        return None

    async with open_scheduler() as scheduler, open_task_group(scheduler) as crowd:

        async def start() -> None:
            for _ in range(number):
                context = scheduler.context("actor")
                with context:
                    port = Port[object, None](scheduler, "actor")
                    crowd.start_soon(partial(port.serve, serve, context=context))

        return await _watch(scheduler, start, number, seconds)


async def _personas(number: int, seconds: float, samples: int) -> dict[str, Any]:
    async with _system() as runtime:
        for _ in range(FILLING if number >= 1000 else 0):
            await runtime.commands.execute("data/collections")
        await _create(runtime, TEN, name="One of ten")
        beside_ten = await _wakeup_us(runtime.scheduler, samples)
        found = await _watch(runtime.scheduler, partial(_create, runtime, number), number, seconds)
        beside_all = await _wakeup_us(runtime.scheduler, samples)
    return found | {
        "share_of_4_kib": found["kib_each"] * 1024 / ALLOWED,
        "wakeup_beside_ten_us": beside_ten,
        "wakeup_p50_us": beside_all,
    }


async def _wakeup_us(scheduler: Scheduler, samples: int) -> float:
    # The lowest of several medians: other processes slow this one down for a second at a time.
    waits = [await measure_waits(scheduler, busy=0, samples=samples) for _ in range(BATCHES)]
    return min(statistics.median(batch) for batch in waits) / 1e3


async def _count_passes(clock: trio.testing.MockClock, number: int, seconds: float) -> dict[str, Any]:
    async with _system() as runtime:
        cpu, wall = process_time(), perf_counter()
        await _create(runtime, number)
        made = process_time() - cpu, perf_counter() - wall
        await trio.testing.wait_all_tasks_blocked()
        # Not before: a loop that looks for the next jump never sleeps, and the threads that create the
        # personas' folders would compete with it for the interpreter lock.
        clock.autojump_threshold = 0
        before = runtime.scheduler.statistics().passes
        await trio.sleep(seconds)
        # Without the pass that ends the measurement. On a virtual clock the loop never sleeps.
        count = runtime.scheduler.statistics().passes - before - 1
    return {"cpu_seconds": made[0], "wall_seconds": made[1], "count_wakeups": count}


@asynccontextmanager
async def _system() -> AsyncIterator[Runtime]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        settings = Configuration(root=Path(folder), storage="memory", socket=False)
        async with open_runtime(settings) as runtime:
            yield runtime


async def _create(runtime: Runtime, number: int, *, name: str = "Persona") -> None:
    for index in range(number):
        made = await runtime.commands.execute("user/create", type="persona", name=f"{name} {index}")
    # Their creation includes what is still to be written to the activity logs.
    await runtime.commands.execute("user/activity", id="operator")
    await runtime.commands.execute("user/preferences", id=made["id"])
    await trio.testing.wait_all_tasks_blocked()


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
        # Without the wake-up that ends the measurement.
        "count_wakeups": after.sleeps - before.sleeps - 1,
        "idle_cpu_ms": spent * 1e3,
    }


def _sample(kind: str, number: int, seconds: float, samples: int = 0) -> Sample:
    return _taken(number, measure("idle", "rest", kind, str(number), str(seconds), str(samples)))


def _virtual(number: int, seconds: float) -> Sample:
    return _taken(number, measure("idle", "rest_virtual", str(number), str(seconds)))


def _taken(number: int, found: dict[str, Any]) -> Sample:
    cpu, wall = found.pop("cpu_seconds"), found.pop("wall_seconds")
    assert all(math.isfinite(value) for value in found.values())
    return Sample(operations=number, cpu_seconds=cpu, wall_seconds=wall, extra=found)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """A check measures fewer objects; the asserted figures do not depend on their number."""
    seconds = 0.05 if size is Size.SMOKE else WATCHED
    crowd, samples, thousand = size.of(100, 10_000, 100_000), size.of(5, 100, 300), size.of(20, 1000, 1000)
    found: dict[str, Callable[[], Sample]] = {
        "parked tasks": partial(_sample, "task", crowd, seconds),
        "ports with a worker": partial(_sample, "port", crowd, seconds),
        "personas, 1000": partial(_sample, "persona", thousand, seconds, samples),
        "personas, 1000, a virtual minute": partial(_virtual, thousand, MINUTE),
    }
    if size is Size.FULL:
        found["personas, 10000"] = partial(_sample, "persona", 10_000, seconds, samples)
        found["personas, 100000"] = partial(_sample, "persona", 100_000, MINUTE, samples)
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
