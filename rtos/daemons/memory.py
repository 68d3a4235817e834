"""The commands that remember and forget: a part of the UserDaemon, which owns the users.

Law: a user's memories are in that user's database and nowhere else. What is answered
here has been stored, or is gone; a page of a document is learned as a whole or not
at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from rtos.bus import command
from rtos.errors import CommandRejected, Conflict, NotFound
from rtos.user.entities import ArchivedMemoryEntity, MemoryEntity
from rtos.user.memory import Memory, correction, creation, dated, reinforcement, timestamp_of
from rtos.user.passages import split
from rtos.user.recall import recall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from rtos.bus import Bus
    from rtos.user.base import BaseUser
    from rtos.user.passages import Passage

PAGE: Final = 500


class Memories:
    """``memory/*``.

    Attributes:
      _bus: where storage is reached.
      _wall_clock: seconds since the epoch.
      _known: a user by the command that asks, its parameter and the id; rejects who there is not.
    """

    _bus: Bus
    _wall_clock: Callable[[], float]
    _known: Callable[[str, str, str], BaseUser]

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
            learned += await self._learn_page(user, passages[begin : begin + PAGE])
        return {"learned": learned, "known": len(passages) - learned}

    @command("memory/recall")
    async def recall(self, *, user: str, query: str, limit: int = 5) -> dict[str, Any]:
        """Recall the memories that fit a query best and are strong enough to come to mind."""
        self._known("memory/recall", "user", user)
        items = await recall(self._bus, user, query, limit=limit, now=self._wall_clock())
        return {"items": items, "count": len(items)}

    @command("memory/use")
    async def use(self, *, user: str, ids: list[str]) -> dict[str, int]:
        """Note that memories were of use, so that they fade more slowly; says how many there are."""
        self._known("memory/use", "user", user)
        if len(ids) > PAGE:
            raise CommandRejected(
                "memory/use", f"{len(ids)} ids are too many", parameter="ids", remedy=f"use at most {PAGE}"
            )
        return {"used": await self._use(user, list(dict.fromkeys(ids)))}

    @command("memory/correct")
    async def correct(
        self,
        *,
        user: str,
        id: str,
        text: str,
        said_by: str | None = None,
        message_id: str | None = None,
        room_id: str | None = None,
    ) -> dict[str, Any]:
        """Correct a memory: the new text takes its place, and what was there is kept in the archive."""
        self._known("memory/correct", "user", user)
        record = await self._bus.commands.execute(
            "data/read", collection=MemoryEntity.collection, id=id, user_id=user
        )
        if record is None:
            raise CommandRejected(
                "memory/correct",
                f"there is no memory {id!r}",
                parameter="id",
                remedy="recall it to see its id",
            )
        said = {"said_by": said_by, "message_id": message_id, "room_id": room_id}
        operations = correction(Memory.of(record), text, self._wall_clock(), **said)
        written = await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
        made: dict[str, Any] = written[0]
        return made

    @command("memory/forget")
    async def forget(self, *, user: str, id: str | None = None, source: str | None = None) -> dict[str, int]:
        """Forget a memory, or all that come from a document or another source; says how many there were."""
        self._known("memory/forget", "user", user)
        if (id is None) == (source is None) or source == "":
            raise CommandRejected(
                "memory/forget",
                "takes either an id or a source",
                parameter="id",
                remedy="give one of the two",
            )
        memories, archive = MemoryEntity.collection, ArchivedMemoryEntity.collection
        forgotten = await self._forget(user, memories, _meant(id, "source", source), source)
        # What was superseded is forgotten with the rest, and is not counted: it was recalled no more.
        await self._forget(user, archive, _meant(id, "memory.source", source), source)
        return {"forgotten": forgotten}

    async def _forget(self, user: str, collection: str, wanted: dict[str, Any], source: str | None) -> int:
        forgotten = 0
        async for page in self._pages(user, collection, wanted):
            ids = [record["id"] for record in page if source is None or _is_from(record, source)]
            operations = [{"op": "delete", "collection": collection, "id": id} for id in ids]
            if operations:
                await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
            forgotten += len(ids)
        return forgotten

    async def _use(self, user: str, ids: list[str]) -> int:
        while True:
            found = [page async for page in self._pages(user, MemoryEntity.collection, {"id": {"$in": ids}})]
            now = self._wall_clock()
            operations = [reinforcement(Memory.of(record), now) for page in found for record in page]
            if not operations:
                return 0
            try:
                await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
            except (Conflict, NotFound):
                # One of them was changed or forgotten meanwhile, and none has been noted.
                continue
            return len(operations)

    async def _learn_page(self, user: str, passages: Sequence[Passage]) -> int:
        """Learn what of it is not known; how many that are."""
        ids = [passage.id for passage in passages]
        there: set[str] = set()
        # What was corrected is known too: to learn the document again does not make it right.
        for collection in (MemoryEntity.collection, ArchivedMemoryEntity.collection):
            async for page in self._pages(user, collection, {"id": {"$in": ids}}):
                there.update(record["id"] for record in page)
        now = timestamp_of(self._wall_clock())
        operations = [
            creation(passage.id, _learned(passage, now)) for passage in passages if passage.id not in there
        ]
        if operations:
            await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
        return len(operations)

    async def _pages(
        self, user: str, collection: str, wanted: dict[str, Any]
    ) -> AsyncIterator[list[dict[str, Any]]]:
        """All records that are wanted, page by page; what comes meanwhile disturbs nothing."""
        cursor: str | None = None
        while True:
            found = await self._bus.commands.execute(
                "data/list", collection=collection, filter=wanted, limit=PAGE, cursor=cursor, user_id=user
            )
            yield found["items"]
            cursor = found["next_cursor"]
            if cursor is None:
                return


def _meant(id: str | None, field: str, source: str | None) -> dict[str, Any]:
    return {"id": id} if source is None else {field: {"$contains": source}}


def _is_from(record: dict[str, Any], source: str) -> bool:
    """Whether a memory cites a source: as a whole, or with the lines of the document."""
    cited: str = record.get("memory", record)["source"]
    return cited == source or cited.startswith((f"{source}, line ", f"{source}, lines "))


def _learned(passage: Passage, now: str) -> MemoryEntity:
    entity = MemoryEntity(kind="passage", body=passage.text, source=passage.source, heading=passage.heading)
    return dated(entity, now)
