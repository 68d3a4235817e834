"""The tick: a timer every 5 ms asks an urgent daemon while 50 others, or 1000, burn 200 µs steps.

What counts is the time from the due instant to the answer, on an absolute grid; an
instant without an answer within 5 ms is missed, also if nobody came to ask. In a full
run the same is asked of other systems, in processes of their own that take turns with
ours; who cannot be had on this machine is left out, with a word.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio

from bench import others
from bench.harness import Benchmark, Size, Stopwatch
from bench.svg import histogram
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.calls.port import Port

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.harness import Run, Sample
    from rtos.scheduler import Scheduler

STEP_NS: Final = 200_000
PERIOD: Final = 0.005
OTHERS: Final = ("trio", "asyncio", "uvloop", "go", "erlang")


async def _burn() -> None:
    while True:
        until = perf_counter_ns() + STEP_NS
        while perf_counter_ns() < until:
            pass
        await trio.lowlevel.checkpoint()


async def _reply(request: int) -> int:
    return request


async def _ask(scheduler: Scheduler, instants: int, waits: list[int], scope: trio.CancelScope) -> None:
    port, kind = Port[Any, Any](scheduler, "urgent"), CallStatistics("urgent/ask")
    context = scheduler.context("urgent", level=0)
    async with trio.open_nursery() as nursery:
        with context:
            nursery.start_soon(partial(port.serve, _reply, context=context))
        start, index = scheduler.now() + PERIOD, 0
        while index < instants:
            due = start + index * PERIOD
            await _sleep_until(scheduler, due)
            await port.call(index, statistics=kind)
            now = scheduler.now()
            waits.append(round((now - due) * 1e9))
            # An instant that has passed while an answer was owed is not asked at.
            index = max(index, int((now - start) / PERIOD)) + 1
        nursery.cancel_scope.cancel()
    scope.cancel()


async def _sleep_until(scheduler: Scheduler, due: float) -> None:
    """By the kernel's timer, as ``periodic`` does it: Trio's own wakes a millisecond late."""
    done = trio.Event()
    scheduler.add_timer(due, done.set)
    await done.wait()


async def _run(busy: int, instants: int) -> list[int]:
    waits: list[int] = []
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        for _ in range(busy):
            with scheduler.context("busy", level=5):
                nursery.start_soon(_burn)
        with scheduler.context("clock", level=0):
            nursery.start_soon(_ask, scheduler, instants, waits, nursery.cancel_scope)
    return waits


def _ours(busy: int, instants: int) -> Sample:
    with Stopwatch() as watch:
        waits = trio.run(_run, busy, instants)
    in_time = sum(wait <= PERIOD * 1e9 for wait in waits)
    ordered = sorted(waits)
    middle, tail = ordered[len(ordered) // 2], ordered[int(0.99 * (len(ordered) - 1))]
    return watch.sample(
        len(waits),
        latencies=waits,
        median_us=middle / 1e3,
        tail_us=tail / 1e3,
        share_missed=1 - in_time / instants,
    )


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Ours; in a full run the others too, whoever can be had."""
    instants = size.of(10, 200, 400)
    ours: dict[str, Callable[[], Sample]] = {
        f"rtos, {busy} busy": partial(_ours, busy, instants) for busy in (50, 1000)
    }
    if size is not Size.FULL:
        return ours
    found = others.available("tick", OTHERS)
    return ours | {name: partial(others.tick, name, instants * PERIOD) for name in found}


def plots(run: Run) -> dict[str, str]:
    """How often which wait was seen; the others tell percentiles only."""
    return {"tick": histogram("From the due instant to the answer", run.latencies)}


BENCHMARK = Benchmark(
    name="tick",
    summary="from a due instant to an urgent daemon's answer, beside steps of 200 µs; and the same elsewhere",
    unit="tick",
    variants=variants,
    optional=OTHERS,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["tick", *sys.argv[1:]]))
