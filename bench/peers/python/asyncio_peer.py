"""asyncio with a queue and a future for each reply; other loops run the same program with their own `run`."""

from __future__ import annotations

import asyncio  # noqa: TID251 - it is what is measured
from typing import TYPE_CHECKING, Any

import measure
from measure import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    Requests = asyncio.Queue[tuple[int, asyncio.Future[int]]]
    Spawn = Callable[[Coroutine[Any, Any, None], int], asyncio.Task[None]]

URGENT, NORMAL, BACKGROUND = range(3)


def spawn_plain(work: Coroutine[Any, Any, None], level: int) -> asyncio.Task[None]:  # noqa: ARG001
    """asyncio knows no levels."""
    return asyncio.get_running_loop().create_task(work)


async def serve(requests: Requests) -> None:
    while True:
        value, reply = await requests.get()
        if not reply.done():
            reply.set_result(value)


async def ask(requests: Requests, value: int) -> int:
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    requests.put_nowait((value, reply))
    return await reply


async def client(requests: Requests, window: measure.Window) -> None:
    has_deadline = window.scenario == "round_trip_deadline"
    waits: list[int] = []
    began = clock()
    while began < window.until:
        if has_deadline:
            async with asyncio.timeout(measure.TIMEOUT):
                await ask(requests, 1)
        else:
            await ask(requests, 1)
        ended = clock()
        waits.append(ended - began)
        began = ended
    window.took(waits)


async def round_trips(window: measure.Window, spawn: Spawn, clients: int) -> list[asyncio.Task[None]]:
    requests: Requests = asyncio.Queue()
    server = spawn(serve(requests), NORMAL)
    with window.opened():
        await asyncio.gather(*[spawn(client(requests, window), NORMAL) for _ in range(clients)])
    return [server]


async def fan_in(window: measure.Window, spawn: Spawn) -> list[asyncio.Task[None]]:
    queue: asyncio.Queue[int] = asyncio.Queue()
    starts = [asyncio.Event()]

    async def sender(number: int) -> None:
        turn = 0
        while True:
            await starts[turn].wait()
            turn += 1
            for nth in range(measure.BURST):
                await queue.put(measure.stamped(number, nth))

    senders = [spawn(sender(number), NORMAL) for number in range(measure.SENDERS)]
    await asyncio.sleep(0.01)
    with window.opened():
        while not window.is_over:
            starts.append(asyncio.Event())
            starts[-2].set()
            for _ in range(measure.SENDERS * measure.BURST):
                sent = await queue.get()
                if sent:
                    window.waits.append(clock() - sent)
            window.operations += measure.SENDERS * measure.BURST
    return senders


async def busy() -> None:
    while True:
        measure.burn()
        await asyncio.sleep(0)


async def tick(window: measure.Window, spawn: Spawn) -> list[asyncio.Task[None]]:
    requests: Requests = asyncio.Queue()

    async def ticking() -> None:
        with window.opened():
            grid = measure.Grid(window)
            while (due := grid.next_due()) is not None:
                await asyncio.sleep(max(due - clock(), 0) / 1e9)
                await ask(requests, 1)
                grid.answered(due)

    others = [spawn(serve(requests), URGENT)]
    others += [spawn(busy(), BACKGROUND) for _ in range(measure.BUSY)]
    await spawn(ticking(), URGENT)
    return others


async def scenario(window: measure.Window, spawn: Spawn) -> None:
    if window.scenario == "fan_in":
        tasks = await fan_in(window, spawn)
    elif window.scenario == "tick":
        tasks = await tick(window, spawn)
    else:
        tasks = await round_trips(
            window, spawn, measure.CLIENTS if window.scenario == "round_trip_100" else 1
        )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    measure.main("asyncio", lambda window: asyncio.run(scenario(window, spawn_plain)))
