"""The commands of memory: a part of the UserDaemon, which owns the users.

Law: a user's memories are in that user's database and nowhere else. What is answered
here has been stored; a page of a document is learned as a whole or not at all.
"""

from __future__ import annotations

import math
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.bus import command
from rtos.daemons.forgetting import ARCHIVE, KEPT, Forgetting
from rtos.daemons.rejecting import rejecting
from rtos.errors import CommandRejected
from rtos.user import stored
from rtos.user.consolidation import SETTLED, Topics, merger
from rtos.user.embedding import embeddings
from rtos.user.entities import MemoryEntity
from rtos.user.memory import (
    Memory,
    archival,
    correction,
    creation,
    dated,
    next_fading_at,
    reinforcement,
    timestamp_of,
    unchanged,
)
from rtos.user.passages import split
from rtos.user.recall import recall
from rtos.user.stored import PAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtos.bus import Bus
    from rtos.user.embedding import Embedder
    from rtos.user.passages import Passage

SUMMARIES: Final = 2
"""How many summaries a consolidation makes at once: to check such a batch takes the loop a millisecond."""
LOOKED_AT: Final = 300
"""How many exchanges a consolidation looks at: the last ones that are over."""
EMBEDDED: Final = 100
"""How many memories without a vector a consolidation gives one."""
FADING: Final = 50
"""How many memories are set aside at once, for the same reason."""


class Memories(Forgetting):
    """``memory/*``.

    Attributes:
      _wall_clock: seconds since the epoch.
      _embedder: who makes vectors of memories; ``None`` for recall by words alone.
    """

    _wall_clock: Callable[[], float]
    _embedder: Embedder | None

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
        items = await recall(
            self._bus, user, query, limit=limit, now=self._wall_clock(), embedder=self._embedder
        )
        return {"items": items, "count": len(items)}

    @command("memory/use")
    async def use(self, *, user: str, ids: list[str]) -> dict[str, int]:
        """Note that memories were of use, so that they fade more slowly; says how many there are."""
        self._known("memory/use", "user", user)
        if len(ids) > PAGE:
            raise CommandRejected(
                "memory/use", f"{len(ids)} ids are too many", parameter="ids", remedy=f"use at most {PAGE}"
            )
        while True:
            found = await stored.by_id(self._bus, user, KEPT, ids)
            now = self._wall_clock()
            operations = [reinforcement(Memory.of(record), now) for record in found]
            # Otherwise one of them was changed or forgotten meanwhile, and none has been noted.
            if not operations or await stored.all_or_none(self._bus, user, operations):
                return {"used": len(operations)}

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
        found = await stored.by_id(self._bus, user, KEPT, [id])
        if not found:
            remedy = "recall it to see its id"
            raise CommandRejected(
                "memory/correct", f"there is no memory {id!r}", parameter="id", remedy=remedy
            )
        said = {"said_by": said_by, "message_id": message_id, "room_id": room_id}
        with rejecting("memory/correct", "text"):
            operations = correction(Memory.of(found[0]), text, self._wall_clock(), **said)
        written = await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
        made: dict[str, Any] = written[0]
        return made

    @command("memory/consolidate")
    async def consolidate(self, *, user: str) -> dict[str, Any]:
        """Set aside what has faded, and merge exchanges about one thing; says when more will have faded."""
        self._known("memory/consolidate", "user", user)
        now = self._wall_clock()
        faded, following = await fade(self._bus, user, now)
        done = await consolidate(self._bus, user, now)
        embedded = 0 if self._embedder is None else await embed(self._bus, user, self._embedder)
        return {
            "faded": faded,
            "embedded": embedded,
            "merged": done.merged,
            "summaries": done.summaries,
            "next_fading_at": timestamp_of(following) if following < math.inf else None,
        }

    async def _learn_page(self, user: str, passages: Sequence[Passage]) -> int:
        """Learn what of it is not known; how many that are."""
        ids = [passage.id for passage in passages]
        # What was corrected is known too: to learn the document again does not make it right.
        there = [await stored.by_id(self._bus, user, collection, ids) for collection in (KEPT, ARCHIVE)]
        known = {record["id"] for records in there for record in records}
        now = timestamp_of(self._wall_clock())
        new = [one for one in passages if one.id not in known]
        with rejecting("memory/learn", "name"):
            learned = [_learned(one, now) for one in new]
        if self._embedder is not None and learned:
            vectors = await trio.to_thread.run_sync(embeddings, self._embedder, list(map(_text_of, learned)))
            learned = [
                attrs.evolve(entity, **attrs.asdict(vector))
                for entity, vector in zip(learned, vectors, strict=True)
            ]
        operations = [creation(one.id, entity) for one, entity in zip(new, learned, strict=True)]
        if operations:
            await self._bus.commands.execute("data/batch", operations=operations, user_id=user)
        return len(operations)


def _learned(passage: Passage, now: str) -> MemoryEntity:
    entity = MemoryEntity(kind="passage", body=passage.text, source=passage.source, heading=passage.heading)
    return dated(entity, now)


def _text_of(entity: MemoryEntity) -> str:
    """What of a memory an embedder is to look at."""
    return f"{entity.heading}\n{entity.body}"


async def embed(bus: Bus, user_id: str, embedder: Embedder) -> int:
    """Give vectors to memories that have none of this embedder, up to ``EMBEDDED``.

    Returns:
      How many; none, too, where one was changed or forgotten meanwhile.

    Checkpoints. It may be cancelled at any point: all that it writes is one batch at its end.
    """
    theirs = {"signature": {"$gte": f"{embedder.name}:", "$lt": f"{embedder.name};"}}
    found = await bus.commands.execute(
        "data/list", collection=KEPT, filter={"$not": theirs}, limit=EMBEDDED, user_id=user_id
    )
    memories = [Memory.of(record) for record in found["items"]]
    if not memories:
        return 0
    texts = [_text_of(memory.entity) for memory in memories]
    vectors = await trio.to_thread.run_sync(embeddings, embedder, texts)
    operations = [
        {**unchanged(memory), "data": attrs.asdict(vector)}
        for memory, vector in zip(memories, vectors, strict=True)
    ]
    return len(operations) if await stored.all_or_none(bus, user_id, operations) else 0


@attrs.frozen
class Consolidated:
    """What a consolidation has done."""

    merged: int = 0
    """Exchanges that went into summaries."""
    summaries: int = 0


async def consolidate(bus: Bus, user_id: str, now: float) -> Consolidated:
    """Merge exchanges about one thing into summaries, up to ``SUMMARIES``.

    For when a persona is rested and has nothing else to do; again, while it merges any. What
    is older than the last ``LOOKED_AT`` that are in no summary is left to fade.

    Args:
      bus: where storage is reached.
      user_id: whose memories.
      now: seconds since the epoch.

    Returns:
      What was merged: nothing, too, where a memory was changed or forgotten meanwhile.

    A checkpoint after every memory, so whoever is more urgent goes first. It may be
    cancelled at any point and loses nothing: all that it writes is one batch at its end.
    """
    newest = await bus.commands.execute(
        "data/list",
        collection=KEPT,
        filter={"kind": "exchange", "at": {"$lte": timestamp_of(now - SETTLED)}},
        sort=["-at"],
        limit=LOOKED_AT,
        user_id=user_id,
    )
    topics = Topics(now)
    for record in reversed(newest["items"]):
        topics.add(Memory.of(record))
        await trio.lowlevel.checkpoint()
    groups = topics.groups()[:SUMMARIES]
    operations = [operation for group in groups for operation in merger(group, now)]
    if not operations or not await stored.all_or_none(bus, user_id, operations):
        return Consolidated()
    return Consolidated(merged=sum(map(len, groups)), summaries=len(groups))


async def fade(bus: Bus, user_id: str, now: float) -> tuple[int, float]:
    """Move what has faded to the archive, and say when to come again.

    Args:
      bus: where storage is reached.
      user_id: whose memories.
      now: seconds since the epoch.

    Returns:
      How many have faded, and the instant at which the next one will have, in seconds since
      the epoch: where the one timer goes. ``math.inf`` if there is none.

    Checkpoints. It may be cancelled at any point: each page is moved as a whole or not at all.
    """
    faded = 0
    due = {"fades_at": {"$lte": timestamp_of(now)}}
    async with aclosing(stored.pages(bus, user_id, due, limit=FADING)) as pages:
        async for page in pages:
            operations = []
            for record in page:
                operations += archival(Memory.of(record), "faded", now)
                await trio.lowlevel.checkpoint()
            if operations and await stored.all_or_none(bus, user_id, operations):
                faded += len(page)
    found = await bus.commands.execute(
        "data/list",
        collection=KEPT,
        filter={"fades_at": {"$gt": timestamp_of(now)}},
        sort=["fades_at"],
        limit=1,
        user_id=user_id,
    )
    return faded, next_fading_at(map(Memory.of, found["items"]))
