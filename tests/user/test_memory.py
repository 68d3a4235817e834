"""Strength in closed form, fading, use, supersession; all without a clock."""

from __future__ import annotations

import math
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.entities import ArchivedMemoryEntity, MemoryEntity
from rtos.user.memory import (
    DAY,
    FADED,
    MAX_STABILITY,
    Memory,
    archival,
    best_first,
    correction,
    dated,
    fading_at,
    is_faded,
    next_fading_at,
    reinforcement,
    seconds_of,
    strength,
    timestamp_of,
    used,
    weighed,
)

NOW = 1_800_000_000.0


def memory(id: str = "m", *, age: float = 0.0, **fields: Any) -> Memory:
    """A memory of ``age`` days."""
    given = {"kind": "exchange", "body": "it rained", **fields}
    at = timestamp_of(NOW - age * DAY)
    return Memory(id, 1, at, dated(msgspec.convert(given, type=MemoryEntity), at))


def record(id: str = "m", *, score: float = 1.0, **fields: Any) -> dict[str, Any]:
    made = memory(id, **fields)
    return {
        "id": id,
        "version": 1,
        "created_at": made.created_at,
        "updated_at": made.created_at,
        **msgspec.to_builtins(made.entity),
        "score": score,
    }


memories = st.builds(
    memory,
    age=st.floats(-10, 1000),
    stability=st.floats(0.01, 1e6),
    importance=st.floats(0, 1),
    uses=st.integers(0, 100),
    kind=st.sampled_from(["exchange", "fact", "summary", "passage"]),
)


@pytest.mark.parametrize(
    ("why", "fields", "days", "expected"),
    [
        ("as strong as can be at once", {}, 0, 1.0),
        ("half after nine stabilities", {}, 9, 0.5),
        ("a third after eighteen", {}, 18, 1 / 3),
        ("more stable, slower", {"stability": 2.0}, 18, 0.5),
        ("important, slower", {"importance": 1.0}, 13.5, 0.5),
        ("unimportant, faster", {"importance": 0.0}, 4.5, 0.5),
        ("a document's does not fade", {"kind": "passage"}, 1e6, 1.0),
    ],
)
def test_strength(why: str, fields: dict[str, Any], days: float, expected: float) -> None:
    assert strength(memory(**fields), NOW + days * DAY) == pytest.approx(expected, abs=1e-5), why


@given(memories, st.floats(0, 1e9), st.floats(0, 1e9))
def test_strength_only_falls_while_nothing_is_of_use(one: Memory, first: float, second: float) -> None:
    earlier, later = sorted((NOW + first, NOW + second))
    assert 0 < strength(one, later) <= strength(one, earlier) <= 1


@given(memories)
def test_it_has_faded_from_the_instant_that_was_foretold(one: Memory) -> None:
    at = fading_at(one)
    if one.entity.kind == "passage":
        assert at == math.inf
        assert one.entity.fades_at is None
        return
    span = at - one.since
    assert strength(one, one.since + span * 0.999) > FADED > strength(one, one.since + span * 1.001)
    assert not is_faded(one, at - span * 0.001)
    assert is_faded(one, at)
    # What is kept for the look-up is that instant, as far as a calendar goes.
    assert one.entity.fades_at == timestamp_of(at)


@given(st.lists(memories, max_size=5))
def test_the_one_timer_is_at_the_first_to_fade(some: list[Memory]) -> None:
    assert next_fading_at(some) == min([fading_at(one) for one in some], default=math.inf)


@given(memories, st.floats(0, 1e8))
def test_use_makes_it_as_strong_as_can_be_and_never_less_stable(one: Memory, later: float) -> None:
    after = attrs.evolve(one, entity=used(one, NOW + later))
    assert strength(after, max(NOW + later, one.since)) == pytest.approx(1.0, abs=1e-5)
    assert after.entity.stability >= one.entity.stability
    assert after.entity.stability <= max(one.entity.stability, MAX_STABILITY)
    assert fading_at(after) >= fading_at(one) - 1e-3
    assert after.entity.uses == one.entity.uses + 1


def test_use_after_a_while_counts_and_repetition_at_once_does_not() -> None:
    at_once = used(memory(), NOW)
    assert at_once.stability == pytest.approx(1.0)
    again = used(memory(age=9), NOW)
    assert again.stability == pytest.approx(2.0)


def test_recall_is_by_relevance_times_strength() -> None:
    records = [
        record("fits best, old", score=3.0, age=27),
        record("fits well, fresh", score=2.0, age=0),
        record("fits best, taught", score=2.5, age=27, kind="passage"),
        record("as good as gone", score=9.0, age=82),
    ]
    found = best_first(one for one in (weighed(record, NOW) for record in records) if one is not None)
    assert [
        (one["id"], one["relevance"], round(one["strength"], 3), round(one["score"], 3)) for one in found
    ] == [
        ("fits best, taught", 2.5, 1.0, 2.5),
        ("fits well, fresh", 2.0, 1.0, 2.0),
        ("fits best, old", 3.0, 0.25, 0.75),
        # The last one has faded.
    ]


def test_a_record_of_before_has_all_it_needs() -> None:
    old = {
        "id": "m",
        "version": 1,
        "created_at": timestamp_of(NOW),
        "updated_at": timestamp_of(NOW),
        "kind": "fact",
        "body": "it rained",
        "at": "no time at all",
    }
    assert strength(Memory.of(old), NOW + 9 * DAY) == pytest.approx(0.5)


def test_a_correction_keeps_what_it_supersedes_and_says_who_when_and_where() -> None:
    old = memory("old", age=3, kind="passage", source="notes.md, line 1", heading="Weather")
    new, *rest = correction(old, "it snowed", NOW, said_by="joel", message_id="c7", room_id="general")
    made = msgspec.convert(new["data"], type=MemoryEntity)
    assert (made.body, made.heading, made.supersedes) == ("it snowed", "Weather", ("old",))
    assert (made.said_by, made.message_id, made.room_id) == ("joel", "c7", "general")
    assert (made.at, made.source) == (timestamp_of(NOW), "correction by joel")
    kept = msgspec.convert(rest[-1]["data"], type=ArchivedMemoryEntity)
    assert kept.memory == old.entity
    assert (kept.reason, kept.superseded_by, kept.at) == ("corrected", new["id"], timestamp_of(NOW))
    # It is found where it was written down before, though it had said no time of its own.
    assert kept.memory.at == old.created_at


def test_the_same_correction_has_the_same_id_and_another_has_another() -> None:
    ids = [
        correction(memory("old"), text, at)[0]["id"] for text, at in (("a", NOW), ("a", NOW + 9), ("b", NOW))
    ]
    assert ids[0] == ids[1] != ids[2]


def test_whatever_moves_a_memory_expects_it_as_it_was_read() -> None:
    assert archival(memory(), "faded", NOW)[0]["expected_version"] == 1
    assert reinforcement(memory(), NOW)["expected_version"] == 1


@given(st.floats(0, 253_402_214_400))
def test_timestamps_come_back_and_sort_as_text(seconds: float) -> None:
    text = timestamp_of(seconds)
    back = seconds_of(text)
    assert back == pytest.approx(seconds, abs=1e-5)
    assert (timestamp_of(seconds + 1) > text) or seconds + 1 > 253_402_214_400


@pytest.mark.parametrize(("text", "seconds"), [(None, None), ("soon", None), ("1970-01-02", 86400.0)])
def test_what_is_no_time_is_none(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds
