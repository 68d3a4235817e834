"""Each benchmark runs, does what it says it does, and gives the figures that its budgets speak of."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench import budget, cli, report
from bench.harness import Size, run


@pytest.mark.parametrize("name", cli.NAMES)
def test_runs(name: str, tmp_path: Path) -> None:
    benchmark = cli.find(name)
    done = run(benchmark, Size.SMOKE)
    for variant, measured in done.medians().items():
        assert measured.operations > 0, variant
    # Every budget finds its figures; whether it holds is for a longer run.
    assert len(budget.check(budget.load(), done)) == sum(one.benchmark == name for one in budget.load())
    path = report.write(done, benchmark, tmp_path, report.configuration())
    assert report.read(path)[1] == list(done.medians().values())
    assert json.loads(path.read_text())["configuration"]["trio"]
    for plot in tmp_path.glob("*.svg"):
        assert plot.read_text().endswith("</svg>\n")
