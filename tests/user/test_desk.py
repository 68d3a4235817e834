"""The desk: what is done first, how urgently, and that what was put on it is never lost without a word."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.chores import Diary
from rtos.user.desk import LATELY, Desk, item_of
from rtos.user.hearing import ANSWER_WITHIN, paced
from rtos.user.inbox import HORIZON, OF_A_ROOM, OF_A_SENDER, InboxItem, Shed
from rtos.user.priority import CALLED, LEVEL, RESTING

NOW = 1000.0
WALL = 1_800_000_000.0


def message(name: str, priority: float = 0.5, arrived: float = NOW, **more: Any) -> InboxItem:
    # Each in a room of its own, or a human's would be answered together.
    given = {"room_id": f"room of {name}", "sender_id": "joel", "sender_type": "human", "text": name}
    return InboxItem(id=name, priority=priority, arrived=arrived, **{**given, **more})


def call(name: str, *, sender_type: str = "human", **more: Any) -> InboxItem:
    return message(name, mentions=True, sender_type=sender_type, **more)


def task(name: str, priority: float = 0.5, arrived: float = NOW, **more: Any) -> InboxItem:
    return message(name, priority, arrived, kind="task", sender_type="system", **more)


def chore(kind: str = "skill-audit") -> dict[str, Any]:
    """The record of a task that it gave itself."""
    return {
        "id": f"own {kind}",
        "task_type": kind,
        "status": "pending",
        "domain": "self",
        "context_id": None,
        "created_by": "helper-ai",
        "description": kind,
        "priority": 0.5,
        "due_date": None,
    }


def desk(*items: InboxItem, chores: tuple[str, ...] = (), estimate: float = 0.0) -> Desk:
    found = Desk()
    found.estimate = estimate
    for kind in chores:
        found.chores.take_up(chore(kind))
    for item in items:
        found.offer(item, NOW)
    return found


def take(found: Desk, now: float = NOW, threshold: float = 0.0, label: Any = "idle") -> list[tuple[str, str]]:
    """What is in hand then, and why, where it is only to be refused."""
    found.take(now, WALL, threshold, label)
    return in_hand(found)


def in_hand(found: Desk) -> list[tuple[str, str]]:
    return [(item_of(work).id, work.reason if isinstance(work, Shed) else "") for work in found.work]


def one_for_all(**more: Any) -> Desk:
    """A desk with room for one thing: it takes as long as there is time at all."""
    return desk(estimate=HORIZON, **more)


def test_what_is_in_hand_comes_first_then_what_waits_then_chores() -> None:
    found = desk(message("chat", 0.4), task("task", 0.6), chores=("skill-audit", "resume-work"))
    done: list[str] = []
    while found.work or found.take(NOW, WALL, 0.0, "idle"):
        item = found.in_hand
        assert item is not None
        assert item.id not in done, "what has ended is not done again"
        done.append(item.id)
        if item.id == "task":
            found.offer(message("urgent", 1.0), NOW)
            assert found.in_hand is item, "whatever comes, it is not taken out of its hand"
        if item.id == "own resume-work":
            found.offer(message("late", 0.0), NOW)
            assert found.in_hand is item
        found.settle(item, 0.0)
        found.drop()
    assert done == [
        "task",  # it matters most of what waits
        "urgent",  # it came later, and matters more
        "chat",  # before any chore, whatever it matters
        "own resume-work",  # the first of the chores
        "late",  # again before any chore
        "own skill-audit",
    ]
    assert (found.in_hand, found.waiting, len(found.chores)) == (None, 0, 0)


def test_a_chore_is_begun_only_where_nothing_is_worth_attending_to() -> None:
    found = desk(message("dull", 0.1), chores=("resume-work", "skill-audit"))
    assert take(found, threshold=0.9, label="tired") == [("own resume-work", "")]
    assert found.has_chore_in_hand
    assert found.waiting == 1
    found.settle(found.work[0], 0.0)  # type: ignore[arg-type]
    found.drop()
    assert take(found, threshold=0.9, label="tired") == [], "that one is for a rest"
    assert take(found, threshold=0.9, label="idle") == [("own skill-audit", "")]


def test_a_chore_in_hand_is_the_task_that_it_is() -> None:
    found = desk(chores=("skill-audit",))
    take(found)
    assert found.in_hand == InboxItem(
        id="own skill-audit",
        kind="chore",
        room_id="",
        sender_id="helper-ai",
        sender_type="system",
        text="skill-audit",
        priority=0.65,
        arrived=NOW,
    )


def test_what_is_hopeless_is_refused_before_anything_is_begun() -> None:
    found = desk(message("late", 0.9, deadline=NOW + 1), message("chat"), chores=("skill-audit",))
    assert take(found, NOW + 2) == [("late", "infeasible"), ("chat", "")]
    found = desk(message("late", 0.9, deadline=NOW + 1), chores=("skill-audit",))
    assert take(found, NOW + 2) == [("late", "infeasible")], "a chore is nothing that anybody waits for"


@pytest.mark.parametrize(
    ("why", "found", "level"),
    [
        ("nothing is to be done", desk(), LEVEL),
        ("a message", desk(message("m")), LEVEL),
        ("a task", desk(task("t")), LEVEL),
        ("a human calls", desk(call("m")), CALLED),
        ("a persona calls", desk(call("m", sender_type="persona")), LEVEL),
        ("a call is refused", desk(call("m", deadline=NOW - 1)), LEVEL),
        ("a chore is open, and not begun", desk(chores=("skill-audit",)), LEVEL),
    ],
)
def test_how_urgent_it_is(why: str, found: Desk, level: int) -> None:
    assert found.level == level, why


def test_it_is_called_from_the_first_call_to_the_end_of_the_last() -> None:
    found = desk(message("chat", 1.0))
    trace = [("told", found.level, False)]

    def note(what: str, *, changes: bool = False) -> None:
        trace.append((what, found.level, changes))

    for name, priority in (("first", 0.5), ("second", 0.9)):
        found.offer(call(name, priority=priority), NOW)
        note(f"called, {name}")
    for _ in range(3):
        take(found)
        item = found.in_hand
        assert item is not None
        note(f"in hand, {item.id}")
        changes = found.settle(item, 0.0)
        found.drop()
        note(f"done, {item.id}", changes=changes)
    assert found.offer(call("first"), NOW) is False
    note("told again of what is done")
    assert trace == [
        ("told", LEVEL, False),
        ("called, first", CALLED, False),
        ("called, second", CALLED, False),
        ("in hand, chat", CALLED, False),  # who is called waits for it, so it hurries
        ("done, chat", CALLED, False),
        ("in hand, second", CALLED, False),
        ("done, second", CALLED, False),  # the first waits still
        ("in hand, first", CALLED, False),
        ("done, first", LEVEL, True),
        ("told again of what is done", LEVEL, False),
    ]


def test_it_is_called_until_who_called_has_an_answer_even_if_that_is_a_refusal() -> None:
    found = desk(call("late", deadline=NOW + 1))
    assert take(found, NOW + 2) == [("late", "infeasible")]
    assert found.level == CALLED
    assert found.settle(item_of(found.work[0]), 0.0)
    assert found.level == LEVEL


def test_who_does_a_chore_rests_unless_a_human_calls() -> None:
    found = desk(chores=("skill-audit",))
    take(found)
    assert found.level == RESTING
    found.offer(message("chat", 0.1), NOW)
    assert found.level == RESTING
    found.offer(call("call"), NOW)
    assert found.level == CALLED
    found.drop()
    assert take(found) == [("call", "")], "it is left, and open"
    assert len(found.chores) == 1


def test_a_task_for_which_there_is_no_room_waits_in_its_record() -> None:
    found = one_for_all()
    assert found.offer(message("chat", 0.9), NOW)
    assert not found.offer(task("task", 0.1), NOW)
    assert (found.work, found.chores.deferred, found.waiting) == ((), True, 1)
    take(found)
    found.drop()
    assert found.offer(task("task", 0.1), NOW), "it is not known again, so it may be fetched"


def test_a_task_that_is_pushed_out_waits_in_its_record() -> None:
    found = one_for_all()
    assert found.offer(task("task", 0.1), NOW)
    assert found.offer(message("chat", 0.9), NOW)
    assert (found.work, found.chores.deferred) == ((), True)
    assert take(found) == [("chat", "")]


def test_a_message_for_which_there_is_no_room_gets_an_answer() -> None:
    found = one_for_all()
    found.offer(message("poor", 0.1), NOW)
    found.offer(task("task", 0.9), NOW)
    found.offer(message("worse", 0.0), NOW)
    assert in_hand(found) == [("poor", "full"), ("worse", "full")]
    assert (found.chores.deferred, found.waiting) == (False, 1)


def test_a_refusal_waits_for_what_is_in_hand() -> None:
    found = desk(message("chat"))
    take(found)
    found.offer(message("hopeless", deadline=NOW - 1), NOW)
    assert in_hand(found) == [("chat", ""), ("hopeless", "infeasible")]
    found.drop()
    assert in_hand(found) == [("hopeless", "infeasible")]


def test_what_failed_is_refused_instead_of_being_tried_again() -> None:
    found = desk(message("bad"), message("good"))
    take(found)
    found.offer(message("hopeless", deadline=NOW - 1), NOW)
    item = found.in_hand
    assert item is not None
    found.fail(item)
    assert in_hand(found) == [("bad", "failed"), ("hopeless", "infeasible")]
    assert found.in_hand is item


def test_everything_is_given_back_once_in_order_of_arrival() -> None:
    found = desk(
        message("third", 0.2, NOW - 3), message("first", 0.1, NOW - 5), call("second", arrived=NOW - 4)
    )
    assert take(found) == [("second", "")]
    found.offer(task("fourth", 0.9, NOW - 2), NOW)
    found.offer(message("hopeless", 0.9, NOW - 1, deadline=NOW - 1), NOW)
    assert [item.id for item in found.clear()] == ["first", "second", "third", "fourth", "hopeless"]
    assert found.clear() == []
    assert (found.work, found.waiting, found.level, found.load) == ((), 0, LEVEL, 0.0)
    assert found.offer(message("first"), NOW), "and may come again"


OFFERS = st.lists(
    st.tuples(
        st.sampled_from(["message", "task", "call", "hopeless"]),
        st.sampled_from(["ada", "bob"]),
        st.sampled_from([0.0, 0.5, 1.0]),
        st.booleans(),
    ),
    max_size=30,
)


@given(OFFERS)
def test_whatever_comes_only_a_task_is_put_off_and_nothing_is_lost(
    offers: list[tuple[str, str, float, bool]],
) -> None:
    # There is room for three.
    found, ended, offered = desk(estimate=HORIZON / 3), list[str](), dict[str, str]()
    calling = set[str]()
    for number, (what, sender, priority, takes) in enumerate(offers):
        item = message(str(number), priority, NOW + number, sender_id=sender)
        if what == "task":
            item = attrs.evolve(item, kind="task", sender_type="system")
        elif what == "call":
            item = attrs.evolve(item, mentions=True)
        elif what == "hopeless":
            item = attrs.evolve(item, deadline=NOW)
        offered[item.id] = item.kind
        if found.offer(item, NOW + number) and item.mentions:
            calling.add(item.id)
        while takes and (found.work or found.take(NOW + number, WALL, 0.9, "idle")):
            first = item_of(found.work[0])
            found.settle(first, 0.0)
            found.drop()
            ended.append(first.id)
            calling.discard(first.id)
        assert found.waiting <= 3
        assert found.level == (CALLED if calling else LEVEL)
    ended += [item.id for item in found.clear()]
    assert len(ended) == len(set(ended))
    lost = set(offered) - set(ended)
    assert {offered[id] for id in lost} <= {"task"}
    assert found.chores.deferred is bool(lost)


def test_how_long_an_answer_takes_is_learned_from_messages_only() -> None:
    found, estimates = Desk(), list[float]()
    own = attrs.evolve(task("own"), kind="chore")
    for item, seconds in (
        (task("t"), 600.0),
        (own, 600.0),
        (message("a"), 4.0),
        (message("b"), 8.0),
        (own, 0.1),
    ):
        found.spend(item, seconds)
        estimates.append(found.estimate)
    assert estimates == [0.0, 0.0, 4.0, paced(4.0, 8.0), paced(4.0, 8.0)]
    found.spend(message("c"), 1e6)
    assert found.estimate == ANSWER_WITHIN / 2


@pytest.mark.parametrize("kind", ["message", "task"])
def test_who_has_had_its_time_lets_others_go_first_whatever_it_was(kind: Any) -> None:
    noisy = [
        attrs.evolve(message(f"noisy {number}", 0.9), sender_id="noisy", kind=kind) for number in range(2)
    ]
    found = desk(*noisy, message("quiet", 0.1))
    assert take(found) == [("noisy 0", "")]
    found.spend(noisy[0], 2.0)
    found.drop()
    assert take(found) == [("quiet", "")]


def test_its_load_is_all_that_it_has_to_do() -> None:
    found = desk(message("a"), message("b"), task("c"), estimate=ANSWER_WITHIN / 10)
    assert found.load == pytest.approx(0.3)
    take(found)
    assert found.load == pytest.approx(0.3), "what is in hand is not done yet"
    found.drop()
    assert found.load == pytest.approx(0.2)
    assert desk(message("a")).load == 0.0, "nobody knows yet how long it will take"


DULL = message("dull", 0.2)
"""At a threshold of a half it is attended to after 18 s."""
TIGHT = message("tight", 0.0, deadline=NOW + 10)


@pytest.mark.parametrize(
    ("why", "items", "fades_in", "expected"),
    [
        ("nothing will be", (), math.inf, math.inf),
        ("a memory fades", (), 5.0, NOW + 5),
        ("one that is faded is looked at when it rests", (), -5.0, math.inf),
        ("something comes to be worth it", (DULL,), math.inf, NOW + 18),
        ("something is worth it now", (message("m", 0.6),), 5.0, NOW),
        ("something will be hopeless", (TIGHT,), math.inf, NOW + 8),
        ("the memory is the first", (DULL, TIGHT), 5.0, NOW + 5),
        ("the hopeless is", (DULL, TIGHT), 9.0, NOW + 8),
        ("what comes to be worth it is", (DULL,), 20.0, NOW + 18),
    ],
)
def test_there_is_something_to_do_at_the_first_of_the_instants(
    why: str, items: tuple[InboxItem, ...], fades_in: float, expected: float
) -> None:
    found = desk(*items, estimate=2.0)
    found.chores.diary = Diary(fades_at=WALL + fades_in)
    assert found.next_at(NOW, WALL, 0.5) == pytest.approx(expected), why


def test_no_inbox_is_kept_that_holds_and_knows_nothing() -> None:
    found = Desk()
    found.tidy(NOW)
    assert found.next_at(NOW, WALL, 0.0) == math.inf
    assert (found.waiting, found.clear(), found._inbox) == (0, [], None)
    found.offer(message("m"), NOW)
    found.tidy(NOW)
    assert found.waiting == 1
    take(found)
    found.tidy(NOW)
    assert (in_hand(found), found._inbox) == ([("m", "")], None)


def test_an_inbox_that_counts_what_personas_say_is_kept() -> None:
    found = desk(message("m", sender_type="persona"))
    take(found)
    found.tidy(NOW)
    assert found._inbox is not None
    found.tidy(NOW + max(OF_A_SENDER.interval, OF_A_ROOM.interval))
    assert found._inbox is None


def test_what_is_left_to_somebody_else_may_come_once_more() -> None:
    found = desk(message("m"))
    take(found)
    item = found.in_hand
    assert item is not None
    found.drop()
    assert not found.offer(item, NOW)
    found.forget(item)
    assert found.offer(item, NOW)


def test_a_room_is_known_for_an_hour_and_five_of_them_at_most() -> None:
    found = Desk()
    for number in range(7):
        found.settle(message(f"m{number}", room_id=f"room-{number}"), float(number))
    assert [found.was_lately_in(f"room-{number}", 10.0) for number in range(7)] == [False] * 2 + [True] * 5
    assert found.was_lately_in("room-6", 6.0 + LATELY)
    assert not found.was_lately_in("room-6", 6.1 + LATELY)
    found.settle(message("again", room_id="room-2"), 20.0)
    found.settle(message("new", room_id="room-8"), 21.0)
    assert found.was_lately_in("room-2", 22.0)
    assert not found.was_lately_in("room-3", 22.0)
