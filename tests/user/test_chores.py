"""Chores: due by what has happened, one of a kind at a time, and never because somebody looked."""

from __future__ import annotations

import json
import math
from typing import Any, get_args

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rtos.user.affect import Label
from rtos.user.chores import CHORES, Chores, Diary
from rtos.user.entities import TaskType
from rtos.user.inbox import InboxItem, Shed
from tests.support.effort import short_or_full

NOW = 1_800_000_000.0
BEFORE = math.nextafter(NOW, 0.0)
AFTER = math.nextafter(NOW, math.inf)
LABELS: tuple[Label, ...] = get_args(Label)
ALL = Diary(exchanges=10, performed=20, stranded=1, fades_at=NOW)
"""Everything is due."""


def task(kind: str, status: str = "pending", id: str | None = None) -> dict[str, Any]:
    """As much of a record as is looked at."""
    return {"id": id or f"own {kind}", "task_type": kind, "status": status}


def chores(diary: Diary, *open_kinds: str) -> Chores:
    found = Chores()
    found.diary = diary
    for kind in open_kinds:
        found.take_up(task(kind))
    return found


def wanted(found: Chores, label: Label = "idle", now: float = NOW) -> list[str]:
    return [chore.task_type for chore in found.wanted(label, now)]


@pytest.mark.parametrize(
    ("kind", "not_yet", "due"),
    [
        ("resume-work", Diary(), Diary(stranded=1)),
        ("skill-audit", Diary(performed=19), Diary(performed=20)),
        ("skill-audit", Diary(exchanges=9), Diary(performed=1000)),
        ("memory-consolidation", Diary(exchanges=9), Diary(exchanges=10)),
        ("memory-consolidation", Diary(performed=19), Diary(exchanges=1000)),
        ("memory-consolidation", Diary(fades_at=AFTER), Diary(fades_at=NOW)),
        ("memory-consolidation", Diary(exchanges=9, fades_at=AFTER), Diary(fades_at=BEFORE)),
    ],
)
def test_each_is_due_at_its_count_and_not_below(kind: str, not_yet: Diary, due: Diary) -> None:
    assert wanted(chores(not_yet)) == []
    assert wanted(chores(due)) == [kind]


# In the reference system all timers fired at the first pass, since nothing had ever been done.
def test_nothing_is_due_at_the_first_look() -> None:
    found = Chores()
    for label in LABELS:
        assert found.wanted(label, NOW) == []
        assert found.next(label) is None
    assert found.next_due_at(NOW) == math.inf
    assert len(found) == 0


# The reference system made a new task every 30 s for as long as the old one was not done.
def test_a_chore_is_given_once_however_often_somebody_looks() -> None:
    found, kind = chores(Diary(exchanges=10)), "memory-consolidation"
    made, trace = list[str](), list[tuple[str, int]]()

    def look_often(when: str) -> None:
        for number in range(100):
            for chore in found.wanted("idle", NOW + 30 * number):
                found.ask(chore)
                made.append(chore.task_type)
        trace.append((when, len(made)))

    look_often("ten exchanges are remembered")
    found.take_up(task(kind))
    look_often("it is told of")
    found.take_up(task(kind, "in_progress"))
    look_often("it is begun")
    found.diary = found.diary.done(kind)
    found.close(f"own {kind}")
    look_often("it is done")
    found.take_up(task(kind, "completed"))
    look_often("its end is told of")
    for _ in range(9):
        found.diary = found.diary.remembered(math.inf)
    look_often("nine more")
    found.diary = found.diary.remembered(math.inf)
    look_often("and the tenth")
    assert trace == [
        ("ten exchanges are remembered", 1),
        ("it is told of", 1),
        ("it is begun", 1),
        ("it is done", 1),
        ("its end is told of", 1),
        ("nine more", 1),
        ("and the tenth", 2),
    ]
    assert made == [kind, kind]


@pytest.mark.parametrize("label", LABELS)
def test_what_is_for_a_rest_is_left_to_who_is_idle(label: Label) -> None:
    kinds = ["resume-work", "skill-audit", "memory-consolidation"]
    expected = kinds if label == "idle" else ["resume-work"]
    assert wanted(chores(ALL), label) == expected
    found = chores(ALL, *reversed(kinds))
    done = []
    while (first := found.next(label)) is not None:
        assert first["task_type"] not in done, "what has ended is not done again"
        done.append(first["task_type"])
        found.close(first["id"])
    assert done == expected


def test_which_are_for_a_rest() -> None:
    at_rest = {kind: chore.at_rest for kind, chore in CHORES.items()}
    assert at_rest == {"resume-work": False, "skill-audit": True, "memory-consolidation": True}
    assert set(CHORES) <= set(get_args(TaskType))


def test_what_is_asked_for_is_done_only_when_it_is_told_of() -> None:
    found = chores(Diary(stranded=1))
    found.ask(CHORES["resume-work"])
    assert (found.next("active"), len(found)) == (None, 1)
    found.take_up(task("resume-work"))
    assert (found.next("active"), len(found)) == (task("resume-work"), 1)


def test_what_could_not_be_made_is_wanted_again() -> None:
    found = chores(Diary(stranded=1))
    found.ask(CHORES["resume-work"])
    assert wanted(found) == []
    found.take_back(CHORES["resume-work"])
    assert wanted(found) == ["resume-work"]


def test_that_one_is_begun_is_no_news_to_who_has_begun_it() -> None:
    found = chores(Diary(), "skill-audit")
    found.close("own skill-audit")
    # Told when it has ended already: it would be open for ever.
    found.take_up(task("skill-audit", "in_progress"))
    assert len(found) == 0


def test_one_that_was_begun_and_is_in_nobodys_hand_is_gone_on_with() -> None:
    found = chores(Diary())
    found.take_up(task("skill-audit", "in_progress"), missed=True)
    assert found.next("idle") == task("skill-audit", "in_progress")
    assert wanted(chores(ALL, "skill-audit")) == ["resume-work", "memory-consolidation"]


@pytest.mark.parametrize("missed", [False, True])
@pytest.mark.parametrize("status", ["completed", "failed"])
def test_one_that_has_ended_is_open_no_more(status: str, missed: bool) -> None:
    found = chores(ALL, "skill-audit", "resume-work")
    found.take_up(task("skill-audit", status), missed=missed)
    assert wanted(found) == ["skill-audit", "memory-consolidation"]
    assert len(found) == 1


def test_one_that_somebody_else_has_cancelled_is_not_given_again_at_once() -> None:
    found = chores(ALL, "skill-audit", "resume-work")
    found.take_up(task("skill-audit", "cancelled"))
    assert wanted(found) == ["memory-consolidation"]
    assert found.diary == ALL.done("skill-audit")


def test_only_the_one_that_has_ended_is_closed() -> None:
    found = chores(ALL, "skill-audit")
    found.ask(CHORES["resume-work"])
    found.close("a message")
    assert len(found) == 2
    found.close("own skill-audit")
    assert len(found) == 1


def test_what_nobody_knows_anything_of_is_begun_at_rest_and_last() -> None:
    found = chores(Diary(), "fine-tune-lora", "memory-consolidation")
    assert found.next("active") is None
    found.close("own memory-consolidation")
    assert found.next("idle") == task("fine-tune-lora")


def test_the_chores_of_one_are_no_concern_of_another() -> None:
    one, other = Chores(), Chores()
    one.ask(CHORES["skill-audit"])
    one.strand()
    assert (len(other), other.diary) == (0, Diary())


@pytest.mark.parametrize(
    ("kind", "left"),
    [
        ("resume-work", attrs.evolve(ALL, stranded=0)),
        ("skill-audit", attrs.evolve(ALL, performed=0)),
        ("memory-consolidation", attrs.evolve(ALL, exchanges=0, fades_at=math.inf)),
        ("fine-tune-lora", ALL),
    ],
)
def test_what_is_done_counts_from_nothing_and_the_others_go_on(kind: str, left: Diary) -> None:
    assert ALL.done(kind) == left
    assert kind not in wanted(chores(ALL.done(kind)))


@given(st.floats(1.0, 1e10))
def test_a_consolidation_is_due_again_exactly_when_the_next_memory_fades(fades_at: float) -> None:
    kind = "memory-consolidation"
    found = chores(attrs.evolve(ALL, performed=0, stranded=0).done(kind, fades_at=fades_at))
    before = math.nextafter(fades_at, 0.0)
    assert wanted(found, now=before) == []
    assert found.next_due_at(before) == fades_at
    assert wanted(found, now=fades_at) == [kind]
    assert found.next_due_at(fades_at) == math.inf, "it is due, which is said by `wanted`"


def test_the_first_memory_that_fades_counts() -> None:
    diary = Diary().remembered(NOW + 5).remembered(NOW + 2).remembered(NOW + 9).remembered(math.inf)
    assert diary == Diary(exchanges=4, fades_at=NOW + 2)
    # What another chore has to say of it makes it no later.
    assert diary.done("skill-audit", fades_at=NOW + 7) == diary
    assert diary.done("skill-audit", fades_at=NOW + 1).fades_at == NOW + 1


@given(st.floats(1.0, 1e10) | st.just(math.inf), st.floats(1.0, 1e10))
def test_nothing_is_named_that_is_not_still_to_come(fades_at: float, now: float) -> None:
    found = chores(Diary(exchanges=10, fades_at=fades_at))
    at = found.next_due_at(now)
    assert at > now
    assert at in (fades_at, math.inf)
    # Only the one that is past is not waited for.
    assert (at == math.inf) is (fades_at == math.inf or fades_at <= now)


def test_a_task_there_is_no_room_for_is_put_off_and_a_message_is_not() -> None:
    found = Chores()
    message = InboxItem(
        id="m", room_id="r", sender_id="joel", sender_type="human", text="m", priority=0.5, arrived=0.0
    )
    assert (found.defers(Shed(message, "full")), found.deferred) == (False, False)
    assert (found.defers(Shed(attrs.evolve(message, kind="task"), "full")), found.deferred) == (True, True)
    assert (found.defers(Shed(message, "full")), found.deferred) == (False, True), "it stays noted"


DIARY = st.builds(
    Diary,
    exchanges=st.integers(0, 1000),
    performed=st.integers(0, 1000),
    stranded=st.integers(0, 5),
    fades_at=st.floats(0.0, 1e12) | st.just(math.inf),
)


@given(DIARY)
def test_a_diary_survives_storage(diary: Diary) -> None:
    stored = json.loads(json.dumps(diary.to_builtins(), allow_nan=False))
    assert Diary.from_builtins(stored) == attrs.evolve(diary, stranded=0), "what is stranded is found again"


@pytest.mark.parametrize("old", [{}, {"fades_at": None}, {"exchanges": 0, "energy": 0.5}])
def test_a_state_stored_without_a_diary_has_an_empty_one(old: dict[str, Any]) -> None:
    assert Diary.from_builtins(old) == Diary()


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"exchanges": -1}, "exchanges is -1; give 0 or more"),
        ({"performed": -1}, "performed is -1; give 0 or more"),
        ({"performed": "many"}, "Expected `int`, got `str`.*performed"),
        ({"fades_at": "soon"}, "Expected `float`, got `str`.*fades_at"),
    ],
)
def test_what_is_no_diary_is_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        Diary.from_builtins(wrong)


KINDS = [*CHORES, "fine-tune-lora"]
KIND = st.sampled_from(KINDS)


class OneOfAKind(RuleBasedStateMachine):
    """Against plain counts and a plain mapping: what is wanted, what is next, and what is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.chores = Chores()
        self.now = NOW
        self.exchanges = self.performed = self.stranded = 0
        self.fades_at = math.inf
        # By kind; one that is only asked for has no record yet.
        self.open: dict[str, dict[str, Any] | None] = {}
        self.counted = (0, 0, 0)

    def counts(self) -> tuple[int, int, int]:
        diary = self.chores.diary
        return (diary.exchanges, diary.performed, diary.stranded)

    def due(self, label: Label) -> list[str]:
        due = ["resume-work"] if self.stranded else []
        if label == "idle" and self.performed >= 20:
            due.append("skill-audit")
        if label == "idle" and (self.exchanges >= 10 or self.fades_at <= self.now):
            due.append("memory-consolidation")
        return [kind for kind in due if kind not in self.open]

    @rule(many=st.integers(1, 12), fades_in=st.sampled_from([5.0, 60.0, math.inf]))
    def remember(self, many: int, fades_in: float) -> None:
        for _ in range(many):
            self.chores.diary = self.chores.diary.remembered(self.now + fades_in)
        self.exchanges += many
        self.fades_at = min(self.fades_at, self.now + fades_in)

    @rule(many=st.integers(1, 22))
    def perform(self, many: int) -> None:
        diary = self.chores.diary
        self.chores.diary = attrs.evolve(diary, performed=diary.performed + many)
        self.performed += many

    @rule()
    def strand(self) -> None:
        self.chores.strand()
        self.stranded += 1

    @rule(seconds=st.sampled_from([1.0, 10.0, 100.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(label=st.sampled_from(LABELS), made=st.booleans())
    def ask(self, label: Label, made: bool) -> None:
        for chore in self.chores.wanted(label, self.now):
            assert chore.task_type not in self.open
            self.chores.ask(chore)
            if made:
                self.open[chore.task_type] = None
            else:
                self.chores.take_back(chore)

    @rule(
        kind=KIND,
        status=st.sampled_from(["pending", "in_progress", "completed", "failed", "cancelled"]),
        missed=st.booleans(),
    )
    def take_up(self, kind: str, status: str, missed: bool) -> None:
        record = task(kind, status)
        self.chores.take_up(record, missed=missed)
        if status in ("completed", "failed", "cancelled"):
            self.open.pop(kind, None)
            if status == "cancelled":
                self.forget(kind, math.inf)
        elif status == "pending" or missed:
            self.open[kind] = record

    @rule(id=KIND.map("own {}".format) | st.just("a message"))
    def close(self, id: str) -> None:
        self.chores.close(id)
        self.open = {
            kind: record for kind, record in self.open.items() if record is None or record["id"] != id
        }

    @precondition(lambda self: self.exchanges or self.performed or self.stranded)
    @rule(kind=KIND, fades_in=st.sampled_from([5.0, 60.0, math.inf]))
    def done(self, kind: str, fades_in: float) -> None:
        self.chores.diary = self.chores.diary.done(kind, fades_at=self.now + fades_in)
        self.forget(kind, fades_in)

    def forget(self, kind: str, fades_in: float) -> None:
        if kind == "resume-work":
            self.stranded = 0
        if kind == "skill-audit":
            self.performed = 0
        if kind == "memory-consolidation":
            self.exchanges, self.fades_at = 0, math.inf
        self.fades_at = min(self.fades_at, self.now + fades_in)
        self.counted = self.exchanges, self.performed, self.stranded

    @rule()
    def restart(self) -> None:
        stored = json.loads(json.dumps(self.chores.diary.to_builtins()))
        self.chores = chores(Diary.from_builtins(stored))
        # Both are found again by who looks at the records.
        for _ in range(self.stranded):
            self.chores.strand()
        self.open.clear()

    @invariant()
    def counts_go_back_by_what_was_done_and_nothing_else(self) -> None:
        diary, now = self.chores.diary, self.counts()
        assert all(before <= after for before, after in zip(self.counted, now, strict=True))
        assert now == (self.exchanges, self.performed, self.stranded)
        assert diary.fades_at == self.fades_at
        self.counted = now

    @invariant()
    def none_is_wanted_that_is_open(self) -> None:
        diary = self.chores.diary
        for label in LABELS:
            assert wanted(self.chores, label, self.now) == self.due(label)
            assert wanted(self.chores, label, self.now) == self.due(label), "also who looks twice"
        assert self.chores.diary == diary, "nothing is counted by looking"
        assert len(self.chores) == len(self.open) <= len(KINDS)

    @invariant()
    def the_first_that_suits_is_next(self) -> None:
        for label in LABELS:
            known = [record for kind in KINDS if (record := self.open.get(kind)) is not None]
            suits = [one for one in known if label == "idle" or one["task_type"] == "resume-work"]
            assert self.chores.next(label) == (suits[0] if suits else None)

    @invariant()
    def what_will_be_due_is_told_beforehand(self) -> None:
        at = self.chores.next_due_at(self.now)
        assert at > self.now
        assert at == (self.fades_at if self.fades_at > self.now else math.inf)


OneOfAKind.TestCase.settings = settings(max_examples=short_or_full(30, 100), stateful_step_count=40)
TestOneOfAKind = OneOfAKind.TestCase
