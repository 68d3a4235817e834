"""The description of a system, ``system.toml``: its fields, and how they become jobs.

Pure: the parsed file comes in, jobs in nanoseconds go out. ``fields()`` is the one list of
fields: the reader checks files with it, and the reference page is generated from it.
Times are texts with a unit, ``"200us"``, because a bare number does not tell its unit.
"""

from __future__ import annotations

import re
import reprlib
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.errors import ConfigurationError
from rtos.scheduler.analysis.model import NO_DEADLINE, Job
from rtos.scheduler.policy.levels import LEVELS, RESERVE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

UNITS: Final = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 1_000_000, "s": 1_000_000_000}
LONGEST: Final = 100 * 86_400 * UNITS["s"]
"""The longest time in a description: 100 days, in nanoseconds."""

_TIME: Final = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)\s*(ns|us|µs|ms|s)")


@attrs.frozen(kw_only=True)
class Field:
    """One field of ``system.toml``.

    Attributes:
      table: the table that it belongs to, as it is written in the file; empty for the top.
      name: its name.
      type: what is written: ``text``, ``whole number``, ``number``, ``duration`` or ``tables``.
      unit: of the value; empty where there is none.
      default: what holds if the field is left out; ``None`` if it is required.
      allowed: the allowed values, to follow "use".
      example: a value as it is written in the file.
      meaning: what it says of the system.
      read: turns the value in the file into the program's; raises ``ValueError`` for a wrong one.
    """

    table: str
    name: str
    type: str
    unit: str = ""
    default: str | None = None
    allowed: str
    example: str
    meaning: str
    read: Callable[[Any], Any] = attrs.field(repr=False)


@attrs.frozen
class System:
    """A system to analyse.

    Attributes:
      jobs: of all daemons; times in nanoseconds.
      reserve: the share of the CPU that the kernel keeps for less urgent levels.
    """

    jobs: list[Job]
    reserve: float = RESERVE


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError
    return value


def _level(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < LEVELS:
        raise ValueError
    return value


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1:
        raise ValueError
    return float(value)


def _tables(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        raise ValueError
    return value


def _time(value: Any) -> int:
    match = _TIME.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise ValueError
    time = round(Fraction(match[1]) * UNITS[match[2]])
    if time > LONGEST:
        raise ValueError
    return time


def _positive_time(value: Any) -> int:
    time = _time(value)
    if not time:
        raise ValueError
    return time


def _deadline(value: Any) -> int:
    return NO_DEADLINE if value == "none" else _positive_time(value)


_ANY_TIME: Final = 'a number and ns, us, ms or s, from "1ns" to 100 days ("8640000s")'

_FIELDS: Final = (
    Field(
        table="",
        name="reserve",
        type="number",
        unit="share of the CPU",
        default=f"{RESERVE}",
        allowed="a number from 0 (no reserve) to less than 1",
        example="0.05",
        meaning="The share of the CPU that the kernel keeps for less urgent levels. Use the value that"
        " the system opens its scheduler with.",
        read=_share,
    ),
    Field(
        table="",
        name="daemon",
        type="tables",
        allowed="[[daemon]] tables",
        example="[[daemon]]",
        meaning="One table for each daemon.",
        read=_tables,
    ),
    Field(
        table="[[daemon]]",
        name="name",
        type="text",
        allowed="a text that is not empty",
        example='"motor"',
        meaning="The name of the daemon; used in messages only.",
        read=_text,
    ),
    Field(
        table="[[daemon]]",
        name="level",
        type="whole number",
        allowed=f"a whole number from 0 (most urgent) to {LEVELS - 1}",
        example="0",
        meaning="The level that all jobs of the daemon run at.",
        read=_level,
    ),
    Field(
        table="[[daemon]]",
        name="job",
        type="tables",
        default="no jobs",
        allowed="[[daemon.job]] tables",
        example="[[daemon.job]]",
        meaning="One table for each job of the daemon.",
        read=_tables,
    ),
    Field(
        table="[[daemon.job]]",
        name="name",
        type="text",
        allowed="a text that is not empty, and that no other job has",
        example='"motor/set"',
        meaning="The name of the job: a command, or periodic work.",
        read=_text,
    ),
    Field(
        table="[[daemon.job]]",
        name="cost",
        type="duration",
        unit="CPU time",
        allowed=_ANY_TIME,
        example='"300us"',
        meaning="The most CPU time that one run takes, all its steps together.",
        read=_positive_time,
    ),
    Field(
        table="[[daemon.job]]",
        name="period",
        type="duration",
        unit="wall-clock time",
        allowed=_ANY_TIME,
        example='"5ms"',
        meaning="The least time between two releases: between two calls of the command, or the period of"
        " the periodic work.",
        read=_positive_time,
    ),
    Field(
        table="[[daemon.job]]",
        name="deadline",
        type="duration",
        unit="wall-clock time since the release",
        default="the period",
        allowed=f'{_ANY_TIME}, or "none"',
        example='"5ms"',
        meaning="When a run must have ended. May be longer than the period. A job with the deadline"
        ' "none" delays other jobs, and is never late itself.',
        read=_deadline,
    ),
    Field(
        table="[[daemon.job]]",
        name="jitter",
        type="duration",
        unit="wall-clock time",
        default="0ns",
        allowed='a number and ns, us, ms or s, from "0ns" to 100 days ("8640000s")',
        example='"1ms"',
        meaning="How long after its arrival a run may be released, for example by a late timer.",
        read=_time,
    ),
    Field(
        table="[[daemon.job]]",
        name="longest_step",
        type="duration",
        unit="CPU time",
        default="the cost",
        allowed=f"{_ANY_TIME}, and at most the cost",
        example='"100us"',
        meaning="The longest part of a run between two checkpoints. Nothing interrupts it.",
        read=_positive_time,
    ),
    Field(
        table="[[daemon.job]]",
        name="last_step",
        type="duration",
        unit="CPU time",
        default="the longest step",
        allowed=f"{_ANY_TIME}, and at most the longest step",
        example='"50us"',
        meaning="The part of a run after its last checkpoint. If it is shorter than the longest step,"
        " say so: more urgent jobs may run until it begins.",
        read=_positive_time,
    ),
)


def fields() -> tuple[Field, ...]:
    """All fields of ``system.toml``, table by table, in the order of the reference page."""
    return _FIELDS


def system_of(description: Mapping[str, Any]) -> System:
    """The system that a parsed ``system.toml`` describes.

    Raises:
      ConfigurationError: a field is missing, unknown or wrong. The message names it, its
        value, and the allowed values.
    """
    top = _read("the description", "", description)
    jobs = [job for daemon in top["daemon"] for job in _jobs_of(daemon)]
    if not jobs:
        raise ConfigurationError("the description has no job", "add [[daemon]] and [[daemon.job]] tables")
    names = set()
    for job in jobs:
        if job.name in names:
            raise ConfigurationError(f"two jobs are named {job.name!r}", "use a unique name for each job")
        names.add(job.name)
    return System(jobs, top.get("reserve", RESERVE))


def share(value: object) -> float:
    """A ``reserve``, checked as the field in the file is.

    Raises:
      ConfigurationError: it is not a number from 0 to less than 1.
    """
    return float(_value("the command line", _FIELDS[0], value))


def _jobs_of(daemon: Mapping[str, Any]) -> Iterator[Job]:
    where = _title("daemon", daemon)
    found = _read(where, "[[daemon]]", daemon)
    for job in found.get("job", ()):
        where = _title("job", job)
        values = _read(where, "[[daemon.job]]", job)
        try:
            yield Job(level=found["level"], **values)
        except ValueError as error:
            raise ConfigurationError(f"{error}", "correct the times of this job") from None


def _title(what: str, table: Mapping[str, Any]) -> str:
    return f"{what} {reprlib.repr(table['name'])}" if "name" in table else f"a {what}"


def _read(where: str, table: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values of one table, checked field by field."""
    known = {field.name: field for field in _FIELDS if field.table == table}
    for name in given:
        if name not in known:
            raise ConfigurationError(
                f"{where}: unknown field {reprlib.repr(name)}", f"use one of {', '.join(known)}"
            )
    values = {name: _value(where, known[name], value) for name, value in given.items()}
    for name, field in known.items():
        if field.default is None and name not in given:
            raise ConfigurationError(
                f"{where}: {name} is missing", f"use {field.allowed}, as in {_line(field)}"
            )
    return values


def _value(where: str, field: Field, value: object) -> Any:
    try:
        return field.read(value)
    except ValueError:
        raise ConfigurationError(
            f"{where}: {field.name} is {reprlib.repr(value)}", f"use {field.allowed}, as in {_line(field)}"
        ) from None


def _line(field: Field) -> str:
    return field.example if field.type == "tables" else f"{field.name} = {field.example}"
