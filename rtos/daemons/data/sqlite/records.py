"""Records in the tables of one database. Synchronous; runs on a worker thread.

A query is answered by the pure semantics over the rows that SQL lets through.
SQL may let too many through, and never too few; where it is exact it also sorts
and limits. Values are always bound, never written into a statement.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rtos.daemons.data.operation import Change, Operation, Record, apply
from rtos.daemons.data.plain import text_of, wanted_words
from rtos.daemons.data.query import Query, matches, sorted_records
from rtos.daemons.data.sqlite.compile import COLUMNS, compile_order, compile_where
from rtos.daemons.data.sqlite.schema import columns_of, rows, table_of, text_table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.clock import RecordClock

_SELECT: Final = "id, version, created_at, updated_at, body"


def apply_all(
    connection: apsw.Connection,
    operations: Sequence[Operation],
    clock: RecordClock,
    search: dict[str, tuple[str, ...]],
) -> list[Change]:
    """Do the operations, in the transaction that is open."""
    changes = []
    latest = None
    for operation in operations:
        before = get(connection, operation.collection, operation.id)
        now = clock.next()
        change = apply(operation, before, now)
        if change.record is not None:
            _write(connection, change, search.get(operation.collection, ()))
            latest = now
        changes.append(change)
    if latest is not None:
        _note_newest(connection, latest)
    return changes


def _write(connection: apsw.Connection, change: Change, search: tuple[str, ...]) -> None:
    record = change.record
    assert record is not None
    table, text_table = table_of(change.collection), text_table_of(change.collection)
    if search and change.verb != "created":
        connection.execute(
            f"DELETE FROM {text_table} WHERE rowid = (SELECT row FROM {table} WHERE id = ?)", (record["id"],)
        )
    if change.verb == "deleted":
        connection.execute(f"DELETE FROM {table} WHERE id = ?", (record["id"],))
        return
    values = (record["version"], record["created_at"], record["updated_at"], _body(record), record["id"])
    if change.verb == "created":
        connection.execute(
            f"INSERT INTO {table} (version, created_at, updated_at, body, id) VALUES (?, ?, ?, ?, ?)", values
        )
    else:
        connection.execute(
            f"UPDATE {table} SET version = ?, created_at = ?, updated_at = ?, body = ? WHERE id = ?", values
        )
    if search:
        marks = ", ".join("?" * len(search))
        connection.execute(
            f"INSERT INTO {text_table} (rowid, {columns_of(search)})"
            f" VALUES ((SELECT row FROM {table} WHERE id = ?), {marks})",
            (record["id"], *(text_of(record.get(field)) for field in search)),
        )


def get(connection: apsw.Connection, collection: str, id: str) -> Record | None:
    """One record, or ``None``."""
    found = rows(connection, f"SELECT {_SELECT} FROM {table_of(collection)} WHERE id = ?", (id,))
    return _record(found[0]) if found else None


def find(
    connection: apsw.Connection, collection: str, query: Query, indexes: tuple[str, ...] = ()
) -> list[Record]:
    """The records that a query asks for."""
    where, exact = compile_where(query.where, indexes)
    order = compile_order(query.sort)
    sql, values = f"SELECT {_SELECT} FROM {table_of(collection)}", ()
    if where is not None:
        sql, values = f"{sql} WHERE {where.text}", where.values
    if order is not None:
        sql, values = f"{sql} ORDER BY {order.text}", values + order.values
    if exact and order is not None:
        return [_record(row) for row in rows(connection, f"{sql} LIMIT ?", (*values, query.limit))]
    # Closed even when it is left early: an open cursor holds on to its snapshot.
    with closing(connection.execute(sql, values)) as cursor:
        found = (record for record in map(_record, cursor) if exact or matches(query.where, record))
        if order is not None:
            return list(islice(found, query.limit))
        return sorted_records(found, query.sort)[: query.limit]


def search(connection: apsw.Connection, collection: str, text: str, limit: int) -> list[Record]:
    """The records that hold words of a text, by BM25."""
    words = wanted_words(text)
    if not words:
        return []
    # Every word is quoted: what a user types is never an operator.
    expression = " OR ".join(f'"{word}"' for word in words)
    table, text_table = table_of(collection), text_table_of(collection)
    found = rows(
        connection,
        f"SELECT t.id, t.version, t.created_at, t.updated_at, t.body, bm25({text_table}) AS rank"
        f" FROM {text_table} JOIN {table} AS t ON t.row = {text_table}.rowid"
        f" WHERE {text_table} MATCH ? ORDER BY rank, t.id LIMIT ?",
        (expression, limit),
    )
    return [{**_record(row[:5]), "score": -row[5]} for row in found]


def newest(connection: apsw.Connection) -> str | None:
    """The latest timestamp that was ever given in a database, or ``None``."""
    return rows(connection, "SELECT updated_at FROM newest")[0][0] or None


def _note_newest(connection: apsw.Connection, timestamp: str) -> None:
    # In a row of its own, so that opening a database does not read all of it.
    connection.execute("UPDATE newest SET updated_at = ?", (timestamp,))


def _record(row: Sequence[Any]) -> Record:
    id, version, created_at, updated_at, body = row
    meta = {"id": id, "version": version, "created_at": created_at, "updated_at": updated_at}
    data: Record = msgspec.json.decode(body)
    return meta | data


def _body(record: Record) -> str:
    return msgspec.json.encode({key: value for key, value in record.items() if key not in COLUMNS}).decode()
