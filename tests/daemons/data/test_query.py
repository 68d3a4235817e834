"""What a filter means: a table per operator, and laws over invented ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.daemons.data.query import Every, SortKey, matches, parse_filter, parse_sort, sorted_records
from rtos.errors import CommandRejected

RECORD = {
    "n": 1,
    "f": 1.0,
    "t": True,
    "z": None,
    "s": "Straße",
    "l": ["x", 1, None],
    "d": {"e": {"f": 2}},
    "e": "",
}

MEANS = [
    # A bare value is $eq, and null is a value like any other.
    ({}, True),
    ({"n": 1}, True),
    ({"n": 2}, False),
    ({"z": None}, True),
    # A missing field equals nothing, not even null; so it differs from everything.
    ({"missing": None}, False),
    ({"missing": {"$ne": None}}, True),
    ({"missing": {"$ne": 1}}, True),
    ({"missing": {"$exists": False}}, True),
    ({"z": {"$exists": True}}, True),
    # Numbers are one kind, and truth is not one of them.
    ({"n": 1.0}, True),
    ({"f": 1}, True),
    ({"n": True}, False),
    ({"t": 1}, False),
    ({"t": True}, True),
    # What is of another kind does not compare, rather than fail.
    ({"n": {"$gt": "0"}}, False),
    ({"n": {"$lte": "0"}}, False),
    ({"s": {"$gt": 0}}, False),
    ({"z": {"$gte": None}}, False),
    ({"missing": {"$lt": 1}}, False),
    ({"l": {"$gt": []}}, False),
    ({"t": {"$gt": False}}, True),
    # Several keys, and several operators, must all hold.
    ({"n": 1, "t": True}, True),
    ({"n": 1, "t": False}, False),
    ({"n": {"$gt": 0, "$lt": 1}}, False),
    ({"n": {"$gte": 1, "$lte": 1}}, True),
    # Nothing is in an empty list, and everything is outside of it.
    ({"n": {"$in": []}}, False),
    ({"n": {"$nin": []}}, True),
    ({"missing": {"$nin": [None]}}, True),
    ({"z": {"$in": [None]}}, True),
    ({"t": {"$in": [1]}}, False),
    # $contains: part of a text, whatever its case; or a member of a list.
    ({"s": {"$contains": "STRASSE"}}, True),
    ({"s": {"$contains": ""}}, True),
    ({"s": {"$contains": "strase"}}, False),
    ({"l": {"$contains": "x"}}, True),
    ({"l": {"$contains": "X"}}, False),
    ({"l": {"$contains": True}}, False),
    ({"l": {"$contains": None}}, True),
    ({"n": {"$contains": 1}}, False),
    # $regex: found anywhere, in text only.
    ({"s": {"$regex": "^Str.*e$"}}, True),
    ({"s": {"$regex": "ß"}}, True),
    ({"n": {"$regex": "1"}}, False),
    # Paths: a key of a mapping, or a place in a list.
    ({"d.e.f": 2}, True),
    ({"d.e": {"f": 2}}, True),
    ({"d.e.g": {"$exists": False}}, True),
    ({"l.1": 1}, True),
    ({"l.9": {"$exists": False}}, True),
    ({"n.x": {"$exists": False}}, True),
    # Together.
    ({"$and": []}, True),
    ({"$or": []}, False),
    ({"$or": [{"n": 2}, {"t": True}]}, True),
    ({"$and": [{"n": 1}, {"n": 2}]}, False),
    ({"$not": {"n": 2}}, True),
    ({"$not": {"missing": {"$gt": 1}}}, True),
    ({"n": 1, "$or": [{"z": 1}, {"$not": {"z": 1}}]}, True),
]


@pytest.mark.parametrize(("filter", "wanted"), MEANS, ids=[str(row[0]) for row in MEANS])
def test_what_a_filter_means(filter, wanted) -> None:
    assert matches(parse_filter("data/list", filter), RECORD) is wanted


MALFORMED = [
    ({"$nor": []}, "'\\$nor' is no field"),
    ({"n": {"$near": 1}}, "no operator '\\$near'"),
    ({"n": {"$gt": 1, "x": 2}}, "no operator 'x'"),
    ({"n": {"$in": 1}}, "\\$in needs a list"),
    ({"n": {"$exists": 1}}, "\\$exists needs true or false"),
    ({"n": {"$regex": "("}}, "is no pattern"),
    ({"n": {"$regex": 1}}, "\\$regex needs"),
    ({"n": {"$regex": "x" * 257}}, "\\$regex needs"),
    ({"n": {"$regex": "(a+)+$"}}, "may never end"),
    ({"$or": {}}, "\\$or needs a list"),
    ({"$and": [1]}, "\\$and needs a list"),
    ({"$not": []}, "\\$not needs a filter"),
    ({"": 1}, "'' is no field"),
    ({"a..b": 1}, "is no field"),
    ({'a" OR 1': 1}, "is no field"),
    ({"a'); DROP TABLE c_kv; --": 1}, "is no field"),
    ({"$and": [{1: 2}]}, "1 is no field"),
    ({"n": {1: 2, "$gt": 3}}, "no operator 1"),
    ({"n": {1, 2}}, "is a set, which no record holds"),
    ({"n": {"$in": [b"x"]}}, "is a bytes, which no record holds"),
    ({"n": {1: 2}}, "is a dict, which no record holds"),
    ({"n." + "1" * 500: 1}, "a field has 502 characters"),
    ({"n": {"$regex": "a?" * 30}}, "may never end"),
]


@pytest.mark.parametrize(("filter", "text"), MALFORMED, ids=[str(row[0]) for row in MALFORMED])
def test_a_malformed_filter_is_refused_with_its_place(filter, text) -> None:
    with pytest.raises(CommandRejected, match=text) as caught:
        parse_filter("data/list", filter)
    assert (caught.value.command, caught.value.parameter) == ("data/list", "filter")


def test_a_filter_that_is_nested_without_end_is_refused() -> None:
    filter = {"n": 1}
    for _ in range(50):
        filter = {"$not": filter}
    with pytest.raises(CommandRejected, match="deep"):
        parse_filter("data/list", filter)


def test_a_value_that_is_nested_without_end_is_refused() -> None:
    value: list = []
    value.append(value)
    with pytest.raises(CommandRejected, match="nested more than 64 deep"):
        parse_filter("data/list", {"n": value})


def test_a_tuple_is_a_list_in_a_filter_as_it_is_in_a_record() -> None:
    record = {"l": ["x", ["y"]], "d": {}}
    for filter in ({"l": ("x", ("y",))}, {"l": {"$contains": ("y",)}}, {"l.0": {"$in": ("x",)}}):
        assert matches(parse_filter("data/list", filter), record)
    assert not matches(parse_filter("data/list", {"d": ()}), record)


def test_a_filter_is_not_changed_by_who_gave_it() -> None:
    given = {"l": ["x"]}
    node = parse_filter("data/list", given)
    given["l"].append("y")
    assert matches(node, {"l": ["x"]})


def test_no_filter_is_every_record() -> None:
    assert parse_filter("data/list", None) == Every(())


def test_sort_keys() -> None:
    assert parse_sort("data/list", ["-n", "d.e"]) == (SortKey("n", descending=True), SortKey("d.e"))
    assert parse_sort("data/list", None) == parse_sort("data/list", ["created_at", "id"])
    for bad in (["--n"], [""], ["-"], ["n desc"], ["$n"]):
        with pytest.raises(CommandRejected, match="is no field") as caught:
            parse_sort("data/list", bad)
        assert caught.value.parameter == "sort"
    with pytest.raises(CommandRejected, match="17 keys; use at most 16") as caught:
        parse_sort("data/list", ["n"] * 17)
    assert caught.value.parameter == "sort"


def test_kinds_are_ordered() -> None:
    ascending = [
        {"id": "00"},
        {"id": "01", "x": None},
        {"id": "02", "x": False},
        {"id": "03", "x": True},
        {"id": "04", "x": -1},
        {"id": "05", "x": -0.5},
        {"id": "06", "x": 2},
        {"id": "07", "x": ""},
        {"id": "08", "x": "Z"},
        {"id": "09", "x": "a"},
        {"id": "10", "x": "ä"},
        {"id": "11", "x": [2]},
        {"id": "12", "x": [1]},  # lists are equal among themselves: the id decides
        {"id": "13", "x": {}},
    ]
    assert sorted_records(reversed(ascending), parse_sort("x", ["x"])) == ascending
    assert sorted_records(ascending, parse_sort("x", ["-x"])) == ascending[::-1]


def test_the_first_key_comes_first_and_the_id_last() -> None:
    records = [{"id": i, "a": a, "b": b} for i, a, b in (("1", 1, 2), ("2", 0, 2), ("3", 1, 1), ("0", 1, 1))]
    assert [r["id"] for r in sorted_records(records, parse_sort("x", ["-a", "b"]))] == ["0", "3", "1", "2"]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, -1.0]) | st.sampled_from("abc"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)
MAYBE = st.fixed_dictionaries({}, optional={"x": VALUES})


@given(record=MAYBE, value=VALUES)
def test_an_operator_and_its_opposite_part_all_records(record, value) -> None:
    for one, other, operand in (("$eq", "$ne", value), ("$in", "$nin", [value])):
        first = matches(parse_filter("x", {"x": {one: operand}}), record)
        assert first is not matches(parse_filter("x", {"x": {other: operand}}), record)
        assert first is not matches(parse_filter("x", {"$not": {"x": {one: operand}}}), record)


@given(record=MAYBE, value=VALUES)
def test_at_most_one_of_less_equal_and_greater_holds(record, value) -> None:
    held = [matches(parse_filter("x", {"x": {sign: value}}), record) for sign in ("$lt", "$eq", "$gt")]
    assert sum(held) <= 1
    if "x" in record and type(record["x"]) is type(value) and isinstance(value, (int, str)):
        assert sum(held) == 1


@given(values=st.lists(MAYBE, max_size=6))
def test_the_order_is_total(values) -> None:
    records = [{"id": str(number), **value} for number, value in enumerate(values)]
    for sort in (["x"], ["-x"]):
        wanted = sorted_records(records, parse_sort("x", sort))
        assert sorted_records(reversed(records), parse_sort("x", sort)) == wanted
