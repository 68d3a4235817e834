"""Round trip of a command: a small request to another task, and its reply.

Measures the bus, a bare port, a pair of Trio channels with a new channel for each reply, and
the same with asyncio's queue on its two loops. The port, the channels and the queue look up
no names and check no parameters; the bus does both.

Every call wakes the server's task, except in the variants named ``direct``. There a call to
an idle worker is served in its caller's step, which is the default of ``open_scheduler``.
"""

from __future__ import annotations

import math
import sys
from contextlib import asynccontextmanager
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, ClassVar, Final

import outcome
import trio
import trio.testing

from bench import others
from bench.harness import Benchmark, Sample, Size, Stopwatch
from bench.svg import histogram
from rtos.bus import Bus, command
from rtos.runtime.runtime import TRACE
from rtos.scheduler import open_port, open_scheduler, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from bench.harness import Run

FAR: Final = 60.0
"""Seconds to a deadline that is never missed."""
UVLOOP: Final = ("uvloop", "uvloop, deadline", "uvloop, 100 clients")
SHOWN: Final = (
    "trio channels, deadline",
    "asyncio, deadline",
    "port, deadline",
    "port, direct, deadline",
    "bus, direct, deadline",
)
"""The variants in the histogram."""


class Echo:
    """A daemon with one command."""

    name: ClassVar[str] = "echo"
    level: ClassVar[int] = 4
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 1024

    @asynccontextmanager
    async def open(self, _: Bus) -> AsyncIterator[None]:
        """Acquire nothing."""
        yield

    @command("echo/say")
    async def say(self, *, number: int) -> int:
        """Return the argument."""
        return number


async def _echo(request: int) -> int:
    return request


@asynccontextmanager
async def through_bus(
    *, deadline: bool = False, direct: bool = False, trace: int = TRACE
) -> AsyncIterator[Any]:
    """The bus: look up the name, check the parameters, call the port."""
    async with open_scheduler(direct=direct, trace=trace) as scheduler:
        bus = Bus(scheduler)
        with bus.attach(Echo()) as spec:
            async with open_supervisor(scheduler, [spec]):
                execute = bus.commands.execute

                async def ask(number: int) -> Any:
                    due = trio.current_time() + FAR if deadline else None
                    return await execute("echo/say", number=number, deadline=due)

                yield ask


@asynccontextmanager
async def through_port(
    *, deadline: bool = False, direct: bool = False, trace: int = TRACE
) -> AsyncIterator[Any]:
    """A port, and one worker."""
    async with (
        open_scheduler(direct=direct, trace=trace) as scheduler,
        open_port(scheduler, "echo", _echo) as port,
    ):

        async def ask(number: int) -> Any:
            return await port.call(number, deadline=trio.current_time() + FAR if deadline else math.inf)

        yield ask


@asynccontextmanager
async def through_channels(*, deadline: bool = False) -> AsyncIterator[Any]:
    """Plain Trio: one channel to the server, and a fresh one for each reply."""
    send, receive = trio.open_memory_channel[tuple[int, trio.MemorySendChannel[int]]](1024)

    async def serve() -> None:
        async for request, reply in receive:
            await reply.send(request)

    async def ask(number: int) -> int:
        answer, reply = trio.open_memory_channel[int](1)
        await send.send((number, answer))
        return await reply.receive()

    async def ask_in_time(number: int) -> int:
        with trio.fail_after(FAR):
            return await ask(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        yield ask_in_time if deadline else ask
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def by_reschedule() -> AsyncIterator[Any]:
    """Two parked tasks that wake each other: the lower bound of a round trip in Trio."""
    parked: list[trio.lowlevel.Task] = []

    def abort(_: Any) -> trio.lowlevel.Abort:
        return trio.lowlevel.Abort.SUCCEEDED

    async def serve() -> None:
        parked.append(trio.lowlevel.current_task())
        caller = await trio.lowlevel.wait_task_rescheduled(abort)
        while True:
            trio.lowlevel.reschedule(caller)
            caller = await trio.lowlevel.wait_task_rescheduled(abort)

    async def ask(number: int) -> int:
        trio.lowlevel.reschedule(parked[0], outcome.Value(trio.lowlevel.current_task()))
        await trio.lowlevel.wait_task_rescheduled(abort)
        return number

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        yield ask
        nursery.cancel_scope.cancel()


async def _measure(way: Callable[[], Any], clients: int, calls: int) -> Sample:
    latencies: list[int] = []

    async def client(ask: Any) -> None:
        for number in range(calls // clients):
            sent = perf_counter_ns()
            assert await ask(number) == number
            latencies.append(perf_counter_ns() - sent)

    async with way() as ask:
        await ask(0)
        with Stopwatch() as watch:
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(client, ask)
    return watch.sample(len(latencies), latencies=latencies)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Each way with one client, with a deadline, and with a hundred clients."""
    calls = size.of(200, 4000, 10_000)
    ways: dict[str, tuple[Callable[..., Any], int]] = {
        "trio reschedule": (by_reschedule, 1),
        "trio channels": (through_channels, 1),
        "trio channels, deadline": (partial(through_channels, deadline=True), 1),
        "trio channels, 100 clients": (through_channels, 100),
    }
    for name, way in (("port", through_port), ("bus", through_bus)):
        ways |= {
            name: (way, 1),
            f"{name}, deadline": (partial(way, deadline=True), 1),
            f"{name}, trace off": (partial(way, trace=0), 1),
            f"{name}, 100 clients": (way, 100),
            f"{name}, direct": (partial(way, direct=True), 1),
            f"{name}, direct, deadline": (partial(way, direct=True, deadline=True), 1),
            f"{name}, direct, 100 clients": (partial(way, direct=True), 100),
        }
    ours = {name: partial(trio.run, _measure, way, clients, calls) for name, (way, clients) in ways.items()}
    return ours | _elsewhere(size, calls)


def _elsewhere(size: Size, calls: int) -> dict[str, Callable[[], Sample]]:
    loops = {"asyncio": others.on_asyncio}
    if size is Size.FULL and others.available("command", ["uvloop"]):
        loops["uvloop"] = others.on_uvloop
    found = {}
    for name, on in loops.items():
        found[name] = on("round_trips", 1, calls)
        found[f"{name}, deadline"] = on("deadline", 1, calls)
        found[f"{name}, 100 clients"] = on("round_trips", 100, calls)
    return found


def plots(run: Run) -> dict[str, str]:
    """A histogram of the round trips."""
    shown = {name: run.latencies[name] for name in SHOWN}
    return {"command": histogram("A round trip with a deadline", shown)}


BENCHMARK = Benchmark(
    name="command",
    summary="a tiny request to another task and its reply",
    unit="round trip",
    variants=variants,
    optional=UVLOOP,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["command", *sys.argv[1:]]))
