"""How a run is shown and kept: the configuration, a table, JSON, and the tables of the documentation.

The configuration names what changes figures, and nothing of where the code came from.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import shutil
import sys
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio
from rich.console import Console
from rich.table import Table

from bench import budget, targets
from bench.harness import Latency, Measurement
from rtos.runtime.runtime import TRACE
from rtos.scheduler.kernel import QUANTUM
from rtos.scheduler.policy.levels import RESERVE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bench.budget import Verdict
    from bench.harness import Benchmark, Run

RESULTS: Final = Path(__file__).with_name("results")
DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "benchmarks.md"
PICTURES: Final = "pictures"
"""The folder beside the document in which its plots are kept."""
BEGIN, END = "<!-- tables: begin -->", "<!-- tables: end -->"
_COLUMNS: Final = ("cpu_us", "per_cpu_second", "p50_us", "p90_us", "p99_us", "max_us")
_HEADS: Final = ("CPU µs each", "per CPU second", "p50 µs", "p90 µs", "p99 µs", "worst µs")


def configuration() -> dict[str, Any]:
    """Everything that is known to change figures."""
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "trio": trio.__version__,
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "quantum_us": QUANTUM * 1e6,
        "reserve": RESERVE,
        "runtime_trace_records": TRACE,
        "switch_interval_us": sys.getswitchinterval() * 1e6,
        "gc_thresholds": list(gc.get_threshold()),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }


def write(
    run: Run,
    benchmark: Benchmark,
    folder: Path,
    how: Mapping[str, Any],
    *,
    verdicts: Iterable[Verdict] = (),
) -> Path:
    """Keep a run and its verdicts as JSON, and its plots beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{run.benchmark}.json"
    plots = benchmark.plots(run) if benchmark.plots is not None else {}
    result = {
        "benchmark": run.benchmark,
        "summary": benchmark.summary,
        "configuration": dict(how),
        "rounds": len(run.rounds),
        "verdicts": targets.keep(verdicts),
        "plots": list(plots),
        "medians": [attrs.asdict(one) for one in run.medians().values()],
    }
    path.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")
    for name, svg in plots.items():
        (folder / f"{name}.svg").write_text(svg)
    return path


def read(path: Path) -> tuple[dict[str, Any], list[Measurement]]:
    """What ``write`` has kept: all of it, and the measurements in it."""
    kept = json.loads(path.read_text())
    return kept, [
        Measurement(**{**one, "latency": Latency(**one["latency"]) if one["latency"] else None})
        for one in kept["medians"]
    ]


def rows(measurements: Sequence[Measurement]) -> list[list[str]]:
    """The cells of a table: its head, then one row for each variant; no column is empty."""
    figures = [one.figures() for one in measurements]
    shown = [index for index, name in enumerate(_COLUMNS) if any(name in one for one in figures)]
    extras = list(dict.fromkeys(name for one in measurements for name in one.extra if name not in _COLUMNS))
    head = ["variant", "number", *(_HEADS[index] for index in shown), *(_words(name) for name in extras)]
    body = [
        [one.variant, f"{one.operations:,}"]
        + [_cell(found.get(name)) for name in (*(_COLUMNS[index] for index in shown), *extras)]
        for one, found in zip(measurements, figures, strict=True)
    ]
    return [head, *body]


def show(run: Run, benchmark: Benchmark, console: Console | None = None) -> None:
    """Print the table, and what worst cases were made of."""
    console = console or Console(width=None if sys.stdout.isatty() else 160)
    head, *body = rows(list(run.medians().values()))
    table = Table(
        title=f"{benchmark.name}: {benchmark.summary} ({len(run.rounds)} rounds)", title_justify="left"
    )
    for index, text in enumerate(head):
        table.add_column(text, justify="right" if index else "left")
    for cells in body:
        table.add_row(*cells)
    console.print(table)
    for one in run.medians().values():
        if one.attribution:
            console.print(f"  worst of {one.variant}: {one.attribution}", markup=False, highlight=False)


def markdown(paths: Sequence[Path]) -> str:
    """The tables of the documentation, from what was kept."""
    parts = []
    for path in paths:
        kept, measurements = read(path)
        head, *body = rows(measurements)
        lines = [f"### {kept['benchmark']}", "", f"{kept['summary']}; {kept['rounds']} rounds.", ""]
        lines += [_line(head), _line(["---", *["--:"] * (len(head) - 1)]), *(_line(cells) for cells in body)]
        worst = [f"- worst of {one.variant}: {one.attribution}" for one in measurements if one.attribution]
        pictures = [f"![{name}]({PICTURES}/{name}.svg)" for name in kept.get("plots", ())]
        below = [[*part, ""] for part in (worst, pictures) if part]
        parts.append("\n".join([*lines, "", *chain.from_iterable(below)]))
    return "\n".join(parts)


def document(folder: Path = RESULTS, path: Path = DOCUMENT) -> None:
    """Put the targets and all that was kept where the documentation wants it, with the plots beside it."""
    paths = sorted(folder.glob("*.json"))
    kept = [read(one)[0] for one in paths]
    how = kept[0]["configuration"] if kept else {}
    text = path.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    facts = ", ".join(_fact(name, value) for name, value in how.items() if name != "load_average")
    aims = targets.markdown(budget.load(), [one for result in kept for one in result.get("verdicts", ())])
    path.write_text(f"{before}{BEGIN}\n{facts}.\n\n{aims}\n{markdown(paths)}{END}{after}")
    pictures = path.parent / PICTURES
    pictures.mkdir(exist_ok=True)
    for name in (name for result in kept for name in result.get("plots", ())):
        shutil.copyfile(folder / f"{name}.svg", pictures / f"{name}.svg")


def _fact(name: str, value: object) -> str:
    if name.endswith("_us"):
        return f"{_words(name.removesuffix('_us'))} {value:g} µs"
    return f"{_words(name)} {value}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _words(name: str) -> str:
    return name.replace("_us", " µs").replace("_ms", " ms").replace("_", " ")


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if abs(value) >= 0.001 or not value else f"{value:.1e}"
