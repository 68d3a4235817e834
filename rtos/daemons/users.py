"""UserDaemon: who there is, and the life of every persona.

Owns the users in memory: each has its folders and its state from boot on, and a
persona is started once and stopped when it is deleted. What happens to users,
rooms and messages is learned from events, in the order of their commits; when
events were lost, from the records themselves.

Law: at most one task serves a persona at a time, and none while it has nothing
to do. A user whose database cannot be used is degraded: it is known and shown,
nobody serves it, and everybody else is served. So is one that is frozen, by hand or
because it failed again and again; what it has not answered is still unread, and it
catches up with it when it is thawed.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import attrs
import msgspec
import trio

from rtos.bus import Bus, Event, command, on
from rtos.errors import CommandRejected, Conflict, RtosError, StoreError
from rtos.scheduler import PastIntensity
from rtos.user.base import BaseUser, HumanUser
from rtos.user.crashes import MOST, WINDOW, CrashLoop
from rtos.user.entities import MAX_LINE, ChatMessageEntity, MemoryEntity, RoomEntity, UserEntity
from rtos.user.identity import slug, validate_user_id
from rtos.user.passages import split
from rtos.user.persona import PersonaUser
from rtos.user.preferences import PreferencesBook
from rtos.user.words import terms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.scheduler import SchedulingContext, Timer
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.marks import Mark
    from rtos.user.responder import Responder

log = logging.getLogger("rtos.users")

PAGE: Final = 500
UserKind = Literal["human", "agent", "persona", "system"]


class _Life:
    """The task that serves a persona, while it has something to do."""

    __slots__ = ("context", "ended", "scope")

    def __init__(self, context: SchedulingContext) -> None:
        self.context = context
        self.scope = trio.CancelScope()
        self.ended = trio.Event()


@attrs.frozen
class _Aside:
    """A user that is known and not served, and why."""

    user: BaseUser
    state: Literal["degraded", "failed", "frozen"]
    reason: str


class _Records:
    """All records, page by page, by creation; each page begins where the last one ended.

    No generator: one that is left in the middle, by a cancellation, would be closed
    whenever the garbage collector comes to it.
    """

    def __init__(self, bus: Bus, collection: str, wanted: dict[str, Any] | None) -> None:
        self._bus = bus
        self._asked: dict[str, Any] = {"collection": collection, "filter": wanted, "limit": PAGE}
        self._page: deque[dict[str, Any]] = deque()
        self._cursor: str | None = None
        self._is_over = False

    def __aiter__(self) -> _Records:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._page:
            if self._is_over:
                raise StopAsyncIteration
            found = await self._bus.commands.execute("data/list", **self._asked, cursor=self._cursor)
            self._page, self._cursor = deque(found["items"]), found["next_cursor"]
            self._is_over = self._cursor is None
        return self._page.popleft()


class UserDaemon:
    """Serves ``user/*`` and ``memory/*``.

    Args:
      directories: where users live.
      responder: who finds the words for personas.
      wall_clock: seconds since the epoch.
      preferences: what the files of users hold; of nobody anything by default.
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
    ) -> None:
        self._directories = directories
        self._preferences = preferences or PreferencesBook()
        self._responder = responder
        self._wall_clock = wall_clock
        self._bus: Bus
        self._nursery: trio.Nursery
        self._users: dict[str, BaseUser] = {}
        self._aside: dict[str, _Aside] = {}
        self._crashes: dict[str, CrashLoop] = {}
        self._restarts: dict[str, Timer] = {}
        self._rooms: dict[str, RoomEntity] = {}
        self._lives: dict[str, _Life] = {}
        self._starting: dict[str, trio.Event] = {}
        # One bound method for all, where each look-up would make another.
        self._wake = self._activate

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when every user has folders and state, and every persona knows what it has missed.

        Whoever's database cannot be used is degraded, and does not keep the others waiting.
        """
        self._bus = bus
        self._users.clear()
        self._aside.clear()
        self._crashes.clear()
        self._rooms.clear()
        self._lives.clear()
        async with trio.open_nursery() as self._nursery:
            await self._seed()
            async for record in self._records(UserEntity.collection):
                await self._try_to_start(record)
            async for record in self._records(RoomEntity.collection):
                self._rooms[record["id"]] = _room(record)
                await self._catch_up(record)
            yield
            for timer in self._restarts.values():
                timer.cancel()
            self._restarts.clear()
            self._nursery.cancel_scope.cancel()
        for user in self._users.values():
            if isinstance(user, PersonaUser):
                user.stop()

    def degraded(self) -> dict[str, str]:
        """Whose database cannot be used, and why; from memory."""
        return {user_id: one.reason for user_id, one in self._aside.items() if one.state == "degraded"}

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
        await self._start(record)
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
            return shown | {"state": self._aside[id].state, "reason": self._aside[id].reason}
        if isinstance(user, PersonaUser):
            feeling = user.feeling.advance(self._wall_clock())
            shown |= {
                "energy": round(feeling.energy, 4),
                "label": feeling.label,
                "mood": feeling.temper,
                "inbox": user.waiting,
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
                item["state"] = self._aside[item["id"]].state
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
        """Change what is given of a user; the rest stays as it is."""
        self._known("user/update", "id", id)
        given = {"display_name": name, "short_description": description, "expertise": expertise}
        data = {field: value for field, value in given.items() if value is not None}
        if not data:
            raise CommandRejected(
                "user/update", "nothing is to be changed", remedy="give a name, a description or expertise"
            )
        return await self._write("user/update", id, data)

    @command("user/freeze")
    async def freeze(self, *, id: str, reason: str = "frozen by an operator") -> dict[str, Any]:
        """Let a user hear and answer nothing until it is thawed; what it has not answered stays unread."""
        self._known("user/freeze", "id", id)
        if not reason:
            raise CommandRejected("user/freeze", "the reason is empty", parameter="reason", remedy="say why")
        record = await self._write("user/freeze", id, {"frozen": reason})
        await self._follow_frozen(record)
        return record

    @command("user/thaw")
    async def thaw(self, *, id: str) -> dict[str, Any]:
        """Let a frozen user take part again; it catches up with what it has missed."""
        self._known("user/thaw", "id", id)
        self._crashes.pop(id, None)
        record = await self._write("user/thaw", id, {"frozen": ""})
        await self._follow_frozen(record)
        return record

    async def _write(self, asked: str, user_id: str, data: dict[str, Any]) -> dict[str, Any]:
        try:
            record: dict[str, Any] = await self._bus.commands.execute(
                "data/update", collection=UserEntity.collection, id=user_id, data=data
            )
        except CommandRejected as error:
            raise CommandRejected(asked, error.reason, remedy=error.remedy) from None
        return record

    @command("user/delete")
    async def delete(self, *, id: str) -> bool:
        """Delete a user; a persona has stopped when this answers. Its folder stays."""
        self._known("user/delete", "id", id)
        deleted: bool = await self._bus.commands.execute(
            "data/delete", collection=UserEntity.collection, id=id
        )
        await self._stop(id)
        return deleted

    @command("memory/learn")
    async def learn(self, *, user: str, name: str, text: str) -> dict[str, int]:
        """Learn a document, cut into passages; what is known already is not learned twice."""
        self._known("memory/learn", "user", user)
        try:
            # A large document takes seconds to cut, and this loop has others to serve.
            passages = await trio.to_thread.run_sync(split, text.encode("utf-8", "replace"), name)
        except CommandRejected as error:
            raise CommandRejected(
                "memory/learn", error.reason, parameter="text", remedy=error.remedy
            ) from None
        learned = 0
        for begin in range(0, len(passages), PAGE):
            page = passages[begin : begin + PAGE]
            known = await self._bus.commands.execute(
                "data/list",
                collection=MemoryEntity.collection,
                filter={"id": {"$in": [passage.id for passage in page]}},
                limit=PAGE,
                user_id=user,
            )
            there = {record["id"] for record in known["items"]}
            new = [passage for passage in page if passage.id not in there]
            operations = [
                {
                    "op": "create",
                    "collection": MemoryEntity.collection,
                    "id": passage.id,
                    "data": {
                        "kind": "passage",
                        "body": passage.text,
                        "source": passage.source,
                        "heading": passage.heading,
                    },
                }
                for passage in new
            ]
            if operations:
                await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
            learned += len(new)
        return {"learned": learned, "known": len(passages) - learned}

    @command("memory/recall")
    async def recall(self, *, user: str, query: str, limit: int = 5) -> dict[str, Any]:
        """The passages of a user's memory that fit a query best."""
        self._known("memory/recall", "user", user)
        found: dict[str, Any] = await self._bus.commands.execute(
            "data/search",
            collection=MemoryEntity.collection,
            query=" ".join(terms(query)) or query,
            limit=limit,
            user_id=user,
        )
        return found

    # Events, in the order of their commits.

    @on("data:users:*", "data:rooms:*", "data:chat_messages:created")
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
        if collection == ChatMessageEntity.collection:
            self._tell(record)
        elif collection == RoomEntity.collection:
            await self._follow_room(record, verb)
        elif verb == "created":
            await self._try_to_start(record)
        elif verb == "deleted":
            await self._stop(record["id"])
        else:
            await self._follow_frozen(record)

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

    async def _follow_frozen(self, record: dict[str, Any]) -> None:
        """Take over a user's record, and freeze or thaw it as that says; once, whoever comes first."""
        user_id = record["id"]
        aside = self._aside.get(user_id)
        user = aside.user if aside is not None else self._users.get(user_id)
        if user is None:
            return
        user.entity = msgspec.convert(record, type=UserEntity)
        if user.entity.frozen:
            # Again where somebody else is at it: whoever asks wants it to have stopped.
            await self._let_go(user, user.entity.frozen, state="frozen")
        elif aside is not None and aside.state == "frozen":
            await self._revive(user_id)

    async def _follow_room(self, record: dict[str, Any], verb: str) -> None:
        if verb == "deleted":
            self._rooms.pop(record["id"], None)
            return
        self._rooms[record["id"]] = _room(record)
        await self._catch_up(record)

    async def _reread(self) -> None:
        async for record in self._records(UserEntity.collection):
            await self._try_to_start(record)
        async for record in self._records(RoomEntity.collection):
            await self._follow_room(record, "updated")

    async def _start_over(self) -> None:
        """Take up who there is, and is no more, from a shared database that was put back."""
        there = {record["id"] async for record in self._records(UserEntity.collection)}
        for user_id in {*self._users, *self._aside} - there:
            await self._stop(user_id)
        self._rooms.clear()
        await self._reread()

    def _tell(self, message: dict[str, Any]) -> None:
        room = self._rooms.get(message["room_id"])
        if room is None:
            return
        for member in room.member_ids:
            user = self._users.get(member)
            if isinstance(user, PersonaUser):
                user.hear(message, room)

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
        async for message in self._records(ChatMessageEntity.collection, since):
            self._tell(message)

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
        await self._let_go(user, reason, state="degraded")

    async def _let_go(
        self, user: BaseUser, reason: str, *, state: Literal["degraded", "failed", "frozen"]
    ) -> None:
        # Twice: it must be known all the time, and be known as this at the end, whoever
        # has brought it to life meanwhile.
        self._aside[user.id] = _Aside(user, state, reason)
        await self._halt(user.id)
        self._aside[user.id] = _Aside(user, state, reason)

    async def _revive(self, user_id: str) -> None:
        """Start a user anew, from what its database has now."""
        record = await self._bus.commands.execute("data/read", collection=UserEntity.collection, id=user_id)
        if record is None:
            await self._stop(user_id)
            return
        user = self._users.get(user_id)
        if user is not None:
            await self._let_go(user, "its database was replaced, and it starts anew", state="degraded")
        await self._try_to_start(record)
        async for room in self._records(RoomEntity.collection):
            if user_id in room["member_ids"]:
                await self._catch_up(room)

    async def _start(self, record: dict[str, Any]) -> None:
        """Bring a user to life, once, however many ask for it at the same time."""
        user_id = record["id"]
        if user_id in self._starting:
            await self._starting[user_id].wait()
        if user_id in self._users:
            return
        done = self._starting[user_id] = trio.Event()
        try:
            user = self._make(record)
            if user.entity.frozen:
                self._aside[user_id] = _Aside(user, "frozen", user.entity.frozen)
                return
            await user.initialize()
            self._users[user_id] = user
            self._aside.pop(user_id, None)
        finally:
            del self._starting[user_id]
            done.set()

    def _make(self, record: dict[str, Any]) -> BaseUser:
        if record["type"] != "persona":
            return HumanUser(record, bus=self._bus, directories=self._directories)
        return PersonaUser(
            record,
            bus=self._bus,
            directories=self._directories,
            responder=self._responder,
            wall_clock=self._wall_clock,
            activate=self._wake,
        )

    async def _stop(self, user_id: str) -> None:
        await self._halt(user_id)
        self._aside.pop(user_id, None)
        self._crashes.pop(user_id, None)

    async def _halt(self, user_id: str) -> None:
        restart = self._restarts.pop(user_id, None)
        if restart is not None:
            restart.cancel()
        if user_id in self._starting:
            await self._starting[user_id].wait()
        user = self._users.pop(user_id, None)
        if isinstance(user, PersonaUser):
            user.stop()
        life = self._lives.get(user_id)
        if life is not None:
            life.scope.cancel()
            await life.ended.wait()

    def _activate(self, persona: PersonaUser) -> None:
        """Give a persona a task, unless it has one; at the level that it has now."""
        if self._users.get(persona.id, persona) is not persona:
            return
        life = self._lives.get(persona.id)
        if life is not None:
            if life.context.base_level != persona.level:
                life.context.rebase(persona.level)
            return
        context = self._bus.scheduler.context(f"persona {persona.id}", level=persona.level)
        life = self._lives[persona.id] = _Life(context)
        with context:
            self._nursery.start_soon(self._live, persona, life, name=f"persona {persona.id}")

    async def _live(self, persona: PersonaUser, life: _Life) -> None:
        try:
            failure = await self._serve(persona, life)
            if failure is not None and self._users.get(persona.id) is persona:
                await self._follow_failure(persona, failure)
        except RtosError:
            log.exception("persona %s failed, and could not be put aside", persona.id)
        finally:
            self._bus.scheduler.release(life.context)

    async def _serve(self, persona: PersonaUser, life: _Life) -> Exception | None:
        try:
            with life.scope:
                await persona.attend_all()
        except Exception as error:
            # One persona's fault is not the others'. What it has not finished is
            # still unread, and comes again when it starts again.
            log.exception("persona %s failed", persona.id)
            return error
        finally:
            del self._lives[persona.id]
            life.ended.set()
        return None

    async def _follow_failure(self, persona: PersonaUser, failure: Exception) -> None:
        """Start a persona again after a while, or freeze it with a report when that is of no use."""
        self._bus.events.emit("persona:failed", {"persona_id": persona.id})
        delay = self._crashes.setdefault(persona.id, CrashLoop()).note(trio.current_time())
        what = f"{type(failure).__name__}: {failure}"
        if delay == math.inf:
            reason = f"failed {MOST} times within {WINDOW:.0f} s, at last with {what}"[:MAX_LINE]
            log.error("persona %s is frozen: it %s", persona.id, reason)
            await self._follow_frozen(await self._write("user/freeze", persona.id, {"frozen": reason}))
            self._bus.events.emit("persona:frozen", {"persona_id": persona.id, "reason": reason})
            return
        await self._let_go(persona, f"failed with {what}; starts again in {delay:g} s", state="failed")
        at = trio.current_time() + delay
        begin = partial(self._begin_restart, persona.id)
        self._restarts[persona.id] = self._bus.scheduler.add_timer(at, begin)

    def _begin_restart(self, user_id: str) -> None:
        self._restarts.pop(user_id, None)
        context = self._bus.scheduler.context(f"start {user_id}", level=self.level)
        with context:
            self._nursery.start_soon(self._restart, user_id, context)

    async def _restart(self, user_id: str, context: SchedulingContext) -> None:
        try:
            await self._revive(user_id)
        except StoreError as error:
            log.warning("persona %s could not be started again: %s", user_id, error)
        finally:
            self._bus.scheduler.release(context)

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

    def _records(self, collection: str, wanted: dict[str, Any] | None = None) -> _Records:
        return _Records(self._bus, collection, wanted)

    def _known(self, asked: str, parameter: str, user_id: str) -> BaseUser:
        user = self._users.get(user_id)
        if user is None and user_id in self._aside:
            user = self._aside[user_id].user
        if user is None:
            raise CommandRejected(
                asked,
                f"there is no user {user_id!r}",
                parameter=parameter,
                remedy="`rtos user/list` shows who there is",
            )
        return user


def _room(record: dict[str, Any]) -> RoomEntity:
    return msgspec.convert(record, type=RoomEntity)
