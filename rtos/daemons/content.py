"""The commands of what a user has open and has read: a part of the UserDaemon.

Law: what is answered here has been stored, and is part of every later write of the
state. What is old is closed when something else is opened or closed; nothing ticks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from rtos.bus import command
from rtos.daemons.rejecting import rejecting
from rtos.errors import CommandRejected
from rtos.user.content import ContentItem, ItemPriority, ItemType, Scalar
from rtos.user.entities import ChatMessageEntity, RoomEntity
from rtos.user.memory import DAY, timestamp_of

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.bus import Bus
    from rtos.user.base import BaseUser
    from rtos.user.content import ContentState, Preferences
    from rtos.user.preferences import PreferencesBook


class Contents:
    """``user/open``, ``user/close`` and ``user/read``.

    Attributes:
      _bus: where storage is reached.
      _preferences: what the files of users hold.
      _wall_clock: seconds since the epoch.
      _known: a user by the command that asks, its parameter and the id; rejects who there is not.
      _served_now: the same for who is served; the user is still that when this has returned.
    """

    _bus: Bus
    _preferences: PreferencesBook
    _wall_clock: Callable[[], float]
    _known: Callable[[str, str, str], BaseUser]
    _served_now: Callable[[str, str], Awaitable[BaseUser]]

    @command("user/open")
    async def open_item(
        self,
        *,
        id: str,
        type: ItemType,
        entity_id: str,
        title: str | None = None,
        subtitle: str | None = None,
        priority: ItemPriority | None = None,
        metadata: dict[str, Scalar] | None = None,
    ) -> dict[str, Any]:
        """Open something in front of all that a user has open; of what is open what is not given stays."""
        fields = {"title": title, "subtitle": subtitle, "priority": priority, "metadata": metadata}
        given: dict[str, Any] = {field: value for field, value in fields.items() if value is not None}

        def opened(content: ContentState, preferences: Preferences, now: str) -> ContentState:
            known = content.showing(type, entity_id)
            item = known or ContentItem(id=f"{type}:{entity_id}", type=type, entity_id=entity_id)
            return content.with_open(attrs.evolve(item, **given), limit=preferences.max_open_tabs, at=now)

        return await self._change_content("user/open", id, opened)

    @command("user/close")
    async def close_item(self, *, id: str, item: str) -> dict[str, Any]:
        """Close an item that a user has open; if it was in front, the one opened last is."""

        def closed(content: ContentState, _: Preferences, now: str) -> ContentState:
            if content.item(item) is None:
                remedy = f"`rtos user/get --id={id}` shows what is"
                raise CommandRejected("user/close", f"{item!r} is not open", parameter="item", remedy=remedy)
            return content.without(item, at=now)

        return await self._change_content("user/close", id, closed)

    @command("user/read")
    async def read(self, *, id: str, room: str, message: str) -> dict[str, Any]:
        """Note that a user has read a room up to a message, and say how far it has read it by now."""
        if self._known("user/read", "id", id).entity.type == "persona":
            raise CommandRejected(
                "user/read",
                f"{id!r} is a persona, and has read what it has attended to",
                parameter="id",
                remedy="give a user that is none",
            )
        await self._found("room", RoomEntity.collection, room, "`rtos room/list` shows what there is")
        remedy = f"`rtos chat/history --room={room}` shows what there is"
        record = await self._found("message", ChatMessageEntity.collection, message, remedy)
        if record["room_id"] != room:
            raise CommandRejected(
                "user/read",
                f"{message!r} is not in room {room!r} but in {record['room_id']!r}",
                parameter="message",
                remedy=remedy,
            )
        user = await self._served_now("user/read", id)
        state = await user.change_state(lambda state: state.with_read(room, message, record["created_at"]))
        read: dict[str, Any] = msgspec.to_builtins(state.last_read(room))
        return read

    async def _change_content(
        self, asked: str, user_id: str, change: Callable[[ContentState, Preferences, str], ContentState]
    ) -> dict[str, Any]:
        """Change what a user has open, and close what is old; what is open then."""
        user = await self._served_now(asked, user_id)

        def changed(content: ContentState) -> ContentState:
            # All of it now, as somebody else may have had the turn before.
            preferences = self._preferences.effective(user_id, user.state.preferences)
            now = self._wall_clock()
            days = min(preferences.auto_close_after_days, now / DAY)
            content = change(content, preferences, timestamp_of(now))
            return content.without_old(timestamp_of(now - days * DAY), at=timestamp_of(now))

        with rejecting(asked):
            state = await user.change_state(lambda state: state.with_content(changed(state.content_state)))
        shown: dict[str, Any] = msgspec.to_builtins(state.content_state)
        return shown

    async def _found(self, parameter: str, collection: str, id: str, remedy: str) -> dict[str, Any]:
        with rejecting("user/read", parameter):
            record: dict[str, Any] | None = await self._bus.commands.execute(
                "data/read", collection=collection, id=id
            )
        if record is None:
            raise CommandRejected("user/read", f"there is no {id!r}", parameter=parameter, remedy=remedy)
        return record
