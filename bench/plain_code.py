"""Overhead of the kernel for code that does not use it.

Pairs of tasks exchange messages through Trio's channels, without daemons or contexts: in
plain Trio, under a scheduler, and under a scheduler that leaves Trio's order in place.
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
"""Number of pairs that run at once."""


@asynccontextmanager
async def _plain_trio() -> AsyncIterator[None]:
    yield


async def _ask(
    send: trio.MemorySendChannel[int], receive: trio.MemoryReceiveChannel[int], messages: int
) -> None:
    for number in range(messages):
        await send.send(number)
        await receive.receive()


async def _reply(receive: trio.MemoryReceiveChannel[int], send: trio.MemorySendChannel[int]) -> None:
    async with send:
        async for message in receive:
            await send.send(message)


async def _pair(messages: int) -> None:
    there, here = trio.open_memory_channel[int](0), trio.open_memory_channel[int](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_reply, there[1], here[0])
        async with there[0]:
            await _ask(there[0], here[1], messages)


async def _measure(surroundings: Callable[[], Any], pairs: int, messages: int) -> Sample:
    async with surroundings():
        await _pair(messages // pairs)
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for _ in range(pairs):
                    nursery.start_soon(_pair, messages // pairs)
    return watch.sample(messages)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """One pair and many pairs, in each of the three orders."""
    messages = size.of(200, 6000, 15_000)
    orders: dict[str, Callable[[], Any]] = {
        "trio": _plain_trio,
        "rtos": open_scheduler,
        "rtos, unordered": partial(open_scheduler, ordered=False),
    }
    return {
        f"{name}, {pairs} pair{'s' if pairs > 1 else ''}": partial(trio.run, _measure, order, pairs, messages)
        for pairs in (1, MANY)
        for name, order in orders.items()
    }


BENCHMARK = Benchmark(
    name="plain_code",
    summary="two tasks exchange messages through Trio's channels, with and without the kernel",
    unit="round trip",
    variants=variants,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["plain_code", *sys.argv[1:]]))
