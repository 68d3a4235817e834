"""tractor: an actor is a process with Trio inside; requests and replies go over streams between the two.

The server is a child; the clients are tasks of the parent with a stream each. In the
tick, the busy tasks stand beside the server in its child. In the fan-in the senders are
tasks of the child, and the parent receives.
"""

from __future__ import annotations

import socket
import sys
import warnings
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio

sys.path.insert(0, str(Path(__file__).parent))  # a child loads this file, and not its folder
warnings.simplefilter("ignore")  # it is of the time of an older Trio

import measure  # noqa: E402
import tractor  # noqa: E402
from measure import clock  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@tractor.context
async def echo(ctx: tractor.Context, busy: int) -> None:
    """Sends back what it gets, beside so many busy tasks."""
    await ctx.started()
    async with ctx.open_stream() as stream, trio.open_nursery() as nursery:
        for _ in range(busy):
            nursery.start_soon(burn)
        async for message in stream:
            await stream.send(message)
        nursery.cancel_scope.cancel()


async def burn() -> None:
    while True:
        measure.burn()
        await trio.lowlevel.checkpoint()


@tractor.context
async def send_bursts(ctx: tractor.Context) -> None:
    """At each word from the other side, a burst of every sender."""
    await ctx.started()
    async with ctx.open_stream() as stream, trio.open_nursery() as nursery:
        starts = [trio.Event()]

        async def sender(number: int) -> None:
            turn = 0
            while True:
                await starts[turn].wait()
                turn += 1
                for nth in range(measure.BURST):
                    await stream.send(measure.stamped(number, nth))

        for number in range(measure.SENDERS):
            nursery.start_soon(sender, number)
        async for _ in stream:
            starts.append(trio.Event())
            starts[-2].set()
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def connected(portal: tractor.Portal, function: Any, **arguments: Any) -> AsyncIterator[Any]:
    async with portal.open_context(function, **arguments) as (ctx, _), ctx.open_stream() as stream:
        yield stream


async def ask(stream: Any) -> None:
    await stream.send(1)
    await stream.receive()


async def client(portal: tractor.Portal, window: measure.Window, stand: Any) -> None:
    has_deadline = window.scenario == "round_trip_deadline"
    waits: list[int] = []
    async with connected(portal, echo, busy=0) as stream:
        await stand.arrive()
        began = clock()
        while began < window.until:
            with trio.fail_after(measure.TIMEOUT) if has_deadline else nullcontext():
                await ask(stream)
            ended = clock()
            waits.append(ended - began)
            began = ended
    window.took(waits)


class Stand:
    """Nobody starts before all are connected."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.all_here = trio.Event()
        self.go = trio.Event()

    async def arrive(self) -> None:
        self.left -= 1
        if not self.left:
            self.all_here.set()
        await self.go.wait()


async def round_trips(portal: tractor.Portal, window: measure.Window, count: int) -> None:
    stand = Stand(count)
    async with trio.open_nursery() as crowd:
        for _ in range(count):
            crowd.start_soon(client, portal, window, stand)
        await stand.all_here.wait()
        with window.opened():
            stand.go.set()
            await trio.sleep(window.seconds)


async def fan_in(portal: tractor.Portal, window: measure.Window) -> None:
    async with connected(portal, send_bursts) as stream:
        with window.opened():
            while not window.is_over:
                await stream.send("go")
                for _ in range(measure.SENDERS * measure.BURST):
                    sent = await stream.receive()
                    if sent:
                        window.waits.append(clock() - sent)
                window.operations += measure.SENDERS * measure.BURST


async def tick(portal: tractor.Portal, window: measure.Window) -> None:
    async with connected(portal, echo, busy=measure.BUSY) as stream:
        with window.opened():
            grid = measure.Grid(window)
            while (due := grid.next_due()) is not None:
                await trio.sleep(max(due - clock(), 0) / 1e9)
                await ask(stream)
                grid.answered(due)


async def scenario(window: measure.Window) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = free.getsockname()  # its own port is fixed, and another run may sit there
    async with tractor.open_nursery(arbiter_addr=address) as nursery:
        portal = await nursery.start_actor("server", enable_modules=[__name__])
        if window.scenario == "fan_in":
            await fan_in(portal, window)
        elif window.scenario == "tick":
            await tick(portal, window)
        else:
            await round_trips(portal, window, measure.CLIENTS if window.scenario == "round_trip_100" else 1)
        await portal.cancel_actor()


if __name__ == "__main__":
    measure.main("tractor", lambda window: trio.run(scenario, window))
