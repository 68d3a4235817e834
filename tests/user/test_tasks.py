"""Tasks: what may be begun, how much it matters, and that every change leaves a record that is valid."""

from __future__ import annotations

import itertools
import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.entities import TaskEntity, TaskResult, TaskStatus, TaskType
from rtos.user.inbox import PersonaInbox
from rtos.user.memory import timestamp_of
from rtos.user.tasks import (
    DUE,
    ENDED,
    OPEN,
    OWN,
    Audit,
    audit,
    begun,
    ended,
    is_open,
    is_own,
    is_ready,
    own_task_id,
    put_back,
    seconds_until_due,
    task_item,
    task_priority,
    unblocked,
)

NOW = 1_800_000_000.0
HOUR = 3600.0
DAY = 24 * HOUR


def task(id: str = "t1", *, left: float | None = None, **fields: Any) -> dict[str, Any]:
    """A record; ``left`` is the number of seconds until it is due."""
    due = None if left is None else timestamp_of(NOW + left)
    given = {"assignee_id": "helper-ai", "created_by": "joel", "description": "read the notes"}
    entity = msgspec.convert({**given, "due_date": due, **fields}, type=TaskEntity)
    return {"id": id, "version": 1, **msgspec.json.decode(msgspec.json.encode(entity))}


def changed(record: dict[str, Any], fields: dict[str, Any]) -> TaskEntity:
    return msgspec.convert({**record, **fields}, type=TaskEntity)


@pytest.mark.parametrize(
    ("why", "left", "added"),
    [
        ("none has no due date", None, 0.0),
        ("there is a week and more", 168 * HOUR, 0.0),
        ("less than a week", 168 * HOUR - 1, 0.1),
        ("a day exactly", DAY, 0.1),
        ("less than a day", DAY - 1, 0.2),
        ("an hour exactly", HOUR, 0.2),
        ("less than an hour", HOUR - 1, 0.3),
        ("now", 0.0, 0.3),
        ("overdue", -1.0, 0.3),
        ("long overdue is no more than overdue", -365 * DAY, 0.3),
    ],
)
def test_what_a_due_date_adds(why: str, left: float | None, added: float) -> None:
    assert task_priority(task(left=left, priority=0.4), NOW) == pytest.approx(0.4 + added), why
    assert seconds_until_due(task(left=left), NOW) == (math.inf if left is None else left)


def test_every_row_of_the_table_is_reached() -> None:
    # Of a table of which the first that applies counts, one in the wrong order would hide another.
    reached = {task_priority(task(left=within - 1, priority=0.0), NOW) for within, _ in DUE}
    assert reached == {added for _, added in DUE}
    assert [within for within, _ in DUE] == sorted({within for within, _ in DUE})


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"domain": "self", "priority": 0.5}, 0.5 + 0.15),
        ({"domain": "self", "priority": 0.4, "left": 60.0}, 0.4 + 0.3 + 0.15),
        ({"domain": "chat", "priority": 0.5}, 0.5),
        ({"priority": 0.7, "left": 60.0}, 1.0),
        ({"priority": 0.9, "left": 60.0}, 1.0),
        ({"priority": 1.0, "left": -60.0}, 1.0),
        ({"domain": "self", "priority": 0.9}, 1.0),
        ({"domain": "self", "priority": 1.0, "left": -60.0}, 1.0),
        ({"priority": 0.0}, 0.0),
    ],
)
def test_what_is_its_own_matters_more_and_nothing_more_than_fully(
    fields: dict[str, Any], expected: float
) -> None:
    assert task_priority(task(**fields), NOW) == pytest.approx(expected)
    assert task_priority(task(**fields), NOW) <= 1.0


@given(
    st.floats(0, 1),
    st.sampled_from(["chat", "self", "code"]),
    st.lists(st.integers(-(10**7), 10**7), min_size=2, max_size=5),
)
def test_what_is_due_sooner_never_matters_less(priority: float, domain: str, lefts: list[int]) -> None:
    asked = [
        task_priority(task(left=float(left), priority=priority, domain=domain), NOW)
        for left in sorted(lefts, reverse=True)
    ]
    assert asked == sorted(asked)
    least = min(1.0, priority + (OWN if domain == "self" else 0.0))
    assert all(least <= one <= 1.0 for one in asked)


# A defect of the reference system: there the boost was computed, and then the priority without it was used.
def test_what_a_due_date_adds_is_in_the_item_that_waits() -> None:
    inbox = PersonaInbox()
    due, better, overdue = (
        task("due", priority=0.5, left=DAY - 1),
        task("better", priority=0.6),
        task("overdue", priority=0.5, left=-1.0),
    )
    for one in (better, due, overdue):
        item = task_item(one, now=7.0, wall=NOW)
        assert item.priority == task_priority(one, NOW)
        inbox.offer(item, 7.0)
    assert [item.priority for item in inbox.peek()] == pytest.approx([0.8, 0.7, 0.6])
    assert [item.id for item in inbox.peek()] == ["overdue", "due", "better"]


def test_an_item_says_what_it_is_of() -> None:
    item = task_item(task(context_id="general", left=-1.0), now=7.0, wall=NOW)
    assert (item.id, item.kind, item.room_id, item.text) == ("t1", "task", "general", "read the notes")
    assert (item.sender_id, item.sender_type, item.arrived) == ("joel", "system", 7.0)
    assert item.deadline == math.inf, "what is overdue is still wanted"
    assert not item.mentions
    assert not item.anybody
    own = task_item(task(domain="self", created_by="helper-ai"), now=7.0, wall=NOW)
    assert (own.kind, own.room_id) == ("chore", "")


@pytest.mark.parametrize(
    ("status", "opens", "ready"),
    [
        ("pending", True, True),
        ("in_progress", True, False),
        ("completed", False, False),
        ("failed", False, False),
        ("cancelled", False, False),
    ],
)
def test_what_each_status_means(status: str, opens: bool, ready: bool) -> None:
    assert is_open(task(status=status)) is opens
    assert is_ready(task(status=status)) is ready
    assert not is_ready(task(status=status, depends_on=["t0"], blocked_by=["t0"]))
    assert is_ready(task(status=status, depends_on=["t0"])) is ready, "what it depends on is completed"
    assert is_own(task(status=status, domain="self"))
    assert not is_own(task(status=status))


def test_every_status_is_one_of_these() -> None:
    assert sorted((*OPEN, *ENDED)) == sorted(get_args(TaskStatus))


def test_the_id_of_an_own_task_is_that_of_persona_and_kind() -> None:
    # Records have it, so it must not be another one in a later release.
    assert own_task_id("helper-ai", "skill-audit") == "84e265201372540a9371fef92ddeb6f4"
    pairs = itertools.product(["helper-ai", "helper-ai-2", "Helper-AI"], get_args(TaskType))
    ids = [own_task_id(persona, kind) for persona, kind in pairs]
    assert len(set(ids)) == len(ids)


def test_what_is_begun_is_in_somebodys_hand() -> None:
    entity = changed(task(attempts=1), begun(task(attempts=1), NOW))
    assert (entity.status, entity.started_at, entity.attempts) == ("in_progress", timestamp_of(NOW), 2)


def test_what_is_put_back_can_be_begun_again_and_is_known_to_have_been() -> None:
    record = task()
    record |= begun(record, NOW)
    record |= put_back()
    assert changed(record, {}).attempts == 1
    assert is_ready(record)
    record |= begun(record, NOW + 5)
    entity = changed(record, {})
    assert (entity.attempts, entity.started_at) == (2, timestamp_of(NOW + 5))


@pytest.mark.parametrize("status", ENDED)
def test_what_has_ended_says_what_came_of_it(status: str) -> None:
    entity = changed(task(), ended(status, NOW, output="done", error="why", metrics={"merged": 2.0}))
    assert (entity.status, entity.completed_at) == (status, timestamp_of(NOW))
    assert entity.result == TaskResult(
        success=status == "completed", output="done", error="why", metrics={"merged": 2.0}
    )
    bare = changed(task(), ended(status, NOW)).result
    assert bare == TaskResult(success=status == "completed")


def test_metrics_are_what_they_were_when_it_ended() -> None:
    metrics = {"merged": 2.0}
    fields = ended("completed", NOW, metrics=metrics)
    metrics["merged"] = 3.0
    assert fields["result"]["metrics"] == {"merged": 2.0}


def test_a_task_is_blocked_until_the_last_of_those_it_depends_on_is_completed() -> None:
    record = task(depends_on=["a", "b"], blocked_by=["a", "b"])
    blocked = []
    for by in ("b", "x", "a", "a"):
        record |= unblocked(record, by)
        blocked.append((by, changed(record, {}).blocked_by, is_ready(record)))
    assert blocked == [
        ("b", ("a",), False),  # the other one is not completed yet
        ("x", ("a",), False),  # it does not depend on that one
        ("a", (), True),
        ("a", (), True),  # told twice
    ]
    assert record["depends_on"] == ["a", "b"], "what it depended on stays known"


@given(
    st.lists(
        st.sampled_from(["begin", "put back", "unblock", "completed", "failed", "cancelled"]), max_size=12
    )
)
def test_whatever_changes_it_a_record_stays_valid(changes: list[str]) -> None:
    record, began = task(depends_on=["a"], blocked_by=["a"]), 0
    for second, change in enumerate(changes):
        at = NOW + second
        match change:
            case "begin":
                record |= begun(record, at)
                began += 1
            case "put back":
                record |= put_back()
            case "unblock":
                record |= unblocked(record, "a")
            case status:
                record |= ended(status, at)
        assert msgspec.convert(record, type=TaskEntity).attempts == began
        assert is_open(record) is not (record["status"] in ENDED)


def done(status: str = "completed", took: float = 10.0, **fields: Any) -> dict[str, Any]:
    return task(status=status, started_at=timestamp_of(NOW), completed_at=timestamp_of(NOW + took), **fields)


def test_an_audit_is_by_domain_in_order_and_says_how_long_it_took() -> None:
    tasks = [
        done(domain="code", took=10.0),
        done(domain="analysis", took=4.0),
        done(domain="code", took=20.0),
        # How long it took to fail says nothing of how long it takes.
        done("failed", domain="code", took=600.0),
        done("failed", domain="game", took=5.0),
    ]
    assert audit(tasks) == [
        Audit("analysis", 1, 0, 4.0),
        Audit("code", 2, 1, 15.0),
        Audit("game", 0, 1, 0.0),
    ]
    assert audit(reversed(tasks)) == audit(tasks)
    assert audit(tasks)[1].line() == "code: 2 completed, 1 failed, 15.0 s each"


@pytest.mark.parametrize(
    ("why", "other"),
    [
        ("what it gave itself", done(domain="self")),
        ("nor failed at", done("failed", domain="self")),
        ("what was cancelled", done("cancelled")),
        ("what waits", task()),
        ("what is in hand", task(status="in_progress", started_at=timestamp_of(NOW))),
    ],
)
def test_an_audit_counts_what_it_did_for_others_and_nothing_else(why: str, other: dict[str, Any]) -> None:
    assert audit([other]) == [], why
    assert audit([other, done()]) == [Audit("chat", 1, 0, 10.0)], why


def test_a_clock_that_went_back_makes_no_task_take_less_than_no_time() -> None:
    assert audit([done(took=-5.0)]) == [Audit("chat", 1, 0, 0.0)]


def test_an_audit_of_nothing_is_nothing() -> None:
    assert audit([]) == []
