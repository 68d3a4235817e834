"""The commands that read."""

from __future__ import annotations

from typing import Any

import trio

from rtos.bus import command
from rtos.daemons.data.collection import KV
from rtos.daemons.data.cursor import read_cursor, write_cursor
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.operation import Record
from rtos.daemons.data.projection import parse_fields, projected
from rtos.daemons.data.query import Query, all_of, parse_filter, parse_sort, position_of
from rtos.daemons.data.requests import checked_id, checked_limit
from rtos.daemons.data.timerange import parse_time_range
from rtos.daemons.data.vectors import Near
from rtos.errors import CommandRejected


class Reading(CommandGroup):
    """``data/read``, ``list``, ``count``, ``search`` and ``collections``."""

    @command("data/read")
    async def read(
        self,
        *,
        key: str | None = None,
        collection: str | None = None,
        id: str | None = None,
        user_id: str | None = None,
    ) -> Record | None:
        """Read what is stored under a key, or one record of a collection."""
        by_id = collection is not None and id is not None
        if (key is not None) == by_id or (key is not None and (collection, id) != (None, None)):
            raise CommandRejected(
                "data/read", "takes either a key, or a collection and an id", remedy="give one of the two"
            )
        if key is not None:
            return await self._backend.get(user_id, KV, checked_id("data/read", "key", key))
        known = self._requests.known("data/read", collection)
        return await self._backend.get(user_id, known.name, checked_id("data/read", "id", id))

    @command("data/list")
    async def list_records(
        self,
        *,
        collection: str,
        filter: dict[str, Any] | None = None,
        sort: list[str] | None = None,
        limit: int = 100,
        cursor: str | None = None,
        fields: list[str] | None = None,
        time_range: dict[str, Any] | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """List the records that satisfy a filter, in order, from where a cursor stands."""
        name = self._requests.known("data/list", collection).name
        keys, limit = parse_sort("data/list", sort), checked_limit("data/list", limit)
        paths = parse_fields("data/list", fields)
        where = all_of(parse_filter("data/list", filter), parse_time_range("data/list", time_range))
        after = None if cursor is None else read_cursor("data/list", cursor, keys)
        # One more than is wanted tells whether there is another page.
        query = Query(where=where, sort=keys, limit=limit + 1, after=after)
        found = await self._backend.find(user_id, name, query)
        items = found[:limit]
        following = write_cursor(position_of(items[-1], keys), keys) if len(found) > limit else None
        return {
            "items": [projected(record, paths) for record in items],
            "count": len(items),
            "next_cursor": following,
        }

    @command("data/count")
    async def count(
        self,
        *,
        collection: str,
        filter: dict[str, Any] | None = None,
        time_range: dict[str, Any] | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """Count the records that satisfy a filter."""
        name = self._requests.known("data/count", collection).name
        where = all_of(parse_filter("data/count", filter), parse_time_range("data/count", time_range))
        return {"count": await self._backend.count(user_id, name, where)}

    @command("data/search")
    async def search(
        self, *, collection: str, query: str, limit: int = 10, user_id: str | None = None
    ) -> dict[str, Any]:
        """Find the records that fit a text best."""
        known = self._requests.known("data/search", collection)
        if not known.search:
            raise CommandRejected(
                "data/search",
                f"{collection!r} has no text index",
                parameter="collection",
                remedy="use data/list",
            )
        limit = checked_limit("data/search", limit)
        items = await self._backend.search(user_id, known.name, query, limit)
        return {"items": items, "count": len(items)}

    @command("data/nearest")
    async def nearest(
        self, *, collection: str, signature: str, vector: str, limit: int = 10, user_id: str | None = None
    ) -> dict[str, Any]:
        """Find the records whose vectors are nearest to one."""
        known = self._requests.known("data/nearest", collection)
        if known.near is None:
            raise CommandRejected(
                "data/nearest",
                f"{collection!r} has no vectors",
                parameter="collection",
                remedy="use data/search",
            )
        limit = checked_limit("data/nearest", limit)
        try:
            wanted = Near(signature, vector)
        except ValueError as error:
            reason, _, remedy = str(error).partition("; ")
            raise CommandRejected(
                "data/nearest", reason, parameter=reason.split()[0], remedy=remedy
            ) from None
        items = await self._backend.nearest(user_id, known.name, wanted, limit)
        return {"items": items, "count": len(items)}

    @command("data/collections")
    async def collections(self) -> dict[str, Any]:
        """List the collections."""
        await trio.lowlevel.checkpoint()
        return {"items": sorted(self._requests.collections), "count": len(self._requests.collections)}
