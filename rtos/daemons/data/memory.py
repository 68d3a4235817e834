"""Records in memory, by the pure semantics and nothing else; gone with the process.

They are kept as JSON: it takes a third of the memory of mappings, and reading it is the
copy that everybody is to get.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec
import trio

from rtos.daemons.data.collection import META
from rtos.daemons.data.figures import CollectionFigures, Explanation, StoreFigures
from rtos.daemons.data.files import KEPT
from rtos.daemons.data.operation import CHANGES_KEPT, ChangePage, apply, number_of_restoring
from rtos.daemons.data.plain import text_of, wanted_words, words_of
from rtos.daemons.data.query import is_after, matches, sorted_records
from rtos.daemons.data.vectors import nearest
from rtos.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from rtos.daemons.data.backend import OnChange, OnDegraded
    from rtos.daemons.data.clock import RecordClock
    from rtos.daemons.data.collection import Collection
    from rtos.daemons.data.operation import Change, Operation, Record
    from rtos.daemons.data.query import Node, Query
    from rtos.daemons.data.vectors import Near

_encode: Final = msgspec.json.Encoder().encode
_decode: Final[Callable[[bytes], Any]] = msgspec.json.Decoder().decode


class MemoryBackend:
    """See ``Backend``. Every call is one step, so calls are isolated by themselves."""

    def __init__(self, collections: Sequence[Collection], clock: RecordClock, on_change: OnChange) -> None:
        self._search = {collection.name: collection.search for collection in collections}
        self._near = {collection.name: collection.near for collection in collections}
        self._clock = clock
        self._on_change = on_change
        self.on_degraded: OnDegraded = lambda _user_id, _reason: None
        self._copies: dict[str | None, dict[str, dict[str, dict[str, bytes]]]] = {}
        # Sequence, collection, verb and record.
        self._logs: dict[str | None, list[tuple[int, str, str, bytes]]] = {}
        self._tables: dict[tuple[str | None, str], dict[str, bytes]] = {}

    async def apply(self, user_id: str | None, operations: Sequence[Operation]) -> list[Change]:
        """See ``Backend.apply``."""
        await trio.lowlevel.checkpoint()
        draft: dict[tuple[str, str], bytes | None] = {}
        changes, noted = [], []
        log = self._logs.get(user_id, [])
        sequence = log[-1][0] if log else 0
        for operation in operations:
            key = operation.collection, operation.id
            before = draft[key] if key in draft else self._table(user_id, key[0]).get(key[1])
            change = apply(operation, None if before is None else _decode(before), self._clock.next())
            if change.record is not None:
                sequence += 1
                change = attrs.evolve(change, sequence=sequence)
                record = _encode(change.record)
                noted.append((sequence, change.collection, change.verb, record))
                draft[key] = None if change.verb == "deleted" else record
            changes.append(change)
        for (collection, id), kept in draft.items():
            if kept is None:
                self._table(user_id, collection).pop(id, None)
            else:
                self._tables.setdefault((user_id, collection), {})[id] = kept
        if noted:
            log = self._logs.setdefault(user_id, log)
            log += noted
            if len(log) > CHANGES_KEPT:
                del log[: len(log) - CHANGES_KEPT]
        self._on_change(user_id, changes)
        return changes

    async def get(self, user_id: str | None, collection: str, id: str) -> Record | None:
        """See ``Backend.get``."""
        await trio.lowlevel.checkpoint()
        record = self._table(user_id, collection).get(id)
        return None if record is None else _decode(record)

    async def find(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        """See ``Backend.find``."""
        await trio.lowlevel.checkpoint()
        return self._found(user_id, collection, query)

    async def search(self, user_id: str | None, collection: str, text: str, limit: int) -> list[Record]:
        """See ``Backend.search``. Ranks by the share of the words that a record holds."""
        await trio.lowlevel.checkpoint()
        wanted = {word.casefold() for word in wanted_words(text)}
        scored = []
        for record in self._records(user_id, collection):
            fields = (text_of(record.get(field)) for field in self._search[collection])
            held = {word.casefold() for word in words_of(" ".join(fields))}
            if wanted & held:
                scored.append({**record, "score": len(wanted & held) / len(wanted)})
        return sorted(scored, key=lambda record: (-record["score"], record["id"]))[:limit]

    async def nearest(self, user_id: str | None, collection: str, wanted: Near, limit: int) -> list[Record]:
        """See ``Backend.nearest``."""
        await trio.lowlevel.checkpoint()
        fields = self._near[collection]
        assert fields is not None, "the command has looked"
        return nearest(self._records(user_id, collection), fields, wanted, limit)

    async def count(self, user_id: str | None, collection: str, where: Node) -> int:
        """See ``Backend.count``."""
        await trio.lowlevel.checkpoint()
        return sum(matches(where, record) for record in self._records(user_id, collection))

    async def find_ids(self, user_id: str | None, collection: str, query: Query) -> list[str]:
        """See ``Backend.find_ids``."""
        await trio.lowlevel.checkpoint()
        return [record["id"] for record in self._found(user_id, collection, query)]

    async def get_many(self, user_id: str | None, collection: str, ids: Sequence[str]) -> list[Record]:
        """See ``Backend.get_many``."""
        await trio.lowlevel.checkpoint()
        table = self._table(user_id, collection)
        return [_decode(table[id]) for id in ids if id in table]

    async def explain(self, user_id: str | None, collection: str, query: Query) -> Explanation:
        """See ``Backend.explain``."""
        await trio.lowlevel.checkpoint()
        number = len(self._table(user_id, collection))
        keys = ", ".join(key.path + " descending" * key.descending for key in query.sort)
        plan = (f"look at each of {number} records in memory", f"sort what matches by {keys or 'id'}")
        return Explanation(sql=None, plan=plan, exact=False, left=("filter", "sort"))

    async def figures(self, user_id: str | None) -> StoreFigures:
        """See ``Backend.figures``."""
        await trio.lowlevel.checkpoint()
        tables = {name: list(self._records(user_id, name)) for name in self._search}
        return StoreFigures(collections={name: _figures(table) for name, table in tables.items()})

    def _found(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        found = (
            record
            for record in self._records(user_id, collection)
            if is_after(query.after, record, query.sort) and matches(query.where, record)
        )
        return sorted_records(found, query.sort)[: query.limit]

    async def changes(self, user_id: str | None, after: int, limit: int) -> ChangePage:
        """See ``Backend.changes``."""
        await trio.lowlevel.checkpoint()
        log = self._logs.get(user_id)
        if not log:
            return ChangePage([])
        oldest, last = log[0][0], log[-1][0]
        begin = bisect_right(log, after, key=lambda entry: entry[0])
        items = [
            {"sequence": sequence, "collection": collection, "verb": verb, "record": _decode(record)}
            for sequence, collection, verb, record in log[begin : begin + limit]
        ]
        return ChangePage(items, last, oldest)

    async def vacuum(self, user_id: str | None) -> tuple[int, int]:  # noqa: ARG002 - as the others
        """See ``Backend.vacuum``; there is no file."""
        await trio.lowlevel.checkpoint()
        return 0, 0

    async def backup(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """See ``Backend.backup``."""
        await trio.lowlevel.checkpoint()
        mine = {key[1]: dict(table) for key, table in self._tables.items() if key[0] == user_id}
        if not mine:
            raise NotFound("data/backup", "there is no database yet", "store something first")
        copies = self._copies.setdefault(user_id, {})
        name = name or self._clock.next()
        copies.pop(name, None)
        copies[name] = mine
        for old in list(copies)[:-KEPT]:
            del copies[old]
        return _described(name)

    async def backups(self, user_id: str | None) -> list[dict[str, Any]]:
        """See ``Backend.backups``."""
        await trio.lowlevel.checkpoint()
        return [_described(name) for name in reversed(self._copies.get(user_id, {}))]

    async def restore(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """See ``Backend.restore``."""
        await trio.lowlevel.checkpoint()
        copies = self._copies.get(user_id, {})
        name = next(reversed(copies), None) if name is None else name
        if name is None or name not in copies:
            raise NotFound("data/restore", f"there is no backup {name!r}", "make one with data/backup")
        self._put_in_place(user_id, copies[name])
        return {**_described(name), "replaced": None}

    async def reset(self, user_id: str | None) -> dict[str, Any]:
        """See ``Backend.reset``."""
        await trio.lowlevel.checkpoint()
        self._put_in_place(user_id, {})
        return {"replaced": None}

    async def size(self, user_id: str | None, collection: str) -> int:
        """See ``Backend.size``."""
        await trio.lowlevel.checkpoint()
        return len(self._table(user_id, collection))

    def _put_in_place(self, user_id: str | None, tables: dict[str, dict[str, bytes]]) -> None:
        for key in [key for key in self._tables if key[0] == user_id]:
            del self._tables[key]
        for collection, table in tables.items():
            self._tables[user_id, collection] = dict(table)
        log = self._logs.setdefault(user_id, [])
        number = number_of_restoring(log[-1][0] if log else 0, time.time_ns())
        log.append((number, "", "restored", b"{}"))

    def _table(self, user_id: str | None, collection: str) -> dict[str, bytes]:
        return self._tables.get((user_id, collection), {})

    def _records(self, user_id: str | None, collection: str) -> Iterator[Record]:
        return map(_decode, self._table(user_id, collection).values())


def _figures(records: Sequence[Record]) -> CollectionFigures:
    bodies = ({key: value for key, value in each.items() if key not in META} for each in records)
    return CollectionFigures(
        count=len(records),
        bytes=sum(len(_encode(body)) for body in bodies),
        updated_at=max((record["updated_at"] for record in records), default=None),
    )


def _described(name: str) -> dict[str, Any]:
    return {"name": name, "path": f"memory:{name}", "bytes": 0}


@asynccontextmanager
async def open_memory_backend(
    collections: Sequence[Collection], clock: RecordClock, on_change: OnChange
) -> AsyncIterator[MemoryBackend]:
    """A memory backend for these collections."""
    await trio.lowlevel.checkpoint()
    yield MemoryBackend(collections, clock, on_change)
