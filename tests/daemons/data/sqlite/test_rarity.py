"""Which words of a search are looked for, and what that changes of what is found."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rtos.daemons.data import Collection
from rtos.daemons.data.sqlite import rarity, records
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.schema import table_of, text_table_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import apsw  # noqa: TID251 - its type

NOTES = Collection("notes", search=("body",))
COMMON = ("harbour", "quay", "crane", "ship")
"""Words that all records hold."""
AT = "2026-01-01T00:00:00.000000Z"


@pytest.fixture
def notes(tmp_path: Path) -> Iterator[apsw.Connection]:
    """A hundred notes with the common words; each ten have a word of their own, and each one has one."""
    connection = open_connection(tmp_path / "a.db", [NOTES], create=True)
    assert connection is not None
    with closing(connection):
        for number in range(100):
            text = f"{' '.join(COMMON)} tens{number // 10} ones{number}"
            connection.execute(
                f"INSERT INTO {table_of('notes')} (row, id, version, created_at, updated_at, body)"
                " VALUES (?, ?, 1, ?, ?, json_object('body', ?))",
                (number, f"n{number:02}", AT, AT, text),
            )
            connection.execute(
                f"INSERT INTO {text_table_of('notes')} (rowid, body) VALUES (?, ?)", (number, text)
            )
        yield connection


@pytest.mark.parametrize(
    ("why", "words", "expected"),
    [
        ("few are left as they are, however common", COMMON[:3], COMMON[:3]),
        ("at least as many stay of more", COMMON, ("harbour", "quay", "crane")),
        (
            "the rarest, in their order",
            ("quay", "ones5", "crane", "tens7", "tens3"),
            ("ones5", "tens7", "tens3"),
        ),
        ("what nobody holds costs nothing", (*COMMON, "none", "ones5", "tens1"), ("none", "ones5", "tens1")),
        (
            "as many as together find no more",
            ("ones1", "ones2", "ones3", "tens4", "tens5", "tens6"),
            ("ones1", "ones2", "ones3", "tens4", "tens5"),
        ),
    ],
)
def test_the_rarest_are_kept(
    why: str,
    words: tuple[str, ...],
    expected: tuple[str, ...],
    notes: apsw.Connection,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rarity, "RANKED", 25)
    assert tuple(rarity.rarest(notes, "notes", words)) == expected, why


@pytest.mark.parametrize(
    ("word", "count"),
    [
        ("QUAY", 100),
        ("cranes", 100),
        ("Håŕbour", 100),
        ("tens3", 10),
        ("ones7_tens3", 1),
        ("none", 0),
        ("_", 0),
    ],
)
def test_a_word_is_counted_as_it_is_searched(word: str, count: int, notes: apsw.Connection) -> None:
    counts = rarity._counts(notes, "notes", [word])
    assert counts == {word: count}
    # Never fewer than a search finds, or a common word would pass for a rare one.
    assert len(records._search(notes, "notes", [word], 500)) <= count


def test_a_search_of_many_words_finds_no_fewer_records(
    notes: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rarity, "RANKED", 25)
    text = " ".join((*COMMON, "ones5", "tens7", "tens3"))
    best = [record["id"] for record in records.search(notes, "notes", text, 5)]
    assert best == ["n05", "n30", "n31", "n32", "n33"]
    # The rare words find 21, so the common ones are asked for the rest.
    assert len(records.search(notes, "notes", text, 50)) == 50
    assert {record["id"] for record in records.search(notes, "notes", text, 100)} == {
        f"n{number:02}" for number in range(100)
    }


def test_the_file_is_left_without_a_trace(notes: apsw.Connection) -> None:
    before = list(notes.execute("SELECT name, sql FROM main.sqlite_schema"))
    records.search(notes, "notes", " ".join(COMMON), 5)
    records.search(notes, "notes", " ".join(COMMON), 5)
    assert list(notes.execute("SELECT name, sql FROM main.sqlite_schema")) == before
    assert notes.changes() == 1
