"""What is said when a persona is deleted that had accepted messages.

Pure. Each human is told once in each room, in reply to the oldest of the messages
that will have no other answer; what a persona had asked needs none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rtos.user.claims import reply_id
from rtos.user.entities import ChatMessageEntity

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtos.user.base import BaseUser
    from rtos.user.inbox import InboxItem


def farewells(user: BaseUser, accepted: Iterable[InboxItem]) -> list[dict[str, Any]]:
    """The operations that tell those who wait that nobody will answer.

    Args:
      user: who is gone.
      accepted: what it had accepted and not answered, oldest first.
    """
    waiting: dict[tuple[str, str], list[InboxItem]] = {}
    for item in accepted:
        if item.sender_type == "human":
            waiting.setdefault((item.room_id, item.sender_id), []).append(item)
    return [_farewell(user, items) for items in waiting.values()]


def _farewell(user: BaseUser, items: list[InboxItem]) -> dict[str, Any]:
    oldest, count = items[0], len(items)
    what = "this" if count == 1 else f"this and {count - 1} more of your messages"
    message = ChatMessageEntity(
        room_id=oldest.room_id,
        sender_id=user.id,
        sender_type=user.entity.type,
        sender_name=user.entity.display_name,
        text=f"I was deleted before I could answer {what}; please ask somebody else.",
        reply_to=oldest.id,
        causal_depth=oldest.causal_depth + 1,
    )
    return {
        "op": "create",
        "collection": ChatMessageEntity.collection,
        "id": reply_id(None if oldest.anybody else user.id, oldest.id),
        "data": msgspec.to_builtins(message),
    }
