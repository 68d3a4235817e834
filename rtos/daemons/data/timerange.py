"""A span of time as a condition on when a record was created. Pure.

Law: from ``start`` on, and before ``end``, so spans that touch share no record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from rtos.daemons.data.query import Compare, all_of
from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rtos.daemons.data.query import Node

_SIGNS: Final = {"start": "$gte", "end": "$lt"}


def parse_time_range(command: str, given: Mapping[str, Any] | None) -> Node:
    """The condition that ``{"start": ..., "end": ...}`` stands for; either may be left out.

    Args:
      command: what is asked, for errors.
      given: dates or times in ISO 8601; without a zone they are UTC.

    Raises:
      CommandRejected: it is no span of time; ``parameter`` is ``time_range``.
    """
    spans = [
        Compare("created_at", _sign(command, name), _timestamp(command, name, value))
        for name, value in (given or {}).items()
    ]
    return all_of(*spans)


def _sign(command: str, name: str) -> str:
    if name not in _SIGNS:
        raise CommandRejected(
            command, f"it has no {name!r}", parameter="time_range", remedy="give start, end or both"
        )
    return _SIGNS[name]


def _timestamp(command: str, name: str, value: Any) -> str:
    """A moment as records have it, by which text and time are in one order."""
    try:
        moment = datetime.fromisoformat(value)
        zoned = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        # Not strftime, which leaves out the zeros before an early year.
        return zoned.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except (TypeError, ValueError, OverflowError):
        raise CommandRejected(
            command,
            f"{name} is {value!r}",
            parameter="time_range",
            remedy="use a date or a time such as 2026-01-31 or 2026-01-31T12:00:00Z",
        ) from None
