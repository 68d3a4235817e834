"""ChatDaemon: rooms, and what is said in them.

Owns no data: rooms and messages are records of the shared database. Whoever
wants to know of a message subscribes to ``data:chat_messages:created``, and passes over
the notes (`answered_in`), as the history does.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import attrs
import msgspec
import trio

from rtos.bus import Bus, command
from rtos.errors import CommandRejected, Conflict
from rtos.scheduler import PastIntensity
from rtos.user.claims import reply_id
from rtos.user.entities import MAX_ENTRIES, MAX_TEXT, ChatMessageEntity, RoomEntity
from rtos.user.identity import slug

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

HISTORY_LIMIT = 500
NOTE: Final = "Answered together with a later message."
"""What a note says to whoever looks at the records."""
# What was stored before there were notes has no such field, and a missing field equals nothing.
SAID: Final[Mapping[str, Any]] = MappingProxyType({"$not": {"answered_in": {"$gt": ""}}})
"""The filter for what was said, without the notes."""


class ChatDaemon:
    """Serves ``room/*`` and ``chat/*``."""

    name: ClassVar[str] = "chat"
    level: ClassVar[int] = 3
    workers: ClassVar[int] = 8
    capacity: ClassVar[int] = 1024
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(self) -> None:
        self._bus: Bus

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready at once."""
        self._bus = bus
        await trio.lowlevel.checkpoint()
        yield

    @command("room/create")
    async def create_room(
        self, *, name: str, id: str | None = None, topic: str = "", members: list[str] | None = None
    ) -> dict[str, Any]:
        """Make a room."""
        for member in members or ():
            await self._user("room/create", "members", member)
        slug = _slug("room/create", id or name)
        try:
            room = RoomEntity(name=slug, display_name=name, topic=topic, member_ids=tuple(members or ()))
        except ValueError as error:
            raise CommandRejected("room/create", str(error), remedy="mend what is named") from None
        record: dict[str, Any] = await self._bus.commands.execute(
            "data/create", collection=RoomEntity.collection, id=room.name, data=msgspec.to_builtins(room)
        )
        return record

    @command("room/join")
    async def join_room(self, *, room: str, user: str) -> dict[str, Any]:
        """Let a user take part in a room."""
        await self._user("room/join", "user", user)
        while True:
            record = await self._room("room/join", room)
            members = list(record["member_ids"])
            if user in members:
                return record
            try:
                updated: dict[str, Any] = await self._bus.commands.execute(
                    "data/update",
                    collection=RoomEntity.collection,
                    id=room,
                    data={"member_ids": [*members, user]},
                    expected_version=record["version"],
                )
            except Conflict:
                # Somebody else joined in between: look again, so that neither is lost.
                continue
            return updated

    @command("room/list")
    async def list_rooms(self, *, limit: int = 100, cursor: str | None = None) -> dict[str, Any]:
        """List the rooms."""
        found: dict[str, Any] = await self._bus.commands.execute(
            "data/list", collection=RoomEntity.collection, limit=limit, cursor=cursor
        )
        return found

    @command("chat/send")
    async def send(
        self,
        *,
        room: str,
        text: str,
        sender: str = "operator",
        reply_to: str | None = None,
        sources: list[str] | None = None,
        causal_depth: int = 0,
        id: str | None = None,
        covers: list[str] | None = None,
    ) -> dict[str, Any]:
        """Say something in a room; it is stored when this answers.

        What answers older messages beside `reply_to` names them in `covers`, and has the id of the
        one reply to `reply_to`. Then each of them has its note in the same write, see `rtos.user.claims`.
        """
        size = len(text.encode())
        if not text.strip() or size > MAX_TEXT:
            reason = f"the text has {size} bytes; 1 to {MAX_TEXT} are allowed"
            raise CommandRejected("chat/send", reason, parameter="text", remedy="shorten it or send a file")
        place = await self._room("chat/send", room)
        who = await self._user("chat/send", "sender", sender)
        if who["status"] == "frozen":
            raise CommandRejected(
                "chat/send",
                f"{sender!r} is frozen: {who['frozen_reason']}",
                parameter="sender",
                remedy=f"`rtos user/thaw --id={sender}` first",
            )
        if sender not in place["member_ids"]:
            raise CommandRejected(
                "chat/send",
                f"{sender!r} is not in room {room!r}",
                parameter="sender",
                remedy=f"`rtos room/join --room={room} --user={sender}` first",
            )
        message = ChatMessageEntity(
            room_id=room,
            sender_id=sender,
            sender_type=who["type"],
            sender_name=who["display_name"],
            text=text,
            reply_to=reply_to,
            sources=tuple(sources or ()),
            causal_depth=causal_depth,
        )
        if covers:
            return await self._answer(message, id, covers)
        record: dict[str, Any] = await self._bus.commands.execute(
            "data/create",
            collection=ChatMessageEntity.collection,
            id=id,
            data=msgspec.to_builtins(message),
        )
        return record

    async def _answer(self, message: ChatMessageEntity, id: str | None, covers: list[str]) -> dict[str, Any]:
        """Store a reply, and the note of each message that it answers beside the one it replies to."""
        asked, whose = (message.reply_to or ""), None
        if id != reply_id(whose, asked):
            whose = message.sender_id
        if not asked or id != reply_id(whose, asked):
            raise CommandRejected(
                "chat/send",
                f"{id!r} is not the id of the one reply to {message.reply_to!r}",
                parameter="id",
                remedy="give the one of `rtos.user.claims.reply_id`, or send several replies",
            )
        if asked in covers or len({*covers}) < len(covers) or len(covers) > MAX_ENTRIES:
            raise CommandRejected(
                "chat/send",
                "it covers a message twice, or too many",
                parameter="covers",
                remedy=f"name each once, at most {MAX_ENTRIES}",
            )
        await self._check_covered(message.room_id, [asked, *covers])
        records = [(id, attrs.evolve(message, covers=tuple(covers)))]
        for covered in covers:
            note = attrs.evolve(message, text=NOTE, reply_to=covered, sources=(), answered_in=id)
            records.append((reply_id(whose, covered), note))
        operations = [
            {"op": "create", "collection": message.collection, "id": id, "data": msgspec.to_builtins(entity)}
            for id, entity in records
        ]
        done: list[dict[str, Any]] = await self._bus.commands.execute("data/batch", operations=operations)
        return done[0]

    async def _check_covered(self, room: str, ids: list[str]) -> None:
        found = await self._bus.commands.execute(
            "data/list",
            collection=ChatMessageEntity.collection,
            filter={"id": {"$in": ids}, "room_id": room},
            fields=["id"],
            limit=len(ids),
        )
        missing = set(ids) - {record["id"] for record in found["items"]}
        if missing:
            raise CommandRejected(
                "chat/send",
                f"there is no {min(missing)!r} in room {room!r}",
                parameter="covers",
                remedy=f"`rtos chat/history --room={room}` shows what there is",
            )

    @command("chat/history")
    async def history(
        self, *, room: str = "general", limit: int = 50, before: str | None = None
    ) -> dict[str, Any]:
        """The latest messages of a room, oldest first; before a timestamp, if one is given."""
        if not 1 <= limit <= HISTORY_LIMIT:
            raise CommandRejected(
                "chat/history",
                f"{limit!r} messages cannot be had at once",
                parameter="limit",
                remedy=f"use 1 to {HISTORY_LIMIT}",
            )
        await self._room("chat/history", room)
        wanted: dict[str, Any] = {"room_id": room, **SAID}
        if before is not None:
            wanted["created_at"] = {"$lt": before}
        found = await self._bus.commands.execute(
            "data/list",
            collection=ChatMessageEntity.collection,
            filter=wanted,
            sort=["-created_at", "-id"],
            limit=limit,
        )
        return {"items": found["items"][::-1], "count": found["count"]}

    async def _room(self, asked: str, room: str) -> dict[str, Any]:
        return await self._known(
            asked, "room", RoomEntity.collection, room, "`rtos room/list` shows what there is"
        )

    async def _user(self, asked: str, parameter: str, user: str) -> dict[str, Any]:
        return await self._known(asked, parameter, "users", user, "`rtos user/list` shows who there is")

    async def _known(
        self, asked: str, parameter: str, collection: str, id: str, remedy: str
    ) -> dict[str, Any]:
        record: dict[str, Any] | None = await self._bus.commands.execute(
            "data/read", collection=collection, id=id
        )
        if record is None:
            raise CommandRejected(asked, f"there is no {id!r}", parameter=parameter, remedy=remedy)
        return record


def _slug(asked: str, name: str) -> str:
    try:
        return slug(name)
    except CommandRejected as error:
        raise CommandRejected(asked, error.reason, parameter="name", remedy=error.remedy) from None
