"""What a field may hold: validators for the entities, with errors people can read.

Pure. A rule raises `ValueError` naming the field and the remedy, never
repeating a whole text; whoever converted the data adds the path to it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rtos.user.identity import is_user_id

if TYPE_CHECKING:
    from collections.abc import Callable, Sized

    import attrs

    Rule = Callable[[Any, attrs.Attribute[Any], Any], None]


def non_blank(_: object, field: attrs.Attribute[Any], value: str) -> None:
    """Text with something to see in it."""
    if not value.strip():
        raise ValueError(f"{field.name} is blank; give some text")


def one_segment(_: object, field: attrs.Attribute[Any], value: str) -> None:
    """A user id."""
    if not is_user_id(value):
        remedy = "use letters, digits, '.', '_' and '-'"
        raise ValueError(f"{field.name} {value[:40]!r} is not a user id; {remedy}")


def unique(_: object, field: attrs.Attribute[Any], value: tuple[str, ...]) -> None:
    """No entry twice."""
    if len(set(value)) != len(value):
        raise ValueError(f"{field.name} has an entry twice; leave one of them out")


def finite(_: object, field: attrs.Attribute[Any], value: float) -> None:
    """A number one can compare with."""
    if not math.isfinite(value):
        raise ValueError(f"{field.name} is {value!r}; give a finite number")


def short(limit: int) -> Rule:
    """At most so many characters, or entries."""

    def rule(_: object, field: attrs.Attribute[Any], value: Sized) -> None:
        if len(value) > limit:
            what = "characters" if isinstance(value, str) else "entries"
            raise ValueError(f"{field.name} has {len(value)} {what}, more than {limit}; shorten it")

    return rule


def small(limit: int) -> Rule:
    """Text of at most so many bytes of UTF-8."""

    def rule(_: object, field: attrs.Attribute[Any], value: str) -> None:
        size = len(value.encode("utf-8", "replace"))
        if size > limit:
            raise ValueError(f"{field.name} has {size} bytes, more than {limit}; shorten it")

    return rule


def at_least(low: float) -> Rule:
    """A number not below a bound."""

    def rule(_: object, field: attrs.Attribute[Any], value: float) -> None:
        if value < low:
            raise ValueError(f"{field.name} is {value!r}; give {low!r} or more")

    return rule


def within(low: float, high: float) -> Rule:
    """A number between two bounds, both included."""

    def rule(_: object, field: attrs.Attribute[Any], value: float) -> None:
        if not low <= value <= high:
            raise ValueError(f"{field.name} is {value!r}; give {low!r} to {high!r}")

    return rule
