"""The timer heap: order, one firing per timer, cancelled timers never fire, bounded memory."""

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtos.scheduler.policy.timer_heap import SWEEP, TimerHeap


def nothing():
    pass


def test_due_timers_are_ordered_by_time_then_by_addition():
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


def test_reserved_place_fires_before_timers_added_later():
    timers, fired = TimerHeap(), []
    place = timers.next_place()
    timers.add(1.0, lambda: fired.append("added first"))
    timers.add(1.0, lambda: fired.append("reserved first"), place)
    for action in timers.due(1.0):
        action()
    assert fired == ["reserved first", "added first"]


def test_due_timer_is_returned_once_and_fires_once():
    timers, fired = TimerHeap(), []
    timers.add(1.0, lambda: fired.append(1))
    (action,) = timers.due(1.0)
    assert timers.due(1.0) == []
    action()
    action()
    assert fired == [1]


def test_empty_heap_is_never_due():
    timers = TimerHeap()
    assert timers.next_at() == math.inf
    assert timers.due(math.inf) == []
    assert len(timers) == 0


def test_cancelled_timer_never_fires_and_is_not_the_next():
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


def test_timer_cancelled_by_another_of_its_instant_never_fires():
    timers, fired = TimerHeap(), []
    timers.add(1.0, lambda: victim.cancel())  # noqa: PLW0108 - it is defined below
    victim = timers.add(1.0, lambda: fired.append("victim"))
    for action in timers.due(1.0):
        action()
    assert fired == []
    assert len(timers) == 0


def test_cancelling_a_fired_timer_does_nothing():
    timers = TimerHeap()
    timer = timers.add(1.0, nothing)
    timers.add(2.0, nothing)
    for action in timers.due(1.0):
        action()
    timer.cancel()
    assert len(timers) == 1


def test_inf_is_accepted_and_nan_is_rejected():
    timers = TimerHeap()
    timers.add(math.inf, nothing)
    timers.add(7.0, nothing)
    assert timers.next_at() == 7.0
    with pytest.raises(ValueError, match="add_timer: nan is not a time; use absolute seconds"):
        timers.add(math.nan, nothing)
    assert len(timers) == 2


def test_cancelled_timers_are_removed():
    timers = TimerHeap()
    timers.add(0.5, nothing)
    for number in range(10_000):
        timers.add(1.0 + number, nothing).cancel()
    assert len(timers) == 1
    assert len(timers.entries) <= 2 * SWEEP + 3


class TimerMachine(RuleBasedStateMachine):
    """The heap against a list."""

    @initialize()
    def start(self):
        self.timers = TimerHeap()
        self.now = 0.0
        self.added = 0
        self.active = []
        self.all = []
        self.fired = []

    @rule(after=st.integers(0, 5))
    def add(self, after):
        number = self.added = self.added + 1
        at = self.now + after
        timer = self.timers.add(at, lambda: self.fired.append(number))
        self.active.append((at, number, timer))
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
        self.active = [entry for entry in self.active if entry[2] is not timer]

    @rule(seconds=st.integers(0, 4))
    def advance(self, seconds):
        self.now += seconds
        due = sorted(entry[:2] for entry in self.active if entry[0] <= self.now)
        self.fired.clear()
        for action in self.timers.due(self.now):
            action()
        assert self.fired == [number for _, number in due]
        self.active = [entry for entry in self.active if entry[0] > self.now]

    @invariant()
    def agrees(self):
        assert len(self.timers) == len(self.active)
        assert self.timers.next_at() == min((at for at, _, _ in self.active), default=math.inf)

    @invariant()
    def memory_follows_the_active_timers(self):
        assert len(self.timers.entries) <= 2 * len(self.active) + 2 * SWEEP + 2


TestTimerMachine = TimerMachine.TestCase
