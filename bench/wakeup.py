"""Latency of an urgent task beside tasks that are always ready.

Fifty, or a thousand, background tasks run steps of 200 µs each. Every 3 ms a task sends a
message to an urgent task; the benchmark measures the time from the send to the step of the
receiver.

    python -m bench.wakeup            the table
    python -m bench.wakeup --check    and fail if a budget is not met
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING

import trio

from bench.harness import Benchmark, Sample, Size, Stopwatch
from bench.svg import histogram
from rtos.scheduler import open_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Run
    from rtos.scheduler import Scheduler

STEP_NS = 200_000


async def _busy(stop: list[bool]) -> None:
    while not stop:
        until = perf_counter_ns() + STEP_NS
        while perf_counter_ns() < until:
            pass
        await trio.lowlevel.cancel_shielded_checkpoint()


async def _urgent(receive: trio.MemoryReceiveChannel[int], waits: list[int]) -> None:
    async for sent in receive:
        waits.append(perf_counter_ns() - sent)  # noqa: PERF401 - each is timed when it arrives


async def measure(scheduler: Scheduler | None, *, busy: int, samples: int) -> list[int]:
    """Latencies of the urgent task, in nanoseconds; in plain Trio if ``scheduler`` is ``None``."""
    waits: list[int] = []
    stop: list[bool] = []
    send, receive = trio.open_memory_channel[int](samples)
    async with trio.open_nursery() as nursery:
        with scheduler.context("urgent", level=0) if scheduler else nullcontext():
            nursery.start_soon(_urgent, receive, waits)
        for _ in range(busy):
            nursery.start_soon(_busy, stop)
        with scheduler.context("clock", level=1) if scheduler else nullcontext():
            nursery.start_soon(_clock, send, samples, stop)
    return waits


async def _clock(send: trio.MemorySendChannel[int], samples: int, stop: list[bool]) -> None:
    async with send:
        for _ in range(samples):
            await trio.sleep(0.003)
            send.send_nowait(perf_counter_ns())
    stop.append(True)


async def _ordered(busy: int, samples: int) -> list[int]:
    async with open_scheduler() as scheduler:
        return await measure(scheduler, busy=busy, samples=samples)


async def _plain(busy: int, samples: int) -> list[int]:
    return await measure(None, busy=busy, samples=samples)


def _sample(body: Callable[..., object], busy: int, samples: int) -> Sample:
    with Stopwatch() as watch:
        waits: list[int] = trio.run(body, busy, samples)  # type: ignore[arg-type]
    return watch.sample(len(waits), latencies=waits)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Plain Trio takes fewer samples, since each takes longer."""
    plain, ordered = size.of(5, 30, 30), size.of(5, 100, 300)
    return {
        "trio, 50 busy": partial(_sample, _plain, 50, plain),
        "rtos, 50 busy": partial(_sample, _ordered, 50, ordered),
        "rtos, 1000 busy": partial(_sample, _ordered, 1000, ordered),
    }


def plots(run: Run) -> dict[str, str]:
    """A histogram of the latencies."""
    return {"wakeup": histogram("Latency from a message to its receiver's step", run.latencies)}


BENCHMARK = Benchmark(
    name="wakeup",
    summary="latency from a message to its urgent receiver's step, beside tasks with steps of 200 µs",
    unit="wake-up",
    variants=variants,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["wakeup", *sys.argv[1:]]))
