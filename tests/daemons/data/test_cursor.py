"""Places in an order, and the text that they are handed out as."""

from __future__ import annotations

import base64
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.daemons.data.cursor import read_cursor, write_cursor
from rtos.daemons.data.query import Position, is_after, parse_sort, position_of, sorted_records
from rtos.errors import CommandRejected

VALUES = (
    st.none()
    | st.booleans()
    | st.sampled_from([0, 1, 1.0, 0.1, -0.0, 2**53, 2**53 + 1, 2**63 - 1, "", "a", "a\0b", "ä", [], [1], {}])
)
RECORDS = st.lists(st.fixed_dictionaries({}, optional={"x": VALUES, "y": VALUES}), max_size=6).map(
    lambda found: [{"id": str(number), "created_at": "t", **data} for number, data in enumerate(found)]
)
SORTS = st.lists(st.sampled_from(["x", "-x", "y", "-y", "id", "-id", "created_at", "x.z"]), max_size=3)


@given(records=RECORDS, sort=SORTS)
def test_behind_a_record_stand_those_that_come_after_it(records, sort) -> None:
    keys = parse_sort("x", sort)
    ordered = sorted_records(records, keys)
    for place, record in enumerate(ordered):
        position = position_of(record, keys)
        assert [each for each in ordered if is_after(position, each, keys)] == ordered[place + 1 :]


def test_records_of_one_timestamp_are_told_apart_by_their_ids() -> None:
    records = [{"id": id, "created_at": "2026-01-01T00:00:00.000000Z"} for id in "abc"]
    for sort, wanted in ((["created_at"], "c"), (["-created_at"], "a")):
        keys = parse_sort("x", sort)
        position = position_of(records[1], keys)
        assert [record["id"] for record in records if is_after(position, record, keys)] == [wanted]


@given(records=RECORDS, sort=SORTS)
def test_a_cursor_comes_back_as_the_place_that_it_was(records, sort) -> None:
    keys = parse_sort("x", sort)
    for record in records:
        position = position_of(record, keys)
        cursor = write_cursor(position, keys)
        assert re.fullmatch(r"[A-Za-z0-9_\-]+", cursor)
        assert repr(read_cursor("data/list", cursor, keys)) == repr(position)


def test_a_cursor_of_another_sort_is_refused_with_both() -> None:
    keys = parse_sort("x", ["-x"])
    cursor = write_cursor(Position(((3, 1),), "a"), keys)
    with pytest.raises(CommandRejected, match=r"belongs to the sort \['-x'\], and not to \['x'\]") as caught:
        read_cursor("data/list", cursor, parse_sort("x", ["x"]))
    assert (caught.value.command, caught.value.parameter) == ("data/list", "cursor")


def coded(content) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(content)).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "???",
        "é",
        "abcd",
        coded(7),
        coded({}),
        coded([1, ["x"], [[3, 1]]]),
        coded([2, ["x"], [[3, 1]], "a"]),
        coded([1, ["x"], [[3, 1]], None]),
        coded([1, ["x"], {}, "a"]),
        coded([1, ["x"], [], "a"]),
        coded([1, ["x"], [[3, 1], [3, 1]], "a"]),
        coded([1, ["x"], [3], "a"]),
        coded([1, ["x"], [[3]], "a"]),
        coded([1, ["x"], [[7, 0]], "a"]),
        coded([1, ["x"], [[True, 0]], "a"]),
        coded([1, ["x"], [[3.5, 0]], "a"]),
        coded([1, ["x"], [[3, "1"]], "a"]),
        coded([1, ["x"], [[4, 1]], "a"]),
        coded([1, ["x"], [[2, 1]], "a"]),
        coded([1, ["x"], [[0, 1]], "a"]),
        coded([1, ["x"], [[5, [1]]], "a"]),
        coded([1, ["x"], [[3, 2**64 - 1]], "a"]),
        base64.urlsafe_b64encode(b'[1,["x"],[[3,1e999]],"a"]').decode(),
        base64.urlsafe_b64encode(b"[" * 100_000).decode(),
    ],
    ids=lambda cursor: cursor[:40],
)
def test_what_is_no_cursor_is_refused(cursor) -> None:
    with pytest.raises(CommandRejected, match="it is no cursor; give next_cursor of the last reply"):
        read_cursor("data/list", cursor, parse_sort("x", ["x"]))


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_is_given_is_a_place_or_is_refused(cursor) -> None:
    with pytest.raises(CommandRejected, match="cursor"):
        read_cursor("data/list", cursor, parse_sort("x", ["x"]))
