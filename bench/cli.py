"""The command line of the benchmarks.

python -m bench NAME...     run these, show them, keep them in bench/results
python -m bench --all       all of them, at most 15 minutes
python -m bench --check     the variants with a budget for CI, shorter, at most 3 minutes;
                            fails if a budget is not met
python -m bench --docs      write docs/benchmarks.md and its plots from what was kept

A run that is no check says of each of the project's targets whether it is met; one that
is not fails nothing.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from bench import budget, report, targets
from bench.harness import Benchmark, Size, run
from bench.peers.environments import Skipped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.budget import Verdict

NAMES: Final = (
    "wakeup",
    "tick",
    "command",
    "fan_in",
    "fan_out",
    "plain_code",
    "overload",
    "thread_metric",
    "rhealstone",
    "probe",
    "reference_graph",
    "storage",
    "recall",
    "inbox",
    "boot",
    "idle",
)
"""The benchmarks, in the order in which they run."""


def find(name: str) -> Benchmark:
    """A benchmark by its name.

    Raises:
      ValueError: there is none.
    """
    if name not in NAMES:
        msg = f"no benchmark {name!r}; there are {', '.join(NAMES)}"
        raise ValueError(msg)
    found = importlib.import_module(f"bench.{name}").BENCHMARK
    assert isinstance(found, Benchmark)
    return found


def main(arguments: Sequence[str]) -> int:
    """Run what is asked for; 1 if a budget is not met or a peer gave up, 2 if there is no such benchmark."""
    options = _parser().parse_args(arguments)
    if options.docs:
        report.document(options.out)
        return 0
    budgets = [one for one in budget.load() if one.ci or not options.check]
    held = {one.benchmark for one in budgets}
    names = options.names or [name for name in NAMES if options.all or (options.check and name in held)]
    if not names:
        print(f"name one or more of {', '.join(NAMES)}, or use --all or --check", file=sys.stderr)
        return 2
    try:
        benchmarks = [find(name) for name in names]
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    # Every benchmark is run and shown, whatever became of the one before.
    verdicts: list[Verdict] = []
    seconds: dict[str, float] = {}
    failed = False
    for one in benchmarks:
        began = perf_counter()
        try:
            verdicts += _run(one, options, budgets)
        except Skipped as why:
            print(f"{one.name}: no result: {why}", file=sys.stderr)
            failed = True
        seconds[one.name] = perf_counter() - began
    _close(verdicts, seconds)
    return int(failed or (options.check and not all(verdict.is_met for verdict in verdicts)))


def _run(benchmark: Benchmark, options: argparse.Namespace, budgets: list[budget.Budget]) -> list[Verdict]:
    how = report.configuration()
    print(", ".join(f"{name} {value}" for name, value in how.items()))
    held = {figure.variant for one in budgets if one.benchmark == benchmark.name for figure in one.figures}
    size, only = (Size.CHECK, held or None) if options.check else (Size.FULL, None)
    done = run(benchmark, size, rounds=options.rounds, only=only)
    report.show(done, benchmark)
    verdicts = budget.check(budgets, done, optional=benchmark.optional)
    if options.check and not all(verdict.is_met for verdict in verdicts):
        # A neighbour may have taken the machine away: more rounds know better, and all of them count.
        print(*verdicts, "not met: twice as many rounds again, and the median of all", sep="\n", flush=True)
        for _ in range(2):
            done = done.continued(run(benchmark, size, rounds=options.rounds, only=only))
        report.show(done, benchmark)
        verdicts = budget.check(budgets, done, optional=benchmark.optional)
    if not options.check:
        report.write(done, benchmark, options.out, how, verdicts=verdicts)
    for verdict in verdicts:
        print(verdict)
    print(flush=True)
    return verdicts


def _close(verdicts: Sequence[Verdict], seconds: Mapping[str, float]) -> None:
    """Print every target at once, and what took how long."""
    if aims := [one for one in verdicts if one.budget.is_target]:
        print(f"targets: {targets.summary(aims, of=len(aims))}")
    for one in aims:
        print(f"  {'met' if one.is_met else 'NOT MET':8}{one.budget}: {one.figure}, {one.budget.limit}")
    each = ", ".join(f"{name} {took:.0f}" for name, took in seconds.items())
    print(f"seconds: {each}; together {sum(seconds.values()):.0f}", flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--docs", action="store_true")
    parser.add_argument("--rounds", type=int, help="instead of the benchmark's own number")
    parser.add_argument("--out", type=Path, default=report.RESULTS, help="where results are kept")
    return parser
