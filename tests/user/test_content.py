"""What a user has open: what moves, what is in front, what is closed and what stays."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.content import (
    MAX_ENTITY_ID,
    MAX_KEY,
    MAX_METADATA,
    MAX_TITLE,
    ContentItem,
    ContentState,
    ItemPriority,
)

GENERAL = ContentItem(id="i1", type="chat", entity_id="general")
NOTES = ContentItem(id="i2", type="document", entity_id="notes")
ADA = ContentItem(id="i3", type="user-profile", entity_id="ada")


def _at(number: int) -> str:
    return f"2026-01-01T00:00:00.{number:06}Z"


def _opened(*items: ContentItem, limit: int = 10) -> ContentState:
    state = ContentState()
    for number, item in enumerate(items):
        state = state.with_open(item, limit=limit, at=_at(number))
    return state


def _ids(state: ContentState) -> list[str]:
    return [item.id for item in state.open_items]


def test_what_is_opened_is_first_and_current_and_knows_when() -> None:
    state = _opened(GENERAL, NOTES)
    assert _ids(state) == ["i2", "i1"]
    assert state.current_item_id == "i2"
    assert [item.last_accessed_at for item in state.open_items] == [_at(1), _at(0)]
    assert state.last_updated_at == _at(1)


@pytest.mark.parametrize(
    "again",
    [
        ContentItem(id="i1", type="document", entity_id="other"),
        ContentItem(id="i9", type="chat", entity_id="general"),
    ],
    ids=["its id is the same", "it is the same thing"],
)
def test_what_is_opened_again_moves(again: ContentItem) -> None:
    state = _opened(GENERAL, NOTES, again)
    assert _ids(state) == [again.id, "i2"]
    assert state.open_items[0].entity_id == again.entity_id


def test_two_that_are_the_same_as_a_third_give_way_to_it() -> None:
    both = ContentItem(id="i1", type="document", entity_id="notes")
    assert _ids(_opened(GENERAL, NOTES, both)) == ["i1"]


def test_the_list_is_trimmed_from_its_end() -> None:
    assert _ids(_opened(GENERAL, NOTES, ADA, limit=2)) == ["i3", "i2"]


def test_when_the_current_one_is_closed_the_first_one_is_current() -> None:
    state = _opened(GENERAL, NOTES, ADA).without("i3", at=_at(9))
    assert (_ids(state), state.current_item_id, state.last_updated_at) == (["i2", "i1"], "i2", _at(9))
    state = state.without("i1", at=_at(10))
    assert (_ids(state), state.current_item_id) == (["i2"], "i2")
    state = state.without("i2", at=_at(11))
    assert (_ids(state), state.current_item_id) == ([], None)


def test_what_is_not_open_cannot_be_closed_and_changes_nothing() -> None:
    state = _opened(GENERAL)
    assert state.without("i9", at=_at(9)) is state


def test_where_nothing_is_in_front_nothing_comes_there_by_closing() -> None:
    state = ContentState(open_items=(GENERAL, NOTES)).without("i1", at=_at(9))
    assert (_ids(state), state.current_item_id) == (["i2"], None)


def test_what_is_old_is_closed_but_for_what_is_urgent_or_has_no_time() -> None:
    urgent = ContentItem(id="i4", type="document", entity_id="exit", priority="urgent")
    state = _opened(urgent, GENERAL, NOTES, ADA)
    state = ContentState(
        open_items=(*state.open_items, ContentItem(id="i5", type="document", entity_id="undated")),
        current_item_id="i1",
    )
    left = state.without_old(_at(2), at=_at(9))
    assert _ids(left) == [
        "i3",
        "i2",  # exactly as old as may be
        # i1 is older, and was in front
        "i4",  # urgent
        "i5",  # nobody knows how old it is
    ]
    assert left.current_item_id == "i3"
    assert left.without_old(_at(2), at=_at(10)) is left


def test_what_is_open_is_found_by_its_id_and_by_what_it_is() -> None:
    state = _opened(GENERAL)
    assert state.item("i1") == state.showing("chat", "general") == state.open_items[0]
    assert state.item("i2") is None
    assert state.showing("document", "general") is None


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("id", " ", "id is blank"),
        ("entity_id", "", "entity_id is blank; give some text"),
        ("entity_id", "x" * (MAX_ENTITY_ID + 1), "entity_id has 201 characters, more than 200; shorten it"),
        ("title", "x" * (MAX_TITLE + 1), "title has 501 characters, more than 500; shorten it"),
        ("subtitle", "x" * (MAX_TITLE + 1), "subtitle has 501 characters"),
        ("priority", "extreme", "Invalid enum value 'extreme'"),
        ("metadata", {str(n): n for n in range(MAX_METADATA + 1)}, "metadata has 17 entries, more than 16"),
        ("metadata", {"": 1}, "metadata is blank"),
        ("metadata", {"k" * (MAX_KEY + 1): 1}, "metadata has 101 characters, more than 100"),
        ("metadata", {"k": "x" * (MAX_TITLE + 1)}, "metadata has 501 characters"),
        ("metadata", {"k": math.nan}, "metadata is nan; give a finite number"),
        ("metadata", {"k": 2**63}, "metadata has a number of more than 64 bits; give it as text"),
        ("metadata", {"k": 10**5000}, "metadata has a number of more than 64 bits"),
        ("metadata", {"k": [1]}, "got `array` - at `$.metadata[...]`"),
    ],
)
def test_an_item_is_bounded(field: str, value: Any, text: str) -> None:
    given = {"id": "i1", "type": "chat", "entity_id": "general", field: value}
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(given, type=ContentItem)
    assert text in str(caught.value)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=MAX_KEY).filter(str.strip),
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63 - 1)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=50),
        max_size=MAX_METADATA,
    )
)
def test_any_valid_metadata_survives_storage(metadata: dict[str, Any]) -> None:
    item = msgspec.convert(
        {"id": "i1", "type": "chat", "entity_id": "x", "metadata": metadata}, type=ContentItem
    )
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(item)), type=ContentItem) == item


Naive = list[tuple[str, str, int, str]]
"""The open items, first one first: id, what it shows, when that was, its priority."""

PRIORITIES: list[ItemPriority] = ["low", "normal", "high", "urgent"]
STEPS = st.lists(
    st.tuples(
        st.just("open"), st.sampled_from("abcdef"), st.sampled_from("uvwxyz"), st.sampled_from(PRIORITIES)
    )
    | st.tuples(st.just("close"), st.sampled_from("abcdef"))
    | st.tuples(st.just("age"), st.integers(0, 40)),
    max_size=40,
)


@given(steps=STEPS, limit=st.integers(1, 4))
def test_what_is_open_is_as_a_naive_list_has_it(steps: list[tuple[Any, ...]], limit: int) -> None:
    state, model, current = ContentState(), Naive(), None
    for now, (kind, *what) in enumerate(steps):
        before = state
        if kind == "open":
            id, shown, priority = what
            item = ContentItem(id=id, type="document", entity_id=shown, priority=priority)
            state = state.with_open(item, limit=limit, at=_at(now))
            model = [(id, shown, now, priority), *(m for m in model if m[0] != id and m[1] != shown)][:limit]
            current = id
        elif kind == "close":
            state = state.without(what[0], at=_at(now))
            model = [m for m in model if m[0] != what[0]]
        else:
            state = state.without_old(_at(what[0]), at=_at(now))
            model = [m for m in model if m[2] >= what[0] or m[3] == "urgent"]
        ids = [m[0] for m in model]
        if current not in ids:
            current = ids[0] if ids else None
        assert [(i.id, i.entity_id, i.last_accessed_at, i.priority) for i in state.open_items] == [
            (id, shown, _at(at), priority) for id, shown, at, priority in model
        ]
        assert state.current_item_id == current
        _check_laws(before, state, kind=kind, limit=limit)


def _check_laws(before: ContentState, state: ContentState, *, kind: str, limit: int) -> None:
    ids = _ids(state)
    assert len(ids) <= limit
    assert len(set(ids)) == len(ids)
    assert (state.current_item_id in ids) if ids else (state.current_item_id is None)
    if kind == "age":
        assert all(i in state.open_items for i in before.open_items if i.priority == "urgent")
    assert msgspec.convert(msgspec.to_builtins(state), type=ContentState) == state
