"""The entities: what converts, what is filled in, and what is refused."""

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.entities import (
    CAPABILITIES,
    ENTITIES,
    MAX_ENTRIES,
    MAX_LINE,
    MAX_TEXT,
    PREFERENCES,
    ChatMessageEntity,
    MemoryEntity,
    RoomEntity,
    TaskEntity,
    TaskResult,
    UserEntity,
    UserStateEntity,
)

ITEM = {"id": "i1", "type": "chat", "entity_id": "general"}
VALID: dict[str, dict[str, Any]] = {
    "users": {
        "type": "persona",
        "display_name": "Helper AI",
        "capabilities": {"moderate": True},
        "expertise": ["storage", "paths"],
    },
    "user_states": {
        "user_id": "helper-ai",
        "content_state": {
            "open_items": [ITEM],
            "current_item_id": "i1",
        },
        "preferences": {"max_open_tabs": 5},
        "room_read_state": {"general": {"last_read_message_timestamp": "2026-01-01T00:00:00.000000Z"}},
    },
    "rooms": {"name": "general", "member_ids": ["joel", "helper-ai"]},
    "chat_messages": {
        "room_id": "general",
        "sender_id": "joel",
        "sender_type": "human",
        "sender_name": "Joel",
        "text": "where does a user's database live?",
        "sources": ["notes.md, line 1"],
    },
    "memories": {
        "kind": "passage",
        "body": "it lives there",
        "source": "notes.md, line 1",
        "importance": 0.7,
    },
    "archived_memories": {
        "memory": {"kind": "exchange", "body": "hello"},
        "reason": "merged",
        "superseded_by": "m2",
        "at": "2026-01-01T00:00:00.000000Z",
    },
    "tasks": {
        "assignee_id": "helper-ai",
        "created_by": "joel",
        "description": "say where a user's database lives",
        "context_id": "general",
        "due_date": "2026-01-02T00:00:00.000000Z",
        "estimated_duration": 30.0,
        "status": "completed",
        "result": {"success": True, "output": "it lives there", "metrics": {"merged": 2.0}},
        "depends_on": ["t1", "t2"],
        "blocked_by": ["t2"],
    },
}
RECORD = {"id": "x", "version": 3, "created_at": "2026-01-01T00:00:00.000000Z", "updated_at": "…"}
MANY = [f"t{number}" for number in range(MAX_ENTRIES + 1)]
"""One more than there may be."""


def outcome(**fields: Any) -> dict[str, Any]:
    return {"success": False, **fields}


def test_no_collection_is_left_out_here() -> None:
    assert set(VALID) == set(ENTITIES)


@pytest.mark.parametrize("collection", sorted(VALID))
def test_every_entity_converts_and_goes_back_to_json(collection: str) -> None:
    kind = ENTITIES[collection]
    assert kind.collection == collection
    entity = msgspec.convert(VALID[collection], type=kind)
    stored = json.loads(json.dumps(msgspec.to_builtins(entity)))
    assert stored.items() >= {key: stored[key] for key in VALID[collection]}.items()
    assert msgspec.convert(stored, type=kind) == entity, "what converts once converts again"


@pytest.mark.parametrize("collection", sorted(VALID))
def test_the_records_own_fields_are_no_concern_of_an_entity(collection: str) -> None:
    entity = msgspec.convert({**VALID[collection], **RECORD}, type=ENTITIES[collection])
    assert not set(msgspec.to_builtins(entity)) & set(RECORD)


@pytest.mark.parametrize("collection", sorted(VALID))
def test_search_fields_are_fields_of_text(collection: str) -> None:
    stored = msgspec.to_builtins(msgspec.convert(VALID[collection], type=ENTITIES[collection]))
    assert all(isinstance(stored[name], str) for name in ENTITIES[collection].search_fields)


def test_entities_are_frozen() -> None:
    with pytest.raises(AttributeError):
        RoomEntity(name="general").name = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("collection", "change", "text"),
    [
        ("users", {"type": "robot"}, "Invalid enum value 'robot'"),
        ("users", {"display_name": " "}, "display_name is blank; give some text"),
        ("users", {"display_name": "x" * 101}, "display_name has 101 characters, more than 100; shorten it"),
        ("users", {"status": "asleep"}, "Invalid enum value 'asleep'"),
        (
            "users",
            {"capabilities": {"fly": True}},
            "capabilities has the unknown 'fly'; known are create_rooms",
        ),
        ("users", {"expertise": ["a", "a"]}, "expertise has an entry twice"),
        ("users", {"expertise": [""]}, "expertise is blank"),
        ("user_states", {"user_id": "../x"}, "user_id '../x' is not a user id"),
        ("user_states", {"preferences": {"max_open_tabs": 51}}, "max_open_tabs is 51; give 1 to 50"),
        ("user_states", {"preferences": {"max_open_tabs": 0}}, "max_open_tabs is 0; give 1 to 50"),
        ("user_states", {"content_state": {"current_item_id": "i9"}}, "current_item_id 'i9' is not open"),
        ("user_states", {"content_state": {"open_items": [ITEM, ITEM]}}, "open_items has one id twice"),
        ("rooms", {"name": ""}, "name is blank"),
        ("rooms", {"member_ids": ["joel", "joel"]}, "member_ids has an entry twice"),
        ("rooms", {"member_ids": ["jo/el"]}, "member_ids 'jo/el' is not a user id"),
        ("chat_messages", {"text": "x" * (MAX_TEXT + 1)}, "text has 16385 bytes, more than 16384"),
        ("chat_messages", {"text": "ä" * (MAX_TEXT // 2 + 1)}, "text has 16386 bytes"),
        ("chat_messages", {"causal_depth": -1}, "causal_depth is -1; give 0 or more"),
        ("memories", {"importance": 1.5}, "importance is 1.5; give 0.0 to 1.0"),
        ("memories", {"stability": 0.0}, "stability is 0.0; give 0.01 or more"),
        ("memories", {"kind": "dream"}, "Invalid enum value 'dream'"),
        ("tasks", {"assignee_id": "../x"}, "assignee_id '../x' is not a user id"),
        ("tasks", {"created_by": ""}, "created_by '' is not a user id"),
        ("tasks", {"domain": "music"}, "Invalid enum value 'music'"),
        ("tasks", {"task_type": "sing"}, "Invalid enum value 'sing'"),
        ("tasks", {"status": "done"}, "Invalid enum value 'done'"),
        ("tasks", {"context_id": "x" * 501}, "context_id has 501 characters, more than 500; shorten it"),
        ("tasks", {"description": " "}, "description is blank; give some text"),
        ("tasks", {"description": "x" * 4097}, "description has 4097 bytes, more than 4096; shorten it"),
        ("tasks", {"description": "ä" * 2049}, "description has 4098 bytes"),
        ("tasks", {"priority": -0.1}, "priority is -0.1; give 0.0 to 1.0"),
        ("tasks", {"priority": 1.1}, "priority is 1.1; give 0.0 to 1.0"),
        ("tasks", {"priority": math.nan}, "priority is nan; give a finite number"),
        ("tasks", {"estimated_duration": -1.0}, "estimated_duration is -1.0; give 0.0 or more"),
        ("tasks", {"estimated_duration": math.inf}, "estimated_duration is inf; give a finite number"),
        ("tasks", {"attempts": -1}, "attempts is -1; give 0 or more"),
        ("tasks", {"depends_on": ["a", "a"]}, "depends_on has an entry twice; leave one of them out"),
        ("tasks", {"depends_on": MANY}, "depends_on has 65 entries, more than 64; shorten it"),
        ("tasks", {"blocked_by": ["a", "a"]}, "blocked_by has an entry twice; leave one of them out"),
        ("tasks", {"blocked_by": MANY}, "blocked_by has 65 entries, more than 64; shorten it"),
        ("tasks", {"result": {}}, "missing required field `success`.*result"),
        ("tasks", {"result": outcome(output="x" * 16385)}, "output has 16385 bytes, more than 16384.*result"),
        ("tasks", {"result": outcome(error="x" * 501)}, "error has 501 characters, more than 500.*result"),
        (
            "tasks",
            {"result": outcome(metrics=dict.fromkeys(MANY, 1.0))},
            "metrics has 65 entries, more than 64; shorten it",
        ),
        ("tasks", {"result": outcome(metrics={"x": "many"})}, "Expected `float`, got `str`.*result.metrics"),
        ("tasks", {"result": outcome(metrics={"x": math.inf})}, "metrics is inf; give a finite number"),
        ("tasks", {"result": outcome(metrics={"x": math.nan})}, "metrics is nan; give a finite number"),
    ],
)
def test_what_is_wrong_is_refused_with_the_field_and_a_remedy(
    collection: str, change: dict[str, object], text: str
) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        msgspec.convert({**VALID[collection], **change}, type=ENTITIES[collection])


@pytest.mark.parametrize("collection", sorted(VALID))
def test_required_fields_are_required(collection: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="missing required field"):
        msgspec.convert({}, type=ENTITIES[collection])


def test_the_largest_text_is_accepted() -> None:
    entity = msgspec.convert({**VALID["chat_messages"], "text": "x" * MAX_TEXT}, type=ChatMessageEntity)
    assert len(entity.text) == MAX_TEXT


def test_the_largest_task_is_accepted() -> None:
    entries = MANY[:MAX_ENTRIES]
    result = TaskResult(
        success=True, output="x" * MAX_TEXT, error="x" * MAX_LINE, metrics=dict.fromkeys(entries, 1.0)
    )
    largest = {
        **VALID["tasks"],
        "description": "x" * (MAX_TEXT // 4),
        "context_id": "x" * MAX_LINE,
        "priority": 1.0,
        "estimated_duration": 0.0,
        "depends_on": entries,
        "blocked_by": entries,
        "result": msgspec.to_builtins(result),
    }
    entity = msgspec.convert(largest, type=TaskEntity)
    assert (len(entity.depends_on), entity.result) == (MAX_ENTRIES, result)


def test_a_task_that_is_only_described_waits_and_has_no_past() -> None:
    bare = {key: VALID["tasks"][key] for key in ("assignee_id", "created_by", "description")}
    assert msgspec.to_builtins(msgspec.convert(bare, type=TaskEntity)) == {
        **bare,
        "domain": "chat",
        "task_type": "respond-to-message",
        "context_id": None,
        "priority": 0.5,
        "due_date": None,
        "estimated_duration": None,
        "status": "pending",
        "attempts": 0,
        "started_at": None,
        "completed_at": None,
        "overdue_at": None,
        "result": None,
        "depends_on": (),
        "blocked_by": (),
    }


@pytest.mark.parametrize(
    ("kind", "administers", "responds"),
    [("human", True, False), ("agent", False, False), ("persona", False, True), ("system", True, False)],
)
def test_capabilities_by_type(kind: Any, administers: bool, responds: bool) -> None:
    assert UserEntity(type=kind, display_name="x").capabilities == {
        "create_rooms": administers,
        "invite": administers,
        "moderate": administers,
        "access_personas": administers,
        "auto_responds": responds,
        "provides_context": responds,
    }


def test_capabilities_given_in_part_keep_the_other_defaults() -> None:
    user = UserEntity(type="persona", display_name="x", capabilities={"moderate": True})
    assert user.capabilities == CAPABILITIES["persona"] | {"moderate": True}
    assert CAPABILITIES["persona"]["moderate"] is False


@pytest.mark.parametrize(
    ("kind", "device", "expected"),
    [
        ("human", "server-device", (10, 30, True, True)),
        ("agent", "agent-device", (3, 1, False, False)),
        ("persona", "server-device", (5, 7, True, False)),
        ("system", "server-device", (10, 30, True, True)),
    ],
)
def test_the_state_a_user_starts_with(kind: Any, device: str, expected: tuple[object, ...]) -> None:
    state = UserStateEntity.default("x", kind)
    own = state.preferences
    assert state.device_id == device
    assert own == PREFERENCES[kind]
    assert (own.max_open_tabs, own.auto_close_after_days, own.remember_scroll, own.sync_devices) == expected


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 20)), max_size=30))
def test_a_bookmark_only_moves_forward(reads: list[tuple[str, int]]) -> None:
    state, newest = UserStateEntity(user_id="x"), dict[str, str]()
    for room, number in reads:
        at = f"2026-01-01T00:00:00.{number:06}Z"
        assert state.is_unread(room, at) == (at > newest.get(room, ""))
        state = state.with_read(room, f"m{number}", at)
        newest[room] = max(newest.get(room, ""), at)
        assert not state.is_unread(room, at)
    assert {room: mark.last_read_message_timestamp for room, mark in state.room_read_state.items()} == newest


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["ada", "bob", "cleo"]))))
def test_members_are_a_set_in_order_of_joining(changes: list[tuple[bool, str]]) -> None:
    room, model = RoomEntity(name="general"), list[str]()
    for joins, who in changes:
        room = room.with_member(who) if joins else room.without_member(who)
        if joins and who not in model:
            model.append(who)
        elif not joins and who in model:
            model.remove(who)
        assert list(room.member_ids) == model


@given(
    st.builds(
        dict,
        kind=st.sampled_from(["passage", "exchange", "fact"]),
        body=st.text(max_size=300).filter(str.strip),
        importance=st.floats(0, 1),
        stability=st.floats(0.01, 1e6),
        uses=st.integers(0, 10**6),
    )
)
def test_any_valid_memory_survives_storage(data: dict[str, Any]) -> None:
    entity = msgspec.convert(data, type=MemoryEntity)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(entity)), type=MemoryEntity) == entity


NUMBER = st.floats(allow_nan=False, allow_infinity=False)


@given(
    st.builds(
        dict,
        assignee_id=st.sampled_from(["helper-ai", "joel"]),
        created_by=st.just("joel"),
        description=st.text(max_size=300).filter(str.strip),
        domain=st.sampled_from(["chat", "self", "code"]),
        status=st.sampled_from(["pending", "in_progress", "completed", "failed", "cancelled"]),
        priority=st.floats(0, 1),
        estimated_duration=st.none() | st.floats(0, 1e6),
        attempts=st.integers(0, 10**6),
        depends_on=st.lists(st.text(max_size=5), unique=True, max_size=5),
        result=st.none()
        | st.builds(
            dict,
            success=st.booleans(),
            output=st.text(max_size=300),
            error=st.text(max_size=300),
            metrics=st.dictionaries(st.text(max_size=10), NUMBER, max_size=5),
        ),
    )
)
def test_any_valid_task_survives_storage(data: dict[str, Any]) -> None:
    entity = msgspec.convert(data, type=TaskEntity)
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(entity)), type=TaskEntity) == entity
