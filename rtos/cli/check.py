"""``check``: whether a system that is written down, or was traced, can keep its deadlines."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from rtos.cli.exit_codes import FAILED, OK, WRONG
from rtos.cli.output import print_error
from rtos.errors import ConfigurationError
from rtos.scheduler.analysis import Job, JobReport, SetReport, analyse, suggest_levels
from rtos.scheduler.analysis.from_trace import NO_DEADLINE, jobs_of_trace
from rtos.scheduler.analysis.system_file import jobs_of, reserve_of, share
from rtos.scheduler.scheduler import RESERVE

if TYPE_CHECKING:
    from rtos.cli.arguments import Invocation


def check(invocation: Invocation) -> int:
    """Print what can be proved; the exit code says whether all deadlines hold."""
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


@attrs.frozen
class System:
    """What is to be proved: jobs, and the share of the time that the kernel keeps from urgent ones."""

    jobs: list[Job]
    reserve: float


def _system(invocation: Invocation) -> System:
    options = dict(invocation.options)
    traced, reserve = options.pop("from_trace", None), options.pop("reserve", None)
    if len(invocation.words) + (traced is not None) != 1 or options:
        raise ConfigurationError(
            "check takes one file, and maybe a reserve",
            "write check system.toml [--reserve=0.05], or check --from-trace=trace.json",
        )
    if traced is None:
        system = load_system(Path(invocation.words[0]))
    else:
        system = System(load_trace(Path(traced)), RESERVE)
    return system if reserve is None else attrs.evolve(system, reserve=_share(reserve))


def _share(text: Any) -> float:
    try:
        return share(float(text))
    except (TypeError, ValueError):
        return share(text)


def load_system(path: Path) -> System:
    """The system that a file describes; its reserve is the kernel's own where it names none.

    Raises:
      ConfigurationError: it cannot be read, or describes none.
    """
    try:
        table = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be read ({error.strerror})", "name another file"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{str(path)!r} is no TOML ({error})", "mend it") from None
    return System(jobs_of(table), reserve_of(table, RESERVE))


def load_trace(path: Path) -> list[Job]:
    """The jobs that a trace shows.

    Raises:
      ConfigurationError: it cannot be read, or shows none.
    """
    try:
        return jobs_of_trace(json.loads(path.read_bytes()))
    except OSError as error:
        raise ConfigurationError(
            f"{str(path)!r} cannot be read ({error.strerror})", "name another file"
        ) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{str(path)!r} is no JSON ({error})", "write one with `rtos trace`"
        ) from None


def as_data(report: SetReport, *, reserve: float) -> dict[str, Any]:
    """The report for programs; times in nanoseconds."""
    return {
        "feasible": report.feasible,
        "utilisation": report.utilisation,
        "reserve": reserve,
        "jobs": [
            {
                "name": one.job.name,
                "level": one.job.level,
                "response": one.response,
                "deadline": one.job.deadline,
                "slack": one.slack,
                "step_budget": one.step_budget,
                "longest_step_allowed": report.step_bounds[one.job.name],
                "feasible": one.feasible,
                "offender": one.offender,
            }
            for one in report.jobs
        ],
        "suggested_levels": _suggestion(report, reserve),
    }


def as_text(report: SetReport, *, reserve: float) -> list[str]:
    """The report for people, line by line."""
    rows: list[tuple[str, ...]] = [
        ("job", "level", "response", "deadline", "slack", "own step", "step may be", "")
    ]
    rows += [_row(one, report.step_bounds[one.job.name]) for one in report.jobs]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
    lines.append(f"utilisation {report.utilisation:.1%}, reserve {reserve:.1%}")
    if report.feasible:
        return [*lines, "every deadline holds"]
    levels = _suggestion(report, reserve)
    if levels is None:
        return [*lines, "not every deadline holds, and no other levels would help: shorten steps or costs"]
    order = ", ".join(f"{name} {level}" for name, level in levels.items())
    return [*lines, f"not every deadline holds; it would with the levels: {order}"]


def _row(one: JobReport, bound: int | None) -> tuple[str, ...]:
    job = one.job
    verdict = "holds" if one.feasible else f"MISSED, look at {one.offender}" if one.offender else "MISSED"
    return (
        job.name,
        str(job.level),
        _time(one.response),
        "none" if job.deadline == NO_DEADLINE else _time(job.deadline),
        "" if job.deadline == NO_DEADLINE else _time(one.slack),
        _time(job.longest_step),
        "any" if bound is None else _time(bound),
        verdict,
    )


def _suggestion(report: SetReport, reserve: float) -> dict[str, int] | None:
    if report.feasible:
        return None
    jobs = [attrs.evolve(one.job, level=0) for one in report.jobs]
    return suggest_levels(jobs, reserve=reserve)


def _time(value: int | None) -> str:
    if value is None:
        return "no bound"
    for unit, size in (("s", 1_000_000_000), ("ms", 1_000_000), ("us", 1_000)):
        if abs(value) >= size:
            return f"{value / size:.3f}".rstrip("0").rstrip(".") + unit
    return f"{value}ns"
