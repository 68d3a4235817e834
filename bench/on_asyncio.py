"""The same work as an asyncio programmer writes it: a queue to the server, a future for each reply.

Needs the standard library only, so that one text runs within our process and, on
uvloop, in an environment that has nothing else:

    PYTHON on_asyncio.py round_trips|deadline|fan_in|fan_in_unbounded NUMBER NUMBER
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - it is what is measured
import json
import sys
from contextlib import contextmanager
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Requests = asyncio.Queue[tuple[int, asyncio.Future[int]]]

FAR: Final = 60.0
"""Seconds to a deadline that is never missed."""
CAPACITY: Final = 1024


@contextmanager
def _timed(found: dict[str, Any]) -> Iterator[None]:
    wall, cpu = perf_counter_ns(), process_time_ns()
    yield
    found["cpu_seconds"] = (process_time_ns() - cpu) / 1e9
    found["wall_seconds"] = (perf_counter_ns() - wall) / 1e9


async def _ask(requests: Requests, number: int) -> int:
    reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    requests.put_nowait((number, reply))
    return await reply


async def _ask_in_time(requests: Requests, number: int) -> int:
    async with asyncio.timeout(FAR):
        return await _ask(requests, number)


async def _serve(requests: Requests) -> None:
    while True:
        number, reply = await requests.get()
        # Its asker may have given up.
        if not reply.done():
            reply.set_result(number)


async def round_trips(clients: int, calls: int, *, ask: Any = _ask) -> dict[str, Any]:
    """``calls`` round trips, of so many clients together."""
    latencies: list[int] = []
    requests: Requests = asyncio.Queue()

    async def client() -> None:
        for number in range(calls // clients):
            sent = perf_counter_ns()
            assert await ask(requests, number) == number
            latencies.append(perf_counter_ns() - sent)

    server = asyncio.create_task(_serve(requests))
    found: dict[str, Any] = {"latencies": latencies}
    await ask(requests, 0)
    with _timed(found):
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
    server.cancel()
    return found | {"operations": len(latencies)}


async def deadline(clients: int, calls: int) -> dict[str, Any]:
    """The same, each within a timeout."""
    return await round_trips(clients, calls, ask=_ask_in_time)


async def fan_in(senders: int, each: int, *, capacity: int = CAPACITY) -> dict[str, Any]:
    """Messages that nobody answers, from many senders to one receiver; who finds no room waits."""
    latencies: list[int] = []
    queue: asyncio.Queue[int] = asyncio.Queue(capacity)

    async def sender() -> None:
        for _ in range(each):
            await queue.put(perf_counter_ns())

    async def receiver() -> None:
        while len(latencies) < senders * each:
            # Read before the clock is, or the wait for the next one would be taken off.
            sent = await queue.get()
            latencies.append(perf_counter_ns() - sent)
            while not queue.empty():
                sent = queue.get_nowait()
                latencies.append(perf_counter_ns() - sent)

    found: dict[str, Any] = {"latencies": latencies}
    with _timed(found):
        async with asyncio.TaskGroup() as group:
            group.create_task(receiver())
            for _ in range(senders):
                group.create_task(sender())
    return found | {"operations": len(latencies)}


async def fan_in_unbounded(senders: int, each: int) -> dict[str, Any]:
    """The same where nobody ever waits for room, and memory is the only bound."""
    return await fan_in(senders, each, capacity=0)


WAYS: Final[dict[str, Callable[[int, int], Any]]] = {
    way.__name__: way for way in (round_trips, deadline, fan_in, fan_in_unbounded)
}

if __name__ == "__main__":
    import uvloop  # type: ignore[import-not-found]

    print(json.dumps(uvloop.run(WAYS[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3])))))
