from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from bench import budget, report, targets
from bench.budget import Budget, Figure, Verdict
from bench.harness import Benchmark, Sample, Size, run


def aim(name: str, bound: float, *, is_target: bool = True, analysis: str = "") -> Budget:
    return Budget(
        benchmark="b",
        numerator=Figure("ours", name),
        denominator=Figure("theirs", name),
        bound=bound,
        is_least=False,
        reason="we promised",
        is_target=is_target,
        analysis=analysis,
    )


def kept(*measured: tuple[Budget, float]) -> list[dict[str, object]]:
    found = targets.keep(Verdict(budget=one, measured=value) for one, value in measured)
    read: list[dict[str, object]] = json.loads(json.dumps(found, allow_nan=False))
    return read


def test_each_target_is_met_or_red_or_not_measured() -> None:
    met, red, absent = (
        aim("cpu_us", 1.0),
        aim("p50_us", 0.25, analysis="the heap takes it"),
        aim("p99_us", 2.0),
    )
    asserted = aim("max_us", 1.0, is_target=False)
    text = targets.markdown([met, red, absent, asserted], kept((met, 0.5), (red, 0.75), (asserted, 3)))
    assert text.splitlines() == [
        "### Targets",
        "",
        "1 of 3 are met; 1 not measured.",
        "",
        "| what | bound | measured | |",
        "| --- | --: | --: | --- |",
        "| b: ours:cpu_us / theirs:cpu_us | at most 1 | 0.5 | met |",
        "| b: ours:p50_us / theirs:p50_us | at most 0.25 | 0.75 | **RED** |",
        "| b: ours:p99_us / theirs:p99_us | at most 2 | | not measured |",
        "",
        "- **RED**, b: ours:p50_us / theirs:p50_us. Aim: we promised. Where it goes: the heap takes it.",
    ]


def test_where_all_are_met_nothing_is_explained() -> None:
    one = aim("cpu_us", 1.0)
    text = targets.markdown([one], kept((one, 1.0)))
    assert "1 of 1 are met.\n" in text
    assert "RED" not in text
    assert text.endswith("| met |\n")


def test_the_bound_of_today_is_held_against_what_was_measured() -> None:
    found = kept((aim("cpu_us", 1.0), 0.5))
    assert found[0]["met"] is True
    assert "| at most 0.4 | 0.5 | **RED** |" in targets.markdown([aim("cpu_us", 0.4)], found)


def test_what_is_no_number_is_red_and_no_broken_json() -> None:
    one = aim("cpu_us", 1.0)
    found = kept((one, math.nan))
    assert (found[0]["measured"], found[0]["met"]) == (None, False)
    assert "| nan | **RED** |" in targets.markdown([one], found)


def test_a_run_keeps_its_verdicts_and_the_document_begins_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aims = [aim("cpu_us", 0.5)]
    monkeypatch.setattr(budget, "load", lambda: aims)
    seconds = {"ours": 3, "theirs": 4}
    benchmark = Benchmark(
        name="b",
        summary="a summary",
        unit="x",
        variants=lambda _: {
            name: lambda cpu=cpu: Sample(operations=1, cpu_seconds=cpu, wall_seconds=cpu)
            for name, cpu in seconds.items()
        },
    )
    done = run(benchmark, Size.SMOKE)
    path = report.write(done, benchmark, tmp_path, report.configuration(), verdicts=budget.check(aims, done))
    (verdict,) = json.loads(path.read_text())["verdicts"]
    assert verdict == {
        "what": "b: ours:cpu_us / theirs:cpu_us",
        "target": True,
        "bound": 0.5,
        "is_least": False,
        "measured": 0.75,
        "met": False,
    }
    document = tmp_path / "doc.md"
    document.write_text(f"{report.BEGIN}\n{report.END}\n")
    report.document(tmp_path, document)
    assert "| b: ours:cpu_us / theirs:cpu_us | at most 0.5 | 0.75 | **RED** |" in document.read_text()
