"""The log of changes of one database. Synchronous; runs on a worker thread.

Law: a change is in the log exactly if it is in the tables, for both are written in
one transaction. Numbers go up by one: what is rolled back gives its numbers back, and
the newest entry is never forgotten, so no number is given twice. The one hole is before
the entry of a database that was put in another's place.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from rtos.daemons.data.operation import CHANGES_KEPT, Change, ChangePage, number_of_restoring
from rtos.daemons.data.sqlite.schema import in_rows, rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver


def append(connection: apsw.Connection, entries: Sequence[tuple[Change, str]], oldest: int) -> None:
    """Log changes, each with its time, in the transaction that is open.

    Args:
      connection: with the transaction.
      entries: numbered on from the newest entry.
      oldest: the number of the oldest entry; 0 for none.
    """
    in_rows(
        connection,
        "INSERT INTO changes (sequence, collection, verb, at, record)",
        "(?, ?, ?, ?, ?)",
        [
            (one.sequence, one.collection, one.verb, at, msgspec.json.encode(one.record).decode())
            for one, at in entries
        ],
    )
    last = entries[-1][0].sequence
    # What a write adds, a write takes away: it costs the same, whenever the log is full.
    if oldest and oldest <= last - CHANGES_KEPT:
        connection.execute("DELETE FROM changes WHERE sequence <= ?", (last - CHANGES_KEPT,))


def note_restored(connection: apsw.Connection) -> None:
    """Log that this database is put in the place of another, in a transaction of its own."""
    last, _ = span(connection)
    connection.execute(
        "INSERT INTO changes (sequence, collection, verb, at, record) VALUES"
        " (?, '', 'restored', coalesce((SELECT at FROM changes WHERE sequence = ?), ''), '{}')",
        (number_of_restoring(last, time.time_ns()), last),
    )


def read(connection: apsw.Connection, *, after: int, limit: int) -> ChangePage:
    """A page of the log."""
    last, oldest = span(connection)
    found = rows(
        connection,
        "SELECT sequence, collection, verb, record FROM changes WHERE sequence > ? ORDER BY sequence LIMIT ?",
        (after, limit),
    )
    items = [
        Change(collection, verb, msgspec.json.decode(record), sequence).noted()
        for sequence, collection, verb, record in found
    ]
    return ChangePage(items, last, oldest)


def span(connection: apsw.Connection) -> tuple[int, int]:
    """The numbers of the newest and of the oldest entry; 0 for none."""
    sql = "SELECT (SELECT max(sequence) FROM changes), (SELECT min(sequence) FROM changes)"
    ((last, oldest),) = rows(connection, sql)
    return last or 0, oldest or 0
