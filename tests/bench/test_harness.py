from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness import Benchmark, Latency, Measurement, Sample, Size, run


def one(cpu: float = 1.0, *, latencies: tuple[int, ...] = (), **extra: float) -> Sample:
    return Sample(operations=1000, cpu_seconds=cpu, wall_seconds=2.0, latencies=latencies, extra=extra)


def test_percentiles_are_samples_by_nearest_rank() -> None:
    assert Latency.of(range(1, 101)) == Latency(count=100, p50=50, p90=90, p99=99, most=100)
    assert Latency.of([7]) == Latency(count=1, p50=7, p90=7, p99=7, most=7)
    assert Latency.of([]) is None


@given(st.lists(st.integers(0, 10**9), min_size=1))
def test_percentiles_rise_and_have_enough_below_them(samples: list[int]) -> None:
    found = Latency.of(samples)
    assert found is not None
    assert found.p50 <= found.p90 <= found.p99 <= found.most == max(samples)
    for value, percent in ((found.p50, 50), (found.p90, 90), (found.p99, 99)):
        assert sum(sample <= value for sample in samples) * 100 >= percent * len(samples)
        assert sum(sample < value for sample in samples) * 100 < percent * len(samples)


def test_figures() -> None:
    measured = Measurement.from_sample("b", "v", "call", one(0.5, latencies=(1000, 3000), share_met=0.25))
    assert measured.figure("cpu_us") == 500
    assert measured.figure("wall_us") == 2000
    assert measured.figure("per_cpu_second") == 2000
    assert measured.figure("p50_us") == 1
    assert measured.figure("max_us") == 3
    assert measured.figure("share_met") == 0.25
    with pytest.raises(KeyError, match="no figure 'p98_us'; there are cpu_us"):
        measured.figure("p98_us")


def test_what_a_peer_prints() -> None:
    line = {"peer": "go", "scenario": "fan-in", "operations": 10, "cpu_seconds": 1e-5, "wall_seconds": 1e-5,
            "p50_us": 3.5, "p99_us": None, "missed": 0}  # fmt: skip
    measured = Measurement.from_peer(line)
    assert (measured.variant, measured.benchmark) == ("go", "fan-in")
    assert measured.figure("cpu_us") == pytest.approx(1)
    assert measured.figure("p50_us") == 3.5
    assert "p99_us" not in measured.figures()
    with pytest.raises(ValueError, match="lacks scenario, cpu_seconds"):
        Measurement.from_peer({"peer": "go", "operations": 10})


def test_variants_take_turns_and_each_round_begins_with_another() -> None:
    turns: list[str] = []

    def take(name: str) -> Sample:
        turns.append(name)
        return one()

    benchmark = Benchmark(
        name="b",
        summary="",
        unit="turn",
        variants=lambda _: {name: lambda name=name: take(name) for name in "abc"},
    )
    done = run(benchmark, Size.CHECK, rounds=4)
    assert turns == list("abc") + list("bca") + list("cab") + list("abc")
    assert [list(taken) for taken in done.rounds] == [list("abc")] * 4


def test_medians_of_rounds_and_the_worst_of_all() -> None:
    rounds = iter([
        one(1, latencies=(10, 90), share_met=0.1),
        one(9, latencies=(20, 70), share_met=0.9),
        one(2, latencies=(40, 80), share_met=0.5),
    ])  # fmt: skip
    benchmark = Benchmark(name="b", summary="", unit="x", variants=lambda _: {"v": lambda: next(rounds)})
    done = run(benchmark, Size.FULL, rounds=3)
    measured = done.medians()["v"]
    assert measured.cpu_seconds == 2
    assert measured.extra == {"share_met": 0.5}
    assert measured.latency == Latency(count=6, p50=20, p90=80, p99=80, most=90)
    assert done.latencies == {"v": [10, 90, 20, 70, 40, 80]}
