"""One event, many subscriptions, of which at most ten match.

Receivers take what they are told, in tasks of their own. What counts is whether an
event's price follows the number of those that match, or of all there are.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import trio
import trio.testing

from bench.harness import Benchmark, Sample, Size, Stopwatch
from rtos.bus import Events
from rtos.scheduler import open_scheduler

if TYPE_CHECKING:
    from collections.abc import Callable

BURST = 100
"""Events between two looks at the receivers: far less than their backlog."""
MATCHING = 10


async def _emit_all(emit: Callable[[], object], events: int, pause: Callable[[], Any]) -> Stopwatch:
    with Stopwatch() as watch:
        for _ in range(events // BURST):
            for _ in range(BURST):
                emit()
            await pause()
    return watch


async def _events(subscriptions: int, events: int) -> Sample:
    told = Events()
    latencies: list[int] = []
    matching = min(MATCHING, subscriptions)

    async def receive(subscription: Any) -> None:
        async for event in subscription:
            latencies.append(perf_counter_ns() - event.payload)  # noqa: PERF401 - timed when it comes

    with ExitStack() as stack:
        # Those that do not match end in something else, or are of another length.
        for number in range(subscriptions - matching):
            pattern = f"room:*:joined:{number}" if number % 2 else f"room:{number}:message:*"
            stack.enter_context(told.subscribe(pattern))
        async with open_scheduler(), trio.open_nursery() as nursery:
            for number in range(matching):
                pattern = "room:*:message:created" if number % 2 else "room:general:message:created"
                nursery.start_soon(receive, stack.enter_context(told.subscribe(pattern)))
            watch = await _emit_all(
                lambda: told.emit("room:general:message:created", perf_counter_ns()),
                events,
                trio.testing.wait_all_tasks_blocked,
            )
            nursery.cancel_scope.cancel()
    assert len(latencies) == matching * (events // BURST) * BURST
    return watch.sample(events, latencies=latencies)


async def _channels(receivers: int, events: int) -> Sample:
    latencies: list[int] = []
    ends = [trio.open_memory_channel[int](1024) for _ in range(receivers)]

    async def receive(end: trio.MemoryReceiveChannel[int]) -> None:
        async for sent in end:
            latencies.append(perf_counter_ns() - sent)  # noqa: PERF401 - timed when it comes

    def emit() -> None:
        now = perf_counter_ns()
        for send, _ in ends:
            send.send_nowait(now)

    async with trio.open_nursery() as nursery:
        for _, end in ends:
            nursery.start_soon(receive, end)
        watch = await _emit_all(emit, events, trio.testing.wait_all_tasks_blocked)
        nursery.cancel_scope.cancel()
    return watch.sample(events, latencies=latencies)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Trio's channels know their receivers; the bus has to find them."""
    events = size.of(100, 1000, 3000)
    many = size.of(200, 10_000, 10_000)
    return {
        "trio, 10 channels": partial(trio.run, _channels, 10, events),
        "1 subscription": partial(trio.run, _events, 1, events),
        "10, all match": partial(trio.run, _events, 10, events),
        "100, 10 match": partial(trio.run, _events, 100, events),
        "10000, 10 match": partial(trio.run, _events, many, events),
    }


BENCHMARK = Benchmark(
    name="fan_out",
    summary="one event told to those of 1, 100 and 10 000 subscriptions that match",
    unit="event",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["fan_out", *sys.argv[1:]]))
