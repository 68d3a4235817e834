"""The life cycle of children, without Trio: random events in random order, against its invariants."""

from __future__ import annotations

from collections import defaultdict

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rtos.errors import DaemonDown, Refused
from rtos.scheduler.supervision.child import ChildSpec
from rtos.scheduler.supervision.lifecycle import Lifecycle, Phase, Step
from rtos.scheduler.supervision.restart_policy import Backoff, PastIntensity, Restart, RestartWindow, Strategy
from rtos.scheduler.supervision.run_state import Child, Operation, Order, State

PERIOD = 8.0
START_TIMEOUT = 20.0
SHUTDOWN = 5.0


class Run:
    """One run of a child, and what the life cycle has asked of it."""

    def __init__(self, ready, ended):
        self.ready = ready
        self.ended = ended
        self.is_cancelled = False


class FakeTimer:
    def __init__(self, at, action):
        self.at = at
        self.action = action
        self.is_cancelled = False

    def cancel(self):
        self.is_cancelled = True


class FakeTasks:
    """Runs and timers of a life cycle, in virtual time."""

    def __init__(self):
        self.time = 0.0
        self.runs = {}
        self.timers = []
        self.reports = []
        self.became_ready = []
        self.on_start = lambda name: None

    def now(self):
        return self.time

    def call_at(self, at, action):
        self.timers.append(FakeTimer(at, action))
        return self.timers[-1]

    def start(self, spec, ready, ended):
        assert spec.name not in self.runs, "two runs of one child at a time"
        self.runs[spec.name] = Run(ready, ended)
        self.on_start(spec.name)

    def cancel(self, spec):
        self.runs[spec.name].is_cancelled = True

    def report(self, child, error, outcome):
        self.reports.append((child.spec.name, str(error), outcome))

    def on_ready(self, child):
        self.became_ready.append(child.spec.name)

    # What a test does.

    def end(self, name, error=None):
        self.runs.pop(name).ended(error)

    def pending_timers(self):
        return [timer for timer in self.timers if not timer.is_cancelled]

    def advance(self, seconds):
        """Let time pass, and fire the timers on the way."""
        until = self.time + seconds
        while due := [timer for timer in self.pending_timers() if timer.at <= until]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.time = max(self.time, timer.at)
            timer.action()
        self.time = until
        self.timers = self.pending_timers()


class Machine(RuleBasedStateMachine):
    """A supervisor of four children, to which anything happens at any time."""

    strategy = Strategy.ONE_FOR_ONE

    @initialize(
        intensity=st.sampled_from([0, 1, 3, 6, 50]),
        # Mostly children that are restarted for ever or parked, so that much happens.
        restarts=st.lists(st.sampled_from([Restart.PERMANENT, *Restart]), min_size=4, max_size=4),
        parks=st.lists(st.sampled_from([True, True, True, False]), min_size=4, max_size=4),
        askable=st.lists(st.booleans(), min_size=4, max_size=4),
        first=st.sampled_from([0.0, 2.0]),
        opens_well=st.sampled_from([True, True, True, False]),
    )
    def begin(self, intensity, restarts, parks, askable, first, opens_well):
        self.tasks = FakeTasks()
        self.tasks.on_start = self.check_start
        self.intensity = intensity
        self.orders = []
        self.downs = defaultdict(int)
        self.asked = []
        shared = RestartWindow(intensity, PERIOD)
        self.children = {}
        for name, restart, park, can_ask in zip("abcd", restarts, parks, askable, strict=True):
            spec = ChildSpec(
                name=name,
                run=_never_called,
                restart=restart,
                past_intensity=PastIntensity.PARK if park else PastIntensity.ESCALATE,
                stop=(lambda name=name: self.asked.append(name)) if can_ask else None,
                start_timeout=START_TIMEOUT,
                shutdown=SHUTDOWN,
                on_down=lambda down: self.downs.update({down.daemon: self.downs[down.daemon] + 1}),
            )
            self.children[name] = Child(spec, shared)
        self.restarted_at = defaultdict(list)
        self.lifecycle = Lifecycle(
            self.children.values(), self.tasks, strategy=self.strategy, backoff=Backoff(first=first, cap=4.0)
        )
        self.lifecycle.open()
        while opens_well and self.lifecycle.phase is Phase.OPENING:
            next(iter(self.starting())).ready()

    # Helpers.

    def starting(self):
        return [self.tasks.runs[n] for n, c in self.children.items() if c.state is State.STARTING]

    def is_open(self):
        return self.lifecycle.phase is Phase.OPEN

    def check_start(self, name):
        """Check a start at the moment of it."""
        child = self.children[name]
        assert self.lifecycle.phase in (Phase.OPENING, Phase.OPEN)
        if child.parked is not None:
            assert child.is_unparking, "only an operator starts a parked child"
        if child.is_unparking:
            # Its failures so far are forgotten. The unpark may have waited for the end of a park.
            self.restarted_at[name].clear()
        if child.is_unparking or self.strategy is Strategy.ONE_FOR_ONE:
            return
        # A group starts in order: nothing that comes after this child is up, unless it
        # is being stopped to be parked.
        later = list(self.children)[list(self.children).index(name) + 1 :]
        assert all(not self.children[n].has_run or self.children[n].is_parking for n in later)
        others = [c for c in self.children.values() if c is not child and not c.is_unparking]
        assert all(c.state is not State.STARTING for c in others), "a group starts one by one"

    def track_restarts(self, action):
        before = {name: child.restarts for name, child in self.children.items()}
        action()
        for name, child in self.children.items():
            if child.restarts > before[name]:
                self.restarted_at[name].append(self.tasks.time)

    # Rules: what children, time and operators do.

    def in_state(self, *states):
        return [name for name, child in self.children.items() if child.state in states]

    @precondition(lambda self: self.in_state(State.STARTING))
    @rule(data=st.data())
    def becomes_ready(self, data):
        self.tasks.runs[data.draw(st.sampled_from(self.in_state(State.STARTING)))].ready()

    @precondition(lambda self: self.in_state(State.RUNNING))
    @rule(data=st.data(), fails=st.sampled_from([True, True, False]))
    def running_child_ends(self, data, fails):
        self.end(data.draw(st.sampled_from(self.in_state(State.RUNNING))), fails=fails)

    @precondition(lambda self: self.in_state(State.STARTING))
    @rule(data=st.data(), fails=st.booleans())
    def starting_child_ends(self, data, fails):
        self.end(data.draw(st.sampled_from(self.in_state(State.STARTING))), fails=fails)

    @precondition(lambda self: self.in_state(State.STOPPING))
    @rule(data=st.data(), fails=st.booleans())
    def stopping_child_ends(self, data, fails):
        self.end(data.draw(st.sampled_from(self.in_state(State.STOPPING))), fails=fails)

    def end(self, name, *, fails):
        error = LookupError(name) if fails else None
        self.track_restarts(lambda: self.tasks.end(name, error))

    @precondition(lambda self: self.in_state(State.STARTING, State.STOPPING))
    @rule()
    def children_start_and_stop_well(self):
        while names := self.in_state(State.STOPPING):
            self.end(names[-1], fails=False)
        while names := self.in_state(State.STARTING):
            self.tasks.runs[names[0]].ready()

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0, 9.0, 30.0]))
    def time_passes(self, seconds):
        self.track_restarts(lambda: self.tasks.advance(seconds))

    @rule(data=st.data(), operation=st.sampled_from(Operation))
    def operator_orders(self, data, operation):
        # Mostly what makes a difference.
        useful = [n for n, c in self.children.items() if (c.parked is None) is (operation is Operation.PARK)]
        name = data.draw(
            st.sampled_from(useful) | st.sampled_from("abcd") if useful else st.sampled_from("abcd")
        )
        child = self.children[name]
        outcomes = []
        order = Order(operation, child, notify=lambda: outcomes.append(order.error))
        self.orders.append((order, outcomes))
        self.lifecycle.place(order)
        if not self.is_open():
            assert isinstance(order.error, Refused)
        elif operation is Operation.PARK and not isinstance(order.error, Refused):
            # Answered at once, but for the end of a run.
            assert child.state is State.PARKED or child.is_parking

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def operator_gives_up(self, data):
        order, _ = data.draw(st.sampled_from(self.orders))
        order.settle()

    @rule(name=st.sampled_from("abcd"))
    def late_ready_has_no_effect(self, name):
        child = self.children[name]
        state = child.state
        self.lifecycle._ready(child, child.run - 1)
        assert child.state is state

    @rule()
    def supervisor_closes(self):
        if len(self.orders) > 15:
            self.lifecycle.close()

    # Invariants.

    @invariant()
    def runs_are_those_of_the_states(self):
        assert {n for n, c in self.children.items() if c.has_run} == set(self.tasks.runs)

    @invariant()
    def nothing_waits_for_nothing(self):
        """Whatever does not rest depends on a run or a timer that will come to an end."""
        if self.tasks.pending_timers() or any(run.is_cancelled for run in self.tasks.runs.values()):
            return
        # Limits of starts and stops are timers: nothing is starting or stopping here.
        assert all(
            child.state in (State.RUNNING, State.PARKED, State.DOWN) for child in self.children.values()
        )
        assert all(order.is_settled for order, _ in self.orders)
        assert self.lifecycle.phase in (Phase.OPEN, Phase.CLOSED)

    @invariant()
    def children_that_stop_or_start_have_a_limit(self):
        for name, child in self.children.items():
            if child.state in (State.STARTING, State.STOPPING):
                assert child.timer in self.tasks.pending_timers() or self.tasks.runs[name].is_cancelled
        limits = sum(child.state in (State.STARTING, State.STOPPING) for child in self.children.values())
        backoffs = sum(child.state is State.BACKING_OFF for child in self.children.values())
        assert len(self.tasks.pending_timers()) <= limits + backoffs

    @invariant()
    def an_order_has_at_most_one_outcome(self):
        assert all(len(outcomes) == order.is_settled for order, outcomes in self.orders)
        for order, _ in self.orders:
            assert order.error is None or isinstance(order.error, Refused | DaemonDown)

    @invariant()
    def restarts_are_within_the_intensity(self):
        shared = [
            at
            for name, times in self.restarted_at.items()
            if not self.children[name].spec.parks
            for at in times
        ]
        own = [times for name, times in self.restarted_at.items() if self.children[name].spec.parks]
        for times in [shared, *own]:
            for start in times:
                assert sum(start <= at < start + PERIOD for at in times) <= self.intensity

    @invariant()
    def recoveries_do_not_overlap(self):
        recoveries = self.lifecycle._recoveries
        for child in self.children.values():
            assert sum(child in recovery for recovery in recoveries) <= 1
        assert self.strategy is Strategy.ONE_FOR_ONE or len(recoveries) <= 1

    @invariant()
    def no_order_waits_while_its_group_is_being_stopped(self):
        """The child that serves the order may be in the group: both would wait for each other."""
        for recovery in self.lifecycle._recoveries:
            if recovery.step is Step.STOPPING:
                for child in recovery.waiting:
                    assert child.is_parking or all(order.is_settled for order in child.orders)

    def teardown(self):
        """Close, and let every run end: all are down, and every order has its outcome."""
        if not hasattr(self, "lifecycle"):
            return
        self.lifecycle.close()
        stopped = []
        while self.lifecycle.phase is not Phase.CLOSED:
            stopping = [n for n, c in self.children.items() if c.state is State.STOPPING]
            assert stopping
            self.tasks.advance(SHUTDOWN)
            stopped.append(stopping[-1])
            self.tasks.end(stopping[-1])
        assert not self.tasks.runs
        assert all(c.state in (State.PARKED, State.DOWN) for c in self.children.values())
        assert all(len(outcomes) == 1 for _, outcomes in self.orders)
        assert not self.tasks.pending_timers()
        assert set(self.downs) == set(self.children)


async def _never_called(ready):
    raise AssertionError


@pytest.mark.parametrize("strategy", Strategy)
def test_invariants_hold_for_random_events(strategy):
    machine = type(Machine.__name__, (Machine,), {"strategy": strategy})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100,
            stateful_step_count=50,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


# Single cases.


class World:
    """A life cycle of children ``a``, ``b``, ... that are up, and its fake tasks."""

    def __init__(self, names, *, strategy=Strategy.ONE_FOR_ONE, backoff=None, intensity=9, **options):
        self.tasks = FakeTasks()
        shared = RestartWindow(intensity, PERIOD)
        self.children = {
            name: Child(
                ChildSpec(name=name, run=_never_called, start_timeout=START_TIMEOUT, **options), shared
            )
            for name in names
        }
        self.lifecycle = Lifecycle(
            self.children.values(), self.tasks, strategy=strategy, backoff=backoff or Backoff(first=4.0)
        )
        self.lifecycle.open()

    def become_ready(self, *names):
        for name in names:
            assert self.children[name].state is State.STARTING
            self.tasks.runs[name].ready()

    def fail(self, *names):
        for name in names:
            self.tasks.end(name, LookupError(name))

    def stop(self, *names):
        """Let children end that have been cancelled."""
        for name in names:
            assert self.tasks.runs[name].is_cancelled
            self.tasks.end(name)

    def place(self, operation, name):
        order = Order(operation, self.children[name], notify=lambda: None)
        self.lifecycle.place(order)
        return order

    @property
    def states(self):
        return {name: child.state for name, child in self.children.items()}


def test_parking_the_child_that_backs_off_starts_the_rest_of_its_group_at_once():
    world = World("abc", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready("a", "b", "c")
    for _ in range(2):
        world.fail("b")
        world.stop("c", "a")
        if world.states["a"] is State.STARTING:
            world.become_ready("a", "b", "c")
    assert world.states == {"a": State.STOPPED, "b": State.BACKING_OFF, "c": State.STOPPED}
    assert world.place(Operation.PARK, "b").is_settled
    assert world.states == {"a": State.STARTING, "b": State.PARKED, "c": State.STOPPED}
    world.become_ready("a", "c")
    assert world.tasks.pending_timers() == []


def test_parking_another_child_of_the_group_does_not_shorten_the_backoff():
    world = World("abc", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready("a", "b", "c")
    world.fail("b")
    world.stop("c", "a")
    world.become_ready("a", "b", "c")
    world.fail("b")
    world.stop("c", "a")
    assert world.place(Operation.PARK, "c").is_settled
    world.tasks.advance(3.9)
    assert world.states == {"a": State.STOPPED, "b": State.BACKING_OFF, "c": State.PARKED}
    world.tasks.advance(0.1)
    world.become_ready("a", "b")
    assert world.states == {"a": State.RUNNING, "b": State.RUNNING, "c": State.PARKED}


def test_group_that_fails_again_during_a_backoff_waits_for_the_longer_one():
    world = World("abc", strategy=Strategy.REST_FOR_ONE)
    world.become_ready("a", "b", "c")
    world.fail("c")
    world.become_ready("c")
    world.fail("c")
    assert world.states["c"] is State.BACKING_OFF  # until 4
    world.fail("a")  # its first restart, which has no backoff
    world.stop("b")
    assert world.states == {"a": State.BACKING_OFF, "b": State.STOPPED, "c": State.STOPPED}
    world.tasks.advance(4)
    world.become_ready("a", "b", "c")
    assert world.lifecycle._recoveries == []


def test_orders_are_refused_while_the_group_is_being_stopped():
    world = World("abcd", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready(*"abcd")
    parking = world.place(Operation.PARK, "b")
    world.stop("b")
    assert parking.is_settled
    world.fail("a")
    assert world.states["d"] is State.STOPPING
    refused = [world.place(Operation.UNPARK, "b"), world.place(Operation.PARK, "c")]
    assert [str(order.error) for order in refused] == [
        f"{name} refused: children are being stopped, to be restarted together; try again later"
        for name in "bc"
    ]
    world.stop("d", "c")
    world.become_ready("a", "c", "d")
    assert world.states["b"] is State.PARKED


def test_unpark_in_a_group_that_is_being_started_waits_for_its_turn():
    world = World("abc", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready("a", "b", "c")
    world.place(Operation.PARK, "b")
    world.stop("b")
    world.fail("a")
    world.stop("c")
    order = world.place(Operation.UNPARK, "b")
    assert world.states == {"a": State.STARTING, "b": State.STOPPED, "c": State.STOPPED}
    world.become_ready("a")
    assert world.states["c"] is State.STOPPED
    assert not order.is_settled
    world.become_ready("b")
    assert order.is_settled
    world.become_ready("c")


def test_failed_unpark_in_a_group_parks_the_child_and_the_rest_of_the_group_is_started():
    world = World("abc", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready("a", "b", "c")
    world.place(Operation.PARK, "b")
    world.stop("b")
    world.fail("a")
    world.stop("c")
    order = world.place(Operation.UNPARK, "b")
    world.become_ready("a")
    world.fail("b")
    assert isinstance(order.error, DaemonDown)
    assert world.states == {"a": State.RUNNING, "b": State.PARKED, "c": State.STARTING}


def test_unpark_under_way_is_refused_and_parked_again_when_its_group_is_restarted():
    world = World("abc", strategy=Strategy.ONE_FOR_ALL)
    world.become_ready("a", "b", "c")
    world.place(Operation.PARK, "b")
    world.stop("b")
    order = world.place(Operation.UNPARK, "b")
    assert world.states["b"] is State.STARTING
    world.fail("a")
    assert isinstance(order.error, Refused)
    world.stop("b", "c")
    world.become_ready("a", "c")
    assert world.states["b"] is State.PARKED
    assert world.children["b"].parked == "by hand"


def test_park_of_a_child_whose_start_took_too_long_overrides_its_restart():
    world = World("a")
    world.become_ready("a")
    world.fail("a")
    world.tasks.advance(START_TIMEOUT)
    assert world.states["a"] is State.STOPPING  # cancelled, and does not end yet
    order = world.place(Operation.PARK, "a")
    assert not order.is_settled
    world.stop("a")
    assert order.is_settled
    assert world.states["a"] is State.PARKED


def test_unpark_while_the_child_is_being_parked_starts_it_when_it_has_ended():
    world = World("a")
    world.become_ready("a")
    orders = [world.place(Operation.PARK, "a"), world.place(Operation.UNPARK, "a")]
    assert [order.is_settled for order in orders] == [False, False]
    world.stop("a")
    assert [order.is_settled for order in orders] == [True, False]
    world.become_ready("a")
    assert orders[1].error is None
    assert orders[1].is_settled


def test_park_overrides_the_unparks_before_it():
    world = World("a")
    world.become_ready("a")
    world.place(Operation.PARK, "a")
    world.stop("a")
    unparks = [world.place(Operation.UNPARK, "a") for _ in range(2)]
    park = world.place(Operation.PARK, "a")
    assert [order.error.reason for order in unparks] == ["it is parked until `daemon/unpark a` (by hand)"] * 2
    world.stop("a")
    assert park.is_settled
    assert world.states["a"] is State.PARKED


@pytest.mark.parametrize(("strategy", "restarts"), [(Strategy.ONE_FOR_ONE, 2), (Strategy.ONE_FOR_ALL, 1)])
def test_children_that_fail_while_others_start_for_the_first_time_are_restarted_afterwards(
    strategy, restarts
):
    world = World("abc", strategy=strategy)
    world.become_ready("a", "b")
    world.fail("a", "b")
    assert world.states == {"a": State.STOPPED, "b": State.STOPPED, "c": State.STARTING}
    world.become_ready("c")
    if strategy is Strategy.ONE_FOR_ALL:
        world.stop("c")
    for name in "abc":
        if world.states[name] is State.STARTING:
            world.become_ready(name)
    assert set(world.states.values()) == {State.RUNNING}
    assert sum(child.restarts for child in world.children.values()) == restarts


def test_early_failure_past_the_intensity_gives_up_once():
    world = World("abc", intensity=0)
    world.become_ready("a", "b")
    world.fail("a", "b")
    world.become_ready("c")
    assert world.lifecycle.failure.daemon == "a"
    world.stop("c")
    assert world.lifecycle.phase is Phase.CLOSED
    assert [outcome for _, _, outcome in world.tasks.reports] == ["gave up", "left"]


def test_time_of_failed_restarts_is_left_out_of_the_period():
    world = World("ab", intensity=3, backoff=Backoff(first=7.0, cap=7.0))
    world.become_ready("a", "b")
    world.fail("a")
    starts = 1
    while world.lifecycle.failure is None:
        # Each start hangs for 20 s; with the backoff of 7 s no two failures are within the period of 8 s.
        world.tasks.advance(START_TIMEOUT)
        world.stop("a")
        world.tasks.advance(7)
        starts += 1
        assert starts < 9
    assert world.children["a"].restarts == 3
    assert world.lifecycle.failure.reason == f"it did not start: not ready after {START_TIMEOUT} s"


def test_time_of_failed_restarts_counts_for_the_other_children():
    world = World("ab", intensity=3, backoff=Backoff(first=0.0))
    world.become_ready("a", "b")
    for _ in range(3):
        world.fail("b")
        world.become_ready("b")
        world.tasks.advance(3)
    world.fail("a")
    world.tasks.advance(START_TIMEOUT)
    world.stop("a")
    # The restarts of a are counted in full; those of b are older than the period by now.
    assert world.lifecycle.failure is None
    assert world.states == {"a": State.STARTING, "b": State.RUNNING}
