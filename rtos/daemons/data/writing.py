"""The commands that write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.bus import command
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.operation import Record
from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from rtos.daemons.data.operation import Operation

MAX_OPERATIONS: Final = 10_000


class Writing(CommandGroup):
    """``data/store``, ``create``, ``update``, ``delete`` and ``batch``."""

    @command("data/store")
    async def store(self, *, key: str, value: Any, user_id: str | None = None) -> Record:
        """Store a value under a key, whatever is there."""
        given = {"op": "store", "key": key, "value": value}
        return await self._write(user_id, self._requests.operation("data/store", given))

    @command("data/create")
    async def create(
        self, *, collection: str, data: dict[str, Any], id: str | None = None, user_id: str | None = None
    ) -> Record:
        """Create a record; its id must be new, and is made if it is left out."""
        given = {"op": "create", "collection": collection, "data": data, "id": id}
        return await self._write(user_id, self._requests.operation("data/create", given))

    @command("data/update")
    async def update(
        self,
        *,
        collection: str,
        id: str,
        data: dict[str, Any],
        user_id: str | None = None,
        expected_version: int | None = None,
    ) -> Record:
        """Merge fields into a record, if it is at the version that is expected."""
        given = {
            "op": "update",
            "collection": collection,
            "data": data,
            "id": id,
            "expected_version": expected_version,
        }
        return await self._write(user_id, self._requests.operation("data/update", given))

    @command("data/delete")
    async def delete(self, *, collection: str, id: str, user_id: str | None = None) -> bool:
        """Delete a record; says whether there was one."""
        given = {"op": "delete", "collection": collection, "id": id}
        return (await self._apply(user_id, [self._requests.operation("data/delete", given)]))[0] is not None

    @command("data/batch")
    async def batch(self, *, operations: list[dict[str, Any]], user_id: str | None = None) -> list[Any]:
        """Do several writes to one database, all or none."""
        if not 1 <= len(operations) <= MAX_OPERATIONS:
            raise CommandRejected(
                "data/batch",
                f"{len(operations)} operations cannot be done at once",
                parameter="operations",
                remedy=f"use 1 to {MAX_OPERATIONS}",
            )
        return await self._apply(
            user_id, [self._requests.operation("data/batch", given) for given in operations]
        )

    async def _write(self, user_id: str | None, operation: Operation) -> Record:
        record = (await self._apply(user_id, [operation]))[0]
        assert record is not None
        return record

    async def _apply(self, user_id: str | None, operations: list[Operation]) -> list[Record | None]:
        return [change.record for change in await self._backend.apply(user_id, operations)]
