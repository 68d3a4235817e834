"""The commands that empty collections, and that tidy a file up."""

from __future__ import annotations

from typing import Any, Final

from rtos.bus import command
from rtos.daemons.data.collection import KV
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.query import Query, parse_sort

PORTION: Final = 500
"""How many records go in one transaction."""


class Upkeep(CommandGroup):
    """``data/truncate``, ``clear`` and ``vacuum``."""

    @command("data/truncate")
    async def truncate(self, *, collection: str, user_id: str | None = None) -> dict[str, Any]:
        """Delete all records of a collection.

        In portions, each whole, logged and told as deletions; then the end of it is told.
        """
        known = self._requests.known("data/truncate", collection)
        return {"deleted": await self._empty(known.name, user_id)}

    @command("data/clear")
    async def clear(self, *, user_id: str | None = None) -> dict[str, Any]:
        """Delete all records of a database, its keys and values too."""
        deleted = {name: await self._empty(name, user_id) for name in sorted(self._requests.collections)}
        self._bus.events.emit("data:all:cleared", {"user_id": user_id, "deleted": sum(deleted.values())})
        return {"deleted": deleted}

    @command("data/vacuum")
    async def vacuum(self, *, user_id: str | None = None) -> dict[str, Any]:
        """Give what is free in a database's file back to the disk; tells the bytes before and after."""
        before, after = await self._backend.vacuum(user_id)
        return {"before": before, "after": after}

    async def _empty(self, collection: str, user_id: str | None) -> int:
        deleted = 0
        query = Query(sort=parse_sort("data/truncate", ["created_at", "id"]), limit=PORTION)
        while ids := await self._backend.find_ids(user_id, collection, query):
            operations = [Operation(op="delete", collection=collection, id=id) for id in ids]
            changes = await self._backend.apply(user_id, operations)
            deleted += sum(change.record is not None for change in changes)
        if deleted and collection != KV:
            payload = {"user_id": user_id, "deleted": deleted}
            self._bus.events.emit(f"data:{collection}:truncated", payload)
        return deleted
