"""What a measurement is, and how the variants of a benchmark take turns.

Law: figures are compared within one run only. In each round every variant runs
once, and each round begins with another one, so that what the machine does to one
it does to all. A figure is the median over the rounds; a worst case is the worst.

Must not know: what is measured, where results go, what is asserted.
"""

from __future__ import annotations

import enum
import gc
import statistics
from time import perf_counter_ns, process_time_ns
from typing import TYPE_CHECKING, Any, Final, Self

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping, Sequence

KEPT: Final = 20_000
"""Latencies that a run keeps of each variant, for its histogram."""


class Size(enum.Enum):
    """How long a benchmark may take: a test's instant, its share of three minutes, or what it needs."""

    SMOKE = "smoke"
    CHECK = "check"
    FULL = "full"

    def of(self, smoke: int, check: int, full: int) -> int:
        """The number for this size."""
        return {Size.SMOKE: smoke, Size.CHECK: check, Size.FULL: full}[self]


@attrs.frozen(kw_only=True)
class Latency:
    """Percentiles, in nanoseconds; by nearest rank."""

    count: int
    p50: int
    p90: int
    p99: int
    most: int

    @classmethod
    def of(cls, samples: Iterable[int]) -> Self | None:
        """The percentiles of ``samples``; ``None`` if there are none."""
        ordered = sorted(samples)
        if not ordered:
            return None

        def rank(percent: int) -> int:
            return ordered[(len(ordered) * percent + 99) // 100 - 1]

        return cls(count=len(ordered), p50=rank(50), p90=rank(90), p99=rank(99), most=ordered[-1])


@attrs.frozen(kw_only=True)
class Sample:
    """What one variant hands back from one round.

    Attributes:
      operations: how many were done.
      cpu_seconds: of the whole process.
      wall_seconds: as they passed.
      latencies: of single operations, nanoseconds.
      extra: further figures by name; ``share_`` for parts of 1, ``virtual_`` for virtual time.
      attribution: what the worst case was made of, for people.
    """

    operations: int
    cpu_seconds: float
    wall_seconds: float
    latencies: Sequence[int] = ()
    extra: Mapping[str, float] = attrs.field(factory=dict)
    attribution: str = ""


class Stopwatch:
    """CPU and wall time of a block; makes the sample afterwards."""

    def __enter__(self) -> Self:
        self._wall, self._cpu = perf_counter_ns(), process_time_ns()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_seconds = (process_time_ns() - self._cpu) / 1e9
        self.wall_seconds = (perf_counter_ns() - self._wall) / 1e9

    def sample(
        self, operations: int, *, latencies: Sequence[int] = (), attribution: str = "", **extra: float
    ) -> Sample:
        """The sample of ``operations`` done in the block."""
        return Sample(
            operations=operations,
            cpu_seconds=self.cpu_seconds,
            wall_seconds=self.wall_seconds,
            latencies=latencies,
            extra=extra,
            attribution=attribution,
        )


@attrs.frozen(kw_only=True)
class Measurement:
    """One variant of one benchmark: in one round, or the median of several."""

    benchmark: str
    variant: str
    unit: str
    operations: int
    cpu_seconds: float
    wall_seconds: float
    latency: Latency | None = None
    extra: Mapping[str, float] = attrs.field(factory=dict)
    attribution: str = ""

    @classmethod
    def from_sample(cls, benchmark: str, variant: str, unit: str, sample: Sample) -> Self:
        """Name a sample, and reduce its latencies."""
        return cls(
            benchmark=benchmark,
            variant=variant,
            unit=unit,
            operations=sample.operations,
            cpu_seconds=sample.cpu_seconds,
            wall_seconds=sample.wall_seconds,
            latency=Latency.of(sample.latencies),
            extra=dict(sample.extra),
            attribution=sample.attribution,
        )

    @classmethod
    def from_peer(cls, line: Mapping[str, Any]) -> Self:
        """What a program of another system printed; it knows two percentiles, kept as figures.

        Raises:
          ValueError: a field is missing.
        """
        missing = [name for name in ("peer", "scenario", "operations", "cpu_seconds") if name not in line]
        if missing:
            msg = f"peer's line {dict(line)!r} lacks {', '.join(missing)}; let the program print them"
            raise ValueError(msg)
        extra = {key: float(line[key]) for key in ("p50_us", "p99_us", "missed") if line.get(key) is not None}
        return cls(
            benchmark=str(line["scenario"]),
            variant=str(line["peer"]),
            unit="operation",
            operations=int(line["operations"]),
            cpu_seconds=float(line["cpu_seconds"]),
            wall_seconds=float(line.get("wall_seconds") or 0.0),
            extra=extra,
        )

    def figures(self) -> dict[str, float]:
        """All figures by name: what a budget may speak of, and what a table shows."""
        found: dict[str, float] = {}
        if self.operations:
            found["cpu_us"] = self.cpu_seconds / self.operations * 1e6
            found["wall_us"] = self.wall_seconds / self.operations * 1e6
        if self.cpu_seconds:
            found["per_cpu_second"] = self.operations / self.cpu_seconds
        if self.latency is not None:
            for name in ("p50", "p90", "p99"):
                found[f"{name}_us"] = getattr(self.latency, name) / 1e3
            found["max_us"] = self.latency.most / 1e3
        return found | dict(self.extra)

    def figure(self, name: str) -> float:
        """One figure.

        Raises:
          KeyError: this measurement has none of that name.
        """
        figures = self.figures()
        if name not in figures:
            msg = f"{self.benchmark}, {self.variant!r}: no figure {name!r}; there are {', '.join(figures)}"
            raise KeyError(msg)
        return figures[name]


@attrs.frozen(kw_only=True)
class Benchmark:
    """What can be run.

    Attributes:
      name: of its file.
      summary: one line for the table.
      unit: what is counted.
      variants: for a size, each variant's name and what runs it once.
      rounds: how often each variant runs.
      optional: variants of a full run that are left out where they cannot be had.
      plots: SVG texts by file name (without an ending), from a finished run.
    """

    name: str
    summary: str
    unit: str
    variants: Callable[[Size], Mapping[str, Callable[[], Sample]]]
    rounds: int = 5
    optional: Sequence[str] = ()
    plots: Callable[[Run], Mapping[str, str]] | None = None


@attrs.frozen(kw_only=True)
class Run:
    """All rounds of one benchmark: in each, the measurement of each variant."""

    benchmark: str
    rounds: Sequence[Mapping[str, Measurement]]
    latencies: Mapping[str, Sequence[int]] = attrs.field(factory=dict)

    def medians(self) -> dict[str, Measurement]:
        """One measurement for each variant."""
        return {name: median([one[name] for one in self.rounds]) for name in self.rounds[0]}

    def continued(self, more: Run) -> Run:
        """These rounds and those of another run of the same benchmark."""
        latencies = {
            name: [*kept, *more.latencies.get(name, ())][:KEPT] for name, kept in self.latencies.items()
        }
        return Run(benchmark=self.benchmark, rounds=[*self.rounds, *more.rounds], latencies=latencies)


def run(
    benchmark: Benchmark, size: Size, *, rounds: int | None = None, only: Container[str] | None = None
) -> Run:
    """Run every variant, or those in ``only``, in turn, ``rounds`` times."""
    variants = benchmark.variants(size)
    names = [name for name in variants if only is None or name in only]
    found: list[dict[str, Measurement]] = []
    latencies: dict[str, list[int]] = {name: [] for name in names}
    for number in range(rounds or (1 if size is Size.SMOKE else benchmark.rounds)):
        first = number % len(names)
        taken = {}
        for name in names[first:] + names[:first]:
            gc.collect()
            sample = variants[name]()
            taken[name] = Measurement.from_sample(benchmark.name, name, benchmark.unit, sample)
            latencies[name] += sample.latencies[: max(KEPT - len(latencies[name]), 0)]
        found.append({name: taken[name] for name in names})
    return Run(benchmark=benchmark.name, rounds=found, latencies=latencies)


def median(rounds: Sequence[Measurement]) -> Measurement:
    """The median of each figure; the worst latency, and what it was made of, is the worst round's."""
    worst = max(rounds, key=lambda one: one.latency.most if one.latency else 0)
    known = [one.latency for one in rounds if one.latency is not None]

    def middle(name: str) -> int:
        return int(statistics.median(getattr(latency, name) for latency in known))

    latency = None
    if known:
        latency = Latency(
            count=sum(one.count for one in known),
            p50=middle("p50"),
            p90=middle("p90"),
            p99=middle("p99"),
            most=max(one.most for one in known),
        )
    return attrs.evolve(
        worst,
        operations=int(statistics.median(one.operations for one in rounds)),
        cpu_seconds=statistics.median(one.cpu_seconds for one in rounds),
        wall_seconds=statistics.median(one.wall_seconds for one in rounds),
        latency=latency,
        extra={
            name: statistics.median(one.extra[name] for one in rounds if name in one.extra)
            for name in worst.extra
        },
    )
