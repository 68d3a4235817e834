"""The inbox: order, bounds, and that nothing is ever lost without a word."""

import itertools
import math
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rtos.user.entities import MAX_TEXT
from rtos.user.inbox import (
    MOST_COVERED,
    MOST_TOGETHER,
    OF_A_ROOM,
    OF_A_SENDER,
    InboxItem,
    Offered,
    PersonaInbox,
    Shed,
    Taken,
)
from tests.support.effort import short_or_full


def item(
    name: str,
    priority: float = 0.5,
    arrived: float = 0.0,
    *,
    deadline: float = math.inf,
    depth: int = 0,
    mentions: bool = False,
    room: str | None = None,
) -> InboxItem:
    """In a room of its own, so that it is answered alone."""
    return InboxItem(
        id=name,
        room_id=f"room of {name}" if room is None else room,
        sender_id="joel",
        sender_type="human",
        text=name,
        priority=priority,
        arrived=arrived,
        deadline=deadline,
        causal_depth=depth,
        mentions=mentions,
    )


def served(inbox: PersonaInbox, now: float = 0.0, threshold: float = 0.0) -> list[str]:
    names: list[str] = []
    while (taken := inbox.take(now, threshold).item) is not None:
        names.append(taken.id)
    return names


def test_the_more_important_goes_first_and_equals_in_order() -> None:
    inbox = PersonaInbox()
    for name, priority in (("chat 1", 0.5), ("task", 0.2), ("mention", 0.9), ("chat 2", 0.5)):
        inbox.offer(item(name, priority), 0.0)
    assert served(inbox) == ["mention", "chat 1", "chat 2", "task"]


def test_waiting_makes_up_for_priority() -> None:
    inbox = PersonaInbox(patience=60.0)
    inbox.offer(item("old", 0.2, arrived=0.0), 0.0)  # due at 48
    inbox.offer(item("fresh", 0.5, arrived=20.0), 20.0)  # due at 50
    inbox.offer(item("urgent", 0.9, arrived=20.0), 20.0)  # due at 26
    assert served(inbox, 20.0) == ["urgent", "old", "fresh"]


def test_an_id_is_served_once() -> None:
    inbox = PersonaInbox()
    assert inbox.offer(item("a"), 0.0) == Offered(outcome="accepted")
    assert inbox.offer(item("a", 1.0), 0.0) == Offered(outcome="coalesced")
    assert served(inbox) == ["a"]
    assert inbox.offer(item("a"), 1.0) == Offered(outcome="coalesced"), "also after it was served"
    assert inbox.statistics().coalesced == 2


def test_old_ids_are_forgotten_but_never_one_that_waits() -> None:
    inbox = PersonaInbox(remembered=1)
    for name in ("a", "b"):
        inbox.offer(item(name), 0.0)
    assert inbox.offer(item("a"), 0.0).outcome == "coalesced"
    assert served(inbox) == ["a", "b"]
    assert inbox.offer(item("a"), 0.0).outcome == "accepted"
    assert inbox.offer(item("b"), 0.0).outcome == "coalesced"


def test_a_worse_newcomer_never_pushes_out_a_better_item() -> None:
    inbox = PersonaInbox(capacity=2)
    inbox.offer(item("good", 0.8), 0.0)
    inbox.offer(item("better", 0.9), 0.0)
    worse = item("worse", 0.1)
    assert inbox.offer(worse, 0.0) == Offered(outcome="refused", shed=(Shed(worse, "full"),))
    assert inbox.offer(item("equal", 0.8), 0.0).outcome == "refused", "who came first stays"
    assert served(inbox) == ["better", "good"]


def test_a_better_newcomer_pushes_out_the_worst_and_it_comes_back() -> None:
    inbox = PersonaInbox(capacity=2)
    bad = item("bad", 0.1)
    inbox.offer(bad, 0.0)
    inbox.offer(item("good", 0.5), 0.0)
    assert inbox.offer(item("best", 0.9), 0.0) == Offered(outcome="accepted", shed=(Shed(bad, "full"),))
    assert served(inbox) == ["best", "good"]
    assert inbox.offer(bad, 0.0).outcome == "accepted", "what was shed may be sent again"


def test_hopeless_items_make_room_before_anyone_else_has_to() -> None:
    inbox = PersonaInbox(capacity=2)
    late = item("late", 0.9, deadline=5.0)
    inbox.offer(late, 0.0)
    inbox.offer(item("good", 0.5), 0.0)
    assert inbox.offer(item("poor", 0.1, 10.0), 10.0) == Offered(
        outcome="accepted", shed=(Shed(late, "infeasible"),)
    )


def test_what_cannot_meet_its_deadline_is_shed_when_taking() -> None:
    inbox = PersonaInbox()
    tight, easy = item("tight", 0.9, deadline=10.0), item("easy", 0.5, deadline=100.0)
    for one in (tight, easy):
        inbox.offer(one, 0.0, estimate=2.0)
    assert inbox.next_infeasible_at(2.0) == 8.0
    assert inbox.take(8.5, estimate=2.0) == Taken(easy, (Shed(tight, "infeasible"),))


def test_what_can_just_meet_its_deadline_is_served() -> None:
    inbox = PersonaInbox()
    tight = item("tight", deadline=10.0)
    inbox.offer(tight, 0.0)
    assert inbox.take(8.0, estimate=2.0) == Taken(tight)


def test_a_hopeless_newcomer_is_refused_at_once() -> None:
    inbox, late = PersonaInbox(), item("late", deadline=1.0)
    assert inbox.offer(late, 0.0, estimate=2.0) == Offered(
        outcome="refused", shed=(Shed(late, "infeasible"),)
    )


def test_a_chain_of_replies_ends() -> None:
    inbox, deep = PersonaInbox(max_depth=3), item("deep", depth=4)
    assert inbox.offer(item("ok", depth=3), 0.0).outcome == "accepted"
    assert inbox.offer(deep, 0.0) == Offered(outcome="refused", shed=(Shed(deep, "loop"),))


def test_below_the_threshold_an_item_waits_until_its_age_makes_up_for_it() -> None:
    inbox = PersonaInbox(patience=60.0)
    inbox.offer(item("chat", 0.2), 0.0)
    assert inbox.take(0.0, 0.5) == Taken(None)
    assert inbox.next_eligible_at(0.0, 0.5) == pytest.approx(18.0)
    assert inbox.take(17.9, 0.5) == Taken(None)
    assert served(inbox, inbox.next_eligible_at(0.0, 0.5), 0.5) == ["chat"]


def test_rounding_never_names_an_instant_at_which_there_is_nothing_to_take() -> None:
    # For these numbers the plain subtraction is one bit too early, and a loop would wake up for nothing.
    inbox = PersonaInbox(patience=60.0)
    inbox.offer(item("chat", 0.7, 13.100000000000001), 13.2)
    assert served(inbox, inbox.next_eligible_at(13.2, 0.85), 0.85) == ["chat"]


def test_a_mention_is_served_whatever_the_threshold_and_is_held_up_by_nobody() -> None:
    inbox = PersonaInbox()
    inbox.offer(item("chat", 0.6), 0.0)
    inbox.offer(item("call", 0.4, mentions=True), 0.0)
    assert inbox.next_eligible_at(3.0, 0.9) == 3.0
    assert served(inbox, 3.0, 0.9) == ["call"]
    assert len(inbox) == 1


def test_an_empty_inbox_has_nothing_to_wait_for() -> None:
    inbox = PersonaInbox()
    assert inbox.take(0.0) == Taken(None)
    assert inbox.next_eligible_at(0.0) == math.inf
    assert inbox.next_infeasible_at() == math.inf


def test_peek_shows_the_order_and_takes_nothing() -> None:
    inbox = PersonaInbox()
    for number in range(20):
        inbox.offer(item(str(number), (number * 7 % 20) / 20), 0.0)
    first = [one.id for one in inbox.peek(5)]
    assert len(inbox) == 20
    assert served(inbox)[:5] == first


def test_clear_hands_everything_back() -> None:
    inbox = PersonaInbox()
    for name in "ab":
        inbox.offer(item(name), 0.0)
    assert [(one.item.id, one.reason) for one in inbox.clear()] == [("a", "cleared"), ("b", "cleared")]
    assert len(inbox) == 0
    assert inbox.statistics().shed_by_reason["cleared"] == 2


@pytest.mark.parametrize(
    "wrong",
    [{"capacity": 0}, {"patience": 0.0}, {"patience": math.inf}, {"remembered": 0}, {"max_depth": -1}],
)
def test_a_senseless_inbox_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="give positive, finite numbers"):
        PersonaInbox(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"priority": -0.1},
        {"priority": 1.1},
        {"priority": math.nan},
        {"arrived": math.inf},
        {"causal_depth": -1},
    ],
)
def test_a_senseless_item_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        attrs.evolve(item("a"), **wrong)


def test_an_item_without_a_deadline_is_not_one_without_a_number() -> None:
    with pytest.raises(ValueError, match="deadline is nan; give a number"):
        item("a", deadline=math.nan)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1000)), min_size=1, max_size=30),
    st.floats(1, 300),
    st.floats(0, 2000),
)
def test_the_fixed_keys_give_the_order_of_ageing_at_every_instant(
    offers: list[tuple[float, float]], patience: float, now: float
) -> None:
    inbox, aged = PersonaInbox(patience=patience), dict[str, float]()
    for number, (priority, arrived) in enumerate(offers):
        inbox.offer(item(str(number), priority, arrived), arrived)
        aged[str(number)] = priority + (now - arrived) / patience
    order = [aged[name] for name in served(inbox, now)]
    assert all(first >= second - 1e-9 for first, second in itertools.pairwise(order))


@given(
    victim=st.floats(0, 1),
    patience=st.floats(1, 100),
    gap=st.floats(0.1, 5),
    threshold=st.floats(0, 1),
    calls=st.booleans(),
)
def test_a_stream_of_the_most_important_messages_starves_nobody(
    victim: float, patience: float, gap: float, threshold: float, calls: bool
) -> None:
    """The bound: nothing that arrives more than (1 - p) * patience later goes before an item."""
    inbox = PersonaInbox(capacity=5, patience=patience)
    inbox.offer(item("victim", victim), 0.0)
    bound, now, number = (1 - victim) * patience, 0.0, 0
    while now <= bound + 3 * gap:
        # Two arrive for each one that is served, so the queue is always full of fresh, perfect messages.
        for _ in range(2):
            shed = inbox.offer(item(f"fresh {number}", 1.0, now, mentions=calls), now).shed
            number += 1
            if any(one.item.id == "victim" for one in shed):
                assert now <= bound + 1e-9, "pushed out by something that came too late for that"
                return
        taken = inbox.take(now, threshold).item
        if taken is not None and taken.id == "victim":
            return
        if taken is not None:
            assert taken.arrived <= bound + 1e-9, "overtaken by something that came too late for that"
        now += gap
    # Everything that was allowed to go first is a matter of service time, which is no concern of the order.
    left = served(inbox, now, threshold)
    overtakers = left[: left.index("victim")]
    assert len(overtakers) <= 5


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 100), st.booleans()), max_size=15),
    st.floats(0, 1.5),
    st.floats(0, 200),
)
def test_next_eligible_is_the_first_instant_at_which_something_can_be_taken(
    offers: list[tuple[float, float, bool]], threshold: float, now: float
) -> None:
    inbox = PersonaInbox()
    for number, (priority, arrived, calls) in enumerate(offers):
        inbox.offer(item(str(number), priority, arrived, mentions=calls), arrived)
    at = inbox.next_eligible_at(now, threshold)
    assert at >= now
    if at > now:
        before = now + (min(at, now + 1e6) - now) * 0.999999
        assert inbox.take(before if before < at else now, threshold).item is None
    if at < math.inf:
        assert inbox.take(at, threshold).item is not None


class Conservation(RuleBasedStateMachine):
    """Against a plain list: the same order, and every item accounted for, after every rule."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox = PersonaInbox(capacity=4, patience=10.0, remembered=50, max_depth=2)
        self.model: list[tuple[float, int, InboxItem]] = []
        self.now = 0.0
        self.offered = self.taken = self.coalesced = 0
        self.shed: list[str] = []
        self.known: set[str] = set()

    def drop(self, one: Shed) -> None:
        self.shed.append(one.item.id)
        self.known.discard(one.item.id)
        self.model = [entry for entry in self.model if entry[2].id != one.item.id]

    def hopeless(self, estimate: float) -> set[str]:
        return {entry[2].id for entry in self.model if self.now + estimate > entry[2].deadline}

    @rule(
        number=st.integers(0, 30),
        priority=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
        slack=st.sampled_from([0.0, 1.0, 5.0, math.inf]),
        depth=st.integers(0, 3),
        calls=st.booleans(),
        room=st.sampled_from(["den", "hall", None]),
        size=st.sampled_from([1, MOST_TOGETHER // 3, MOST_TOGETHER]),
        estimate=st.sampled_from([0.0, 2.0]),
    )
    def offer(
        self,
        number: int,
        priority: float,
        slack: float,
        depth: int,
        calls: bool,
        room: str | None,
        size: int,
        estimate: float,
    ) -> None:
        new = item(
            str(number),
            priority,
            self.now,
            deadline=self.now + slack,
            depth=depth,
            mentions=calls,
            room=room,
        )
        new = attrs.evolve(new, text="x" * size, anybody=not calls)
        self.offered += 1
        full = len(self.model) == 4
        expected_shed = self.hopeless(estimate) if full else set()
        result = self.inbox.offer(new, self.now, estimate=estimate)
        if new.id in self.known:
            assert result == Offered(outcome="coalesced")
            self.coalesced += 1
            return
        if depth > 2 or slack < estimate:
            assert result.outcome == "refused"
            self.shed.append(new.id)
            return
        for one in result.shed:
            if one.reason == "infeasible":
                assert one.item.id in expected_shed
        key = (self.now + (1 - priority) * 10.0, self.offered, new)
        for one in result.shed:
            if one.item.id != new.id and one.reason == "full":
                worst = max(self.model, key=lambda entry: entry[:2])
                assert one.item == worst[2]
                assert worst[0] > key[0]
            self.drop(one)
        if result.outcome == "accepted":
            self.model.append(key)
            self.known.add(new.id)

    @rule(threshold=st.sampled_from([0.0, 0.3, 0.9, 1.0]), estimate=st.sampled_from([0.0, 2.0]))
    def take(self, threshold: float, estimate: float) -> None:
        expected_shed = self.hopeless(estimate)
        result = self.inbox.take(self.now, threshold, estimate=estimate)
        assert {one.item.id for one in result.shed} == expected_shed
        for one in result.shed:
            self.drop(one)
        eligible = [
            entry
            for entry in self.model
            if entry[2].mentions or entry[0] <= self.now + (1 - threshold) * 10.0
        ]
        assert (result.item is not None) == bool(eligible)
        if result.item is not None:
            best = min(eligible, key=lambda entry: entry[:2])
            together = self.together(best)
            assert result.item.parts() == tuple(entry[2] for entry in together)
            assert result.item.id == together[-1][2].id
            for entry in together:
                self.model.remove(entry)
            self.taken += 1
            self.coalesced += len(together) - 1

    def together(self, best: tuple[float, int, InboxItem]) -> list[tuple[float, int, InboxItem]]:
        """The oldest of the same room that are called alike, as long as they fit beside it."""
        one, found = best[2], [best]
        for entry in sorted(self.model, key=lambda entry: entry[1]):
            other = entry[2]
            if entry is best or (other.room_id, other.mentions) != (one.room_id, one.mentions):
                continue
            whole = "\n".join(each[2].text for each in (*found, entry))
            if len(whole) > MOST_TOGETHER:
                break
            found.append(entry)
        return sorted(found, key=lambda entry: entry[1])

    @rule(seconds=st.sampled_from([0.5, 3.0, 20.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.model)
    @rule()
    def clear(self) -> None:
        for one in self.inbox.clear():
            self.drop(one)
        assert not self.model

    @invariant()
    def nothing_is_lost(self) -> None:
        counts = self.inbox.statistics()
        assert counts.offered == counts.taken + counts.shed + counts.coalesced + counts.waiting
        assert (counts.offered, counts.taken, counts.coalesced) == (self.offered, self.taken, self.coalesced)
        assert counts.shed == len(self.shed) == sum(counts.shed_by_reason.values())
        assert counts.waiting == len(self.inbox) == len(self.model) <= 4
        assert [one.id for one in self.inbox.peek(4)] == [
            entry[2].id for entry in sorted(self.model, key=lambda entry: entry[:2])
        ]


Conservation.TestCase.settings = settings(max_examples=short_or_full(30, 100), stateful_step_count=50)
TestConservation = Conservation.TestCase


def test_what_has_left_takes_no_room_for_ever() -> None:
    inbox = PersonaInbox(capacity=10, remembered=100)
    # One that stays, so that its sender's line does.
    inbox.offer(item("stays", arrived=1e12), 0.0)
    for number in range(20_000):
        inbox.offer(item(str(number), 0.5, float(number), deadline=number + 1e9), float(number))
        inbox.take(float(number))
    line = inbox._lines._lines["joel"]
    entries = [
        len(places) for places in (line.calling, line.others, line.worst, inbox._worst, inbox._hopeless)
    ]
    assert max(entries) < 100
    assert len(inbox._seen) == 100
    inbox.clear()
    assert len(inbox._lines) == 0


def of(name: str, sender: str, arrived: float = 0.0, *, persona: bool = False, **more: Any) -> InboxItem:
    kind = "persona" if persona else "human"
    # What a human says in one room is taken together.
    room = "general" if persona else None
    return attrs.evolve(item(name, arrived=arrived, room=room, **more), sender_id=sender, sender_type=kind)


def test_a_noisy_sender_takes_no_more_than_its_turns() -> None:
    inbox = PersonaInbox()
    for number in range(20):
        inbox.offer(of(f"noise {number}", "noisy", float(number), priority=1.0, mentions=True), 20.0)
    inbox.offer(of("quiet", "quiet", 20.0, priority=0.2), 20.0)
    order = []
    while (taken := inbox.take(20.0).item) is not None:
        order.append(taken.id)
        inbox.charge(taken.sender_id, 2.0)
    assert order.index("quiet") == 1


def test_the_longest_line_gives_way_to_who_has_less_and_not_the_other_way_round() -> None:
    inbox = PersonaInbox(capacity=4)
    for number in range(4):
        inbox.offer(of(f"noise {number}", "noisy", priority=0.9), 0.0)
    # Whatever it matters: its sender has nothing here yet.
    offered = inbox.offer(of("quiet", "quiet", 10.0, priority=0.0), 10.0)
    assert [shed.item.id for shed in offered.shed] == ["noise 3"]
    offered = inbox.offer(of("quiet too", "quiet", 11.0, priority=0.0), 11.0)
    assert [shed.item.id for shed in offered.shed] == ["noise 2"]
    # Each has its half, so what matters most pushes out nothing but its own sender's.
    assert inbox.offer(of("quiet more", "quiet", 12.0, priority=0.0), 12.0).outcome == "refused"
    offered = inbox.offer(of("noise 5", "noisy", priority=1.0), 12.0)
    assert [shed.item.sender_id for shed in offered.shed] == ["noisy"]
    assert inbox.statistics().waiting == 4


def test_no_more_waits_than_can_be_done_in_time() -> None:
    inbox = PersonaInbox(capacity=100, horizon=60.0)
    for number in range(20):
        inbox.offer(item(f"m{number}", arrived=float(number)), float(number), estimate=10.0)
    assert len(inbox) == 6
    # Of work that takes longer than all the time there is, one waits nevertheless.
    slow = PersonaInbox(horizon=60.0)
    assert slow.offer(item("long"), 0.0, estimate=600.0).outcome == "accepted"
    assert slow.offer(item("longer", arrived=1.0), 1.0, estimate=600.0).outcome == "refused"
    with pytest.raises(ValueError, match="horizon 0.0"):
        PersonaInbox(horizon=0.0)


def test_personas_are_listened_to_so_often_and_humans_always() -> None:
    inbox = PersonaInbox(capacity=1000)
    outcomes = []
    for number in range(OF_A_SENDER.burst + 2):
        offered = inbox.offer(of(f"p{number}", "chatty", persona=True), 0.0)
        outcomes.append([shed.reason for shed in offered.shed if shed.item.id == f"p{number}"])
        inbox.take(0.0)
    assert outcomes == [[]] * OF_A_SENDER.burst + [["loop"]] * 2
    later = OF_A_SENDER.interval
    assert inbox.offer(of("again", "chatty", later, persona=True), later).outcome == "accepted"
    for number in range(100):
        assert inbox.offer(of(f"h{number}", "joel"), 0.0).outcome == "accepted"


def test_many_personas_in_one_room_are_no_way_round_the_rate() -> None:
    inbox = PersonaInbox(capacity=1000)
    accepted = [
        inbox.offer(of(f"p{number}", f"chatty {number}", persona=True), 0.0).outcome == "accepted"
        for number in range(OF_A_ROOM.burst + 5)
    ]
    assert sum(accepted) == OF_A_ROOM.burst


def test_an_inbox_that_still_counts_is_kept() -> None:
    inbox = PersonaInbox()
    assert inbox.is_idle(0.0)
    inbox.offer(of("p", "chatty", persona=True), 0.0)
    inbox.take(0.0)
    assert not inbox.is_idle(0.0)
    assert inbox.is_idle(max(OF_A_SENDER.interval, OF_A_ROOM.interval))
    inbox.offer(item("h"), 100.0)
    assert not inbox.is_idle(100.0)


def in_order(inbox: PersonaInbox) -> list[list[str]]:
    """What is taken, each with what it covers, oldest first."""
    found = []
    while (taken := inbox.take(0.0).item) is not None:
        found.append([part.id for part in taken.parts()])
    return found


def test_what_one_human_has_said_in_one_room_is_taken_together() -> None:
    inbox = PersonaInbox()
    for number, deadline in enumerate((50.0, 30.0, 40.0)):
        inbox.offer(item(f"m{number}", room="hall", deadline=deadline), 0.0)
    taken = inbox.take(1.0).item
    assert taken is not None
    assert (taken.id, taken.deadline, taken.due) == ("m2", 40.0, 30.0)
    assert taken.whole_text == "m0\nm1\nm2"
    assert [part.id for part in taken.parts()] == ["m0", "m1", "m2"]
    assert [part.deadline for part in taken.parts()] == [50.0, 30.0, 40.0], "alone, each has its own time"
    assert all(part.parts() == (part,) for part in taken.parts())
    counts = inbox.statistics()
    assert (counts.offered, counts.taken, counts.coalesced, counts.waiting) == (3, 1, 2, 0)
    for number in range(3):
        assert inbox.offer(item(f"m{number}", room="hall"), 2.0).outcome == "coalesced", "each is known"
    inbox.forget("m0")
    assert inbox.offer(item("m0", room="hall"), 2.0).outcome == "accepted"


@pytest.mark.parametrize(
    "other",
    [
        {"sender_id": "ann"},
        {"room_id": "elsewhere"},
        {"mentions": True},
        {"anybody": True},
        {"kind": "task"},
    ],
)
def test_what_is_not_of_one_kind_is_taken_apart(other: dict[str, Any]) -> None:
    inbox = PersonaInbox()
    inbox.offer(item("one", room="hall"), 0.0)
    inbox.offer(attrs.evolve(item("two", room="hall"), **other), 0.0)
    assert sorted(in_order(inbox)) == [["one"], ["two"]]


@pytest.mark.parametrize("other", [{"kind": "task"}, {"sender_type": "agent"}])
def test_tasks_and_what_programs_say_are_taken_one_by_one(other: dict[str, Any]) -> None:
    inbox = PersonaInbox()
    inbox.offer(attrs.evolve(item("one", room="hall"), **other), 0.0)
    inbox.offer(attrs.evolve(item("two", room="hall"), **other), 0.0)
    assert max(map(len, in_order(inbox))) == 1


def test_so_many_are_taken_together_at_most() -> None:
    inbox = PersonaInbox()
    for number in range(2 * MOST_COVERED + 4):
        inbox.offer(item(f"m{number:02}", room="hall"), 0.0)
    found = in_order(inbox)
    assert [len(one) for one in found] == [MOST_COVERED + 1, MOST_COVERED + 1, 2]
    everything = list(itertools.chain.from_iterable(found))
    assert everything == sorted(everything), "the oldest first"


def test_so_much_text_is_taken_together_at_most() -> None:
    inbox = PersonaInbox()
    for number, text in enumerate(("ä" * (MOST_TOGETHER // 4), "b" * (MOST_TOGETHER // 2 - 1), "c")):
        inbox.offer(attrs.evolve(item(f"m{number}", room="hall"), text=text), 0.0)
    assert in_order(inbox) == [["m0", "m1"], ["m2"]], "the line between two counts as well"
    for number, text in enumerate(("d", "e" * MAX_TEXT)):
        inbox.offer(attrs.evolve(item(f"n{number}", room="hall"), text=text), 0.0)
    assert in_order(inbox) == [["n0"], ["n1"]]


def test_what_the_first_of_them_takes_along_is_older_and_newer_alike() -> None:
    inbox = PersonaInbox()
    for name, priority in (("old", 0.0), ("urgent", 1.0), ("new", 0.0)):
        inbox.offer(item(name, priority, room="hall"), 0.0)
    taken = inbox.take(0.0, 0.9).item
    assert taken is not None
    assert [part.id for part in taken.parts()] == ["old", "urgent", "new"]


def test_a_newer_word_of_a_persona_takes_the_place_of_its_older_one_and_no_humans_does() -> None:
    inbox = PersonaInbox()
    inbox.offer(of("old", "chatty", persona=True), 0.0)
    elsewhere = attrs.evolve(of("elsewhere", "chatty", persona=True), room_id="other")
    inbox.offer(elsewhere, 0.0)
    offered = inbox.offer(of("new", "chatty", persona=True), 0.0)
    assert [(shed.item.id, shed.reason) for shed in offered.shed] == [("old", "superseded")]
    for name in ("one", "two"):
        assert inbox.offer(attrs.evolve(of(name, "joel"), room_id="general"), 0.0).shed == ()
    assert sorted(in_order(inbox)) == [["elsewhere"], ["new"], ["one", "two"]]


def assigned(name: str, sender: str = "chatty", arrived: float = 0.0) -> InboxItem:
    """A task that a persona has given, about the room that the others talk in."""
    return attrs.evolve(of(name, sender, arrived), kind="task", sender_type="system")


def test_tasks_are_no_talk_however_many_come_and_whoever_gives_them() -> None:
    inbox = PersonaInbox(capacity=1000)
    many = OF_A_ROOM.burst + OF_A_SENDER.burst + 20
    for number in range(many):
        assert inbox.offer(assigned(f"t{number}"), 0.0) == Offered(outcome="accepted")
    # Nor do they count: whoever has given them may still say as much as anybody else.
    said = [
        inbox.offer(attrs.evolve(of(f"p{number}", "chatty", persona=True), room_id=f"room {number}"), 0.0)
        for number in range(OF_A_SENDER.burst + 1)
    ]
    assert [offered.outcome for offered in said] == ["accepted"] * OF_A_SENDER.burst + ["refused"]
    # And who has said too much may still give them.
    assert inbox.offer(assigned("one more"), 0.0).outcome == "accepted"
    assert len(inbox) == many + OF_A_SENDER.burst + 1


def test_an_inbox_of_tasks_that_are_taken_knows_nothing() -> None:
    inbox = PersonaInbox()
    inbox.offer(assigned("t"), 0.0)
    assert served(inbox) == ["t"]
    assert inbox.is_idle(0.0)


def test_a_task_is_not_done_with_because_its_giver_says_something_newer_nor_the_other_way_round() -> None:
    inbox = PersonaInbox()
    offers = [
        assigned("first task"),
        of("old", "chatty", persona=True),
        assigned("second task"),
        of("new", "chatty", persona=True),
        assigned("third task"),
    ]
    shed = [
        (offer.id, [(one.item.id, one.reason) for one in inbox.offer(offer, 0.0).shed]) for offer in offers
    ]
    assert shed == [
        ("first task", []),
        ("old", []),
        ("second task", []),  # the older message waits on
        ("new", [("old", "superseded")]),  # a message takes the place of a message, and of no task
        ("third task", []),  # nor does a task take that of a task
    ]
    assert served(inbox) == ["first task", "second task", "new", "third task"]


@settings(max_examples=short_or_full(60, 200))
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 3)), max_size=60))
def test_whatever_comes_from_whom_nothing_is_lost(script: list[tuple[str, bool, int]]) -> None:
    inbox = PersonaInbox(capacity=5, horizon=20.0)
    ended: list[str] = []
    for number, (sender, persona, served_) in enumerate(script):
        now = float(number)
        new = of(f"m{number}", sender, now, persona=persona, priority=(number % 5) / 4, deadline=now + 9)
        ended += [shed.item.id for shed in inbox.offer(new, now, estimate=2.0).shed]
        for _ in range(served_):
            taken = inbox.take(now, estimate=2.0)
            ended += [shed.item.id for shed in taken.shed]
            if taken.item is not None:
                ended.append(taken.item.id)
                inbox.charge(taken.item.sender_id, 2.0)
        counts = inbox.statistics()
        assert counts.offered == counts.taken + counts.shed + counts.coalesced + counts.waiting
        assert counts.waiting <= 5
    ended += [shed.item.id for shed in inbox.clear()]
    assert sorted(ended) == sorted(f"m{number}" for number in range(len(script)))
