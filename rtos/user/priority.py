"""How much a message matters to a persona when it comes in.

Pure. Nothing is known here of time or waiting: age counts only as what it was on
arrival, and waiting is the inbox's business.

Law: a priority is the sum of the terms that apply, cut to 0..1. The terms are
one table, so that a priority can be explained by naming them.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PRIORITY: Final[Mapping[str, float]] = MappingProxyType(
    {
        "base": 0.2,
        "human": 0.3,
        "mention": 0.4,
        "fresh": 0.2,
        "recent": 0.1,
        "known room": 0.1,
        "expertise": 0.1,
        "watched": 0.15,
        "hot room": 0.1,
    }
)
"""What each circumstance adds."""

LEVEL: Final = 5
"""Personas think at this level: below every daemon, above background work."""
CALLED: Final = 4
"""Whom a human calls by name thinks at this one: ahead of all who were not called."""
RESTING: Final = 6
"""Who does at rest what it gave itself does so at this one: after all who were told anything."""

FRESH: Final = 60.0
"""A message younger than this on arrival is fresh, in seconds."""
RECENT: Final = 300.0
"""One younger than this, and no longer fresh, is recent."""
HOT: Final = 0.7
"""From this temperature on a room is hot."""


@attrs.frozen(kw_only=True)
class Circumstances:
    """What is known of a message when it comes in."""

    human: bool = False
    """Sent by a human."""
    mention: bool = False
    """Names the persona; see `mentions`."""
    age: float = 0.0
    """Seconds between writing and arrival; more after a restart."""
    known_room: bool = False
    """The persona was lately at work in that room."""
    expertise: bool = False
    """Touches what the persona knows; see `touches`."""
    watched: bool = False
    """A human is looking at the room now."""
    temperature: float = 0.0
    """How lively the room is, 0..1."""


def applying(about: Circumstances) -> dict[str, float]:
    """The terms that apply, by name, and what each adds."""
    applies = {
        "base": True,
        "human": about.human,
        "mention": about.mention,
        "fresh": about.age < FRESH,
        "recent": FRESH <= about.age < RECENT,
        "known room": about.known_room,
        "expertise": about.expertise,
        "watched": about.watched,
        "hot room": about.temperature >= HOT,
    }
    return {name: PRIORITY[name] for name, does in applies.items() if does}


def priority(about: Circumstances) -> float:
    """How much the message matters, 0..1."""
    return min(1.0, max(0.0, sum(applying(about).values())))


def mentions(text: str, display_name: str) -> bool:
    """Whether a text calls someone by `@Display Name` or `@display-name`, in any case.

    The whole name has to be there: `@al` is no mention of Alice, nor `@alice`
    of Al, nor is an address such as `me@al` one.
    """
    name = display_name.strip()
    if not name or "@" not in text:
        return False
    spellings = {re.escape(name), re.escape(re.sub(r"\s+", "-", name))}
    return re.search(rf"(?<![\w.])@(?:{'|'.join(spellings)})(?![\w-])", text, re.IGNORECASE) is not None


def touches(text: str, keywords: Iterable[str]) -> bool:
    """Whether a text holds one of the keywords as whole words, in any case."""
    return any(
        re.search(rf"(?<!\w){re.escape(word.strip())}(?!\w)", text, re.IGNORECASE)
        for word in keywords
        if word.strip()
    )
