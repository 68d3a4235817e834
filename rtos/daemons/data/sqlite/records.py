"""Records in the tables of one database. Synchronous; runs on a worker thread.

A query is answered by the pure semantics over the rows that SQL lets through.
SQL may let too many through, and never too few; where it is exact it also sorts
and limits. Values are always bound, never written into a statement.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from rtos.daemons.data.plain import copied, wanted_words
from rtos.daemons.data.query import Query, is_after, matches, sorted_records
from rtos.daemons.data.sqlite.rarity import rarest
from rtos.daemons.data.sqlite.schema import rows, table_of, text_table_of
from rtos.daemons.data.sqlite.select import SELECT, Selection, select

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.operation import Record


def get(connection: apsw.Connection, collection: str, id: str) -> Record | None:
    """One record, or ``None``."""
    found = rows(connection, f"SELECT {SELECT} FROM {table_of(collection)} WHERE id = ?", (id,))
    return record_of(found[0]) if found else None


def get_each(connection: apsw.Connection, wanted: Sequence[tuple[str, str]]) -> list[Record | None]:
    """Records of collections by id, all in one go; ``None`` for what there is not.

    One row for all, since the interpreter's lock is let go of and fought for at each.
    """
    if len(wanted) == 1:
        return [get(connection, *wanted[0])]
    found: dict[tuple[str, str], Record] = {}
    for collection in dict.fromkeys(collection for collection, _ in wanted):
        ids = [id for name, id in wanted if name == collection]
        ((text,),) = rows(
            connection,
            f"SELECT json_group_array(json_array({SELECT})) FROM {table_of(collection)}"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (msgspec.json.encode(ids).decode(),),
        )
        found.update(((collection, row[0]), record_of(row)) for row in msgspec.json.decode(text))
    # Each its own, though two may have asked for the same.
    return [copied(found.get(one)) for one in wanted]


def find(
    connection: apsw.Connection, collection: str, query: Query, indexes: tuple[str, ...] = ()
) -> list[Record]:
    """The records that a query asks for."""
    selection = select(SELECT, collection, query, indexes)
    return list(selected(connection, selection, query))


def selected(connection: apsw.Connection, selection: Selection, query: Query) -> Iterable[Record]:
    """What a selection of whole records gives, after what it leaves to the pure semantics is done."""
    # Closed even when it is left early: an open cursor holds on to its snapshot.
    with closing(connection.execute(selection.text, selection.values)) as cursor:
        found: Iterable[Record] = map(record_of, cursor)
        if not selection.filtered:
            found = (record for record in found if matches(query.where, record))
        if not selection.placed:
            found = (record for record in found if is_after(query.after, record, query.sort))
        if not selection.ordered:
            found = sorted_records(found, query.sort)
        yield from islice(found, query.limit)


def search(connection: apsw.Connection, collection: str, text: str, limit: int) -> list[Record]:
    """The records that hold words of a text, by BM25; of many words the rarest decide."""
    words = wanted_words(text)
    if not words:
        return []
    rare = rarest(connection, collection, words)
    found = _search(connection, collection, rare, limit)
    if len(found) < limit and len(rare) < len(words):
        # A common word finds the rest, so that whoever has few records finds them all.
        found = _search(connection, collection, words, limit)
    return found


def _search(connection: apsw.Connection, collection: str, words: Sequence[str], limit: int) -> list[Record]:
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
    return [{**record_of(row[:5]), "score": -row[5]} for row in found]


def newest(connection: apsw.Connection) -> str | None:
    """The latest timestamp that was ever given in a database, or ``None``.

    Of the log's last entry, or of the time before there was a log.
    """
    logged = "SELECT at FROM changes ORDER BY sequence DESC LIMIT 1"
    found = rows(connection, f"SELECT updated_at, ({logged}) FROM newest")
    return max((at for at in found[0] if at), default=None)


def record_of(row: Sequence[Any]) -> Record:
    """A record from a row of the columns ``SELECT``."""
    id, version, created_at, updated_at, body = row
    meta = {"id": id, "version": version, "created_at": created_at, "updated_at": updated_at}
    data: Record = msgspec.json.decode(body)
    return meta | data
