"""UserDaemon: who there is, and the life of every persona.

Owns the users in memory: each has its folders and its state from boot on, and a
persona is started once and stopped when it is deleted. What happens to users,
rooms and messages is learned from events, in the order of their commits; when
events were lost, from the records themselves.

Law: at most one task serves a persona at a time, and none while it has nothing
to do. A user whose database cannot be used is degraded, and one that was frozen
is frozen: either is known and shown, nobody serves it, and everybody else is
served. What a frozen persona has not answered stays unread until it is thawed.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import attrs
import msgspec
import trio

from rtos.bus import Bus, Event, command, on
from rtos.daemons.content import Contents
from rtos.daemons.memory import Memories
from rtos.errors import CommandRejected, Conflict, RtosError, StoreError
from rtos.scheduler import PastIntensity
from rtos.user.assignments import TOLD, Assignments
from rtos.user.audience import Audience, Unanswered
from rtos.user.base import BaseUser, HumanUser
from rtos.user.claims import reply_id
from rtos.user.entities import ChatMessageEntity, RoomEntity, TaskEntity, UserEntity
from rtos.user.farewell import farewells
from rtos.user.identity import slug, validate_user_id
from rtos.user.lives import Lives
from rtos.user.persona import PersonaUser
from rtos.user.preferences import PreferencesBook
from rtos.user.questions import Questions
from rtos.user.records import Records
from rtos.user.servicing import Servicing

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.user.directory import UserDirectoryManager
    from rtos.user.embedding import Embedder
    from rtos.user.inbox import InboxItem
    from rtos.user.marks import Mark
    from rtos.user.responder import Responder

log = logging.getLogger("rtos.users")

UserKind = Literal["human", "agent", "persona", "system"]


@attrs.frozen
class _Aside:
    """A user that is known and not served, and why."""

    user: BaseUser
    state: Literal["degraded", "frozen"]
    reason: str


class UserDaemon(Memories, Contents):
    """Serves ``user/*`` and ``memory/*``.

    Args:
      directories: where users live.
      responder: who finds the words for personas.
      wall_clock: seconds since the epoch.
      preferences: what the files of users hold; of nobody anything by default.
      embedder: who makes vectors of memories; without one recall goes by words.
    """

    name: ClassVar[str] = "users"
    level: ClassVar[int] = 3
    workers: ClassVar[int] = 8
    capacity: ClassVar[int] = 1024
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(
        self,
        directories: UserDirectoryManager,
        responder: Responder,
        *,
        wall_clock: Callable[[], float] = time.time,
        preferences: PreferencesBook | None = None,
        embedder: Embedder | None = None,
    ) -> None:
        self._directories = directories
        self._preferences = preferences or PreferencesBook()
        self._responder = responder
        self._wall_clock = wall_clock
        self._embedder = embedder
        self._bus: Bus
        self._users: dict[str, BaseUser] = {}
        self._aside: dict[str, _Aside] = {}
        self._rooms: dict[str, RoomEntity] = {}
        self._lives: Lives
        self._questions: Questions
        self._audience: Audience
        self._assignments: Assignments
        self._starting: dict[str, trio.Event] = {}
        # One bound method for all, where each look-up would make another.
        self._wake = self._activate
        self._serve = self._servicing

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when every user has folders and state, and every persona knows what it has missed.

        Whoever's database cannot be used is degraded, and does not keep the others waiting.
        """
        self._bus = bus
        self._users.clear()
        self._aside.clear()
        self._rooms.clear()
        self._questions = Questions(bus, self._served)
        async with trio.open_nursery() as nursery:
            self._lives = Lives(bus, nursery, self._give_up)
            self._audience = Audience(self._served, self._find, self._lives.rests, self._questions)
            self._assignments = Assignments(bus, self._served)
            await self._seed()
            async for record in self._records(UserEntity.collection):
                await self._try_to_start(record)
            async for record in self._records(RoomEntity.collection):
                self._rooms[record["id"]] = _room(record)
                await self._catch_up(record)
            await self._assignments.catch_up()
            try:
                yield
            finally:
                # A timer that outlives a crash would wake who is no more.
                self._lives.close()
                self._questions.clear()
            nursery.cancel_scope.cancel()
        for user in self._users.values():
            if isinstance(user, PersonaUser):
                user.stop()

    def degraded(self) -> dict[str, str]:
        """Who cannot be served, and why; from memory."""
        return {id: aside.reason for id, aside in self._aside.items() if aside.state == "degraded"}

    # Commands.

    @command("user/create")
    async def create(
        self,
        *,
        type: UserKind,
        name: str,
        id: str | None = None,
        description: str = "",
        expertise: list[str] | None = None,
    ) -> dict[str, Any]:
        """Create a user; a persona is running when this answers."""
        user_id = validate_user_id(id, "user/create") if id is not None else slug(name)
        data = {
            "type": type,
            "display_name": name,
            "short_description": description,
            "expertise": list(expertise or ()),
        }
        try:
            record: dict[str, Any] = await self._bus.commands.execute(
                "data/create", collection=UserEntity.collection, id=user_id, data=data
            )
        except Conflict:
            remedy = "choose another name, or give an --id of its own"
            raise CommandRejected(
                "user/create", f"there is a user {user_id!r} already", parameter="id", remedy=remedy
            ) from None
        except CommandRejected as error:
            raise CommandRejected("user/create", error.reason, remedy=error.remedy) from None
        await self._start_made(record)
        return record

    @command("user/get")
    async def get(self, *, id: str) -> dict[str, Any]:
        """A user: its record, its state and, for a persona, how it feels."""
        if id in self.degraded():
            await self._revive(id)
        user = self._known("user/get", "id", id)
        shown: dict[str, Any] = {
            "id": user.id,
            **msgspec.to_builtins(user.entity),
            "database": str(user.database_path),
            "state": msgspec.to_builtins(user.state),
            "preferences": attrs.asdict(self._preferences.effective(id, user.state.preferences)),
        }
        if id in self._aside:
            return shown | self._why_aside(id)
        if isinstance(user, PersonaUser):
            feeling = user.feeling.advance(self._wall_clock())
            shown |= {
                "energy": round(feeling.energy, 4),
                "label": feeling.label,
                "mood": feeling.temper,
                "inbox": user.desk.waiting,
            }
        return shown

    @command("user/list")
    async def list_users(
        self, *, type: UserKind | None = None, limit: int = 100, cursor: str | None = None
    ) -> dict[str, Any]:
        """List the users, of one type if it is given."""
        found: dict[str, Any] = await self._bus.commands.execute(
            "data/list",
            collection=UserEntity.collection,
            filter={} if type is None else {"type": type},
            limit=limit,
            cursor=cursor,
        )
        for item in found["items"]:
            if item["id"] in self._aside:
                item |= self._why_aside(item["id"])
        return found

    @command("user/update")
    async def update(
        self,
        *,
        id: str,
        name: str | None = None,
        description: str | None = None,
        expertise: list[str] | None = None,
    ) -> dict[str, Any]:
        """Change what is known of a user; what is not given stays as it is."""
        user = self._known("user/update", "id", id)
        given = {"display_name": name, "short_description": description, "expertise": expertise}
        data = {field: value for field, value in given.items() if value is not None}
        if not data:
            remedy = "give one of --name, --description, --expertise"
            raise CommandRejected("user/update", "there is nothing to change", remedy=remedy)
        try:
            record = await self._write(id, data)
        except CommandRejected as error:
            raise CommandRejected("user/update", error.reason, remedy=error.remedy) from None
        user.take_up(record)
        return record

    @command("user/freeze")
    async def freeze(self, *, id: str, reason: str = "an operator froze it") -> dict[str, Any]:
        """Freeze a user: it hears and says nothing, and what it is told waits."""
        user = self._known("user/freeze", "id", id)
        if user.entity.status == "frozen":
            raise CommandRejected(
                "user/freeze", f"{id!r} is frozen already", parameter="id", remedy="`rtos user/thaw` first"
            )
        # Before the record says so, or it would be refused what it is about to say.
        await self._put_aside(user, "frozen", reason)
        try:
            record = await self._write(id, {"status": "frozen", "frozen_reason": reason})
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._revive(id)
            raise
        user.take_up(record)
        return record

    @command("user/thaw")
    async def thaw(self, *, id: str) -> dict[str, Any]:
        """Thaw a frozen user; it catches up with what it was told meanwhile."""
        user = self._known("user/thaw", "id", id)
        if user.entity.status != "frozen":
            raise CommandRejected(
                "user/thaw", f"{id!r} is not frozen", parameter="id", remedy="`rtos user/get` shows it"
            )
        record = await self._write(id, {"status": "offline", "frozen_reason": ""})
        if user.take_up(record):
            self._lives.pardon(id)
            await self._revive(id)
        return record

    @command("user/delete")
    async def delete(self, *, id: str) -> bool:
        """Delete a user; a persona has stopped when this answers. Its folder stays."""
        user = self._known("user/delete", "id", id)
        accepted = await self._stop(id)
        # One write, so that whoever waits for an answer is told if and only if nobody is left to give it.
        operations = [{"op": "delete", "collection": UserEntity.collection, "id": id}]
        try:
            operations += farewells(user, await self._unanswered(user, accepted))
            done = await self._bus.commands.execute("data/batch", operations=operations)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._revive(id)
            raise
        return done[0] is not None

    # Events, in the order of their commits.

    @on("data:users:*", "data:rooms:*", "data:chat_messages:created", *TOLD)
    async def follow(self, event: Event) -> None:
        """Keep up with what has been committed."""
        if event.lost:
            log.warning("%d events were lost; reading the records instead", event.lost)
            await self._reread()
        _, collection, verb = event.name.split(":")
        if verb == "truncated":
            # Each of the deletions has been told before.
            return
        record = event.payload["record"]
        if collection == TaskEntity.collection:
            self._assignments.tell(record)
        elif collection == ChatMessageEntity.collection:
            await self._tell(record)
        elif collection == RoomEntity.collection:
            await self._follow_room(record, verb)
        elif verb == "created":
            await self._try_to_start(record)
        elif verb == "deleted":
            await self._follow_deletion(record["id"])
        else:
            await self._follow_user(record)

    @on("data:degraded", "data:restored")
    async def follow_databases(self, event: Event) -> None:
        """Let go of a user whose database was set aside, and take it up from the one that was put there."""
        user_id = event.payload["user_id"]
        if user_id is None:
            # While the shared one is away nothing can be read, and everybody stays as it is.
            if event.name == "data:restored":
                await self._start_over()
        elif event.name == "data:restored":
            await self._revive(user_id)
        elif user_id in self._users:
            await self._degrade(self._users[user_id], event.payload["reason"])

    async def _follow_user(self, record: dict[str, Any]) -> None:
        user = self._find(record["id"])
        # What was changed by a command of this daemon is known already.
        if user is None or not user.take_up(record):
            return
        if user.entity.status == "frozen" and user.id in self._users:
            await self._put_aside(user, "frozen", user.entity.frozen_reason)
        elif user.entity.status != "frozen" and user.id in self._aside:
            self._lives.pardon(user.id)
            await self._revive(user.id)

    async def _follow_deletion(self, user_id: str) -> None:
        user = self._users.get(user_id)
        accepted = await self._stop(user_id)
        if user is None:
            return
        operations = farewells(user, await self._unanswered(user, accepted))
        if operations:
            await self._bus.commands.execute("data/batch", operations=operations)

    async def _unanswered(self, user: BaseUser, accepted: list[InboxItem]) -> list[InboxItem]:
        """What has no reply; one may have been stored just before it was stopped."""
        replies = {reply_id(None if item.anybody else user.id, item.id): item for item in accepted}
        answered = {"id": {"$in": list(replies)}}
        async for record in self._records(ChatMessageEntity.collection, answered):
            del replies[record["id"]]
        return list(replies.values())

    async def _follow_room(self, record: dict[str, Any], verb: str) -> None:
        if verb == "deleted":
            self._rooms.pop(record["id"], None)
            self._audience.close_room(record["id"])
            return
        self._rooms[record["id"]] = _room(record)
        await self._catch_up(record)

    async def _reread(self) -> None:
        async for record in self._records(UserEntity.collection):
            await self._try_to_start(record)
        async for record in self._records(RoomEntity.collection):
            await self._follow_room(record, "updated")
        await self._assignments.catch_up()

    async def _start_over(self) -> None:
        """Take up who there is, and is no more, from a shared database that was put back."""
        there = {record["id"] async for record in self._records(UserEntity.collection)}
        for user_id in {*self._users, *self._aside} - there:
            await self._stop(user_id)
        self._rooms.clear()
        await self._reread()

    async def _tell(self, message: dict[str, Any], unanswered: Unanswered | None = None) -> None:
        room = self._rooms.get(message["room_id"])
        if room is not None:
            await self._audience.tell(message, room, unanswered)

    def _served(self, user_id: str) -> PersonaUser | None:
        user = self._users.get(user_id)
        return user if isinstance(user, PersonaUser) else None

    async def _catch_up(self, room: dict[str, Any]) -> None:
        """Tell the personas of a room what they have not heard yet."""
        personas = [self._users.get(member) for member in room["member_ids"]]
        # Who has no mark in this room takes part from the room's last change on,
        # which is when it joined.
        entered = [await self._enter(p, room) for p in personas if isinstance(p, PersonaUser)]
        marks = [mark for mark in entered if mark is not None]
        if not marks:
            return
        since = {"room_id": room["id"], "created_at": {"$gt": min(marks).at}}
        # What one answers for all is asked when it is known that nobody has.
        unanswered: Unanswered = {}
        async for message in self._records(ChatMessageEntity.collection, since):
            await self._tell(message, unanswered)
        place = self._rooms.get(room["id"])
        if place is not None:
            await self._audience.ask(unanswered, place)

    async def _enter(self, persona: PersonaUser, room: dict[str, Any]) -> Mark | None:
        try:
            return await persona.enter(room["id"], room["updated_at"])
        except StoreError as error:
            await self._degrade(persona, str(error))
            return None

    # Lives.

    async def _try_to_start(self, record: dict[str, Any]) -> None:
        """Bring a user to life; one whose database cannot be used is degraded."""
        try:
            await self._start(record)
        except StoreError as error:
            await self._degrade(self._make(record), str(error))

    async def _degrade(self, user: BaseUser, reason: str) -> None:
        log.warning("user %s is degraded: %s", user.id, reason)
        await self._put_aside(user, "degraded", reason)

    async def _put_aside(self, user: BaseUser, state: Literal["degraded", "frozen"], reason: str) -> None:
        # Twice: it must be known all the time, and be known as this at the end, whoever
        # has brought it to life meanwhile.
        self._aside[user.id] = _Aside(user, state, reason)
        await self._halt(user.id)
        self._aside[user.id] = _Aside(user, state, reason)

    async def _give_up(self, persona_id: str, reason: str) -> None:
        """Freeze a persona that fails again and again, and say so."""
        persona = self._users.get(persona_id)
        if persona is None:
            return
        log.error("persona %s is frozen: it has %s", persona_id, reason)
        await self._put_aside(persona, "frozen", reason)
        try:
            persona.take_up(await self._write(persona_id, {"status": "frozen", "frozen_reason": reason}))
        except RtosError as error:
            log.warning("that persona %s is frozen could not be stored: %s", persona_id, error)
        self._bus.events.emit("persona:frozen", {"persona_id": persona_id, "reason": reason})

    async def _revive(self, user_id: str) -> None:
        """Start a user anew, from what its database has now."""
        record = await self._bus.commands.execute("data/read", collection=UserEntity.collection, id=user_id)
        if record is None:
            await self._stop(user_id)
            return
        user = self._users.get(user_id)
        if user is not None:
            await self._put_aside(user, "degraded", "its database was replaced, and it starts anew")
        await self._try_to_start(record)
        async for room in self._records(RoomEntity.collection):
            if user_id in room["member_ids"]:
                await self._catch_up(room)
        await self._assignments.catch_up(user_id)

    async def _start(self, record: dict[str, Any]) -> None:
        """Bring a user to life, once, however many ask for it at the same time."""
        user_id = record["id"]
        # Again after each wait: when a start fails, all who waited for it come here at once.
        while user_id in self._starting:
            await self._starting[user_id].wait()
        if user_id in self._users:
            return
        done = self._starting[user_id] = trio.Event()
        try:
            user = self._make(record)
            await user.initialize()
            if user.entity.status == "frozen":
                self._aside[user_id] = _Aside(user, "frozen", user.entity.frozen_reason)
            else:
                self._users[user_id] = user
                self._aside.pop(user_id, None)
        finally:
            del self._starting[user_id]
            done.set()

    async def _start_made(self, record: dict[str, Any]) -> None:
        """Bring to life who was made just now, unless it was deleted meanwhile and that was told already."""
        await self._start(record)
        there = await self._bus.commands.execute(
            "data/read", collection=UserEntity.collection, id=record["id"]
        )
        if there is None:
            await self._stop(record["id"])

    def _make(self, record: dict[str, Any]) -> BaseUser:
        if record["type"] != "persona":
            return HumanUser(record, bus=self._bus, directories=self._directories)
        return PersonaUser(
            record,
            bus=self._bus,
            directories=self._directories,
            wall_clock=self._wall_clock,
            activate=self._wake,
            servicing=self._serve,
        )

    def _servicing(self, persona_id: str, display_name: str) -> Servicing:
        return Servicing(
            self._bus,
            self._responder,
            persona_id,
            display_name,
            self._wall_clock,
            self._questions.pass_on,
            self._embedder,
        )

    async def _stop(self, user_id: str) -> list[InboxItem]:
        """Let go of a user for good; what it had accepted and not answered."""
        accepted = await self._halt(user_id)
        self._aside.pop(user_id, None)
        self._lives.forget(user_id)
        return accepted

    async def _halt(self, user_id: str) -> list[InboxItem]:
        while user_id in self._starting:
            await self._starting[user_id].wait()
        user = self._users.pop(user_id, None)
        await self._lives.end(user_id)
        if user is not None:
            # Whoever starts anew reads what is stored, and what is still being written would be lost on it.
            await user.settled()
        if not isinstance(user, PersonaUser):
            return []
        # What another one answers instead is handed back to nobody.
        return [
            item
            for item in user.stop()
            if not (item.anybody and self._questions.pass_on(user_id, item.id, gone=True))
        ]

    def _activate(self, persona: PersonaUser) -> None:
        if self._users.get(persona.id, persona) is persona:
            self._lives.activate(persona)

    # Records.

    async def _seed(self) -> None:
        """On a first boot: a human, a persona, and a room for the two."""
        existing = await self._bus.commands.execute("data/list", collection=UserEntity.collection, limit=1)
        if existing["count"]:
            return
        made = (
            (UserEntity.collection, "operator", {"type": "human", "display_name": "Operator"}),
            (UserEntity.collection, "helper-ai", {"type": "persona", "display_name": "Helper AI"}),
            (
                RoomEntity.collection,
                "general",
                {"name": "general", "display_name": "General", "member_ids": ["operator", "helper-ai"]},
            ),
        )
        operations = [
            {"op": "create", "collection": collection, "id": id, "data": data}
            for collection, id, data in made
        ]
        await self._bus.commands.execute("data/batch", operations=operations)

    def _records(self, collection: str, wanted: dict[str, Any] | None = None) -> Records:
        return Records(self._bus, collection, wanted)

    async def _write(self, user_id: str, data: dict[str, Any]) -> dict[str, Any]:
        """Merge fields into the record of a user; the record."""
        record: dict[str, Any] = await self._bus.commands.execute(
            "data/update", collection=UserEntity.collection, id=user_id, data=data
        )
        return record

    def _why_aside(self, user_id: str) -> dict[str, str]:
        return {"state": self._aside[user_id].state, "reason": self._aside[user_id].reason}

    def _find(self, user_id: str) -> BaseUser | None:
        user = self._users.get(user_id)
        return self._aside[user_id].user if user is None and user_id in self._aside else user

    def _known(self, asked: str, parameter: str, user_id: str) -> BaseUser:
        user = self._find(user_id)
        if user is None:
            raise CommandRejected(
                asked,
                f"there is no user {user_id!r}",
                parameter=parameter,
                remedy="`rtos user/list` shows who there is",
            )
        return user

    async def _served_now(self, asked: str, user_id: str) -> BaseUser:
        """A user whose state may be changed; rejects who there is not, and who is set aside.

        Nothing has happened between its being found and this returning.
        """
        if user_id in self.degraded():
            await self._revive(user_id)
        user = self._known(asked, "id", user_id)
        aside = self._aside.get(user_id)
        if aside is not None:
            remedy = "user/thaw" if aside.state == "frozen" else "user/get"
            raise CommandRejected(
                asked,
                f"{user_id!r} is {aside.state}",
                parameter="id",
                remedy=f"`rtos {remedy} --id={user_id}` first",
            )
        return user


def _room(record: dict[str, Any]) -> RoomEntity:
    return msgspec.convert(record, type=RoomEntity)
