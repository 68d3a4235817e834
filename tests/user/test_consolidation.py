"""Which exchanges are about one thing, and what is kept of them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.consolidation import LEAST, MOST, SETTLED, Topics, merger
from rtos.user.entities import MAX_TEXT, MemoryEntity
from rtos.user.memory import DAY, Memory, dated, timestamp_of

NOW = 1_800_000_000.0
CRANE = "the red crane lifts heavy cargo"
TIDE = "high tide floods northern meadows"


def memory(id: str, body: str, *, age: float = 1.0, **fields: Any) -> Memory:
    """An exchange of ``age`` days ago."""
    entity = msgspec.convert({"kind": "exchange", "body": body, **fields}, type=MemoryEntity)
    at = timestamp_of(NOW - age * DAY)
    return Memory(id, 1, at, dated(entity, at))


def groups(*memories: Memory) -> list[list[str]]:
    topics = Topics(NOW)
    for one in memories:
        topics.add(one)
    return [[one.id for one in group] for group in topics.groups()]


def three(body: str = CRANE, **fields: Any) -> list[Memory]:
    return [memory(f"m{number}", f"{body} {number}", **fields) for number in range(3)]


@pytest.mark.parametrize(
    ("why", "memories", "expected"),
    [
        ("three about one thing", three(), [["m0", "m1", "m2"]]),
        ("two are no topic", three()[:2], []),
        ("another thing is not taken in", [*three(), memory("tide", TIDE)], [["m0", "m1", "m2"]]),
        (
            "inflections are the same words",
            [*three()[:2], memory("x", "red cranes lifted cargos")],
            [["m0", "m1", "x"]],
        ),
        ("another room is another matter", [*three()[:2], memory("x", CRANE, room_id="r")], []),
        ("what was learned is no exchange", three(kind="passage"), []),
        ("nor is a summary", three(kind="summary"), []),
        ("what is still talked about waits", three(age=(SETTLED - 1) / DAY), []),
        ("what has faded is past that", three(age=82), []),
        ("without words there is no topic", three("of the"), []),
    ],
)
def test_what_belongs_together(why: str, memories: list[Memory], expected: list[list[str]]) -> None:
    assert groups(*memories) == expected, why


def test_a_topic_is_full_at_its_most_and_another_begins() -> None:
    found = groups(*(memory(f"m{number:02}", f"{CRANE} {number}") for number in range(MOST + LEAST)))
    assert [len(group) for group in found] == [MOST, LEAST]


def test_a_summary_never_outgrows_a_memory() -> None:
    body = f"{CRANE} " + "é" * (MAX_TEXT // 4 - 50)
    found = [memory(f"m{number}", f"{body}{number}") for number in range(6)]
    sizes = [len(group) for group in groups(*found)]
    assert sizes == []
    topics = Topics(NOW)
    for one in [*three(), *found]:
        topics.add(one)
    for group in topics.groups():
        new = merger(group, NOW)[0]
        assert len(msgspec.convert(new["data"], type=MemoryEntity).body.encode()) <= MAX_TEXT


def test_a_summary_has_every_line_once_and_says_where_it_is_from() -> None:
    members = [
        memory("a", f"{CRANE}\nit is old", age=3, importance=0.9, said_by="joel", uses=2),
        memory("b", f"{CRANE}\nit is new", age=2, heading="Crane", said_by="joel", stability=2.0),
        memory("c", f"{CRANE.title()}\n\nIT IS  OLD", age=1, said_by="joel", uses=1),
    ]
    new, *_ = merger(members, NOW)
    made = msgspec.convert(new["data"], type=MemoryEntity)
    assert made.body.split("\n") == [CRANE, "it is old", "it is new"]
    assert (made.kind, made.heading, made.supersedes) == ("summary", "Crane", ("a", "b", "c"))
    assert (made.importance, made.stability, made.uses, made.said_by) == (0.9, 4.0, 3, "joel")
    assert made.at == members[2].created_at
    assert made.source == f"3 exchanges, {members[0].created_at[:10]} to {members[2].created_at[:10]}"


def test_words_of_several_are_nobodys() -> None:
    members = [memory("a", CRANE, said_by="joel"), memory("b", CRANE, said_by="ada")]
    assert merger(members, NOW)[0]["data"]["said_by"] is None


@given(
    st.lists(
        st.tuples(
            st.sampled_from([CRANE, TIDE, "lunch was late"]), st.sampled_from(["a", "b"]), st.integers(0, 3)
        ),
        max_size=40,
    )
)
def test_any_exchanges_are_in_one_summary_at_most_and_nothing_is_left_out(
    said: list[tuple[str, str, int]],
) -> None:
    memories = [
        memory(f"m{number}", f"{body} {tail}", room_id=room) for number, (body, room, tail) in enumerate(said)
    ]
    topics = Topics(NOW)
    for one in memories:
        topics.add(one)
    merged = [one.id for group in topics.groups() for one in group]
    assert len(merged) == len(set(merged))
    for group in topics.groups():
        assert LEAST <= len(group) <= MOST
        assert len({one.entity.room_id for one in group}) == 1
        operations = merger(group, NOW)
        assert operations == merger(group, NOW), "one pass gives the same summary every time"
        lines = operations[0]["data"]["body"].split("\n")
        assert set(lines) == {one.entity.body for one in group}
        archived = [one["id"] for one in operations if one["op"] == "create"][1:]
        assert archived == [one.id for one in group]
