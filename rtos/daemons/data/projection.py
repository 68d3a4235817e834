"""Of a record only some fields. Pure.

Law: ``id`` and ``version`` are always there, so that what was read can be written
back. A field that a record has not got is left out, and not made ``null``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.daemons.data.query import MISSING, checked_field, value_at
from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.daemons.data.operation import Record

MAX_FIELDS: Final = 64
_ALWAYS: Final = ("id", "version")


def parse_fields(command: str, given: Sequence[str] | None) -> tuple[str, ...] | None:
    """The dotted paths that are wanted; ``None`` for all of a record.

    Raises:
      CommandRejected: one is no field, or there are too many; ``parameter`` is ``fields``.
    """
    if given is None:
        return None
    if len(given) > MAX_FIELDS:
        raise CommandRejected(
            command, f"there are {len(given)} fields", parameter="fields", remedy=f"use at most {MAX_FIELDS}"
        )
    # What is wanted whole comes last, and so is not cut down to a part of it.
    paths = sorted({checked_field(command, "fields", path) for path in given}, key=len, reverse=True)
    return (*paths, *_ALWAYS)


def projected(record: Record, paths: Sequence[str] | None) -> Record:
    """A record with nothing but these fields, each as deep as it was.

    What stands at a place in a list comes back under its number, in a mapping.
    """
    if paths is None:
        return record
    result: Record = {}
    for path in paths:
        value = value_at(record, path)
        if value is not MISSING:
            _put(result, path.split("."), value)
    return result


def _put(place: dict[str, Any], names: Sequence[str], value: Any) -> None:
    for name in names[:-1]:
        place = place.setdefault(name, {})
    place[names[-1]] = value
