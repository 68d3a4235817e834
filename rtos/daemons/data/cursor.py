"""Cursors: a place in an order as text that can be handed out and comes back. Pure.

Law: a cursor holds the place and the sort that it belongs to, and nothing of the
store, so it never runs out. What comes back was in other hands, and is checked as
if it had been invented. It is no secret: it shows the values that it was made of.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, Final, NoReturn

import msgspec

from rtos.daemons.data.plain import plain
from rtos.daemons.data.query import Position, kind
from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.daemons.data.query import Rank, SortKey

_FORM: Final = 1
"""Of what is inside; another one is another program's."""


def write_cursor(position: Position, sort: Sequence[SortKey]) -> str:
    """A place in the order of a sort, as letters, digits, ``-`` and ``_``."""
    content = msgspec.json.encode([_FORM, _names(sort), position.ranks, position.id])
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


def read_cursor(command: str, cursor: str, sort: Sequence[SortKey]) -> Position:
    """The place that a cursor stands for.

    Raises:
      CommandRejected: it is none, or belongs to another sort; ``parameter`` is ``cursor``.
    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        content = plain(msgspec.json.decode(base64.b64decode(padded, altchars=b"-_", validate=True)))
        form, names, ranks, id = content
    except (binascii.Error, msgspec.DecodeError, ValueError, TypeError, RecursionError):
        _reject(command, "it is no cursor")
    if form != _FORM or not isinstance(ranks, list) or not isinstance(id, str):
        _reject(command, "it is no cursor")
    if names != _names(sort):
        _reject(command, f"it belongs to the sort {names!r}, and not to {_names(sort)!r}")
    if len(ranks) != len(sort):
        _reject(command, "it is no cursor")
    return Position(tuple(_rank(command, rank) for rank in ranks), id)


def _names(sort: Sequence[SortKey]) -> list[str]:
    return [("-" if key.descending else "") + key.path for key in sort]


def _rank(command: str, given: Any) -> Rank:
    if not (isinstance(given, list) and len(given) == 2 and kind(given[0]) == 3 and given[0] in range(7)):
        _reject(command, "it is no cursor")
    number, value = given
    if kind(value) != number if number in (2, 3, 4) else value != 0:
        _reject(command, "it is no cursor")
    return number, value


def _reject(command: str, reason: str) -> NoReturn:
    remedy = "give next_cursor of the last reply as it is, with the same sort, or leave it out to begin anew"
    raise CommandRejected(command, reason, parameter="cursor", remedy=remedy)
