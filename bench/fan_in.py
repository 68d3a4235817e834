"""A thousand senders and one receiver.

Messages without a reply go through a mailbox or Trio's channel, received one by one or in
batches, and through asyncio's queue in batches. Calls go through a port. Senders wait while
there is no room, so no message is lost, and every message is counted. For comparison,
asyncio's queue without a bound, where no sender waits.
"""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import attrs
import trio

from bench import others
from bench.harness import Benchmark, Sample, Size, Stopwatch
from rtos.scheduler import open_mailbox, open_port, open_scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

CAPACITY = 1024
UVLOOP = ("uvloop queue", "uvloop queue, unbounded")


async def _one_by_one(receive: Any, latencies: list[int]) -> None:
    async for sent in receive:
        latencies.append(perf_counter_ns() - sent)  # noqa: PERF401 - each is timed when it comes


async def _in_batches(receive: Any, latencies: list[int]) -> None:
    while True:
        try:
            # In a statement of its own: within the next one the clock would be read before the wait.
            sent = await receive.receive()
            while True:
                latencies.append(perf_counter_ns() - sent)
                sent = receive.receive_nowait()
        except trio.WouldBlock:
            continue
        except trio.EndOfChannel:
            return


async def _channel(
    open_ends: Callable[[], Any], drain: Callable[..., Any], senders: int, each: int
) -> Sample:
    latencies: list[int] = []
    send, receive = open_ends()

    async def sender(end: Any) -> None:
        with end:
            for _ in range(each):
                await end.send(perf_counter_ns())

    with Stopwatch() as watch:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain, receive, latencies)
            with send:
                for _ in range(senders):
                    nursery.start_soon(sender, send.clone())
    assert len(latencies) == senders * each
    return watch.sample(len(latencies), latencies=latencies)


async def _mailbox(drain: Callable[..., Any], senders: int, each: int) -> Sample:
    ends: list[Any] = []

    def open_ends() -> Any:
        ends.extend(open_mailbox(CAPACITY))
        return ends

    async with open_scheduler():
        sample = await _channel(open_ends, drain, senders, each)
    counts = ends[1].statistics().messages
    return attrs.evolve(
        sample, extra={"count_lost": senders * each - counts.handled + (not counts.conserved())}
    )


async def _mailbox_above(drain: Callable[..., Any], senders: int, each: int) -> Sample:
    """The receiver is more urgent than its senders, as a server should be: the mailbox never fills."""
    async with open_scheduler() as scheduler:

        async def drain_above(receive: Any, latencies: list[int]) -> None:
            with scheduler.context("receiver", level=scheduler.host_level - 1):
                await trio.lowlevel.checkpoint()
                await drain(receive, latencies)

        return await _channel(partial(open_mailbox, CAPACITY), drain_above, senders, each)


@asynccontextmanager
async def _served_port() -> AsyncIterator[Callable[[], Any]]:
    async def echo(request: int) -> int:
        return request

    async with open_scheduler() as scheduler, open_port(scheduler, "sink", echo, capacity=CAPACITY) as port:
        yield lambda: port.call(1)


@asynccontextmanager
async def _answering_channel() -> AsyncIterator[Callable[[], Any]]:
    send, receive = trio.open_memory_channel[trio.MemorySendChannel[int]](CAPACITY)

    async def serve() -> None:
        async for reply in receive:
            await reply.send(1)

    async def ask() -> None:
        answer, reply = trio.open_memory_channel[int](1)
        await send.send(answer)
        await reply.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield ask
        nursery.cancel_scope.cancel()


async def _calls(way: Callable[[], Any], senders: int, each: int) -> Sample:
    latencies: list[int] = []

    async def sender(ask: Callable[[], Any]) -> None:
        for _ in range(each):
            sent = perf_counter_ns()
            await ask()
            latencies.append(perf_counter_ns() - sent)

    async with way() as ask:
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for _ in range(senders):
                    nursery.start_soon(sender, ask)
    return watch.sample(len(latencies), latencies=latencies)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Messages, then calls, each with Trio first; then messages in other loops."""
    senders, each = size.of(20, 1000, 1000), size.of(3, 5, 15)
    trio_ends = partial(trio.open_memory_channel, CAPACITY)
    bodies = {
        "trio channel": partial(_channel, trio_ends, _one_by_one),
        "trio channel, in batches": partial(_channel, trio_ends, _in_batches),
        "mailbox": partial(_mailbox, _one_by_one),
        "mailbox, in batches": partial(_mailbox, _in_batches),
        "mailbox, receiver above": partial(_mailbox_above, _one_by_one),
        "trio channels, with reply": partial(_calls, _answering_channel),
        "port, with reply": partial(_calls, _served_port),
    }
    ours = {name: partial(trio.run, body, senders, each) for name, body in bodies.items()}
    return ours | _elsewhere(size, senders, each)


def _elsewhere(size: Size, senders: int, each: int) -> dict[str, Callable[[], Sample]]:
    loops = {"asyncio": others.on_asyncio}
    if size is Size.FULL and others.available("fan_in", ["uvloop"]):
        loops["uvloop"] = others.on_uvloop
    found = {}
    for name, on in loops.items():
        found[f"{name} queue"] = on("fan_in", senders, each)
        found[f"{name} queue, unbounded"] = on("fan_in_unbounded", senders, each)
    return found


BENCHMARK = Benchmark(
    name="fan_in",
    summary="a thousand senders and one receiver; the senders' own start and end included",
    unit="message",
    variants=variants,
    optional=UVLOOP,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["fan_in", *sys.argv[1:]]))
