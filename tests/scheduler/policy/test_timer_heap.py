"""The timer heap: order, at most once, cancelled means never, memory follows the living."""

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtos.scheduler.policy.timer_heap import SWEEP, TimerHeap


def nothing():
    pass


def test_due_in_order_of_time_and_then_of_adding():
    timers, fired = TimerHeap(), []
    for at, name in ((2.0, "late"), (1.0, "first"), (1.0, "second"), (3.0, "not yet")):
        timers.add(at, lambda name=name: fired.append(name))
    for action in timers.due(2.0):
        action()
    assert fired == [
        "first",  # the earliest
        "second",  # added after it, for the same instant
        "late",  # due exactly now
    ]
    assert len(timers) == 1
    assert timers.next_at() == 3.0


def test_a_place_that_was_taken_earlier_goes_first():
    timers, fired = TimerHeap(), []
    place = timers.next_place()
    timers.add(1.0, lambda: fired.append("added before"))
    timers.add(1.0, lambda: fired.append("taken before"), place)
    for action in timers.due(1.0):
        action()
    assert fired == ["taken before", "added before"]


def test_each_is_handed_out_once():
    timers, fired = TimerHeap(), []
    timers.add(1.0, lambda: fired.append(1))
    (action,) = timers.due(1.0)
    assert timers.due(1.0) == []
    action()
    action()
    assert fired == [1]


def test_nothing_to_do():
    timers = TimerHeap()
    assert timers.next_at() == math.inf
    assert timers.due(math.inf) == []
    assert len(timers) == 0


def test_a_cancelled_timer_never_fires_and_wakes_nobody():
    timers, fired = TimerHeap(), []
    first = timers.add(1.0, lambda: fired.append("first"))
    timers.add(2.0, lambda: fired.append("second"))
    first.cancel()
    first.cancel()
    assert timers.next_at() == 2.0
    assert len(timers) == 1
    for action in timers.due(5.0):
        action()
    assert fired == ["second"]


def test_a_timer_cancelled_by_one_that_is_due_with_it_never_fires():
    timers, fired = TimerHeap(), []
    timers.add(1.0, lambda: victim.cancel())  # noqa: PLW0108 - there is none yet
    victim = timers.add(1.0, lambda: fired.append("victim"))
    for action in timers.due(1.0):
        action()
    assert fired == []
    assert len(timers) == 0


def test_cancelling_after_firing_is_harmless():
    timers = TimerHeap()
    timer = timers.add(1.0, nothing)
    timers.add(2.0, nothing)
    for action in timers.due(1.0):
        action()
    timer.cancel()
    assert len(timers) == 1


def test_never_is_a_time_and_nan_is_not():
    timers = TimerHeap()
    timers.add(math.inf, nothing)
    timers.add(7.0, nothing)
    assert timers.next_at() == 7.0
    with pytest.raises(ValueError, match="add_timer: nan is not a time; use absolute seconds"):
        timers.add(math.nan, nothing)
    assert len(timers) == 2


def test_memory_follows_the_living():
    timers = TimerHeap()
    timers.add(0.5, nothing)
    for number in range(10_000):
        timers.add(1.0 + number, nothing).cancel()
    assert len(timers) == 1
    assert len(timers._heap) <= 2 * SWEEP + 3


class TimerMachine(RuleBasedStateMachine):
    """Against a list."""

    @initialize()
    def start(self):
        self.timers = TimerHeap()
        self.now = 0.0
        self.added = 0
        self.living = []
        self.all = []
        self.fired = []

    @rule(after=st.integers(0, 5))
    def add(self, after):
        number = self.added = self.added + 1
        at = self.now + after
        timer = self.timers.add(at, lambda: self.fired.append(number))
        self.living.append((at, number, timer))
        self.all.append(timer)

    @rule(count=st.integers(60, 140))
    def add_and_cancel_many(self, count):
        for _ in range(count):
            self.timers.add(self.now + 1, lambda: self.fired.append(None)).cancel()

    @precondition(lambda self: self.all)
    @rule(data=st.data())
    def cancel(self, data):
        timer = data.draw(st.sampled_from(self.all))
        timer.cancel()
        self.living = [entry for entry in self.living if entry[2] is not timer]

    @rule(seconds=st.integers(0, 4))
    def advance(self, seconds):
        self.now += seconds
        due = sorted(entry[:2] for entry in self.living if entry[0] <= self.now)
        self.fired.clear()
        for action in self.timers.due(self.now):
            action()
        assert self.fired == [number for _, number in due]
        self.living = [entry for entry in self.living if entry[0] > self.now]

    @invariant()
    def agrees(self):
        assert len(self.timers) == len(self.living)
        assert self.timers.next_at() == min((at for at, _, _ in self.living), default=math.inf)

    @invariant()
    def memory_follows_the_living(self):
        assert len(self.timers._heap) <= 2 * len(self.living) + 2 * SWEEP + 2


TestTimerMachine = TimerMachine.TestCase
