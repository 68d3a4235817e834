"""xoscar: actors of one pool in one process; a request is an awaited call of the actor's method."""

from __future__ import annotations

import asyncio  # noqa: TID251 - its actors live there

import measure
import xoscar
from measure import clock


class Echo(xoscar.Actor):
    async def echo(self, value: int) -> int:
        return value


class Client(xoscar.Actor):
    """Asks until the time is up."""

    def __init__(self, server: xoscar.ActorRef, *, has_deadline: bool) -> None:
        self.server = server
        self.has_deadline = has_deadline

    async def go(self, until: int) -> list[int]:
        waits: list[int] = []
        began = clock()
        while began < until:
            if self.has_deadline:
                await xoscar.wait_for(self.server.echo(1), measure.TIMEOUT)
            else:
                await self.server.echo(1)
            ended = clock()
            waits.append(ended - began)
            began = ended
        return waits


class Receiver(xoscar.Actor):
    """Counts a burst, and says when all of it has come."""

    def __init__(self) -> None:
        self.waits: list[int] = []
        self.left = measure.SENDERS * measure.BURST
        self.is_done = asyncio.Event()

    async def take(self, sent: int) -> None:
        if sent:
            self.waits.append(clock() - sent)
        self.left -= 1
        if not self.left:
            self.left = measure.SENDERS * measure.BURST
            self.is_done.set()

    @xoscar.no_lock
    async def all_taken(self) -> list[int]:
        await self.is_done.wait()
        self.is_done.clear()
        waits, self.waits = self.waits, []
        return waits


class Sender(xoscar.Actor):
    def __init__(self, receiver: xoscar.ActorRef, number: int) -> None:
        self.receiver = receiver
        self.number = number

    async def go(self) -> None:
        for nth in range(measure.BURST):
            await self.receiver.take.tell(measure.stamped(self.number, nth))


class Busy(xoscar.Actor):
    async def go(self, until: int) -> None:
        while clock() < until:
            measure.burn()
            await asyncio.sleep(0)


async def round_trips(window: measure.Window, address: str, count: int) -> None:
    server = await xoscar.create_actor(Echo, address=address)
    has_deadline = window.scenario == "round_trip_deadline"
    clients = [
        await xoscar.create_actor(Client, server, has_deadline=has_deadline, address=address)
        for _ in range(count)
    ]
    with window.opened():
        for waits in await asyncio.gather(*[client.go(window.until) for client in clients]):
            window.took(waits)


async def fan_in(window: measure.Window, address: str) -> None:
    receiver = await xoscar.create_actor(Receiver, address=address)
    senders = [
        await xoscar.create_actor(Sender, receiver, number, address=address)
        for number in range(measure.SENDERS)
    ]
    with window.opened():
        while not window.is_over:
            await asyncio.gather(*[sender.go.tell() for sender in senders])
            window.waits += await receiver.all_taken()
            window.operations += measure.SENDERS * measure.BURST


async def tick(window: measure.Window, address: str) -> None:
    server = await xoscar.create_actor(Echo, address=address)
    busy = [await xoscar.create_actor(Busy, address=address) for _ in range(measure.BUSY)]
    with window.opened():
        for each in busy:
            await each.go.tell(window.until)
        grid = measure.Grid(window)
        while (due := grid.next_due()) is not None:
            await asyncio.sleep(max(due - clock(), 0) / 1e9)
            await server.echo(1)
            grid.answered(due)


async def scenario(window: measure.Window) -> None:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        address = pool.external_address
        if window.scenario == "fan_in":
            await fan_in(window, address)
        elif window.scenario == "tick":
            await tick(window, address)
        else:
            await round_trips(window, address, measure.CLIENTS if window.scenario == "round_trip_100" else 1)


if __name__ == "__main__":
    measure.main("xoscar", lambda window: asyncio.run(scenario(window)))
