"""Who answers: decided once for a message, from what is known of all who are in the room.

Pure: no Trio, no clock, no storage. A message and the facts go in, and out comes
who is called, or who answers for all and who stands by, in order.

Why a function and no bidding: whoever tells the personas of a message knows all of
them, so there is nothing to wait for. A window of bids would add its length to every
answer, and somebody would have to open it, close it and clean up. What a function
cannot know is what goes wrong later; for that there is the order of those who stand
by, and the id of the answer, which is made from the message alone: the store takes
it once, whoever sends it. That record is the claim, and there is no lock.

Law: everybody whom a human calls is to answer. Of a human's message that calls nobody,
exactly one is to answer if anybody can. A message of anybody else is answered by one
at most, by whom it begins with, and not at all from the depth `LAST_WORD` on: talk
that no human joins ends after `LONGEST_TALK` messages. The order in which the facts
come makes no difference.
"""

from __future__ import annotations

import hashlib
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Literal

import attrs

from rtos.user.priority import mentions, touches

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rtos.user.affect import Label

Part = Literal["called", "chosen", "standby", "aside"]
"""What a message is to one of the room: called, it answers for itself; chosen, for all;
standing by, it may come to be chosen; aside, the message is not for it."""

LAST_WORD: Final = 6
"""A persona's message of this causal depth is answered by no other persona."""
LONGEST_TALK: Final = LAST_WORD + 1
"""The most messages of personas alone that follow from one of them, itself included."""
VIGOUR: Final[Mapping[Label, float]] = MappingProxyType(
    {"idle": 1.0, "active": 0.8, "tired": 0.3, "overwhelmed": 0.0}
)
"""How fit a persona is to take something on, by its label."""
RELEVANCE: Final = 0.6
"""The share of the score that expertise makes up; vigour is the rest."""
EACH_WAITING: Final = 0.1
"""What every message that waits for a persona takes off its score, up to `MOST_WAITING` of them:
with seven, one who knows about it comes after one who does not and is free."""
MOST_WAITING: Final = 10


@attrs.frozen(kw_only=True)
class Heard:
    """What a message tells to all who hear it alike."""

    id: str
    sender_id: str
    text: str
    human: bool = True
    """Sent by a human."""
    depth: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """Its causal depth."""


@attrs.frozen(kw_only=True)
class Facts:
    """One who is in the room, as it is now."""

    id: str
    name: str
    """Its display name."""
    able: bool = True
    """A persona that is served; neither a human, nor degraded, frozen or stopped."""
    expertise: tuple[str, ...] = ()
    label: Label = "idle"
    waiting: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """How many messages wait for it."""
    rests: bool = False
    """It has failed just now, and is not tried before its rest is over."""


Place = tuple[bool, float, int, str]
"""Least is best."""


@attrs.frozen
class Standing:
    """How one of the room stands to a message: whether it is called, and its place in line.

    Without a place it cannot answer. Made one by one, since a room may have thousands.
    """

    id: str
    called: bool
    place: Place | None


@attrs.frozen(kw_only=True)
class Decision:
    """Who is to answer."""

    called: tuple[str, ...] = ()
    """Each of these, for itself."""
    anybody: bool = False
    """The message calls nobody, and one answers for all."""
    order: tuple[str, ...] = ()
    """Then the first of these, and if that one cannot, the next."""

    def part(self, id: str) -> Part:
        """What the message is to one of the room, before anybody is chosen."""
        if id in self.called:
            return "called"
        return "standby" if self.anybody else "aside"


def stand(message: Heard, facts: Facts) -> Standing:
    """How one of the room stands to a message, whatever the others are like."""
    if facts.id == message.sender_id:
        return Standing(facts.id, called=False, place=None)
    called = calls(message.text, facts) if message.human else begins_with(message.text, facts)
    # Of most of what personas say nobody is called, and then no place is needed.
    in_line = facts.able and (message.human or called)
    return Standing(facts.id, called=called, place=_place(message, facts) if in_line else None)


def decide(message: Heard, standings: Iterable[Standing]) -> Decision:
    """Who is to answer, from how all of the room stand to a message."""
    everybody = list(standings)
    ranked = sorted((one.place, one.called) for one in everybody if one.place is not None)
    if not message.human:
        # Only who can answer: with two of one name, the other one takes it.
        talk = [place[-1] for place, called in ranked if called and message.depth < LAST_WORD]
        return Decision(called=tuple(talk[:1]))
    # Somebody who cannot answer now, or is no persona, is called as well: then it is for nobody else.
    called = sorted(one.id for one in everybody if one.called)
    if called:
        return Decision(called=tuple(called))
    return Decision(anybody=True, order=tuple(place[-1] for place, _ in ranked))


def score(text: str, facts: Facts) -> float:
    """How fit a persona is to answer a text: 1 for the best, below 0 for one with much to do."""
    knows = 1.0 if touches(text, facts.expertise) else 0.0
    fit = RELEVANCE * knows + (1.0 - RELEVANCE) * VIGOUR[facts.label]
    return fit - EACH_WAITING * min(facts.waiting, MOST_WAITING)


def calls(text: str, facts: Facts) -> bool:
    """Whether a text calls somebody, by the display name or by the id."""
    return mentions(text, facts.name) or mentions(text, facts.id.replace("-", " "))


def begins_with(text: str, facts: Facts) -> bool:
    """Whether a text calls somebody by the display name at its very beginning.

    One that quotes a name calls nobody.
    """
    return mentions(text.split("\n", 1)[0][: len(facts.name) + 2], facts.name)


def _place(message: Heard, facts: Facts) -> Place:
    # Who has far too much to do, or has just failed, comes last, whatever it knows. Among
    # equals it is drawn, or the first of the alphabet would do all the work.
    strained = facts.rests or facts.label == "overwhelmed"
    return strained, -score(message.text, facts), _draw(f"{message.id}/{facts.id}"), facts.id


def _draw(seed: str) -> int:
    """A number that is the same in every process, unlike `hash`."""
    return int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=8).digest(), "big")
