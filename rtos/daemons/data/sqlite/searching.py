"""Records by the words in them, by BM25. Synchronous; runs on a worker thread.

A search looks at every record that holds one of its words, so its price is that of its
commonest word: 120 ms for one that 100 000 records hold, 2.7 for one that 3450 do. A word
that most records hold says next to nothing about any of them, to BM25 too. So where many
records would match, the rarest words are what is looked for: how many records hold a word
is known for a fiftieth of that price.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.daemons.data.plain import wanted_words
from rtos.daemons.data.sqlite.records import record_of
from rtos.daemons.data.sqlite.schema import TOKENIZER, rows, table_of, text_table_of

if TYPE_CHECKING:
    from rtos.daemons.data.operation import Record

MOST_MATCHED: Final = 20_000
"""Records that a search looks at, while its rarest word is in fewer: some 20 ms."""


def search(connection: apsw.Connection, collection: str, text: str, limit: int) -> list[Record]:
    """The records that hold words of a text, best first; of many words the rarest ones count."""
    words = rarest(connection, collection, wanted_words(text), limit=limit)
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
    return [{**record_of(row[:5]), "score": -row[5]} for row in found]


def rarest(connection: apsw.Connection, collection: str, words: list[str], *, limit: int) -> list[str]:
    """Those of the words that together are in at most ``MOST_MATCHED`` records, but in ``limit`` at least."""
    if len(words) < 2:
        return words
    kept: list[str] = []
    matched = 0
    for word, count in sorted(_held(connection, collection, words), key=lambda held: held[1]):
        if kept and matched >= limit and matched + count > MOST_MATCHED:
            break
        matched += count
        kept.append(word)
    return kept


def _held(connection: apsw.Connection, collection: str, words: list[str]) -> list[tuple[str, int]]:
    """How many records hold each word."""
    vocabulary = f"{table_of(collection)}$terms"
    text_table = text_table_of(collection)
    connection.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{vocabulary} USING fts5vocab (main, {text_table}, row)"
    )
    name, *arguments = TOKENIZER.split()
    tokenizer = connection.fts5_tokenizer(name, arguments)
    held = f"SELECT doc FROM temp.{vocabulary} WHERE term = ?"
    found = []
    for word in words:
        # A word of several terms is a phrase, which no more records hold than hold the rarest of them.
        stems = tokenizer(
            word.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False
        )
        counts = [sum(count for (count,) in rows(connection, held, (stem,))) for stem in stems]
        found.append((word, min(counts, default=0)))
    return found
