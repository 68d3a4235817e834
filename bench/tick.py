"""Timer latency under load: every 5 ms an urgent worker is called, beside 50 or 1000 busy tasks.

The busy tasks run steps of 200 µs. Measures the time from the instant that was due, on an
absolute grid, to the reply. An instant without a reply within 5 ms is a miss, also if the
call was not even sent. A full run measures other systems too, in processes of their own that
take turns with this one. Systems that are not installed are skipped with a message.
"""

from __future__ import annotations

import sys
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Final

import trio

from bench import others
from bench.harness import Benchmark, Size, Stopwatch
from bench.svg import histogram
from rtos.scheduler import open_port, open_scheduler

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
    async with open_port(scheduler, "urgent", _reply, level=0) as port:
        start, index = scheduler.now() + PERIOD, 0
        while index < instants:
            due = start + index * PERIOD
            await _sleep_until(scheduler, due)
            await port.call(index)
            now = scheduler.now()
            waits.append(round((now - due) * 1e9))
            # Skip the instants that passed during this call.
            index = max(index, int((now - start) / PERIOD)) + 1
    scope.cancel()


async def _sleep_until(scheduler: Scheduler, due: float) -> None:
    """Sleep by the kernel's timer, as ``periodic`` does: Trio's own timer wakes up to 1 ms late."""
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
    """This kernel; in a full run also every other system that is installed."""
    instants = size.of(10, 200, 400)
    ours: dict[str, Callable[[], Sample]] = {
        f"rtos, {busy} busy": partial(_ours, busy, instants) for busy in (50, 1000)
    }
    if size is not Size.FULL:
        return ours
    found = others.available("tick", OTHERS)
    return ours | {name: partial(others.tick, name, instants * PERIOD) for name in found}


def plots(run: Run) -> dict[str, str]:
    """A histogram of the waits; the other systems report percentiles only."""
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
