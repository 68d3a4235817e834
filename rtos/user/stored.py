"""A user's memories as the store has them: read in pages, written in batches.

Knows the commands of the store and none of memory; what is written is said by others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.errors import Conflict, NotFound
from rtos.user.entities import MemoryEntity

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from rtos.bus import Bus

PAGE: Final = 500


async def pages(
    bus: Bus,
    user_id: str,
    wanted: dict[str, Any],
    *,
    collection: str = MemoryEntity.collection,
    limit: int = PAGE,
) -> AsyncGenerator[list[dict[str, Any]], None]:
    """All records that are wanted, page by page; what comes and goes meanwhile disturbs nothing.

    Close it when it is left early (``aclosing``).
    """
    cursor: str | None = None
    while True:
        found = await bus.commands.execute(
            "data/list", collection=collection, filter=wanted, limit=limit, cursor=cursor, user_id=user_id
        )
        yield found["items"]
        cursor = found["next_cursor"]
        if cursor is None:
            return


async def by_id(bus: Bus, user_id: str, collection: str, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The records of these ids, as far as there are any."""
    found: list[dict[str, Any]] = []
    for begin in range(0, len(ids), PAGE):
        wanted = {"id": {"$in": list(ids[begin : begin + PAGE])}}
        page = await bus.commands.execute(
            "data/list", collection=collection, filter=wanted, limit=PAGE, user_id=user_id
        )
        found += page["items"]
    return found


async def delete(bus: Bus, user_id: str, collection: str, ids: Sequence[str]) -> None:
    """Delete records, a page at a time; one that is gone already is no matter."""
    for begin in range(0, len(ids), PAGE):
        operations = [
            {"op": "delete", "collection": collection, "id": id} for id in ids[begin : begin + PAGE]
        ]
        await bus.commands.execute("data/batch", operations=operations, user_id=user_id)


async def all_or_none(bus: Bus, user_id: str, operations: Sequence[dict[str, Any]]) -> bool:
    """Write a batch; whether it was done, or what it is about has been changed meanwhile."""
    try:
        await bus.commands.execute("data/batch", operations=list(operations), user_id=user_id)
    except (Conflict, NotFound):
        return False
    return True
