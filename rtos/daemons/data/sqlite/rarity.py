"""Which words of a search are worth looking for. Synchronous; runs on a worker thread.

A search looks at every record that holds one of its words, so one word that nearly
all of them hold makes it slow, and tells them apart least: BM25 gives it next to no
weight. To count the records that hold a word costs a twentieth of ranking them.

Law: a search of few words is left as it is, and at least as many stay of a longer one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.daemons.data.sqlite.schema import rows, text_table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

FEW: Final = 3
"""A search of so many words is not cut."""
RANKED: Final = 40_000
"""How many records may be ranked, words that they hold counted each, before a common word is left out.

Of 100 000 records a search of 32 words takes 50 ms so, where it took 190, and of the best
ten of the whole search nine are among the first fifty.
"""


def rarest(connection: apsw.Connection, collection: str, words: Sequence[str]) -> list[str]:
    """The words that few records hold, as many as together find ``RANKED`` at most, in the order given."""
    if len(words) <= FEW:
        return list(words)
    counts = _counts(connection, collection, words)
    kept: set[str] = set()
    total = 0
    for word in sorted(words, key=counts.__getitem__):
        total += counts[word]
        if total > RANKED and len(kept) >= FEW:
            break
        kept.add(word)
    return [word for word in words if word in kept]


def _counts(connection: apsw.Connection, collection: str, words: Sequence[str]) -> dict[str, int]:
    """How many records hold each word, in any of its inflections."""
    text_table = text_table_of(collection)
    vocabulary = f"{text_table}$words"
    # Of the connection, and gone with it: nothing of it is in the file.
    connection.execute(
        f"CREATE VIRTUAL TABLE IF NOT EXISTS temp.{vocabulary} USING fts5vocab(main, {text_table}, row)"
    )
    tokenize = connection.fts5_tokenizer("porter", ["unicode61"])
    counts: dict[str, int] = {}
    for word in words:
        tokens = tokenize(word.encode(), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False)
        # Of a word that is read as several, each has to be there: the rarest bounds them.
        counts[word] = min(
            (_count(connection, vocabulary, str(token)) for group in tokens for token in group), default=0
        )
    return counts


def _count(connection: apsw.Connection, vocabulary: str, token: str) -> int:
    found = rows(connection, f"SELECT doc FROM temp.{vocabulary} WHERE term = ?", (token,))
    return int(found[0][0]) if found else 0
