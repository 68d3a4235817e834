"""A search looks at few records, and loses nothing that is rare."""

from __future__ import annotations

import pytest

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.sqlite import searching
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.writes import apply_each

COMMON, HALF, RARE = "harbour", "tide", "quay"


@pytest.fixture
def connection(tmp_path):
    connection = open_connection(
        tmp_path / "x.db", [Collection("notes", search=("text", "title"))], create=True
    )
    operations = [
        Operation(
            op="create",
            collection="notes",
            id=f"{number:03}",
            data={
                "text": f"{COMMON} {HALF if number % 2 else ''} {RARE if number % 50 == 0 else ''}",
                "title": "café-o'clock",
            },
        )
        for number in range(200)
    ]
    apply_each(connection, [operations], RecordClock(), {"notes": ("text", "title")})[0].unwrap()
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("most", "words", "kept"),
    [
        (1000, [COMMON, HALF, RARE], [RARE, HALF, COMMON]),
        (150, [COMMON, HALF, RARE], [RARE, HALF]),
        (50, [COMMON, HALF, RARE], [RARE]),
        (1, [COMMON, HALF], [HALF]),
        # The only one that is held, whatever it costs; what nobody holds is no reason to leave it out.
        (1, [COMMON, "nowhere"], ["nowhere", COMMON]),
        (1, [COMMON], [COMMON]),
        (1, ["nowhere", "never"], ["nowhere", "never"]),
        (1, [], []),
    ],
)
def test_the_rarest_words_are_kept(monkeypatch, connection, most, words, kept) -> None:
    monkeypatch.setattr(searching, "MOST_MATCHED", most)
    assert searching.rarest(connection, "notes", words, limit=1) == kept


def test_words_are_counted_as_they_are_found(monkeypatch, connection) -> None:
    """Without their endings, accents and capitals."""
    monkeypatch.setattr(searching, "MOST_MATCHED", 50)
    assert searching.rarest(connection, "notes", ["HARBOURS", "quays"], limit=1) == ["quays"]
    assert searching.rarest(connection, "notes", ["cafe", "Tides", "quay"], limit=1) == ["quay"]


def test_what_holds_the_rare_word_is_found_first_with_and_without_the_common_ones(
    monkeypatch, connection
) -> None:
    asked = f"{COMMON} {HALF} {RARE}"
    rare = {"000", "050", "100", "150"}
    whole = searching.search(connection, "notes", asked, 4)
    monkeypatch.setattr(searching, "MOST_MATCHED", 10)
    pruned = searching.search(connection, "notes", asked, 4)
    assert {record["id"] for record in whole} == {record["id"] for record in pruned} == rare


def test_a_commoner_word_counts_where_the_rare_ones_find_too_few(monkeypatch, connection) -> None:
    monkeypatch.setattr(searching, "MOST_MATCHED", 10)
    asked = f"{COMMON} {HALF} {RARE}"
    assert len(searching.search(connection, "notes", asked, 50)) == 50
    assert searching.rarest(connection, "notes", asked.split(), limit=5) == [RARE, HALF]


def test_a_search_of_common_words_looks_at_no_more_records_than_it_may(monkeypatch, connection) -> None:
    def looked_at() -> int:
        steps = 0

        def count() -> bool:
            nonlocal steps
            steps += 1
            return False

        connection.set_progress_handler(count, 10)
        searching.search(connection, "notes", f"{COMMON} {RARE}", 1)
        connection.set_progress_handler(None)
        return steps

    everything = looked_at()
    monkeypatch.setattr(searching, "MOST_MATCHED", 10)
    assert looked_at() * 3 < everything
