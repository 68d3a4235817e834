"""The commands that remember and forget: a part of the UserDaemon, which owns the users.

Law: a user's memories are in that user's database and nowhere else. What is answered
here has been stored, or is gone; a page of a document is learned as a whole or not
at all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from rtos.bus import command
from rtos.errors import CommandRejected
from rtos.user.entities import MemoryEntity
from rtos.user.passages import split
from rtos.user.words import terms

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
      _known: a user by the command that asks, its parameter and the id; rejects who there is not.
    """

    _bus: Bus
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
        forgotten = 0
        collection = MemoryEntity.collection
        async for page in self._pages(user, collection, _meant(id, source)):
            ids = [record["id"] for record in page if source is None or _is_from(record["source"], source)]
            operations = [{"op": "delete", "collection": collection, "id": id} for id in ids]
            if operations:
                await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
            forgotten += len(ids)
        return {"forgotten": forgotten}

    async def _learn_page(self, user: str, passages: Sequence[Passage]) -> int:
        """Learn what of it is not known; how many that are."""
        ids = [passage.id for passage in passages]
        there: set[str] = set()
        async for page in self._pages(user, MemoryEntity.collection, {"id": {"$in": ids}}):
            there.update(record["id"] for record in page)
        operations = [_learned(passage) for passage in passages if passage.id not in there]
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


def _learned(passage: Passage) -> dict[str, Any]:
    data = {
        "kind": "passage",
        "body": passage.text,
        "source": passage.source,
        "heading": passage.heading,
    }
    return {"op": "create", "collection": MemoryEntity.collection, "id": passage.id, "data": data}


def _meant(id: str | None, source: str | None) -> dict[str, Any]:
    return {"id": id} if source is None else {"source": {"$contains": source}}


def _is_from(cited: str, source: str) -> bool:
    """Whether a memory cites a source: as a whole, or with the lines of the document."""
    return cited == source or cited.startswith((f"{source}, line ", f"{source}, lines "))
