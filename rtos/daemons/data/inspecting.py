"""The commands that look at the store itself."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from rtos.bus import command
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.plain import plain
from rtos.daemons.data.query import Query, parse_filter, parse_sort
from rtos.daemons.data.shape import shape_of


class Inspecting(CommandGroup):
    """``data/explain``, ``schema`` and ``stats``."""

    @command("data/explain")
    async def explain(
        self,
        *,
        collection: str,
        filter: dict[str, Any] | None = None,
        sort: list[str] | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """Explain how a list would be made: its SQL, its plan, and what is left to do after it."""
        asked = "data/explain"
        name = self._requests.known(asked, collection).name
        query = Query(where=parse_filter(asked, filter), sort=parse_sort(asked, sort))
        told = await self._backend.explain(user_id, name, query)
        return dict(plain(msgspec.to_builtins(told)))

    @command("data/schema")
    async def schema(self, *, collection: str | None = None) -> dict[str, Any]:
        """Describe the fields of one collection, or of all."""
        await trio.lowlevel.checkpoint()
        if collection is not None:
            wanted = [self._requests.known("data/schema", collection)]
        else:
            wanted = [self._requests.collections[name] for name in sorted(self._requests.collections)]
        return {"items": [shape_of(each) for each in wanted], "count": len(wanted)}

    @command("data/stats")
    async def stats(self, *, user_id: str | None = None) -> dict[str, Any]:
        """Count the records and the bytes of one database."""
        return dict(plain(msgspec.to_builtins(await self._backend.figures(user_id))))
