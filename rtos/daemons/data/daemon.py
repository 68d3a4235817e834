"""DataDaemon: the only way to data.

Checks what is asked before anything happens, hands it to the backend, and tells
of every change after it is durable, in the order of the commits to a database.
"""

from __future__ import annotations

import uuid
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from rtos.bus import Bus, command
from rtos.daemons.data.clock import RecordClock
from rtos.daemons.data.collection import KV, Collection, plain_or_rejected
from rtos.daemons.data.operation import Operation, Record
from rtos.daemons.data.plain import copied
from rtos.daemons.data.query import Query, parse_filter, parse_sort
from rtos.errors import CommandRejected
from rtos.scheduler import PastIntensity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager

    from rtos.daemons.data.backend import Backend, OnChange
    from rtos.daemons.data.operation import Change

    OpenBackend = Callable[
        [Sequence[Collection], RecordClock, OnChange], AbstractAsyncContextManager[Backend]
    ]

MAX_LIMIT: Final = 500
MAX_OPERATIONS: Final = 10_000
MAX_ID: Final = 200

_GIVEN: Final[dict[Any, set[str]]] = {
    "create": {"op", "collection", "id", "data"},
    "update": {"op", "collection", "id", "data", "expected_version"},
    "delete": {"op", "collection", "id", "expected_version"},
    "store": {"op", "key", "value"},
}
"""What the operations of a batch take."""


class DataDaemon:
    """Serves ``data/*``.

    Args:
      collections: what may be stored, beside keys and values.
      open_backend: opens the store for these collections.
    """

    name: ClassVar[str] = "data"
    level: ClassVar[int] = 2
    workers: ClassVar[int] = 64
    capacity: ClassVar[int] = 4096
    # Nobody else is of any use without storage.
    past_intensity: ClassVar[PastIntensity] = PastIntensity.ESCALATE

    def __init__(self, collections: Sequence[Collection], open_backend: OpenBackend) -> None:
        self._collections = {collection.name: collection for collection in (Collection(KV), *collections)}
        self._open_backend = open_backend
        self._bus: Bus
        self._backend: Backend

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when the store is open and its shared database can be read."""
        self._bus = bus
        collections = tuple(self._collections.values())
        async with self._open_backend(collections, RecordClock(), self._tell) as self._backend:
            await self._backend.find(None, KV, Query(limit=1))
            yield

    @command("data/store")
    async def store(self, *, key: str, value: Any, user_id: str | None = None) -> Record:
        """Store a value under a key, whatever is there."""
        given = {"op": "store", "key": key, "value": value}
        return await self._write(user_id, self._operation("data/store", given))

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
            return await self._backend.get(user_id, KV, _checked_id("data/read", "key", key))
        known = self._known("data/read", collection)
        return await self._backend.get(user_id, known.name, _checked_id("data/read", "id", id))

    @command("data/create")
    async def create(
        self, *, collection: str, data: dict[str, Any], id: str | None = None, user_id: str | None = None
    ) -> Record:
        """Create a record; its id must be new, and is made if it is left out."""
        given = {"op": "create", "collection": collection, "data": data, "id": id}
        return await self._write(user_id, self._operation("data/create", given))

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
        return await self._write(user_id, self._operation("data/update", given))

    @command("data/delete")
    async def delete(self, *, collection: str, id: str, user_id: str | None = None) -> bool:
        """Delete a record; says whether there was one."""
        given = {"op": "delete", "collection": collection, "id": id}
        return (await self._apply(user_id, [self._operation("data/delete", given)]))[0] is not None

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
        return await self._apply(user_id, [self._operation("data/batch", given) for given in operations])

    @command("data/list")
    async def list_records(
        self,
        *,
        collection: str,
        filter: dict[str, Any] | None = None,
        sort: list[str] | None = None,
        limit: int = 100,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """List the records that satisfy a filter, in order."""
        name = self._known("data/list", collection).name
        query = Query(
            where=parse_filter("data/list", filter),
            sort=parse_sort("data/list", sort),
            limit=_checked_limit("data/list", limit),
        )
        items = await self._backend.find(user_id, name, query)
        return {"items": items, "count": len(items)}

    @command("data/search")
    async def search(
        self, *, collection: str, query: str, limit: int = 10, user_id: str | None = None
    ) -> dict[str, Any]:
        """Find the records that fit a text best."""
        known = self._known("data/search", collection)
        if not known.search:
            raise CommandRejected(
                "data/search",
                f"{collection!r} has no text index",
                parameter="collection",
                remedy="use data/list",
            )
        limit = _checked_limit("data/search", limit)
        items = await self._backend.search(user_id, known.name, query, limit)
        return {"items": items, "count": len(items)}

    @command("data/collections")
    async def collections(self) -> dict[str, Any]:
        """List the collections."""
        await trio.lowlevel.checkpoint()
        return {"items": sorted(self._collections), "count": len(self._collections)}

    async def _write(self, user_id: str | None, operation: Operation) -> Record:
        record = (await self._apply(user_id, [operation]))[0]
        assert record is not None
        return record

    async def _apply(self, user_id: str | None, operations: list[Operation]) -> list[Record | None]:
        return [change.record for change in await self._backend.apply(user_id, operations)]

    def _tell(self, user_id: str | None, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.record is not None:
                # A copy: whoever asked for the write may do with its reply what it likes.
                payload = {"record": copied(change.record), "user_id": user_id}
                self._bus.events.emit(f"data:{change.collection}:{change.verb}", payload)

    def _operation(self, asked: str, given: dict[str, Any]) -> Operation:
        op: Any = given.get("op")
        if not (isinstance(op, str) and op in _GIVEN):
            raise CommandRejected(
                asked,
                f"there is no operation {op!r}",
                parameter="operations",
                remedy="use create, update, delete or store",
            )
        # A mistyped expected_version that is passed over would lose an update.
        unknown = sorted(set(given) - _GIVEN[op])
        if unknown:
            raise CommandRejected(
                asked,
                f"{op} does not take {unknown[0]!r}",
                parameter="operations",
                remedy="it takes " + ", ".join(sorted(_GIVEN[op])),
            )
        if op == "store":
            return Operation(
                op="store",
                collection=KV,
                id=_checked_id(asked, "key", given.get("key")),
                data={"value": plain_or_rejected(asked, "value", given.get("value"))},
            )
        known = self._known(asked, given.get("collection"))
        id = given.get("id")
        if id is None and op == "create":
            id = uuid.uuid4().hex
        data = given.get("data", {})
        if not isinstance(data, dict):
            raise CommandRejected(
                asked, f"data is {data!r}", parameter="data", remedy="give a mapping of fields"
            )
        return Operation(
            op=given["op"],
            collection=known.name,
            id=_checked_id(asked, "id", id),
            data=known.checked(asked, data) if op == "create" else plain_or_rejected(asked, "data", data),
            expected_version=_checked_version(asked, given.get("expected_version")),
            check=partial(known.checked, asked) if op == "update" else None,
        )

    def _known(self, asked: str, collection: object) -> Collection:
        known = self._collections.get(collection) if isinstance(collection, str) else None
        if known is None:
            raise CommandRejected(
                asked,
                f"there is no collection {collection!r}",
                parameter="collection",
                remedy="there are " + ", ".join(sorted(self._collections)),
            )
        return known


def _checked_limit(asked: str, limit: int) -> int:
    if not 1 <= limit <= MAX_LIMIT:
        raise CommandRejected(
            asked,
            f"limit is {limit!r}",
            parameter="limit",
            remedy=f"use 1 to {MAX_LIMIT}, and ask again for more",
        )
    return limit


def _checked_version(asked: str, version: object) -> int | None:
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return version
    raise CommandRejected(
        asked,
        f"expected_version is {version!r}",
        parameter="expected_version",
        remedy="use the version of the record that you have read",
    )


def _checked_id(asked: str, parameter: str, id: object) -> str:
    if not isinstance(id, str) or not 1 <= len(id) <= MAX_ID or not _is_text(id):
        raise CommandRejected(
            asked,
            f"{parameter} is {id!r}",
            parameter=parameter,
            remedy=f"use 1 to {MAX_ID} characters of text",
        )
    return id


def _is_text(id: str) -> bool:
    return "\0" not in id and not any("\ud800" <= char <= "\udfff" for char in id)
