"""Plain Trio, as a good Trio programmer writes it: memory channels, a fresh one for each reply."""

from __future__ import annotations

import math
from contextlib import nullcontext

import measure
import trio
import trio.testing
from measure import clock

Request = tuple[int, "trio.MemorySendChannel[int]"]


async def serve(requests: trio.MemoryReceiveChannel[Request]) -> None:
    async for value, reply in requests:
        reply.send_nowait(value)


async def ask(server: trio.MemorySendChannel[Request], value: int) -> int:
    reply, answer = trio.open_memory_channel[int](1)
    await server.send((value, reply))
    return await answer.receive()


async def client(server: trio.MemorySendChannel[Request], window: measure.Window) -> None:
    has_deadline = window.scenario == "round_trip_deadline"
    waits: list[int] = []
    began = clock()
    while began < window.until:
        with trio.fail_after(measure.TIMEOUT) if has_deadline else nullcontext():
            await ask(server, 1)
        ended = clock()
        waits.append(ended - began)
        began = ended
    window.took(waits)


async def round_trips(window: measure.Window, clients: int) -> None:
    server, requests = trio.open_memory_channel[Request](clients)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, requests)
        async with server:
            with window.opened():
                async with trio.open_nursery() as crowd:
                    for _ in range(clients):
                        crowd.start_soon(client, server, window)


async def fan_in(window: measure.Window) -> None:
    send, receive = trio.open_memory_channel[int](math.inf)
    starts = [trio.Event()]

    async def sender(number: int) -> None:
        turn = 0
        while True:
            await starts[turn].wait()
            turn += 1
            for nth in range(measure.BURST):
                await send.send(measure.stamped(number, nth))

    async with trio.open_nursery() as nursery:
        for number in range(measure.SENDERS):
            nursery.start_soon(sender, number)
        await trio.testing.wait_all_tasks_blocked()
        with window.opened():
            while not window.is_over:
                starts.append(trio.Event())
                starts[-2].set()
                for _ in range(measure.SENDERS * measure.BURST):
                    sent = await receive.receive()
                    if sent:
                        window.waits.append(clock() - sent)
                window.operations += measure.SENDERS * measure.BURST
        nursery.cancel_scope.cancel()


async def busy() -> None:
    while True:
        measure.burn()
        await trio.lowlevel.checkpoint()


async def tick(window: measure.Window) -> None:
    server, requests = trio.open_memory_channel[Request](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, requests)
        for _ in range(measure.BUSY):
            nursery.start_soon(busy)
        with window.opened():
            grid = measure.Grid(window)
            while (due := grid.next_due()) is not None:
                await trio.sleep(max(due - clock(), 0) / 1e9)
                await ask(server, 1)
                grid.answered(due)
        nursery.cancel_scope.cancel()


def run(window: measure.Window) -> None:
    if window.scenario == "fan_in":
        trio.run(fan_in, window)
    elif window.scenario == "tick":
        trio.run(tick, window)
    else:
        trio.run(round_trips, window, measure.CLIENTS if window.scenario == "round_trip_100" else 1)


if __name__ == "__main__":
    measure.main("trio", run)
