"""Hearing: what a persona makes of a message that it is to answer.

Pure. Whether it is to answer is decided in `rtos.user.coordination`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.user.inbox import InboxItem
from rtos.user.priority import Circumstances, priority, touches

if TYPE_CHECKING:
    from rtos.user.coordination import Part
    from rtos.user.entities import UserEntity

ANSWER_WITHIN: Final = 60.0
"""Seconds from the arrival of a message after which an answer is worth nothing."""


def heard(
    message: dict[str, Any], part: Part, entity: UserEntity, *, now: float, within: float = ANSWER_WITHIN
) -> InboxItem:
    """What the inbox of a persona holds of a message that it is to answer.

    Args:
      message: its record.
      part: what it is to the persona, called or chosen.
      entity: what is known of that one.
      now: Trio time.
      within: seconds from now after which an answer is worth nothing.
    """
    about = Circumstances(
        human=message["sender_type"] == "human",
        mention=part == "called",
        known_room=True,
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
