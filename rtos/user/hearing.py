"""Hearing: what a persona makes of a message that is told in a room.

Pure. Says whether a message concerns it, and if so what its inbox is to hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.user.inbox import InboxItem
from rtos.user.priority import Circumstances, mentions, priority, touches

if TYPE_CHECKING:
    from collections.abc import Collection

    from rtos.user.entities import UserEntity

ANSWER_WITHIN: Final = 60.0
"""Seconds from the arrival of a message after which an answer is worth nothing."""


def concerns(message: dict[str, Any], members: Collection[str], persona_id: str, name: str) -> bool:
    """Whether a message is for a persona.

    Args:
      message: its record.
      members: the ids of who is in the room.
      persona_id: who hears it.
      name: what that one is called.
    """
    if message["sender_id"] == persona_id:
        return False
    text = message["text"]
    if message["sender_type"] != "human":
        # Personas that answer each other unasked would never stop, and one
        # that quotes a name calls nobody.
        return mentions(text.split("\n", 1)[0][: len(name) + 2], name)
    if mentions(text, name):
        return True
    others = (member.replace("-", " ") for member in members if member != persona_id)
    return not any(mentions(text, other) for other in others)


def heard(
    message: dict[str, Any], members: Collection[str], persona_id: str, entity: UserEntity, *, now: float
) -> InboxItem:
    """What the inbox of a persona holds of a message that concerns it.

    Args:
      message: its record.
      members: the ids of who is in the room.
      persona_id: who hears it.
      entity: what is known of that one.
      now: Trio time.
    """
    mentioned = mentions(message["text"], entity.display_name)
    about = Circumstances(
        human=message["sender_type"] == "human",
        mention=mentioned,
        known_room=persona_id in members,
        expertise=touches(message["text"], entity.expertise),
    )
    return InboxItem(
        id=message["id"],
        room_id=message["room_id"],
        sender_id=message["sender_id"],
        sender_type=message["sender_type"],
        text=message["text"],
        priority=priority(about),
        arrived=now,
        deadline=now + ANSWER_WITHIN,
        causal_depth=message["causal_depth"],
        mentions=mentioned,
    )


def paced(estimate: float, seconds: float) -> float:
    """How long an answer is taken to need, in seconds, after another one that took so many."""
    # Capped, so that one slow answer cannot make every later message look hopeless.
    after = estimate + (seconds - estimate) / 4 if estimate else seconds
    return min(after, ANSWER_WITHIN / 2)
