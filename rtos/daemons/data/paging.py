"""The commands that read one answer in pages.

What matches is settled when a query is opened; each page then reads its records
as they are by then. So no page repeats or skips a record, whatever is written
meanwhile, and what was deleted meanwhile is missing, and counted.
"""

from __future__ import annotations

import uuid
from typing import Any

import trio

from rtos.bus import command
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.open_queries import MOST_IDS, OpenQueries, OpenQuery
from rtos.daemons.data.projection import parse_fields, projected
from rtos.daemons.data.query import Query, all_of, parse_filter, parse_sort
from rtos.daemons.data.requests import checked_limit
from rtos.daemons.data.timerange import parse_time_range
from rtos.errors import CommandRejected


class Paging(CommandGroup):
    """``data/query-open``, ``query-next``, ``query-close`` and ``query-list``."""

    _queries: OpenQueries

    @command("data/query-open")
    async def query_open(
        self,
        *,
        collection: str,
        filter: dict[str, Any] | None = None,
        sort: list[str] | None = None,
        page: int = 100,
        fields: list[str] | None = None,
        time_range: dict[str, Any] | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """Settle which records satisfy a filter, to read them page by page."""
        asked = "data/query-open"
        name = self._requests.known(asked, collection).name
        paths, page = parse_fields(asked, fields), checked_limit(asked, page, parameter="page")
        where = all_of(parse_filter(asked, filter), parse_time_range(asked, time_range))
        query = Query(where=where, sort=parse_sort(asked, sort), limit=MOST_IDS + 1)
        ids = await self._backend.find_ids(user_id, name, query)
        if len(ids) > MOST_IDS:
            raise CommandRejected(
                asked,
                f"more than {MOST_IDS} records satisfy the filter",
                parameter="filter",
                remedy="narrow it, or use data/list with its cursor",
            )
        opened = OpenQuery(
            id=uuid.uuid4().hex, user_id=user_id, collection=name, ids=tuple(ids), page=page, paths=paths
        )
        self._queries.add(opened)
        return {"query_id": opened.id, "total": len(ids), "page": page, "has_more": opened.has_more}

    @command("data/query-next")
    async def query_next(self, *, query_id: str) -> dict[str, Any]:
        """Read the next page of an open query."""
        query = self._queries.used("data/query-next", query_id)
        async with query.turning:
            ids = query.next_ids
            found = await self._backend.get_many(query.user_id, query.collection, ids)
            # Only now: a page whose reading failed or was cancelled is read again.
            query.turn()
            return {
                "items": [projected(record, query.paths) for record in found],
                "page_number": query.page_number,
                "has_more": query.has_more,
                "gone": len(ids) - len(found),
            }

    @command("data/query-close")
    async def query_close(self, *, query_id: str) -> bool:
        """Close an open query; says whether there was one."""
        await trio.lowlevel.checkpoint()
        return self._queries.close(query_id)

    @command("data/query-list")
    async def query_list(self) -> dict[str, Any]:
        """List the open queries, the one that was used longest ago first."""
        await trio.lowlevel.checkpoint()
        now = trio.current_time()
        items = [
            {
                "query_id": query.id,
                "collection": query.collection,
                "user_id": query.user_id,
                "total": len(query.ids),
                "page_number": query.page_number,
                "has_more": query.has_more,
                "idle_s": round(now - query.used_at, 3),
            }
            for query in self._queries
        ]
        return {"items": items, "count": len(items)}
