"""The command that forgets: a part of the UserDaemon, beside the others of memory.

Law: what is forgotten is nowhere any more, neither in what is recalled nor in the
archive nor in a summary. What else a summary was made of is as it was before.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from rtos.bus import command
from rtos.errors import CommandRejected
from rtos.user import stored
from rtos.user.consolidation import dissolution
from rtos.user.entities import ArchivedMemoryEntity, MemoryEntity
from rtos.user.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtos.bus import Bus
    from rtos.user.base import BaseUser

KEPT: Final = MemoryEntity.collection
ARCHIVE: Final = ArchivedMemoryEntity.collection


class Forgetting:
    """``memory/forget``.

    Attributes:
      _bus: where storage is reached.
      _known: a user by the command that asks, its parameter and the id; rejects who there is not.
    """

    _bus: Bus
    _known: Callable[[str, str, str], BaseUser]

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
        gone: set[str] = set()
        # In this order, as what is archived meanwhile goes from the first to the second.
        for collection, field in ((KEPT, "source"), (ARCHIVE, "memory.source")):
            wanted = {"id": id} if source is None else {field: {"$contains": source}}
            async with aclosing(stored.pages(self._bus, user, wanted, collection=collection)) as pages:
                async for page in pages:
                    meant = [one for one in page if source is None or _is_from(one, source)]
                    await (self._forget if collection == KEPT else self._forget_archived)(user, meant)
                    gone.update(record["id"] for record in meant)
        return {"forgotten": len(gone)}

    async def _forget(self, user: str, records: Sequence[dict[str, Any]]) -> None:
        """Forget memories, and what they have taken the place of."""
        await stored.delete(self._bus, user, KEPT, [record["id"] for record in records])
        replaced = [id for record in records for id in Memory.of(record).entity.supersedes]
        while replaced:
            older = await stored.by_id(self._bus, user, ARCHIVE, replaced)
            await stored.delete(self._bus, user, ARCHIVE, [one["id"] for one in older])
            replaced = [id for one in older for id in one["memory"]["supersedes"]]

    async def _forget_archived(self, user: str, records: Sequence[dict[str, Any]]) -> None:
        """Forget what is recalled no more; a summary that holds some of it gives way to the rest."""
        ids = [record["id"] for record in records]
        for summary in {one["superseded_by"] for one in records if one["reason"] == "merged"}:
            while not await self._dissolve(user, summary, set(ids)):
                # It was of use meanwhile, and is looked at again.
                continue
        await stored.delete(self._bus, user, ARCHIVE, ids)

    async def _dissolve(self, user: str, summary_id: str, forgotten: set[str]) -> bool:
        """Put what a summary was made of in its place, but for what is forgotten; whether that is done."""
        found = await stored.by_id(self._bus, user, KEPT, [summary_id])
        if not found:
            # It is itself recalled no more.
            await stored.delete(self._bus, user, ARCHIVE, [summary_id])
            return True
        summary = Memory.of(found[0])
        members = await stored.by_id(self._bus, user, ARCHIVE, summary.entity.supersedes)
        kept = [one for one in members if one["id"] not in forgotten]
        return await stored.all_or_none(self._bus, user, dissolution(summary, kept))


def _is_from(record: dict[str, Any], source: str) -> bool:
    """Whether a memory cites a source: as a whole, or with the lines of the document."""
    cited: str = record.get("memory", record)["source"]
    return cited == source or cited.startswith((f"{source}, line ", f"{source}, lines "))
