"""Records in the tables of one database. Synchronous; runs on a worker thread.

A query is answered by the pure semantics over the rows that SQL lets through.
SQL may let too many through, and never too few; where it is exact it also sorts
and limits. Values are always bound, never written into a statement.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rtos.daemons.data.operation import Change, Operation, Record, apply
from rtos.daemons.data.query import Compare, Every, Node, Query, kind, matches, sorted_records
from rtos.daemons.data.sqlite.connection import rows, table_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.clock import RecordClock

_COLUMNS: Final = {"id", "created_at", "updated_at", "version"}
_SELECT: Final = "id, version, created_at, updated_at, body"
_SIGNS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_WORD: Final = re.compile(r"\w+")


def apply_all(
    connection: apsw.Connection,
    operations: Sequence[Operation],
    clock: RecordClock,
    search: dict[str, tuple[str, ...]],
) -> list[Change]:
    """Do the operations, in the transaction that is open."""
    changes = []
    for operation in operations:
        before = get(connection, operation.collection, operation.id)
        change = apply(operation, before, clock.next())
        if change.record is not None:
            _write(connection, change, search.get(operation.collection, ()))
        changes.append(change)
    return changes


def _write(connection: apsw.Connection, change: Change, search: tuple[str, ...]) -> None:
    record = change.record
    assert record is not None
    table = table_of(change.collection)
    if search and change.verb != "created":
        connection.execute(
            f"DELETE FROM {table}_text WHERE rowid = (SELECT row FROM {table} WHERE id = ?)", (record["id"],)
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
            f"INSERT INTO {table}_text (rowid, {', '.join(search)})"
            f" VALUES ((SELECT row FROM {table} WHERE id = ?), {marks})",
            (record["id"], *(_text(record.get(field)) for field in search)),
        )


def get(connection: apsw.Connection, collection: str, id: str) -> Record | None:
    """One record, or ``None``."""
    found = rows(connection, f"SELECT {_SELECT} FROM {table_of(collection)} WHERE id = ?", (id,))
    return _record(found[0]) if found else None


def find(connection: apsw.Connection, collection: str, query: Query) -> list[Record]:
    """The records that a query asks for."""
    conditions, bindings, exact = _compile(query.where)
    sql = f"SELECT {_SELECT} FROM {table_of(collection)}"
    if conditions:
        sql += " WHERE " + " AND ".join(conditions)
    if exact and all(key.path in _COLUMNS for key in query.sort):
        return [_record(row) for row in rows(connection, sql + _order(query), bindings)]
    found = (_record(row) for row in connection.execute(sql, tuple(bindings)))
    return sorted_records((record for record in found if matches(query.where, record)), query.sort)[
        : query.limit
    ]


def _order(query: Query) -> str:
    keys = [f"{key.path}{' DESC' if key.descending else ''}" for key in query.sort]
    if not any(key.path == "id" for key in query.sort):
        keys.append("id DESC" if query.sort and query.sort[-1].descending else "id")
    return f" ORDER BY {', '.join(keys)} LIMIT {query.limit:d}"


def _compile(node: Node) -> tuple[list[str], list[Any], bool]:
    """Conditions that hold for every match, and whether they hold for nothing else."""
    if isinstance(node, Every):
        parts = [_compile(part) for part in node.parts]
        return (
            [condition for part in parts for condition in part[0]],
            [binding for part in parts for binding in part[1]],
            all(part[2] for part in parts),
        )
    if isinstance(node, Compare) and node.path in _COLUMNS:
        return _compile_column(node)
    if isinstance(node, Compare) and "." not in node.path and node.operator == "$eq":
        return _compile_field(node)
    return [], [], False


def _compile_column(node: Compare) -> tuple[list[str], list[Any], bool]:
    text = node.path != "version"
    if node.operator in _SIGNS and kind(node.value) == (4 if text else 3) and _bindable(node.value):
        return [f"{node.path} {_SIGNS[node.operator]} ?"], [node.value], True
    if node.operator == "$in" and text:
        wanted = [value for value in node.value if isinstance(value, str) and _bindable(value)]
        exact = len(wanted) == len([value for value in node.value if isinstance(value, str)])
        if exact:
            return [f"{node.path} IN (SELECT value FROM json_each(?))"], [json.dumps(wanted)], True
    return [], [], False


def _compile_field(node: Compare) -> tuple[list[str], list[Any], bool]:
    # Text compares alike in both. Whether a number does depends on its size.
    if isinstance(node.value, str) and _bindable(node.value):
        path = f'$."{node.path}"'
        return (
            ["json_extract(body, ?) = ?", "json_type(body, ?) = 'text'"],
            [path, node.value, path],
            True,
        )
    return [], [], False


def _bindable(value: Any) -> bool:
    if isinstance(value, str):
        # SQLite ends text at a NUL in some functions, and surrogates are no UTF-8.
        return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def search(connection: apsw.Connection, collection: str, text: str, limit: int) -> list[Record]:
    """The records that hold words of a text, by BM25."""
    words = list(dict.fromkeys(_WORD.findall(text)))
    if not words:
        return []
    # Every word is quoted: what a user types is never an operator.
    expression = " OR ".join(f'"{word}"' for word in words)
    table = table_of(collection)
    found = rows(
        connection,
        f"SELECT t.id, t.version, t.created_at, t.updated_at, t.body, bm25({table}_text) AS rank"
        f" FROM {table}_text JOIN {table} AS t ON t.row = {table}_text.rowid"
        f" WHERE {table}_text MATCH ? ORDER BY rank, t.id LIMIT ?",
        (expression, limit),
    )
    return [{**_record(row[:5]), "score": -row[5]} for row in found]


def newest(connection: apsw.Connection, collections: Iterable[str]) -> str | None:
    """The latest timestamp in a database, or ``None``."""
    found = [rows(connection, f"SELECT max(updated_at) FROM {table_of(name)}")[0][0] for name in collections]
    return max((timestamp for timestamp in found if timestamp), default=None)


def _record(row: Sequence[Any]) -> Record:
    id, version, created_at, updated_at, body = row
    meta = {"id": id, "version": version, "created_at": created_at, "updated_at": updated_at}
    data: Record = msgspec.json.decode(body)
    return meta | data


def _body(record: Record) -> str:
    return msgspec.json.encode({key: value for key, value in record.items() if key not in _COLUMNS}).decode()


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
