"""What code that knows nothing of the kernel pays for running under its order.

Pairs of tasks throw a ball to and fro through Trio's channels, without a daemon or a
context anywhere: in plain Trio, beside an open scheduler, and beside one that leaves
Trio's own order in place.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import trio

from bench.harness import Benchmark, Sample, Size, Stopwatch
from rtos.scheduler import open_scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

MANY: Final = 100
"""Pairs that throw at once."""


@asynccontextmanager
async def _plainly() -> AsyncIterator[None]:
    yield


async def _throw(
    send: trio.MemorySendChannel[int], receive: trio.MemoryReceiveChannel[int], throws: int
) -> None:
    for number in range(throws):
        await send.send(number)
        await receive.receive()


async def _return(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
    async with send:
        async for ball in receive:
            await send.send(ball)


async def _pair(throws: int) -> None:
    there, here = trio.open_memory_channel[int](0), trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_return, there[1], here[0])
        async with there[0]:
            await _throw(there[0], here[1], throws)


async def _measure(surroundings: Callable[[], Any], pairs: int, throws: int) -> Sample:
    async with surroundings():
        await _pair(throws // pairs)
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for _ in range(pairs):
                    nursery.start_soon(_pair, throws // pairs)
    return watch.sample(throws)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """One pair and many, in each of the three orders."""
    throws = size.of(200, 6000, 15_000)
    orders: dict[str, Callable[[], Any]] = {
        "trio": _plainly,
        "rtos": open_scheduler,
        "rtos, unordered": partial(open_scheduler, ordered=False),
    }
    return {
        f"{name}, {pairs} pair{'s' if pairs > 1 else ''}": partial(trio.run, _measure, order, pairs, throws)
        for pairs in (1, MANY)
        for name, order in orders.items()
    }


BENCHMARK = Benchmark(
    name="plain_code",
    summary="two tasks throw a ball to and fro through Trio's channels, with and without the kernel",
    unit="throw and return",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["plain_code", *sys.argv[1:]]))
