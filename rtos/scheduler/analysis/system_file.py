"""A system as a person writes it down, turned into jobs.

Pure: the parsed file comes in, jobs in nanoseconds go out. Times are texts with a
unit, ``"200us"``, since a bare number says nothing of its size.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from rtos.errors import ConfigurationError
from rtos.scheduler.analysis.model import Job
from rtos.scheduler.policy.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ns|us|µs|ms|s)")
_DAEMON: Final = {"name", "level", "job"}
_JOB: Final = {"name", "cost", "period", "deadline", "jitter", "longest_step", "last_step"}


def jobs_of(system: Mapping[str, Any]) -> list[Job]:
    """The jobs of a description: ``[[daemon]]`` with ``name``, ``level`` and ``[[daemon.job]]``.

    Raises:
      ConfigurationError: something is missing, unknown or wrong; it is named.
    """
    _only("the description", system, {"daemon", "reserve"})
    jobs = [job for daemon in _tables("the description", system, "daemon") for job in _jobs_of(daemon)]
    if not jobs:
        raise ConfigurationError("the description has no job", "add [[daemon]] and [[daemon.job]] tables")
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigurationError(f"two jobs are named {twice[0]!r}", "give each a name of its own")
    return jobs


def reserve_of(system: Mapping[str, Any], default: float) -> float:
    """The ``reserve`` that a description has, or the default.

    Raises:
      ConfigurationError: it is no share.
    """
    return share(system.get("reserve", default))


def share(given: object) -> float:
    """A share of the time, from 0 up to less than 1.

    Raises:
      ConfigurationError: it is none.
    """
    if isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given < 1:
        raise ConfigurationError(f"reserve is {given!r}", "use 0 for none, or a share such as 0.05")
    return float(given)


def _jobs_of(daemon: Mapping[str, Any]) -> Iterator[Job]:
    where = f"daemon {daemon.get('name')!r}"
    _only(where, daemon, _DAEMON)
    level = daemon.get("level")
    if not isinstance(level, int) or not 0 <= level < LEVELS:
        raise ConfigurationError(f"{where}: level is {level!r}", f"use 0 (most urgent) to {LEVELS - 1}")
    for job in _tables(where, daemon, "job"):
        yield _job_of(where, level, job)


def _job_of(where: str, level: int, job: Mapping[str, Any]) -> Job:
    name = job.get("name")
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"{where}: a job has the name {name!r}", "give it a name")
    _only(f"job {name!r}", job, _JOB)
    for needed in ("cost", "period"):
        if needed not in job:
            raise ConfigurationError(f"job {name!r} lacks {needed}", f'add {needed} = "10ms", say')
    times: dict[str, Any] = {
        field: nanoseconds(f"job {name!r}: {field}", job[field]) for field in _JOB - {"name"} if field in job
    }
    try:
        return Job(name=name, level=level, **times)
    except ValueError as error:
        raise ConfigurationError(str(error), "mend the times of this job") from None


def nanoseconds(what: str, text: object) -> int:
    """A time such as ``"1.5ms"`` in nanoseconds.

    Raises:
      ConfigurationError: it is none.
    """
    match = _TIME.fullmatch(text.strip()) if isinstance(text, str) else None
    if match is None:
        raise ConfigurationError(f"{what} is {text!r}", 'write a number and a unit, as in "200us" or "5ms"')
    return round(float(match[1]) * UNITS[match[2]])


def _tables(where: str, table: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = table.get(name, [])
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise ConfigurationError(f"{where}: {name} is {found!r}", f"write [[...{name}]] tables")
    return found


def _only(where: str, table: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(table) - known)
    if unknown:
        raise ConfigurationError(
            f"{where} has the unknown {unknown[0]!r}", f"known are {', '.join(sorted(known))}"
        )
