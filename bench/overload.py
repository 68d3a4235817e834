"""Offered load from 50 to 200 % of the capacity: requests answered in time, for each level.

A server takes 10 ms for a request. Requests of three levels arrive at random, each with a
deadline of 50 ms, and count as good if they are done by then. The server *burns* the loop's
own time, so that clients and server compete for one processor, or *waits* for a device that
serves one request at a time. It runs on the real kernel in virtual time, so the figures follow
from the order alone and are the same on every machine. For comparison, a first-in, first-out
server, which works on requests that have expired already.

An *ideal* server with the same arrivals, simulated without a kernel, shows the possible gain.
The most urgent level has a tenth of the offered load, so its tail grows with the load although
the other levels hardly affect it: from 5 % to 20 % of the capacity, a request waits for another
of its own level four times as often.

The figures in real time, 1 ms per request, are shown and never asserted.
"""

from __future__ import annotations

import random
import sys
from functools import cache, partial
from itertools import count
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from bench import ideal
from bench.harness import Benchmark, Latency, Sample, Size, Stopwatch
from bench.svg import curve
from rtos.errors import DeadlineMissed, MailboxFull
from rtos.scheduler import Scheduler, open_port, open_scheduler
from rtos.testing.virtual import run_virtual, spend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from bench.harness import Run
    from rtos.scheduler.policy.overload import MailboxStatistics

    Work = Callable[[float], Awaitable[None]]

LOADS: Final = (50, 75, 100, 125, 150, 200)
SHARES: Final = {0: 0.1, 3: 0.3, 6: 0.6}
"""Share of the requests at each level."""
DEADLINE: Final = 5.0
"""In service times."""
CAPACITY: Final = 1000
LONG: Final = 400.0
LONGEST: Final = 4000.0
"""Seconds, at 50 % with 2000 and 20 000 requests of the top level: of the 100 there are in 20 seconds the
99th percentile is the second worst, and the ratio of two such has a standard deviation of 0.2."""


@attrs.define
class Tally:
    """Outcomes of the requests of one level.

    Attributes:
      answered: counted by the senders, like ``missed`` and ``refused``.
      waits: from sending to the end of the service, seconds.
    """

    sent: int = 0
    answered: int = 0
    missed: int = 0
    refused: int = 0
    in_time: int = 0
    waits: list[float] = attrs.field(factory=list)

    def take(self, due: float, deadline: float) -> None:
        """Record a served request."""
        now = trio.current_time()
        self.in_time += now <= due
        self.waits.append(now - due + deadline)


@attrs.frozen(kw_only=True)
class Load:
    """The offered load, and its duration."""

    percent: int
    service: float
    seconds: float
    seed: int

    def arrivals(self) -> list[tuple[float, int]]:
        """Arrivals of a Poisson process: seconds from the start, and level."""
        chance = random.Random(self.seed)
        rate = self.percent / 100 / self.service
        now, found = chance.expovariate(rate), []
        while now < self.seconds:
            found.append((now, chance.choices(list(SHARES), list(SHARES.values()))[0]))
            now += chance.expovariate(rate)
        return found

    @property
    def deadline(self) -> float:
        """Seconds from sending."""
        return DEADLINE * self.service


async def by_order(load: Load, work: Work) -> tuple[dict[int, Tally], dict[str, float]]:
    """A port on this kernel; also returns how many requests its counts and those of its clients miss."""
    tallies = {level: Tally() for level in SHARES}

    async def serve(request: tuple[float, Tally]) -> None:
        await work(load.service)
        request[1].take(request[0], load.deadline)

    async with (
        open_scheduler() as scheduler,
        open_port(scheduler, "server", serve, level=7, capacity=CAPACITY) as port,
    ):

        async def client(due: float, tally: Tally) -> None:
            await port.call((due, tally), deadline=due)

        await _offer(load, tallies, client, scheduler)
        lost = _lost(tallies, port.queue.statistics)
    return tallies, {"count_lost": lost}


def _lost(tallies: dict[int, Tally], counts: MailboxStatistics) -> int:
    """Requests missing from the counts of the port, from those of the clients, or between the two."""
    names = ("sent", "answered", "missed", "refused")
    totals: dict[str, int] = {name: sum(getattr(one, name) for one in tallies.values()) for name in names}
    settled = counts.handled + counts.failed + counts.expired + counts.shed + counts.cancelled
    return (
        abs(totals["sent"] - totals["answered"] - totals["missed"] - totals["refused"])
        + abs(counts.accepted - settled - counts.waiting)
        + abs(counts.handled - totals["answered"])
        + abs(counts.refused - totals["refused"])
        # A call whose deadline has passed before it is sent is missed, and not accepted.
        + max(counts.expired - totals["missed"], 0)
    )


async def as_they_come(load: Load, work: Work) -> tuple[dict[int, Tally], dict[str, float]]:
    """Plain Trio: a channel, and a client that gives up at its deadline."""
    tallies = {level: Tally() for level in SHARES}
    send, receive = trio.open_memory_channel[tuple[float, Tally, trio.Event]](CAPACITY)

    async def serve() -> None:
        async for due, tally, answered in receive:
            await work(load.service)
            tally.take(due, load.deadline)
            answered.set()
            await trio.lowlevel.checkpoint()

    async def client(due: float, tally: Tally) -> None:
        answered = trio.Event()
        with trio.fail_at(due):
            await send.send((due, tally, answered))
            await answered.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        await _offer(load, tallies, client, None)
        nursery.cancel_scope.cancel()
    return tallies, {}


async def _offer(
    load: Load,
    tallies: dict[int, Tally],
    ask: Callable[[float, Tally], Awaitable[None]],
    scheduler: Scheduler | None,
) -> None:
    origin = trio.current_time()

    async def client(due: float, tally: Tally) -> None:
        tally.sent += 1
        try:
            await ask(due, tally)
            tally.answered += 1
        except (DeadlineMissed, trio.TooSlowError):
            tally.missed += 1
        except MailboxFull:
            tally.refused += 1

    async def generate(clients: trio.Nursery) -> None:
        for at, level in load.arrivals():
            await trio.sleep_until(origin + at)
            due = origin + at + load.deadline
            if scheduler is None:
                clients.start_soon(client, due, tallies[level])
                continue
            with scheduler.context(f"level {level}", level=level):
                clients.start_soon(client, due, tallies[level])

    async with trio.open_nursery() as clients:
        if scheduler is None:
            await generate(clients)
            return
        with scheduler.context("generator", level=0):
            clients.start_soon(generate, clients)


async def _burn(seconds: float) -> None:
    spend(seconds)


async def _spin(seconds: float) -> None:
    until = perf_counter_ns() + int(seconds * 1e9)
    while perf_counter_ns() < until:
        pass


def _ideal(load: Load, *, preemptive: bool) -> dict[int, Tally]:
    tallies = {level: Tally() for level in SHARES}
    arrivals = load.arrivals()
    for _, level in arrivals:
        tallies[level].sent += 1
    for level, wait in ideal.served(arrivals, load.service, load.deadline, preemptive=preemptive):
        tallies[level].in_time += 1
        tallies[level].waits.append(wait)
    return tallies


def _ideal_sample(load: Load, *, preemptive: bool = False) -> Sample:
    with Stopwatch() as watch:
        tallies = _ideal(load, preemptive=preemptive)
    return _described(watch, tallies, load, unit="virtual")


def _sample(body: Any, load: Load, work: Work) -> Sample:
    virtual = work is not _spin
    with Stopwatch() as watch:
        tallies, extra = (run_virtual if virtual else trio.run)(body, load, work)
    return _described(watch, tallies, load, unit="virtual" if virtual else "real", **extra)


def _described(
    watch: Stopwatch, tallies: dict[int, Tally], load: Load, *, unit: str, **more: float
) -> Sample:
    sent = sum(tally.sent for tally in tallies.values())
    in_time = sum(tally.in_time for tally in tallies.values())
    possible = min(load.seconds / load.service, sent)
    extra: dict[str, Any] = {"share_goodput": in_time / possible, **more}
    for level, tally in tallies.items():
        extra[f"share_missed_level_{level}"] = 1 - tally.in_time / tally.sent if tally.sent else 0.0
        tail = Latency.of(int(wait * 1e9) for wait in tally.waits)
        extra[f"{unit}_p99_ms_level_{level}"] = tail.p99 / 1e6 if tail else 0.0
    return watch.sample(sent, **extra)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """All variants of a round have the same arrivals; each round has others."""
    seconds = size.of(1, 20, 60)
    found: dict[str, Callable[[], Sample]] = {}

    def add(name: str, body: Any, work: Work, percent: int) -> None:
        seeds = count()

        def take() -> Sample:
            service, length = (0.001, min(seconds, 4) / 4) if work is _spin else (0.010, float(seconds))
            load = Load(percent=percent, service=service, seconds=length, seed=next(seeds))
            return _sample(body, load, work)

        found[f"{name}, {percent} %"] = take

    for percent in LOADS:
        add("rtos burns", by_order, _burn, percent)
    for name, body, work in (
        ("trio burns", as_they_come, _burn),
        ("rtos waits", by_order, trio.sleep),
        ("trio waits", as_they_come, trio.sleep),
    ):
        for percent in (50, 100, 200):
            add(name, body, work, percent)
    found |= _ideals(float(seconds), size)
    if size is not Size.CHECK:
        add("rtos, real time", by_order, _spin, 150)
        add("trio, real time", as_they_come, _spin, 150)
    return found


def _ideals(seconds: float, size: Size) -> dict[str, Callable[[], Sample]]:
    found: dict[str, Callable[[], Sample]] = {}

    def add(percent: int, *, preemptive: bool) -> None:
        seeds = count()

        def take() -> Sample:
            load = Load(percent=percent, service=0.010, seconds=seconds, seed=next(seeds))
            return _ideal_sample(load, preemptive=preemptive)

        name = "ideal, preemptive" if preemptive else "ideal"
        found[f"{name}, {percent} %"] = take

    for preemptive in (False, True):
        for percent in (50, 100, 200):
            add(percent, preemptive=preemptive)
    # Results in virtual time are always the same, so one run serves all rounds.
    for percent in (50, 200):
        longest = LONGEST if size is not Size.SMOKE else seconds
        load = Load(percent=percent, service=0.010, seconds=longest, seed=0)
        found[f"ideal, long, {percent} %"] = cache(partial(_ideal_sample, load))
        if size is Size.FULL:
            load = attrs.evolve(load, seconds=LONG)
            found[f"rtos burns, long, {percent} %"] = cache(partial(_sample, by_order, load, _burn))
    return found


def plots(run: Run) -> dict[str, str]:
    """Latency by load, for each level."""
    found = run.medians()
    lines = {
        f"level {level}": [
            (float(load), found[f"rtos burns, {load} %"].figure(f"virtual_p99_ms_level_{level}"))
            for load in LOADS
        ]
        for level in SHARES
    }
    axes = ("offered load, %", "p99 of what was served, ms of virtual time")
    return {"overload": curve("Latency against load", lines, axes=axes)}


BENCHMARK = Benchmark(
    name="overload",
    summary="offered load from 50 to 200 %: goodput, missed deadlines and p99 for each level",
    unit="request",
    variants=variants,
    rounds=3,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["overload", *sys.argv[1:]]))
