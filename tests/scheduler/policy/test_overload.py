"""The order of a mailbox queue, its overload policies, and the law of conservation."""

import math
import os
import subprocess
import sys

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtos.errors import KernelBug
from rtos.scheduler.policy.overload import MailboxQueue, MailboxStatistics, Message, OverloadPolicy, State


def message(name, level=4, deadline=math.inf, key=None):
    return Message(name, level=level, deadline=deadline, key=key)


def offer_all(queue, *messages):
    return [queue.offer(each)[0] for each in messages]


def take_all(queue):
    taken = []
    while (each := queue.take()) is not None:
        taken.append(each.value)
    return taken


def test_order_is_level_then_deadline_then_arrival():
    queue = MailboxQueue(10)
    offer_all(
        queue,
        message("plain"),
        message("chatty", level=5, deadline=0.5),
        message("later", deadline=9.0),
        message("sooner", deadline=2.0),
        message("as plain"),
        message("urgent", level=0),
    )
    assert take_all(queue) == [
        "urgent",  # the most urgent level, whatever its deadline
        "sooner",  # within a level, the earlier deadline
        "later",
        "plain",  # among equals, the first to arrive
        "as plain",
        "chatty",  # a deadline never overtakes a level
    ]


def test_reprioritised_message_moves_and_keeps_its_arrival():
    queue = MailboxQueue(10)
    first, second, third = message("first"), message("second"), message("third")
    offer_all(queue, first, second, third)
    queue.reprioritise(third, 2, math.inf)
    queue.reprioritise(second, 2, math.inf)
    assert queue.head() is second
    assert take_all(queue) == ["second", "third", "first"]


def test_message_that_left_is_not_queued_by_reprioritising_it():
    queue = MailboxQueue(10)
    gone = message("gone")
    offer_all(queue, gone, message("there"))
    queue.take()
    queue.reprioritise(gone, 0, 1.0)
    assert (gone.level, gone.deadline) == (0, 1.0)
    assert [each.value for each in queue] == ["there"]


def test_reject_and_block_refuse_the_new_message():
    for policy in (OverloadPolicy.REJECT, OverloadPolicy.BLOCK):
        queue = MailboxQueue(1, policy)
        assert offer_all(queue, message("kept"), message("refused", level=0)) == [True, False]
        assert (queue.statistics.refused, queue.statistics.accepted) == (1, 1)
        assert take_all(queue) == ["kept"]


def test_drop_oldest_sheds_the_first_to_arrive():
    queue = MailboxQueue(2, OverloadPolicy.DROP_OLDEST)
    oldest, urgent = message("oldest", level=7), message("urgent", level=0)
    offer_all(queue, urgent, oldest)
    accepted, shed = queue.offer(message("newest", level=7))
    assert accepted
    assert shed is urgent  # the first to arrive, however urgent it is
    assert shed.state is State.SHED
    assert take_all(queue) == ["oldest", "newest"]


def test_drop_least_urgent_sheds_the_last_in_order():
    queue = MailboxQueue(2, OverloadPolicy.DROP_LEAST_URGENT)
    first, last = message("first", level=4), message("last", level=4)
    offer_all(queue, first, last)
    assert queue.offer(message("equal", level=4)) == (False, None)
    accepted, shed = queue.offer(message("nearer", level=4, deadline=5.0))
    assert accepted
    assert shed is last
    assert take_all(queue) == ["nearer", "first"]


def test_coalesce_keeps_the_newest_message_of_a_key_even_if_there_is_room():
    queue = MailboxQueue(3, OverloadPolicy.COALESCE)
    old, other, no_key = message("old", key="k"), message("other", key="o"), message("no key")
    offer_all(queue, old, other, no_key)
    assert queue.offer(message("new", key="k")) == (True, old)
    assert queue.offer(message("no room")) == (False, None)
    assert take_all(queue) == ["other", "no key", "new"]
    assert queue.offer(message("newer", key="k")) == (
        True,
        None,
    )  # a message that is being served is not shed


def test_other_policies_ignore_keys():
    queue = MailboxQueue(3)
    offer_all(queue, message("one", key="k"), message("two", key="k"), message("three", key=["unhashable"]))
    assert take_all(queue) == ["one", "two", "three"]


def test_every_policy_refuses_at_capacity_0():
    for policy in OverloadPolicy:
        queue = MailboxQueue(0, policy)
        assert queue.offer(message("x", key="k")) == (False, None)
        assert queue.statistics.conserved()


def test_message_served_without_queueing_counts_as_accepted():
    queue = MailboxQueue(1)
    direct = message("direct")
    queue.accept_served(direct)
    assert direct.state is State.SERVED
    assert queue.statistics == MailboxStatistics(accepted=1, served=1)
    queue.settle(direct, State.HANDLED)
    assert queue.statistics == MailboxStatistics(accepted=1, handled=1)


def test_message_that_is_put_back_goes_first_among_equals_and_needs_no_room():
    queue = MailboxQueue(2)
    first, second, third = message("first"), message("second"), message("third")
    offer_all(queue, first, second)
    assert queue.take() is first
    assert offer_all(queue, third, message("no room")) == [True, False]
    assert queue.put_back(first)
    assert (queue.statistics.queued, queue.statistics.high_water) == (3, 3)
    assert offer_all(queue, message("still none")) == [False]
    assert take_all(queue) == ["first", "second", "third"]


def test_message_that_is_put_back_is_the_oldest_again():
    queue = MailboxQueue(2, OverloadPolicy.DROP_OLDEST)
    first = message("first")
    offer_all(queue, first, message("second"))
    queue.take()
    offer_all(queue, message("third"))
    queue.put_back(first)
    assert queue.offer(message("fourth")) == (True, first)
    assert take_all(queue) == ["second", "third", "fourth"]


@pytest.mark.parametrize("newer", ["waits", "is served", "is handled"])
def test_message_is_shed_when_put_back_after_a_newer_one_of_its_key(newer):
    queue = MailboxQueue(3, OverloadPolicy.COALESCE)
    old, new = message("old", key="k"), message("new", key="k")
    offer_all(queue, old)
    queue.take()
    offer_all(queue, new)
    if newer != "waits":
        queue.take()
    if newer == "is handled":
        queue.settle(new, State.HANDLED)
    assert not queue.put_back(old)
    assert old.state is State.SHED
    assert queue.statistics.shed == 1
    assert queue.statistics.conserved()


def test_newer_message_replaces_one_that_was_put_back_beyond_the_capacity():
    queue = MailboxQueue(1, OverloadPolicy.COALESCE)
    old, new = message("old", key="k"), message("new", key="k")
    offer_all(queue, old)
    queue.take()
    offer_all(queue, message("other", key="o"))
    assert queue.put_back(old)
    assert queue.offer(new) == (True, old)
    assert take_all(queue) == ["other", "new"]


def test_message_cannot_be_settled_or_withdrawn_twice():
    queue = MailboxQueue(2)
    one = message("one")
    offer_all(queue, one)
    with pytest.raises(AssertionError, match="^$"):
        queue.settle(one, State.HANDLED)
    queue.withdraw(one, State.CANCELLED)
    with pytest.raises(AssertionError, match="^$"):
        queue.withdraw(one, State.EXPIRED)


def test_reprioritising_and_withdrawing_leave_no_stale_entries():
    queue = MailboxQueue(10_000)
    waiting = message("waiting")
    offer_all(queue, waiting)
    for number in range(10_000):
        queue.reprioritise(waiting, 3, -float(number))
        passing = message("passing")
        queue.offer(passing)
        queue.withdraw(passing, State.CANCELLED)
    assert queue._messages.entries() < 100
    assert take_all(queue) == ["waiting"]


@pytest.mark.parametrize("policy", OverloadPolicy)
def test_taking_leaves_no_stale_entries(policy):
    queue = MailboxQueue(10_000, policy)
    offer_all(queue, message("last", level=7))
    for number in range(1000):
        offer_all(queue, message(number, level=number % 3))
        assert queue.take().value == number
    assert queue._messages.entries() < 100
    assert take_all(queue) == ["last"]


def test_conserved_is_false_if_a_message_is_missing():
    assert MailboxStatistics(accepted=3, handled=1, queued=1, served=1).conserved()
    assert not MailboxStatistics(accepted=3, handled=1, queued=1).conserved()


def test_check_finds_a_message_that_was_lost_before_the_operation():
    queue = MailboxQueue(2)
    queue.offer(message("a"))
    queue.statistics.queued = 0
    with pytest.raises(KernelBug, match=r"lost or counted twice, seen before hand_over\(\): .*accepted=1"):
        queue.hand_over()


def test_check_finds_a_message_that_the_operation_loses(monkeypatch):
    monkeypatch.setattr(MailboxQueue, "_queue", lambda queue, message: None)
    with pytest.raises(KernelBug, match=r"lost or counted twice, seen after offer\(\)"):
        MailboxQueue(2).offer(message("a"))


CHECKED = """
from rtos.scheduler.policy.overload import CHECKS, MailboxQueue
operations = "offer", "accept_served", "take", "hand_over", "put_back", "withdraw", "settle"
print(CHECKS, {hasattr(getattr(MailboxQueue, each), "__wrapped__") for each in operations})
"""


@pytest.mark.parametrize(
    ("options", "environment", "expected"),
    [
        ([], {}, "False {False}"),  # the plain methods: the checks cost nothing
        (["-X", "dev"], {}, "True {True}"),
        ([], {"RTOS_CHECKS": "1"}, "True {True}"),
    ],
    ids=["plain", "dev mode", "environment"],
)
def test_checks_are_on_in_dev_mode_or_if_the_environment_asks(options, environment, expected):
    inherited = {name: value for name, value in os.environ.items() if name != "RTOS_CHECKS"}
    command = [sys.executable, *options, "-c", CHECKED]
    run = subprocess.run(command, env=inherited | environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == expected


levels = st.integers(0, 3)
deadlines = st.sampled_from([1.0, 2.0, math.inf])


class QueueMachine(RuleBasedStateMachine):
    """Every policy, compared with plain lists."""

    @initialize(policy=st.sampled_from(OverloadPolicy), capacity=st.sampled_from([0, 1, 2, 5, math.inf]))
    def start(self, policy, capacity):
        self.queue = MailboxQueue(capacity, policy)
        self.policy = policy
        self.capacity = capacity
        self.waiting = []  # in order of arrival
        self.served = []
        self.excess = 0  # messages queued beyond the capacity
        self.newest = {}  # the newest message of each key, settled or not
        self.counts = dict.fromkeys(("handled", "failed", "expired", "shed", "cancelled"), 0)
        self.accepted = self.refused = self.high_water = 0

    @staticmethod
    def urgency(entry):
        return entry.level, entry.deadline, entry.arrival

    def victim(self, newcomer):
        """The message that the naive model sheds, and whether it accepts the newcomer."""
        same = [each for each in self.waiting if newcomer.key is not None and each.key == newcomer.key]
        if self.policy is OverloadPolicy.COALESCE and same:
            return same[0], True
        if len(self.waiting) < self.capacity:
            return None, True
        if not self.waiting:
            return None, False
        if self.policy is OverloadPolicy.DROP_OLDEST:
            return self.waiting[0], True
        if self.policy is OverloadPolicy.DROP_LEAST_URGENT:
            last = max(self.waiting, key=self.urgency)
            if (newcomer.level, newcomer.deadline) < (last.level, last.deadline):
                return last, True
        return None, False

    @rule(level=levels, deadline=deadlines, key=st.sampled_from([None, "a", "b"]))
    def offer(self, level, deadline, key):
        newcomer = Message(object(), level=level, deadline=deadline, key=key)
        expected = self.victim(newcomer)
        accepted, shed = self.queue.offer(newcomer)
        assert (shed, accepted) == expected
        if shed is not None:
            assert shed.state is State.SHED
            self.waiting.remove(shed)
            self.counts["shed"] += 1
        if accepted:
            self.waiting.append(newcomer)
            self.newest[key] = newcomer
            self.accepted += 1
        else:
            self.refused += 1
        self.high_water = max(self.high_water, len(self.waiting))

    @rule(level=levels, key=st.sampled_from([None, "a", "b"]))
    def accept_served(self, level, key):
        if any(each.key == key for each in self.waiting):
            key = None  # a waiting receiver would have been given the queued one
        direct = Message(object(), level=level, key=key)
        self.queue.stamp(direct)
        self.queue.accept_served(direct)
        self.newest[key] = direct
        self.served.append(direct)
        self.accepted += 1

    @rule()
    def take(self):
        expected = min(self.waiting, key=self.urgency, default=None)
        assert self.queue.take() is expected
        if expected is not None:
            assert expected.state is State.SERVED
            self.waiting.remove(expected)
            self.served.append(expected)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), state=st.sampled_from([State.EXPIRED, State.CANCELLED, State.FAILED]))
    def withdraw(self, data, state):
        gone = data.draw(st.sampled_from(self.waiting))
        self.queue.withdraw(gone, state)
        self.waiting.remove(gone)
        self.counts[state.name.lower()] += 1

    @precondition(lambda self: self.served)
    @rule(data=st.data(), state=st.sampled_from([s for s in State if s > State.SERVED and s != State.SHED]))
    def settle(self, data, state):
        done = data.draw(st.sampled_from(self.served))
        self.queue.settle(done, state)
        self.served.remove(done)
        self.counts[state.name.lower()] += 1

    @precondition(lambda self: self.served)
    @rule(data=st.data())
    def put_back(self, data):
        back = data.draw(st.sampled_from(self.served))
        self.served.remove(back)
        newer = back.key is not None and self.newest.get(back.key) is not back
        kept = not (self.policy is OverloadPolicy.COALESCE and newer)
        assert self.queue.put_back(back) is kept
        if kept:
            assert back.state is State.WAITING
            self.excess += 1
            self.waiting.append(back)
            self.waiting.sort(key=lambda each: each.arrival)
            self.high_water = max(self.high_water, len(self.waiting))
        else:
            assert back.state is State.SHED
            self.counts["shed"] += 1

    @precondition(lambda self: self.waiting or self.served)
    @rule(data=st.data(), level=levels, deadline=deadlines)
    def reprioritise(self, data, level, deadline):
        self.queue.reprioritise(data.draw(st.sampled_from(self.waiting + self.served)), level, deadline)

    @invariant()
    def conserved(self):
        counts = self.queue.statistics
        assert counts.conserved()
        assert counts.waiting == len(self.waiting) + len(self.served)
        for name, number in self.counts.items():
            assert getattr(counts, name) == number
        assert (counts.accepted, counts.refused) == (self.accepted, self.refused)
        assert counts.high_water == self.high_water

    @invariant()
    def agrees(self):
        assert len(self.queue) == len(self.waiting)
        # Only messages that are put back may exceed the capacity.
        excess = max(len(self.waiting) - self.capacity, 0)
        assert excess <= self.excess
        self.excess = excess
        assert set(self.queue) == set(self.waiting)
        assert len(list(self.queue)) == len(self.waiting)
        assert self.queue.head() is min(self.waiting, key=self.urgency, default=None)


TestQueueMachine = QueueMachine.TestCase
