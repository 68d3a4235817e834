"""Hearing: what a persona makes of a message that it is to answer.

Pure. Whether it is to answer is decided in `rtos.user.coordination`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.user.inbox import InboxItem
from rtos.user.memory import seconds_of
from rtos.user.priority import Circumstances, priority, touches

if TYPE_CHECKING:
    from rtos.user.coordination import Part
    from rtos.user.entities import UserEntity

ANSWER_WITHIN: Final = 60.0
"""Seconds from the arrival of a message after which an answer is worth nothing."""


@attrs.frozen(kw_only=True)
class Around:
    """What is known of a room when something is said there."""

    watched: bool = False
    """A human has it in front."""
    temperature: float = 0.0
    """How lively it is, 0..1."""


def heard(
    message: dict[str, Any],
    part: Part,
    entity: UserEntity,
    *,
    now: float,
    wall: float,
    known_room: bool,
    around: Around,
    within: float = ANSWER_WITHIN,
) -> InboxItem:
    """What the inbox of a persona holds of a message that it is to answer.

    Args:
      message: its record.
      part: what it is to the persona, called or chosen.
      entity: what is known of that one.
      now: Trio time.
      wall: seconds since the epoch.
      known_room: whether it was lately at work in that room.
      around: what is known of the room.
      within: seconds from now after which an answer is worth nothing.
    """
    written = seconds_of(message["created_at"])
    about = Circumstances(
        human=message["sender_type"] == "human",
        mention=part == "called",
        age=0.0 if written is None else max(0.0, wall - written),
        known_room=known_room,
        expertise=touches(message["text"], entity.expertise),
        watched=around.watched,
        temperature=around.temperature,
    )
    return InboxItem(
        id=message["id"],
        room_id=message["room_id"],
        sender_id=message["sender_id"],
        sender_type=message["sender_type"],
        text=message["text"],
        priority=priority(about),
        arrived=now,
        deadline=now + within,
        causal_depth=message["causal_depth"],
        mentions=part == "called",
        anybody=part == "chosen",
    )


def paced(estimate: float, seconds: float) -> float:
    """How long an answer is taken to need, in seconds, after another one that took so many."""
    # Capped, so that one slow answer cannot make every later message look hopeless.
    after = estimate + (seconds - estimate) / 4 if estimate else seconds
    return min(after, ANSWER_WITHIN / 2)
