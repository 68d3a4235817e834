"""SQLite means what the pure semantics mean: on every invented query, over invented records."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.query import Query, matches, parse_filter, parse_sort, sorted_records
from rtos.daemons.data.sqlite import records
from rtos.daemons.data.sqlite.compile import compile_order, compile_where
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.writes import apply_each
from tests.support.effort import short_or_full

sys.path.insert(0, str(Path(__file__).parent))
from invented import DATA, FILTERS, SORTS

COLLECTIONS = (Collection("plain"), Collection("indexed", indexes=("a", "b")))


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    connection = open_connection(tmp_path_factory.mktemp("db") / "x.db", COLLECTIONS, create=True)
    yield connection
    connection.close()


@settings(max_examples=short_or_full(100, 600))
@given(
    collection=st.sampled_from(["plain", "indexed"]),
    data=st.lists(DATA, max_size=6),
    filter=FILTERS,
    sort=SORTS,
    limit=st.integers(1, 7),
)
@example("plain", [{"a": "a\0b"}, {"a": "a"}], {"a": "a"}, ["a"], 5)
@example("plain", [{"a": 2**53 + 1}, {"a": float(2**53)}], {"a": {"$gt": float(2**53)}}, ["-a"], 5)
@example("plain", [{}, {"a": None}], {"$not": {"a": {"$gt": 1}}}, ["-a"], 5)
@example("indexed", [{"a": [1]}, {"a": "[1]"}], {"a": "[1]"}, ["a"], 5)
def test_sqlite_agrees_with_the_semantics(connection, collection, data, filter, sort, limit) -> None:
    query = Query(where=parse_filter("x", filter), sort=parse_sort("x", sort), limit=limit)
    operations = [
        Operation(op="create", collection=collection, id=f"r{i}", data=d) for i, d in enumerate(data)
    ]
    random.Random(len(data)).shuffle(operations)
    connection.execute("BEGIN")
    try:
        changes = apply_each(connection, [operations], RecordClock(), {})[0].unwrap()
        everything = [change.record for change in changes]
        wanted = sorted_records([r for r in everything if matches(query.where, r)], query.sort)[:limit]
        indexes = ("a", "b") if collection == "indexed" else ()
        found = records.find(connection, collection, query, indexes)
        assert [r["id"] for r in found] == [r["id"] for r in wanted]
        assert repr(sorted(map(str, found))) == repr(sorted(map(str, wanted)))
    finally:
        connection.execute("ROLLBACK")


@pytest.mark.parametrize(
    "filter",
    [
        {"a": "x"},
        {"a": 1.5},
        {"a": None},
        {"a": {"$gte": 3}},
        {"a": {"$ne": True}},
        {"a": {"$in": ["x", 1, None]}},
        {"a": {"$nin": []}},
        {"a.b": {"$exists": True}},
        {"$or": [{"a": 1}, {"$not": {"version": {"$lt": 3}}}]},
        {"id": {"$in": [f"r{n}" for n in range(500)]}},
    ],
    ids=lambda filter: str(filter)[:40],
)
def test_what_sql_can_say_exactly_is_left_to_it(filter) -> None:
    where, exact = compile_where(parse_filter("x", filter))
    assert where is not None
    assert exact


@pytest.mark.parametrize(
    "filter", [{"a": {"$regex": "x"}}, {"a": [1]}, {"a.0": 1}, {"a": {"$contains": "x"}}, {"a": "\0"}]
)
def test_what_it_cannot_say_is_not_said(filter) -> None:
    where, exact = compile_where(parse_filter("x", filter))
    assert (where, exact) == (None, False)


def test_the_part_that_can_be_said_narrows_the_rest() -> None:
    where, exact = compile_where(parse_filter("x", {"b": 1, "a": {"$regex": "x"}}))
    assert where is not None
    assert where.values[-1] == '$."b"'
    assert not exact


def test_no_value_and_no_path_is_written_into_a_statement() -> None:
    evil = "x'); DROP TABLE c_plain; --"
    where, _ = compile_where(parse_filter("x", {"evil_path": evil, "$or": [{"b": {"$in": [evil, 4711]}}]}))
    order = compile_order(parse_sort("x", ["evil_path"]))
    assert where is not None
    assert order is not None
    for word in ("DROP", "evil_path", "4711"):
        assert word not in where.text + order.text


def test_a_declared_index_is_used(connection) -> None:
    for collection, indexes in (("plain", ()), ("indexed", ("a", "b"))):
        where, _ = compile_where(parse_filter("x", {"a": "x"}), indexes)
        assert where is not None
        sql = f"EXPLAIN QUERY PLAN SELECT id FROM c_{collection} WHERE {where.text}"
        plan = " ".join(row[3] for row in connection.execute(sql, where.values))
        assert ("c_indexed$by_a" in plan) is (collection == "indexed"), plan


def test_the_default_order_needs_no_sorting(connection) -> None:
    order = compile_order(parse_sort("x", None))
    assert order is not None
    plan = " ".join(
        row[3]
        for row in connection.execute(f"EXPLAIN QUERY PLAN SELECT id FROM c_plain ORDER BY {order.text}")
    )
    assert "TEMP B-TREE" not in plan
    assert "c_plain$created" in plan


def test_a_condition_of_any_width_and_depth_is_answered_as_it_is_meant(connection) -> None:
    """However what is nested adds up: in depth, in values, or hidden in a part of a part."""
    deep = {"a": 1}
    for _ in range(14):
        deep = {"$or": [deep, *({"a": -number} for number in range(100))]}
    wide = {"$or": [{"$or": [{"a": -n * m} for n in range(190)]} for m in range(190)]}
    both = {"$and": [{"$or": [{"a": n} for n in range(150)]} for _ in range(150)], "b": {"$ne": 7}}
    several = {"$and": [{"$or": [{"a": n} for n in range(60)]} for _ in range(10)]}
    data = [{"a": 1}, {"a": 7000}, {"a": 1, "b": 7}, {}]
    operations = [Operation(op="create", collection="plain", id=f"r{i}", data=d) for i, d in enumerate(data)]
    connection.execute("BEGIN")
    try:
        everything = [
            change.record for change in apply_each(connection, [operations], RecordClock(), {})[0].unwrap()
        ]
        for filter, ids in ((deep, "02"), (wide, ""), (both, "0"), (several, "02"), ({"$not": deep}, "13")):
            query = Query(where=parse_filter("x", filter), sort=parse_sort("x", ["id"] * 16))
            assert [r["id"] for r in records.find(connection, "plain", query)] == [f"r{i}" for i in ids]
            assert [r["id"] for r in everything if matches(query.where, r)] == [f"r{i}" for i in ids]
    finally:
        connection.execute("ROLLBACK")


def test_what_fits_is_said_although_something_else_does_not() -> None:
    long = {"$or": [{"a": number} for number in range(300)]}
    where, exact = compile_where(parse_filter("x", {"$and": [long, {"b": 1}]}))
    assert where is not None
    assert where.values == ('$."b"', 1, '$."b"')
    assert not exact


def test_a_condition_of_any_length_is_answered(connection) -> None:
    many = [{"a": f"v{number}"} for number in range(3000)]
    for filter in ({"$or": many}, {"$and": many}, {"$not": {"$or": many}}, {"a": {"$in": list(range(3000))}}):
        query = Query(where=parse_filter("x", filter), sort=parse_sort("x", None))
        assert records.find(connection, "plain", query) == []
