"""Answers about several records at once. Synchronous; runs on a worker thread.

What SQL can answer alone, it answers without a row being read; the rest is left
to the pure semantics, row by row, so that a deadline is seen between two rows.
"""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from rtos.daemons.data.query import matches
from rtos.daemons.data.sqlite.compile import compile_where
from rtos.daemons.data.sqlite.records import record_of, selected
from rtos.daemons.data.sqlite.schema import rows, table_of
from rtos.daemons.data.sqlite.select import SELECT, select

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.operation import Record
    from rtos.daemons.data.query import Node, Query


def count(connection: apsw.Connection, *, collection: str, where: Node, indexes: tuple[str, ...]) -> int:
    """How many records satisfy a condition."""
    compiled, exact = compile_where(where, indexes)
    text, values = f"FROM {table_of(collection)}", ()
    if compiled is not None:
        text, values = f"{text} WHERE {compiled.text}", compiled.values
    if exact:
        number: int = rows(connection, f"SELECT count(*) {text}", values)[0][0]
        return number
    # Closed even when it fails half way: an open cursor holds on to its snapshot.
    with closing(connection.execute(f"SELECT {SELECT} {text}", values)) as cursor:
        return sum(matches(where, record) for record in map(record_of, cursor))


def find_ids(
    connection: apsw.Connection, *, collection: str, query: Query, indexes: tuple[str, ...]
) -> list[str]:
    """The ids of the records that a query asks for, in its order."""
    selection = select("id", collection, query, indexes)
    if selection.exact:
        return [row[0] for row in rows(connection, selection.text, selection.values)]
    return [record["id"] for record in selected(connection, selection, query)]


def get_many(connection: apsw.Connection, *, collection: str, ids: Sequence[str]) -> list[Record]:
    """The records of these ids that are there, in the order of the ids."""
    # One value however many they are: SQLite takes only so many question marks.
    text = f"SELECT {SELECT} FROM {table_of(collection)} WHERE id IN (SELECT value FROM json_each(?))"
    found = {row[0]: record_of(row) for row in connection.execute(text, (json.dumps(list(ids)),))}
    return [found[id] for id in ids if id in found]
