"""Claims: the ids by which a message is answered once and remembered once, and what stands under them.

Pure. A reply has an id made from the persona's and the message's, or from the message's alone where one
answers for all; a note of a covered message has the same. The store creates what is not there and
refuses what is, so the record is the claim. Why that is enough is shown in `rtos.user.servicing`.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

from rtos.user.entities import MAX_TEXT, MemoryEntity
from rtos.user.memory import creation, dated, timestamp_of

if TYPE_CHECKING:
    from rtos.user.inbox import InboxItem

_REPLIES: Final = uuid.UUID("6f1c3b52-8a07-4f0e-9d61-3c1f5f0a2b77")
_MEMORIES: Final = uuid.UUID("0c8a4d5e-52c4-4c0b-9d0e-7a6f6b1f3e21")


def reply_id(persona_id: str | None, message_id: str) -> str:
    """The id of the one reply that a persona gives to a message; of the one for all, with ``None``."""
    return uuid.uuid5(_REPLIES, f"{persona_id or ''}/{message_id}").hex


def question_of(message: dict[str, Any]) -> str | None:
    """The id of the message that a reply, or a note, answers for all; ``None`` if it does not."""
    asked: str | None = message["reply_to"]
    return asked if asked is not None and message["id"] == reply_id(None, asked) else None


def is_note(message: dict[str, Any]) -> bool:
    """Whether it is no message, but says of one that it was answered together with a later one."""
    return message.get("answered_in") is not None


def memory_id(persona_id: str, message_id: str) -> str:
    """The id of the one memory that a persona keeps of a message and its reply."""
    return uuid.uuid5(_MEMORIES, f"{persona_id}/{message_id}").hex


def remembered(
    persona_id: str, item: InboxItem, said: str, *, now: float, covered: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The operation that keeps a memory of an exchange; its source names what it was about.

    Args:
      persona_id: whose.
      item: what was answered.
      said: the answer.
      now: seconds since the epoch.
      covered: what older messages said that were answered by it as well, oldest first.
    """
    older = "".join(f"{item.sender_id}: {text}\n" for text in covered)
    body = f"{older}{_asked(item)}{persona_id}: {said}".encode()[:MAX_TEXT]
    place = f"room {item.room_id}, message {item.id}" if item.kind == "message" else f"task {item.id}"
    memory = MemoryEntity(
        kind="exchange",
        body=body.decode("utf-8", "ignore"),
        source=place,
        said_by=item.sender_id,
        message_id=item.id if item.kind == "message" else None,
        room_id=item.room_id or None,
    )
    return creation(memory_id(persona_id, item.id), dated(memory, timestamp_of(now)))


def said_in(body: str, persona_id: str, item: InboxItem) -> str:
    """What a persona has said, from the body of the memory of it."""
    return body.removeprefix(f"{_asked(item)}{persona_id}: ")


def _asked(item: InboxItem) -> str:
    return f"{item.sender_id}: {item.text}\n"
