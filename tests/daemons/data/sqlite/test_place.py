"""A place in an order is entered by SQL as the pure semantics mean it: on all pages, whatever ties."""

from __future__ import annotations

import itertools
import sys
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtos.daemons.data import Collection, MemoryBackend
from rtos.daemons.data.cursor import read_cursor, write_cursor
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.query import (
    Position,
    Query,
    is_after,
    matches,
    parse_filter,
    parse_sort,
    position_of,
    sorted_records,
)
from rtos.daemons.data.sqlite import records
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.place import compile_after
from rtos.daemons.data.sqlite.select import SELECT, select
from rtos.daemons.data.sqlite.writes import apply_each
from tests.support.effort import short_or_full

sys.path.insert(0, str(Path(__file__).parent))
from invented import DATA, FILTERS, SORTS

COLLECTIONS = (Collection("plain"), Collection("indexed", indexes=("a", "b")))


class FewMoments:
    """A clock that repeats itself, as it may in what was brought in from elsewhere."""

    def __init__(self) -> None:
        self._moments = itertools.cycle(f"2026-01-01T00:00:0{second}.000000Z" for second in (1, 1, 0, 1))

    def next(self) -> str:
        return next(self._moments)


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    connection = open_connection(tmp_path_factory.mktemp("db") / "x.db", COLLECTIONS, create=True)
    yield connection
    connection.close()


def walked(find, query) -> list[dict]:
    """All pages of a query, from cursor to cursor."""
    seen, after = [], None
    while page := find(attrs.evolve(query, after=after)):
        seen.extend(page)
        assert len(seen) < 20, "the same records again and again"
        cursor = write_cursor(position_of(page[-1], query.sort), query.sort)
        after = read_cursor("data/list", cursor, query.sort)
    return seen


@settings(max_examples=short_or_full(80, 400))
@given(
    collection=st.sampled_from(["plain", "indexed"]),
    data=st.lists(DATA, max_size=6),
    filter=st.just({}) | FILTERS,
    sort=SORTS,
    limit=st.integers(1, 4),
)
@example("plain", [{"a": 0.1 + 0.2}, {"a": 0.1}], {}, ["-a"], 1)
@example("plain", [{"a": "a\0b"}, {"a": "a"}, {"a": "a\0"}], {}, ["a"], 1)
@example("plain", [{"a": 2**53 + 1}, {"a": float(2**53)}, {"a": 2**53}], {}, ["-a"], 1)
@example("plain", [{"a": True}, {"a": False}, {"a": None}, {}], {}, ["a", "-created_at"], 1)
@example("plain", [{}] * 6, {}, ["created_at"], 1)
@example("plain", [{}] * 6, {}, ["-created_at", "id"], 2)
@example("plain", [{}] * 6, {}, ["a", "id", "b"], 2)
def test_all_pages_are_the_same_everywhere(connection, collection, data, filter, sort, limit) -> None:
    query = Query(where=parse_filter("x", filter), sort=parse_sort("x", sort), limit=limit)
    operations = [
        Operation(op="create", collection=collection, id=f"r{i}", data=d) for i, d in enumerate(data)
    ]
    connection.execute("BEGIN")
    try:
        everything = [c.record for c in apply_each(connection, [operations], FewMoments(), {})[0].unwrap()]
        wanted = sorted_records([r for r in everything if matches(query.where, r)], query.sort)
        indexes = ("a", "b") if collection == "indexed" else ()
        assert walked(lambda page: records.find(connection, collection, page, indexes), query) == wanted
    finally:
        connection.execute("ROLLBACK")
    assert trio.run(_walked_in_memory, operations, collection, query) == wanted


async def _walked_in_memory(operations, collection, query):
    backend = MemoryBackend(COLLECTIONS, FewMoments(), lambda *_: None)
    if operations:
        await backend.apply(None, operations)
    seen, after = [], None
    while page := await backend.find(None, collection, attrs.evolve(query, after=after)):
        seen.extend(page)
        after = position_of(page[-1], query.sort)
    return seen


@settings(max_examples=short_or_full(50, 200))
@given(data=st.lists(DATA, max_size=6), place=DATA, sort=SORTS, id=st.sampled_from(["", "r2", "r2x", "ä\0"]))
@example(data=[{}, {}, {}], place={"a": None}, sort=["id", "-a"], id="r2")
def test_a_place_where_nothing_stands_parts_the_records_too(connection, data, place, sort, id) -> None:
    keys = parse_sort("x", sort)
    position = position_of({"id": id, "version": 1, "created_at": "x", "updated_at": 7, **place}, keys)
    operations = [Operation(op="create", collection="plain", id=f"r{i}", data=d) for i, d in enumerate(data)]
    connection.execute("BEGIN")
    try:
        everything = [c.record for c in apply_each(connection, [operations], FewMoments(), {})[0].unwrap()]
        found = records.find(connection, "plain", Query(sort=keys, after=position))
        assert found == sorted_records([r for r in everything if is_after(position, r, keys)], keys)
    finally:
        connection.execute("ROLLBACK")


def plan_of(connection, query) -> str:
    selection = select(SELECT, "plain", query)
    assert selection.exact
    steps = connection.execute(f"EXPLAIN QUERY PLAN {selection.text}", selection.values)
    return " / ".join(row[3] for row in steps)


@pytest.mark.parametrize("sort", [None, ["created_at"], ["-created_at"], ["-created_at", "-id"]])
def test_the_next_page_of_the_default_order_is_entered_by_its_index(connection, sort) -> None:
    keys = parse_sort("data/list", sort)
    place = position_of({"id": "r1", "created_at": "2026-01-01T00:00:00.000000Z"}, keys)
    # A filter, even an empty one, must not hide the place from SQLite.
    for filter in ({}, {"a": 1}):
        plan = plan_of(connection, Query(where=parse_filter("x", filter), sort=keys, after=place))
        sign = "<" if keys[0].descending else ">"
        assert plan == f"SEARCH c_plain USING INDEX c_plain$created ((created_at,id){sign}(?,?))"


def test_an_order_in_two_directions_still_enters_by_its_first_column(connection) -> None:
    keys = parse_sort("data/list", ["created_at", "-id"])
    place = position_of({"id": "r1", "created_at": "2026-01-01T00:00:00.000000Z"}, keys)
    plan = plan_of(connection, Query(sort=keys, after=place))
    assert plan.startswith("SEARCH c_plain USING INDEX c_plain$created (created_at>?)")


@pytest.mark.parametrize(
    ("sort", "rank"),
    [
        (["a.0"], (3, 1)),  # may be a place in a list
        (["a"], (4, "a\0b")),  # a text that may end early in SQLite
        (["a"], (3, 2**64)),
        (["created_at"], (3, 1)),  # never of that kind; somebody made it up
        (["version"], (1, 0)),
    ],
)
def test_what_cannot_be_said_exactly_is_left_to_the_semantics(sort, rank) -> None:
    assert compile_after(Position((rank,), "r1"), parse_sort("x", sort)) is None


def test_no_value_of_a_place_is_written_into_the_statement() -> None:
    evil = "x'); DROP TABLE c_plain; --"
    keys = parse_sort("x", ["evil_path", "-created_at"])
    place = compile_after(Position(((4, evil), (4, evil)), evil), keys)
    assert place is not None
    assert "DROP" not in place.text
    assert "evil_path" not in place.text


def test_the_widest_sort_is_still_one_statement(connection) -> None:
    sort = [f"{'-' * (number % 2)}f{number}" for number in range(16)]
    keys = parse_sort("x", sort)
    place = Position(tuple((3, number) for number in range(16)), "r1")
    find = partial(records.find, connection, "plain")
    assert find(Query(sort=keys, after=place)) == []
