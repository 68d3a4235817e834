"""Writers of one transaction: as if each had been alone, one after the other, on the pure semantics."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.operation import Operation, apply
from rtos.daemons.data.sqlite import log, records, searching
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.schema import MOST_ROWS
from rtos.daemons.data.sqlite.writes import apply_each
from rtos.errors import StoreError
from tests.support.effort import short_or_full

COLLECTIONS = (Collection("plain"), Collection("searched", search=("text",)))
SEARCH = {each.name: each.search for each in COLLECTIONS}
WORDS = ("harbour", "tide", "quay")

operations = st.builds(
    Operation,
    op=st.sampled_from(["create", "update", "delete", "store"]),
    collection=st.sampled_from(["plain", "searched"]),
    id=st.sampled_from("abc"),
    data=st.fixed_dictionaries({"text": st.sampled_from(WORDS)}, optional={"parts": st.just([1])}),
    expected_version=st.sampled_from([None, None, None, 1, 2]),
)
Key = tuple[str, str]


class FewMoments(RecordClock):
    """Gives a text that grows, so that it can be told again."""

    def __init__(self) -> None:
        super().__init__()
        self._ticks = count(1)

    def next(self) -> str:
        return f"2026-01-01T00:00:00.{next(self._ticks):06}Z"


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    connection = open_connection(tmp_path_factory.mktemp("db") / "x.db", COLLECTIONS, create=True)
    yield connection
    connection.close()


def one_by_one(writers: list[list[Operation]], clock: RecordClock, there: dict[Key, Any]) -> list[Any]:
    """What each writer is told, ``there`` being what is there: a failed one leaves nothing."""
    told: list[Any] = []
    for operations in writers:
        changed = dict(there)
        changes = []
        try:
            for operation in operations:
                key = operation.collection, operation.id
                change = apply(operation, changed.get(key), clock.next())
                changes.append((change.verb, change.record))
                changed[key] = None if change.verb == "deleted" else change.record
        except StoreError as error:
            told.append(str(error))
            continue
        there.clear()
        there.update({key: record for key, record in changed.items() if record is not None})
        told.append(changes)
    return told


@settings(max_examples=short_or_full(60, 300))
@given(
    first=st.lists(st.lists(operations, max_size=3), max_size=4),
    second=st.lists(st.lists(operations, max_size=3), max_size=4),
)
def test_writers_together_do_what_each_would_do_alone(connection, first, second) -> None:
    clock, plain, there = FewMoments(), FewMoments(), dict[Key, Any]()
    connection.execute("BEGIN")
    try:
        entries = []
        for writers in (first, second):
            replies = apply_each(connection, writers, clock, SEARCH)
            told = [
                [(change.verb, change.record) for change in reply.value]
                if hasattr(reply, "value")
                else str(reply.error)
                for reply in replies
            ]
            assert told == one_by_one(writers, plain, there)
            entries += [
                change.noted()
                for reply in replies
                if hasattr(reply, "value")
                for change in reply.value
                if change.record is not None
            ]
        for collection in SEARCH:
            for id in "abc":
                assert records.get(connection, collection, id) == there.get((collection, id))
        for word in WORDS:
            found = {record["id"] for record in searching.search(connection, "searched", word, 9)}
            wanted = {id for (name, id), one in there.items() if name == "searched" and one["text"] == word}
            assert found == wanted
        page = log.read(connection, after=0, limit=1000)
        assert page.items == entries
        assert [one["sequence"] for one in page.items] == list(range(1, len(entries) + 1))
    finally:
        connection.execute("ROLLBACK")


def test_what_one_writer_is_told_is_not_part_of_what_another_is(connection) -> None:
    connection.execute("BEGIN")
    try:
        create = Operation(op="create", collection="plain", id="x", data={"parts": [1]})
        update = Operation(op="update", collection="plain", id="x", data={"text": "tide"})
        made, changed = apply_each(connection, [[create], [update]], FewMoments(), SEARCH)
        made.unwrap()[0].record["parts"].append(2)
        assert changed.unwrap()[0].record["parts"] == [1]
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize("number", [1, MOST_ROWS - 1, MOST_ROWS, MOST_ROWS + 1, 3 * MOST_ROWS + 5])
def test_any_number_of_records_is_written_in_few_statements(connection, number: int) -> None:
    statements: list[str] = []
    writers = [
        [Operation(op="create", collection="searched", id=f"{index}", data={"text": "quay"})]
        for index in range(number)
    ]
    connection.execute("BEGIN")
    connection.trace_v2(1, lambda event: statements.append(event["sql"]))
    try:
        apply_each(connection, writers, FewMoments(), SEARCH)
        connection.trace_v2(0, None)
        assert len(searching.search(connection, "searched", "quay", 1000)) == number
        # Three tables, each in pieces of a power of two, beside a look at the records and at the log.
        inserts = [sql for sql in statements if sql.startswith("INSERT INTO c") and "VALUES" in sql]
        assert 3 <= len(inserts) <= 3 * (number // MOST_ROWS + MOST_ROWS.bit_length())
    finally:
        connection.trace_v2(0, None)
        connection.execute("ROLLBACK")
