"""Each benchmark runs, does what it says it does, and gives the figures that its budgets speak of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import budget, child, cli, report
from bench.harness import Size, run

EXACT = ("thread_metric", "rhealstone", "reference_graph", "idle", "fan_in", "inbox")
"""Those whose counts and virtual times are the same at every size, so that their budgets hold at once."""

PROCESSES = ("boot", "idle")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.process if name in PROCESSES else ()) for name in cli.NAMES],
)
def test_runs(name: str, tmp_path: Path) -> None:
    benchmark = cli.find(name)
    done = run(benchmark, Size.SMOKE)
    for variant, measured in done.medians().items():
        assert measured.operations > 0, variant
    for variant, waits in done.latencies.items():
        assert all(wait >= 0 for wait in waits), variant
    # Every budget finds its figures; whether a ratio of real times holds is for a longer run.
    held = [one for one in budget.load() if one.ci]
    verdicts = budget.check(held, done)
    assert len(verdicts) == sum(one.benchmark == name for one in held)
    # What only a full run is held to speaks of figures that somebody in this one has, too.
    figures = set().union(*(one.figures() for one in done.medians().values()))
    spoken = [figure for one in budget.load() if one.benchmark == name for figure in one.figures]
    assert {figure.name for figure in spoken} <= figures
    if name in EXACT:
        assert [str(one) for one in verdicts if one.budget.denominator is None and not one.is_met] == []
    path = report.write(done, benchmark, tmp_path, report.configuration(), verdicts=verdicts)
    assert report.read(path)[1] == list(done.medians().values())
    assert json.loads(path.read_text())["configuration"]["trio"]
    assert len(json.loads(path.read_text())["verdicts"]) == len(verdicts)
    assert [plot.stem for plot in tmp_path.glob("*.svg")] == json.loads(path.read_text())["plots"]
    for plot in tmp_path.glob("*.svg"):
        assert plot.read_text().endswith("</svg>\n")


def test_the_command_line_refuses_what_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["none"]) == 2
    assert "no benchmark 'none'; there are wakeup" in capsys.readouterr().err
    assert cli.main([]) == 2
    assert "use --all or --check" in capsys.readouterr().err


def test_a_child_that_fails_is_not_a_measurement() -> None:
    with pytest.raises(RuntimeError, match="failed with 3"):
        child.python("import sys; sys.exit(3)")


def test_a_child_prints_what_it_measured() -> None:
    found = child.python("import json, sys; print('noise'); print(json.dumps({'cpu_seconds': 2}))")
    assert found["cpu_seconds"] == 2
    assert found["wall_seconds"] > 0
