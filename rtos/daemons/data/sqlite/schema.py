"""The tables of a database: their names, and how they come to be.

Law: a database that has what it needs is only read when it is opened, so that
it opens while another program writes to it. What is lacking, and what is no
longer as it should be, is made in one transaction.

Names: ``c_<collection>`` has the records. What belongs to it has a ``$`` in its
name, which no collection can have, so two of them never meet.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import msgspec

from rtos.daemons.data.plain import text_of
from rtos.daemons.data.sqlite.compile import indexed
from rtos.daemons.data.sqlite.migrations import MIGRATIONS, SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.collection import Collection

TOKENIZER: Final = "porter unicode61"
"""What makes terms of a text: words without their endings, accents or capitals."""
MOST_ROWS: Final = 64
"""In one statement; a power of two, as all numbers of rows are: few statements to keep prepared."""


def table_of(collection: str) -> str:
    """The table of a collection; collection names are words, so it needs no quoting."""
    return f"c_{collection}"


def text_table_of(collection: str) -> str:
    """The table of a collection's text index."""
    return f"c_{collection}$text"


def near_index_of(collection: str) -> str:
    """The index of a collection's signatures, by which what is near is found."""
    return f"c_{collection}$near"


def columns_of(fields: Iterable[str]) -> str:
    """Fields as columns of a text index; a field may be a word of SQL, ``order`` for example."""
    return ", ".join(f'"{field}"' for field in fields)


def rows(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a statement, run to its end."""
    return list(connection.execute(sql, tuple(bindings)))


def in_rows(
    connection: apsw.Connection, insert: str, marks: str, rows: Sequence[tuple[Any, ...]], clause: str = ""
) -> None:
    """Insert rows by statements of many."""
    begin = 0
    while left := len(rows) - begin:
        count = min(1 << left.bit_length() - 1, MOST_ROWS)
        values = [value for row in rows[begin : begin + count] for value in row]
        connection.execute(f"{insert} VALUES {', '.join([marks] * count)}{clause}", values)
        begin += count


def migrate(connection: apsw.Connection, collections: Sequence[Collection]) -> None:
    """Give a database what it lacks; only looks, if that is nothing."""
    wanted = dict(_schema(collections))
    lacks = connection.pragma("user_version") != SCHEMA or _lacking(connection, wanted)
    if not lacks and not _unattended(connection, collections):
        return
    with _transaction(connection):
        # Asked again, for another program may have been here first.
        version = connection.pragma("user_version")
        for name in _unattended(connection, collections):
            connection.execute(f"DROP TABLE {name}")
        for name in _lacking(connection, wanted):
            _make(connection, name, wanted[name])
        for step in MIGRATIONS[version:]:
            step(connection)
        for collection in collections:
            if collection.search:
                _fill_text(connection, collection)
        connection.pragma("user_version", SCHEMA)


@contextmanager
def _transaction(connection: apsw.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _schema(collections: Sequence[Collection]) -> Iterable[tuple[str, str]]:
    """Every table and index by name, as SQLite keeps its text."""
    for collection in collections:
        table, text = table_of(collection.name), text_table_of(collection.name)
        sql = (
            f"CREATE TABLE {table} (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
            " version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,"
            " body TEXT NOT NULL) STRICT"
        )
        yield table, sql
        yield f"{table}$created", f"CREATE INDEX {table}$created ON {table} (created_at, id)"
        for field in collection.indexes:
            name = f"{table}$by_{field}"
            yield name, f"CREATE INDEX {name} ON {table} ({indexed(field)}, created_at, id)"
        if collection.near:
            signature = indexed(collection.near[0])
            name = near_index_of(collection.name)
            # What has none costs nothing.
            yield name, f"CREATE INDEX {name} ON {table} ({signature}) WHERE {signature} IS NOT NULL"
        if collection.search:
            columns = ", ".join(collection.search)
            yield text, f"CREATE VIRTUAL TABLE {text} USING fts5 ({columns}, tokenize = '{TOKENIZER}')"


def _lacking(connection: apsw.Connection, wanted: dict[str, str]) -> list[str]:
    there = dict(rows(connection, "SELECT name, sql FROM sqlite_schema"))
    # A table with records in it is never made anew for its text alone.
    return [
        name
        for name, sql in wanted.items()
        if name not in there or (there[name] != sql and not sql.startswith("CREATE TABLE"))
    ]


def _unattended(connection: apsw.Connection, collections: Sequence[Collection]) -> list[str]:
    # A text index that nobody keeps up any more: were the declaration to come
    # back, it would find what is gone, and refuse rows whose numbers it has.
    there = {name for (name,) in rows(connection, "SELECT name FROM sqlite_schema")}
    return [name for each in collections if not each.search and (name := text_table_of(each.name)) in there]


def _make(connection: apsw.Connection, name: str, sql: str) -> None:
    if sql.startswith("CREATE INDEX"):
        connection.execute(f"DROP INDEX IF EXISTS {name}")
    if sql.startswith("CREATE VIRTUAL"):
        connection.execute(f"DROP TABLE IF EXISTS {name}")
    connection.execute(sql)


def _fill_text(connection: apsw.Connection, collection: Collection) -> None:
    """Put into a text index what it has not got: it was added, or has other fields now."""
    table, text = table_of(collection.name), text_table_of(collection.name)
    marks = ", ".join("?" * len(collection.search))
    sql = f"INSERT INTO {text} (rowid, {columns_of(collection.search)}) VALUES (?, {marks})"
    missing = f"SELECT row, body FROM {table} WHERE row NOT IN (SELECT rowid FROM {text})"
    for row, body in rows(connection, missing):
        record = msgspec.json.decode(body)
        connection.execute(sql, (row, *(text_of(record.get(field)) for field in collection.search)))
