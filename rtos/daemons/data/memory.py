"""Records in memory, by the pure semantics and nothing else; gone with the process."""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import trio

from rtos.daemons.data.collection import META
from rtos.daemons.data.figures import CollectionFigures, Explanation, StoreFigures
from rtos.daemons.data.files import KEPT
from rtos.daemons.data.operation import CHANGES_KEPT, ChangePage, apply
from rtos.daemons.data.plain import copied, text_of, wanted_words, words_of
from rtos.daemons.data.query import is_after, matches, sorted_records
from rtos.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rtos.daemons.data.backend import OnChange, OnDegraded
    from rtos.daemons.data.clock import RecordClock
    from rtos.daemons.data.collection import Collection
    from rtos.daemons.data.operation import Change, Operation, Record
    from rtos.daemons.data.query import Node, Query


class MemoryBackend:
    """See ``Backend``. Every call is one step, so calls are isolated by themselves."""

    def __init__(self, collections: Sequence[Collection], clock: RecordClock, on_change: OnChange) -> None:
        self._search = {collection.name: collection.search for collection in collections}
        self._clock = clock
        self._on_change = on_change
        self.on_degraded: OnDegraded = lambda _user_id, _reason: None
        self._copies: dict[str | None, dict[str, dict[str, dict[str, Record]]]] = {}
        self._logs: dict[str | None, deque[Change]] = {}
        self._tables: dict[tuple[str | None, str], dict[str, Record]] = {}

    async def apply(self, user_id: str | None, operations: Sequence[Operation]) -> list[Change]:
        """See ``Backend.apply``."""
        await trio.lowlevel.checkpoint()
        draft: dict[tuple[str, str], Record | None] = {}
        changes = []
        for operation in operations:
            key = operation.collection, operation.id
            before = draft[key] if key in draft else self._table(user_id, key[0]).get(key[1])
            change = apply(operation, copied(before), self._clock.next())
            draft[key] = None if change.verb == "deleted" else copied(change.record)
            changes.append(change)
        for (collection, id), record in draft.items():
            if record is None:
                self._table(user_id, collection).pop(id, None)
            else:
                self._tables.setdefault((user_id, collection), {})[id] = record
        changes = self._logged(user_id, changes)
        self._on_change(user_id, changes)
        return changes

    async def get(self, user_id: str | None, collection: str, id: str) -> Record | None:
        """See ``Backend.get``."""
        await trio.lowlevel.checkpoint()
        return copied(self._table(user_id, collection).get(id))

    async def find(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        """See ``Backend.find``."""
        await trio.lowlevel.checkpoint()
        return copied(self._found(user_id, collection, query))

    async def search(self, user_id: str | None, collection: str, text: str, limit: int) -> list[Record]:
        """See ``Backend.search``. Ranks by the share of the words that a record holds."""
        await trio.lowlevel.checkpoint()
        wanted = {word.casefold() for word in wanted_words(text)}
        scored = []
        for record in self._table(user_id, collection).values():
            fields = (text_of(record.get(field)) for field in self._search[collection])
            held = {word.casefold() for word in words_of(" ".join(fields))}
            if wanted & held:
                scored.append({**copied(record), "score": len(wanted & held) / len(wanted)})
        return sorted(scored, key=lambda record: (-record["score"], record["id"]))[:limit]

    async def count(self, user_id: str | None, collection: str, where: Node) -> int:
        """See ``Backend.count``."""
        await trio.lowlevel.checkpoint()
        return sum(matches(where, record) for record in self._table(user_id, collection).values())

    async def find_ids(self, user_id: str | None, collection: str, query: Query) -> list[str]:
        """See ``Backend.find_ids``."""
        await trio.lowlevel.checkpoint()
        return [record["id"] for record in self._found(user_id, collection, query)]

    async def get_many(self, user_id: str | None, collection: str, ids: Sequence[str]) -> list[Record]:
        """See ``Backend.get_many``."""
        await trio.lowlevel.checkpoint()
        table = self._table(user_id, collection)
        return [copied(table[id]) for id in ids if id in table]

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
        tables = {name: self._table(user_id, name) for name in self._search}
        return StoreFigures(collections={name: _figures(table) for name, table in tables.items()})

    def _found(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        found = (
            record
            for record in self._table(user_id, collection).values()
            if is_after(query.after, record, query.sort) and matches(query.where, record)
        )
        return sorted_records(found, query.sort)[: query.limit]

    async def changes(self, user_id: str | None, after: int, limit: int) -> ChangePage:
        """See ``Backend.changes``."""
        await trio.lowlevel.checkpoint()
        log = self._logs.get(user_id)
        if not log:
            return ChangePage([])
        oldest, last = log[0].sequence, log[-1].sequence
        begin = max(after + 1 - oldest, 0)
        items = [copied(change.noted()) for change in islice(log, begin, begin + limit)]
        return ChangePage(items, last, oldest)

    def _logged(self, user_id: str | None, changes: list[Change]) -> list[Change]:
        log = self._logs.setdefault(user_id, deque(maxlen=CHANGES_KEPT))
        numbered = []
        for change in changes:
            if change.record is not None:
                change = attrs.evolve(change, sequence=log[-1].sequence + 1 if log else 1)
                log.append(attrs.evolve(change, record=copied(change.record)))
            numbered.append(change)
        return numbered

    async def vacuum(self, user_id: str | None) -> tuple[int, int]:  # noqa: ARG002 - as the others
        """See ``Backend.vacuum``; there is no file."""
        await trio.lowlevel.checkpoint()
        return 0, 0

    async def backup(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """See ``Backend.backup``."""
        await trio.lowlevel.checkpoint()
        mine = {key[1]: copied(table) for key, table in self._tables.items() if key[0] == user_id}
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

    def _put_in_place(self, user_id: str | None, tables: dict[str, dict[str, Record]]) -> None:
        for key in [key for key in self._tables if key[0] == user_id]:
            del self._tables[key]
        for collection, table in tables.items():
            self._tables[user_id, collection] = copied(table)

    def _table(self, user_id: str | None, collection: str) -> dict[str, Record]:
        return self._tables.get((user_id, collection), {})


def _figures(table: dict[str, Record]) -> CollectionFigures:
    bodies = ({key: value for key, value in each.items() if key not in META} for each in table.values())
    return CollectionFigures(
        count=len(table),
        bytes=sum(len(msgspec.json.encode(body)) for body in bodies),
        updated_at=max((record["updated_at"] for record in table.values()), default=None),
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
