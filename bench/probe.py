"""Lateness of periodic tasks at three levels, and its causes: cyclictest and timerlat for levels.

A probe on each of three levels is released on one absolute grid, beside a load at level 5.
Each sample is the time from the instant of the grid to the probe's step. The worst sample
of the top level is explained from the scheduler's own trace.

The loads: none; fifty tasks with steps of 200 µs; a flood of messages; cyclic garbage
beside a large heap; a thread that holds the interpreter lock for whole calls; a thread that
writes and syncs a file.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import threading
from collections import deque
from contextlib import contextmanager
from functools import partial
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio

from bench.harness import Benchmark, Latency, Sample, Size, Stopwatch
from bench.svg import histogram
from rtos.scheduler import open_mailbox, open_scheduler, periodic
from rtos.scheduler.diagnosis.attribution import explain
from rtos.scheduler.tracing.raw import nanoseconds
from rtos.scheduler.tracing.records import Missed, Serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.harness import Run
    from rtos.scheduler import Scheduler, SchedulingContext
    from rtos.scheduler.diagnosis.attribution import Share
    from rtos.scheduler.tracing.records import Record

PERIOD: Final = 0.005
LEVELS: Final = (0, 3, 6)
LOAD_LEVEL: Final = 5
RECORDS: Final = 4096
"""A short trace: it is copied at each release that is the worst so far, and read after the run."""
BUSY, STEP_NS = 50, 200_000
HEAP: Final = 100_000
"""Number of cycles that are alive at once, while others become garbage."""


class Probe:
    """A periodic task that measures its lateness.

    Attributes:
      latencies: from the instant of the grid to the step, in nanoseconds.
    """

    def __init__(self, level: int) -> None:
        self.level = level
        self.latencies: list[int] = []
        self._worst: tuple[float, float, SchedulingContext, Callable[[], tuple[Record, ...]]] | None = None

    async def run(self, scheduler: Scheduler, context: SchedulingContext, start: float, times: int) -> None:
        """Take ``times`` samples."""
        worst = 0
        releases = periodic(scheduler, PERIOD, start=start, offset=self.level * PERIOD / 10, context=context)
        async for release in releases:
            late = int(release.late * 1e9)
            self.latencies.append(late)
            if late > worst:
                worst = late
                records = scheduler.trace.later(limit=RECORDS)
                self._worst = (release.due, release.due + release.late, context, records)
            if len(self.latencies) == times:
                return

    def attribution(self) -> str:
        """What the worst sample was spent on."""
        if self._worst is None:
            return ""
        due, ran, context, records = self._worst
        at, sent = nanoseconds(ran), nanoseconds(due)
        # For the report a release is a call that was assigned to a worker, which then waited to run.
        serving = Serving(-1, context.number, "probe", sent, None, sent)
        missed = Missed(at, -1, "release", context.number, "grid", "probe", self.level,
                        sent, sent, None, True, (serving,))  # fmt: skip
        shares = explain(missed, records()).shares[:3]
        return f"{(at - sent) / 1e3:.0f} µs: {', '.join(_share(one) for one in shares)}"


def _share(share: Share) -> str:
    who = f" by {share.who}" if share.who else ""
    return f"{share.part.value}{who} {share.ns / 1e3:.0f} µs"


# The loads. Each ends when its scope is cancelled, or ``stop`` is set.


async def _busy() -> None:
    while True:
        until = perf_counter_ns() + STEP_NS
        while perf_counter_ns() < until:
            pass
        await trio.lowlevel.checkpoint()


async def _flood(send: Any, receive: Any) -> None:
    async def take() -> None:
        async for _ in receive:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        while True:
            await send.send(b"flood")


async def _churn(heap: deque[Any]) -> None:
    # Each cycle has reached the oldest generation by the time it becomes garbage.
    while True:
        for _ in range(100):
            cycle: list[Any] = []
            cycle.append(cycle)
            heap.append(cycle)
        await trio.lowlevel.checkpoint()


def _hold(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(50_000))


def _sync(stop: threading.Event) -> None:
    with tempfile.NamedTemporaryFile() as file:
        while not stop.is_set():
            file.write(bytes(65_536))
            file.flush()
            os.fsync(file.fileno())
            file.seek(0)


@contextmanager
def _thread(body: Callable[[threading.Event], None]) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=body, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def _load(name: str, nursery: trio.Nursery, *, ordered: bool) -> Iterator[None]:
    if name == "busy tasks":
        for _ in range(BUSY):
            nursery.start_soon(_busy)
    elif name == "message flood":
        nursery.start_soon(_flood, *(open_mailbox(64) if ordered else trio.open_memory_channel(64)))
    elif name == "collections":
        nursery.start_soon(_churn, deque(([] for _ in range(HEAP)), HEAP))
    elif name in {"lock held", "disk sync"}:
        with _thread(_hold if name == "lock held" else _sync):
            yield
        return
    yield


async def _ordered(load: str, times: int) -> Sample:
    probes = [Probe(level) for level in LEVELS]
    async with open_scheduler(trace=RECORDS) as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("load", level=LOAD_LEVEL), _load(load, nursery, ordered=True):
            start = trio.current_time() + PERIOD
            with Stopwatch() as watch:
                async with trio.open_nursery() as probing:
                    for probe in probes:
                        own = scheduler.context(f"probe {probe.level}", level=probe.level)
                        with own:
                            probing.start_soon(probe.run, scheduler, own, start, times)
        nursery.cancel_scope.cancel()
    tails: dict[str, float] = {}
    for probe in probes[1:]:
        found = Latency.of(probe.latencies)
        assert found is not None
        tails |= {
            f"level_{probe.level}_p50_us": found.p50 / 1e3,
            f"level_{probe.level}_p99_us": found.p99 / 1e3,
        }
    top = probes[0]
    return watch.sample(len(top.latencies), latencies=top.latencies, attribution=top.attribution(), **tails)


async def _plain(load: str, times: int) -> Sample:
    latencies: list[int] = []
    async with trio.open_nursery() as nursery:
        with _load(load, nursery, ordered=False):
            start = trio.current_time() + PERIOD
            with Stopwatch() as watch:
                # Instants that have passed are skipped, as by the scheduler's probes.
                while len(latencies) < times:
                    index = max(0, int((trio.current_time() - start) / PERIOD) + 1)
                    await trio.sleep_until(start + index * PERIOD)
                    latencies.append(int((trio.current_time() - start - index * PERIOD) * 1e9))
        nursery.cancel_scope.cancel()
    return watch.sample(times, latencies=latencies)


def _collected(body: Callable[..., Any], load: str, times: int) -> Sample:
    # The next variant must not collect the garbage of this one.
    try:
        sample: Sample = trio.run(body, load, times)
        return sample
    finally:
        gc.collect()


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Each load under the scheduler; two of them with plain Trio as well."""
    times, fewer = size.of(5, 100, 400), size.of(5, 50, 200)
    loads = ("idle", "busy tasks", "message flood", "collections", "lock held", "disk sync")
    found: dict[str, Callable[[], Sample]] = {
        f"trio, {load}": partial(_collected, _plain, load, fewer) for load in ("idle", "busy tasks")
    }
    return found | {f"rtos, {load}": partial(_collected, _ordered, load, times) for load in loads}


def plots(run: Run) -> dict[str, str]:
    """A histogram of the lateness at the top level."""
    return {"probe": histogram("Lateness of a release at level 0", run.latencies)}


BENCHMARK = Benchmark(
    name="probe",
    summary="lateness of a periodic release at level 0 (and 3 and 6), under six loads at level 5",
    unit="release",
    variants=variants,
    rounds=3,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["probe", *sys.argv[1:]]))
