"""``rtos check``: prove that a described or traced system keeps its deadlines."""

from __future__ import annotations

import json
import textwrap
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.cli.exit_codes import FAILED, OK, WRONG
from rtos.cli.output import print_error
from rtos.errors import ConfigurationError
from rtos.scheduler.analysis import JobReport, SetReport, TooComplex, analyse, suggest_levels
from rtos.scheduler.analysis.effort import EFFORT
from rtos.scheduler.analysis.from_trace import jobs_of_trace
from rtos.scheduler.analysis.system_file import System, share, system_of
from rtos.scheduler.policy.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtos.cli.arguments import Invocation
    from rtos.scheduler.analysis import Job

WIDTH: Final = 80
"""The report fits a terminal of so many columns."""
_NAME_WIDTH: Final = 15
"""A longer name has a line of its own."""
_NAMED: Final = 8
"""How many jobs one sentence names."""


def check(invocation: Invocation) -> int:
    """Print what can be proved; returns 0 if every deadline holds, 1 if not, 2 for bad input."""
    try:
        system = _system(invocation)
    except ConfigurationError as error:
        print_error({"type": type(error).__name__, "message": str(error)}, json=invocation.json)
        return WRONG
    report = analyse(system.jobs, reserve=system.reserve)
    if invocation.json:
        print(json.dumps(as_data(report, reserve=system.reserve)))
    else:
        for line in as_text(report, reserve=system.reserve):
            print(line)
    return OK if report.feasible else FAILED


def _system(invocation: Invocation) -> System:
    options = dict(invocation.options)
    traced, reserve = options.pop("from_trace", None), options.pop("reserve", None)
    if len(invocation.words) + (traced is not None) != 1 or options:
        raise ConfigurationError(
            "check takes one file, and optionally a reserve",
            "write check system.toml [--reserve=0.05], or check --from-trace=trace.json",
        )
    system = load_system(Path(invocation.words[0])) if traced is None else System(load_trace(Path(traced)))
    return system if reserve is None else attrs.evolve(system, reserve=_share(reserve))


def _share(text: Any) -> float:
    try:
        return share(float(text))
    except (TypeError, ValueError):
        return share(text)


def load_system(path: Path) -> System:
    """The system that a file describes.

    Raises:
      ConfigurationError: the file cannot be read, or a field in it is missing, unknown or wrong.
    """
    try:
        return system_of(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ConfigurationError(f"{str(path)!r} is not TOML ({error})", "correct it") from None
    except ConfigurationError as error:
        raise ConfigurationError(f"{str(path)!r}: {error.reason}", error.remedy) from None


def load_trace(path: Path) -> list[Job]:
    """The jobs that a trace shows.

    Raises:
      ConfigurationError: the file cannot be read, is not a trace, or shows no call.
    """
    try:
        return jobs_of_trace(json.loads(path.read_bytes()))
    except OSError as error:
        raise _unreadable(path, error) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is not JSON ({error})", "write one with `rtos trace --out=trace.json`"
        ) from None


def _unreadable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(f"{str(path)!r} cannot be read ({error.strerror})", "name another file")


def as_data(report: SetReport, *, reserve: float) -> dict[str, Any]:
    """The report for programs; times in nanoseconds, ``None`` for no deadline and no bound."""
    return {
        "feasible": report.feasible,
        "utilisation": report.utilisation,
        "reserve": reserve,
        "jobs": [
            {
                "name": one.job.name,
                "level": one.job.level,
                "response": one.response,
                "deadline": one.job.deadline if one.job.has_deadline else None,
                "slack": one.slack,
                "step_budget": one.step_budget,
                "longest_step_allowed": report.step_bounds[one.job.name],
                "feasible": one.feasible,
                "too_complex": one.too_complex,
                "offender": one.offender,
            }
            for one in report.jobs
        ],
        "suggested_levels": _suggestion(report, reserve)[0],
    }


def as_text(report: SetReport, *, reserve: float) -> list[str]:
    """The report for people, line by line, in at most ``WIDTH`` columns."""
    head = ("job", "level", "response", "deadline", "slack", "step", "limit", "verdict")
    rows = [head, *(_row(one, report.step_bounds[one.job.name]) for one in report.jobs)]
    short = [len(row[0]) for row in rows if len(row[0]) <= _NAME_WIDTH]
    widths = [max(short), *(max(len(row[column]) for row in rows) for column in range(1, len(head)))]
    lines = []
    for name, *cells in rows:
        if len(name) > _NAME_WIDTH:
            lines += textwrap.wrap(name, WIDTH)
            name = ""
        padded = [cell.ljust(width) for cell, width in zip((name, *cells), widths, strict=True)]
        lines.append("  ".join(padded).rstrip())
    lines.append("")
    for sentence in _conclusions(report, reserve):
        lines += textwrap.wrap(sentence, WIDTH)
    return lines


def _row(one: JobReport, bound: int | None) -> tuple[str, ...]:
    job = one.job
    worst = "unknown" if one.too_complex else "no bound" if one.response is None else _time(one.response)
    if not job.has_deadline:
        verdict = ""
    elif one.feasible:
        verdict = "holds"
    else:
        verdict = "unknown" if one.too_complex else "may miss"
    return (
        job.name,
        str(job.level),
        worst,
        _time(job.deadline) if job.has_deadline else "none",
        "" if one.slack is None else _time(one.slack),
        _time(job.longest_step),
        "any" if bound is None else _time(bound),
        verdict,
    )


def _conclusions(report: SetReport, reserve: float) -> Iterator[str]:
    yield (
        f"The jobs use {_percent(report.utilisation)} of the CPU; the reserve is {reserve:.1%}."
        " step: the job's longest step. limit: the longest step that it may have, so that"
        " every more urgent job keeps its deadline."
    )
    for one in report.jobs:
        if not one.feasible and not one.too_complex:
            because = f", mostly because of {one.offender!r}" if one.offender else ""
            yield f"{one.job.name!r} may miss its deadline{because}."
    unknown = [one.job for one in report.jobs if one.too_complex]
    if unknown:
        yield _advice(unknown, report)
    if not any(one.job.has_deadline for one in report.jobs):
        yield "No job has a deadline, so none can be missed. Deadlines are fields of a system.toml."
    elif report.feasible:
        yield "Every deadline holds."
    else:
        yield _suggestion(report, reserve)[1]


def _advice(unknown: list[Job], report: SetReport) -> str:
    """What to change so that jobs can be analysed."""
    last = max(job.level for job in unknown)
    ahead = [one.job for one in report.jobs if one.job.level <= last]
    shares = {job.name: job.cost / job.period for job in ahead}
    names = ", ".join(repr(job.name) for job in unknown[:_NAMED])
    more = f" and {len(unknown) - _NAMED} more" if len(unknown) > _NAMED else ""
    return (
        f"Too complex to analyse: {names}{more}. The jobs"
        f" {f'of levels 0 to {last}' if last else 'of level 0'} use {_percent(sum(shares.values()))} of the"
        f" CPU, {max(shares, key=shares.__getitem__)!r} the most. Lower costs or lengthen periods there,"
        " or use periods that are multiples of each other."
    )


def _percent(share: float) -> str:
    # Not "100.0%" for a share below 1: the difference decides whether there is a bound.
    return f"{share:.5%}" if 0.9995 <= share < 1 else f"{share:.1%}"


def _suggestion(report: SetReport, reserve: float) -> tuple[dict[str, int] | None, str]:
    """Levels with which every deadline would hold, if there are any, and the same in words."""
    if report.feasible:
        return None, ""
    if any(one.too_complex for one in report.jobs):
        return None, "No levels are suggested while a job is too complex to analyse."
    try:
        levels = suggest_levels([one.job for one in report.jobs], reserve=reserve, effort=EFFORT // 4)
    except TooComplex:
        return None, "Whether other levels would help is too complex to find out."
    if levels is None:
        return None, "No other levels would help: shorten steps or costs."
    needed = max(levels.values()) + 1
    if needed > LEVELS:
        return None, (
            f"Other levels would help, but {needed} different ones, and there are only {LEVELS}:"
            " shorten steps or costs."
        )
    order = ", ".join(f"{name} {level}" for name, level in levels.items())
    return levels, f"Every deadline would hold with these levels: {order}."


def _time(ns: int) -> str:
    """A time with four significant digits."""
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if abs(ns) >= size:
            return f"{float(f'{ns / size:.4g}'):.10g}{unit}"
    return f"{ns}ns"
