"""The reference system of ROS 2: a driving computer's graph of nodes, on one loop.

Five sensors every 100 ms, ten transforms of 5 ms, five fusions of 2.5 ms, an
intersection, a cyclic planner, two sinks: two thirds of a processor. Every sample
has to come through, and the hot path from the front lidar to the collision estimate
has to be short, also beside tasks that would take all the time there is.

The shape is the original's; its processing times are divided by 10, since one loop
is one core. In virtual time, so the figures are the order's and not the machine's.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from bench.harness import Benchmark, Latency, Sample, Size, Stopwatch
from rtos.errors import MailboxFull
from rtos.scheduler import OverloadPolicy, Scheduler, open_mailbox, open_scheduler
from rtos.testing import run_virtual, spend

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

PERIOD: Final = 0.100
TRANSFORM, FUSION, PLANNING = 0.005, 0.0025, 0.005
BUSY, STEP = 20, 0.001
ROOM: Final = 4
"""Messages that may wait on one edge; what finds no room is lost, and counted."""

SENSORS: Final = ("front lidar", "rear lidar", "point cloud map", "visualizer", "lanelet map")
TRANSFORMS: Final = {
    "front transformer": "front lidar",
    "rear transformer": "rear lidar",
    "map loader": "point cloud map",
    "voxel grid": "cloud fusion",
    "ground filter": "cloud fusion",
    "collision estimator": "cluster detector",
    "cluster output": "cluster detector",
    "parking planner": "lanelet loader",
    "lane planner": "lanelet loader",
    "motion controller": "behavior planner",
}
FUSIONS: Final = {
    "cloud fusion": ("front transformer", "rear transformer"),
    "localizer": ("voxel grid", "map loader"),
    "global planner": ("visualizer", "localizer"),
    "lanelet loader": ("lanelet map", "global planner"),
    "vehicle interface": ("motion controller", "behavior planner"),
}
INTERSECTION: Final = {"cluster detector": "ground filter"}
PLANNER: Final = {
    "behavior planner": ("collision estimator", "localizer", "global planner", "lanelet loader",
                         "parking planner", "lane planner"),
}  # fmt: skip
SINKS: Final = {"drive by wire": "vehicle interface", "intersection output": "cluster output"}
HOT: Final = {"front lidar", "rear lidar", "front transformer", "rear transformer", "cloud fusion",
              "ground filter", "cluster detector", "collision estimator"}  # fmt: skip


@attrs.define
class Graph:
    """The nodes, what lies between them, and what was seen.

    Attributes:
      hot: from a sample of the front lidar to the collision estimate made of it, seconds.
      sunk: samples that arrived at each sink.
      lost: messages that found no room.
    """

    scheduler: Scheduler | None
    samples: int
    hot: list[float] = attrs.field(factory=list)
    sunk: dict[str, int] = attrs.field(factory=lambda: dict.fromkeys(SINKS, 0))
    lost: int = 0
    _edges: dict[str, list[Any]] = attrs.field(factory=dict)

    def start(self, nursery: trio.Nursery) -> None:
        """Start every node, under a context of its own."""
        begin = trio.current_time() + PERIOD
        bodies: dict[str, Callable[[], Any]] = {}
        for name, inputs in {**FUSIONS, **PLANNER}.items():
            ends = [self._subscribe(one) for one in inputs]
            body = self._plan if name in PLANNER else self._fuse
            bodies[name] = partial(body, name, ends, begin)
        for name, source in {**TRANSFORMS, **INTERSECTION}.items():
            cost = TRANSFORM if name in TRANSFORMS else 0.0
            bodies[name] = partial(self._transform, name, self._subscribe(source), cost)
        for name, source in SINKS.items():
            bodies[name] = partial(self._sink, name, self._subscribe(source))
        for name in SENSORS:
            bodies[name] = partial(self._sense, name, begin)
        for name, run in bodies.items():
            with self.under(name, 0 if name in SENSORS else 1 if name in HOT else 2):
                nursery.start_soon(run)

    def under(self, name: str, level: int) -> AbstractContextManager[Any]:
        """The context for what is started next; none on plain Trio."""
        return self.scheduler.context(name, level=level) if self.scheduler else nullcontext()

    def _subscribe(self, source: str) -> Any:
        ends: Any
        if self.scheduler is None:
            ends = trio.open_memory_channel[float](ROOM)
        else:
            ends = open_mailbox(ROOM, OverloadPolicy.REJECT, name=source)
        self._edges.setdefault(source, []).append(ends[0])
        return ends[1]

    async def _publish(self, name: str, origin: float) -> None:
        for end in self._edges.get(name, ()):
            try:
                end.send_nowait(origin)
            except (trio.WouldBlock, MailboxFull):
                self.lost += 1
        # What was published is for others to go on with, if they are more urgent.
        await trio.lowlevel.checkpoint()

    async def _sense(self, name: str, begin: float) -> None:
        for index in range(self.samples):
            due = begin + index * PERIOD
            await trio.sleep_until(due)
            await self._publish(name, due)

    async def _transform(self, name: str, end: Any, cost: float) -> None:
        async for origin in end:
            spend(cost)
            if name == "collision estimator":
                self.hot.append(trio.current_time() - origin)
            await self._publish(name, origin)

    async def _fuse(self, name: str, ends: list[Any], _: float) -> None:
        while True:
            origins = [await end.receive() for end in ends]
            spend(FUSION)
            await self._publish(name, min(origins))

    async def _plan(self, name: str, ends: list[Any], begin: float) -> None:
        for index in range(self.samples):
            await trio.sleep_until(begin + (index + 0.9) * PERIOD)
            origins = [begin]
            for end in ends:
                try:
                    while True:
                        origins.append(end.receive_nowait())
                except trio.WouldBlock:
                    continue
            spend(PLANNING)
            await self._publish(name, origins[-1])

    async def _sink(self, name: str, end: Any) -> None:
        async for _ in end:
            self.sunk[name] += 1


async def _busy() -> None:
    while True:
        spend(STEP)
        await trio.lowlevel.checkpoint()


async def _drive(scheduler: Scheduler | None, samples: int, busy: int) -> Sample:
    graph = Graph(scheduler, samples)
    with Stopwatch() as watch:
        async with trio.open_nursery() as nursery:
            graph.start(nursery)
            with graph.under("background", 5):
                for _ in range(busy):
                    nursery.start_soon(_busy)
            with graph.under("clock", 0):
                nursery.start_soon(_end, nursery, (samples + 5) * PERIOD)
    hot = Latency.of(int(wait * 1e9) for wait in graph.hot)
    return watch.sample(
        samples,
        share_through=min(graph.sunk.values()) / samples,
        count_lost=graph.lost,
        virtual_hot_p50_ms=hot.p50 / 1e6 if hot else 0.0,
        virtual_hot_worst_ms=hot.most / 1e6 if hot else 0.0,
    )


async def _end(nursery: trio.Nursery, seconds: float) -> None:
    await trio.sleep(seconds)
    nursery.cancel_scope.cancel()


async def _ordered(samples: int, busy: int) -> Sample:
    async with open_scheduler() as scheduler:
        return await _drive(scheduler, samples, busy)


async def _plain(samples: int, busy: int) -> Sample:
    return await _drive(None, samples, busy)


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Alone, and beside tasks that are always busy."""
    samples = size.of(3, 50, 200)
    return {
        f"{name}{', beside busy tasks' if busy else ''}": partial(run_virtual, body, samples, busy)
        for busy in (0, BUSY)
        for name, body in (("trio", _plain), ("rtos", _ordered))
    }


BENCHMARK = Benchmark(
    name="reference_graph",
    summary="the ROS 2 reference system: what comes through, and the hot path's latency (virtual time)",
    unit="sample",
    variants=variants,
    rounds=3,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["reference_graph", *sys.argv[1:]]))
