"""The ready queue: order, fairness, moved contexts, throttling, each against a naive model."""

import math

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.policy.context import SchedulingContext
from rtos.scheduler.policy.levels import LEVELS


def take_all(queue):
    taken = []
    while queue.waiting:
        taken.append(queue.take()[2])
    return taken


def test_order_is_level_then_deadline_then_arrival():
    queue = ReadyQueue()
    late = SchedulingContext("late", level=1, deadline=9.0)
    soon = SchedulingContext("soon", level=1, deadline=5.0)
    never = SchedulingContext("never", level=1)
    also_never = SchedulingContext("also never", level=1)
    urgent = SchedulingContext("urgent", level=0)
    chatty = SchedulingContext("chatty", level=2, deadline=0.0)
    for context in (chatty, also_never, never, late, soon, urgent):
        queue.push(context, context.name)
    assert take_all(queue) == [
        "urgent",  # the most urgent level, although it has no deadline
        "soon",  # the nearer deadline inside a level
        "late",
        "also never",  # among equals the first to arrive
        "never",
        "chatty",  # a deadline never jumps a level
    ]


def test_tasks_of_equal_contexts_interleave_in_order_of_arrival():
    queue = ReadyQueue()
    one, other = SchedulingContext("one"), SchedulingContext("other")
    for context, task in ((one, 1), (other, 2), (one, 3), (one, 4), (other, 5)):
        queue.push(context, task)
    assert take_all(queue) == [1, 2, 3, 4, 5]


def test_raised_context_moves_all_its_queued_tasks():
    queue = ReadyQueue()
    first, raised = SchedulingContext("first", level=3), SchedulingContext("raised", level=5)
    for context, task in ((first, "f1"), (raised, "r1"), (first, "f2"), (raised, "r2")):
        queue.push(context, task)
    raised.inherit(1, math.inf)
    assert take_all(queue) == [
        "r1",  # both tasks of the raised context, in their order
        "r2",
        "f1",
        "f2",
    ]


def test_context_that_falls_back_moves_back():
    queue = ReadyQueue()
    other, lowered = SchedulingContext("other", level=3), SchedulingContext("lowered", level=5)
    lowered.inherit(0, math.inf)
    queue.push(lowered, "lowered")
    queue.push(other, "other")
    lowered.fall_back()
    assert take_all(queue) == ["other", "lowered"]


def test_moved_context_keeps_its_arrival():
    queue = ReadyQueue()
    moved, other = SchedulingContext("moved", level=3), SchedulingContext("other", level=3)
    queue.push(moved, "moved")
    queue.push(other, "other")
    for level in (1, 3):
        moved.inherit(level, math.inf)
    moved.fall_back()
    assert take_all(queue) == ["moved", "other"]


def test_stale_entries_are_skipped_at_the_head_and_in_the_middle():
    queue = ReadyQueue()
    contexts = [SchedulingContext(str(number), level=4) for number in range(4)]
    for context in contexts:
        queue.push(context, context.name)
    contexts[2].rebase(0)  # leaves a stale entry behind the head
    contexts[0].rebase(6)  # leaves a stale entry at the head
    contexts[2].rebase(7)  # and another in front of everything
    assert queue.head() is contexts[1]
    assert sorted(queue) == ["0", "1", "2", "3"]
    assert take_all(queue) == ["1", "3", "0", "2"]
    assert queue.head() is None


def test_context_that_moves_while_it_has_no_tasks_is_ordered_by_its_new_level():
    queue = ReadyQueue()
    context, other = SchedulingContext("context", level=5), SchedulingContext("other", level=3)
    queue.push(context, "before")
    assert queue.take()[2] == "before"
    context.inherit(0, math.inf)
    queue.push(other, "other")
    queue.push(context, "after")
    assert take_all(queue) == ["after", "other"]


def test_context_that_moves_many_times_leaves_few_stale_entries():
    queue = ReadyQueue()
    queue.push(SchedulingContext("load", level=0), "load")
    starved = SchedulingContext("starved", level=6)
    queue.push(starved, "starved")
    for number in range(10_000):
        starved.rebase(6, deadline=float(number))
    assert len(queue._heap) < 200
    assert take_all(queue) == ["load", "starved"]


def test_current_context_is_followed_by_its_tasks_that_arrived_before_an_equal():
    queue = ReadyQueue()
    busy, equal = SchedulingContext("busy"), SchedulingContext("equal")
    for context, task in ((busy, 1), (busy, 2), (busy, 3), (equal, 4), (busy, 5)):
        queue.push(context, task)
    assert queue.take()[2] == 1
    assert queue.following(10) == 2
    assert queue.following(1) == 1
    assert [queue.take_current(), queue.take_current()] == [2, 3]
    assert queue.following(10) == 0
    assert take_all(queue) == [4, 5]


def test_all_tasks_of_a_context_follow_before_those_of_a_less_urgent_one():
    queue = ReadyQueue()
    busy = SchedulingContext("busy", level=2)
    for number in range(3):
        queue.push(SchedulingContext(f"low {number}", level=3), f"low {number}")
        queue.push(busy, number)
    assert queue.take()[2] == 0
    assert queue.following(10) == 2


def test_all_tasks_of_a_context_follow_before_those_with_a_later_deadline():
    queue = ReadyQueue()
    near, far = SchedulingContext("near", deadline=1.0), SchedulingContext("far", deadline=2.0)
    for context in (far, near, near):
        queue.push(context, context.name)
    assert queue.take()[2] == "near"
    assert queue.following(10) == 1


def test_no_task_follows_before_one_that_has_become_more_urgent():
    queue = ReadyQueue()
    busy, other = SchedulingContext("busy", level=2), SchedulingContext("other", level=3)
    for context in (busy, busy, other):
        queue.push(context, context.name)
    queue.take()
    other.rebase(1)
    assert queue.following(10) == 0
    assert take_all(queue) == ["other", "busy"]


def test_taking_behind_a_context_leaves_it_in_front():
    queue = ReadyQueue()
    passed, other = SchedulingContext("passed", level=1), SchedulingContext("other", level=5)
    for context in (passed, passed, other):
        queue.push(context, context.name)
    context, _, task = queue.take_behind(passed)
    assert (context, task) == (other, "other")
    assert take_all(queue) == ["passed", "passed"]


class FairnessMachine(RuleBasedStateMachine):
    """Round robin: between two steps of a task, every equal that was ready has had a step.

    Tasks of three equal contexts run as the run queue runs them, in rows too, and are
    ready again or not.
    """

    @initialize()
    def start(self):
        self.queue = ReadyQueue()
        self.contexts = [SchedulingContext(str(number)) for number in range(3)]
        self.context_of = {}
        # Each ready task, with the tasks that have had a step since it became ready.
        self.seen_by = {}

    def release(self, task):
        self.seen_by[task] = set()
        self.queue.push(self.context_of[task], task)

    def run(self, task, *, is_ready_again):
        del self.seen_by[task]
        for seen in self.seen_by.values():
            assert task not in seen  # else it had two steps while another waited
            seen.add(task)
        if is_ready_again:
            self.release(task)

    @rule(number=st.integers(0, 2))
    def add(self, number):
        task = len(self.context_of)
        self.context_of[task] = self.contexts[number]
        self.release(task)

    @rule(data=st.data())
    def wake(self, data):
        asleep = sorted(self.context_of.keys() - self.seen_by.keys())
        if asleep:
            self.release(data.draw(st.sampled_from(asleep)))

    @precondition(lambda self: self.queue.waiting)
    @rule(most=st.integers(0, 4), again=st.lists(st.booleans(), min_size=5, max_size=5))
    def step(self, most, again):
        task = self.queue.take()[2]
        following = self.queue.following(most)
        self.run(task, is_ready_again=again[0])
        for is_ready_again in again[1 : following + 1]:
            self.run(self.queue.take_current(), is_ready_again=is_ready_again)


TestFairness = FairnessMachine.TestCase


def test_contexts_of_a_cleared_queue_can_be_used_in_another():
    queue, other = ReadyQueue(), ReadyQueue()
    context = SchedulingContext("context")
    queue.push(context, "old")
    queue.clear()
    assert not queue.waiting
    assert queue.head() is None
    other.push(context, "new")
    context.inherit(0, 1.0)
    assert take_all(other) == ["new"]


levels = st.integers(0, LEVELS - 1)
deadlines = st.sampled_from([1.0, 2.0, 3.0, math.inf])
numbers = st.integers(0, 4)


class ReadyMachine(RuleBasedStateMachine):
    """The queue against a list that is sorted for every question."""

    @initialize(pairs=st.lists(st.tuples(levels, deadlines), min_size=5, max_size=5))
    def start(self, pairs):
        self.queue = ReadyQueue()
        self.contexts = [
            SchedulingContext(str(number), level=level, deadline=deadline)
            for number, (level, deadline) in enumerate(pairs)
        ]
        self.model = []
        self.arrivals = 0

    def ordered(self):
        # A context has the place of its first task.
        first = {}
        for context, arrival in self.model:
            first.setdefault(context, arrival)
        return sorted(
            self.model, key=lambda entry: (entry[0].level, entry[0].deadline, first[entry[0]], entry[1])
        )

    @rule(number=numbers)
    def push(self, number):
        self.arrivals += 1
        self.queue.push(self.contexts[number], self.arrivals)
        self.model.append((self.contexts[number], self.arrivals))

    @rule(number=numbers, level=levels, deadline=deadlines)
    def inherit(self, number, level, deadline):
        self.contexts[number].inherit(level, deadline)

    @rule(number=numbers, level=levels, deadline=deadlines)
    def rebase(self, number, level, deadline):
        self.contexts[number].rebase(level, deadline)

    @rule(number=numbers)
    def fall_back(self, number):
        self.contexts[number].fall_back()

    @precondition(lambda self: self.model)
    @rule(most=st.integers(0, 3))
    def take(self, most):
        context, _, task = self.queue.take()
        assert (context, task) == self.ordered()[0]
        self.model.remove((context, task))
        for _ in range(self.queue.following(most)):
            task = self.queue.take_current()
            assert (context, task) == self.ordered()[0]
            self.model.remove((context, task))

    @precondition(lambda self: len({context for context, _ in self.model}) > 1)
    @rule()
    def take_behind(self):
        head = self.queue.head()
        behind = next(entry for entry in self.ordered() if entry[0] is not head)
        context, _, task = self.queue.take_behind(head)
        assert (context, task) == behind
        self.model.remove(behind)

    @rule()
    def clear(self):
        self.queue.clear()
        self.model.clear()

    @invariant()
    def agrees(self):
        assert len(self.queue) == self.queue.waiting == len(self.model)
        assert sorted(self.queue) == sorted(arrival for _, arrival in self.model)
        head = self.queue.head()
        assert head is (self.ordered()[0][0] if self.model else None)

    @invariant()
    def one_valid_entry_for_each_waiting_context(self):
        valid = [entry[3] for entry in self.queue._heap if entry[3].entry is entry]
        assert len(valid) == len(set(valid))
        assert set(valid) == {context for context, _ in self.model}


TestReadyMachine = ReadyMachine.TestCase


class ThrottlingMachine(RuleBasedStateMachine):
    """Throttled contexts, and tasks that are released from them, against lists."""

    @initialize()
    def start(self):
        self.queue = ReadyQueue()
        self.contexts = [SchedulingContext(str(number), level=number % 4) for number in range(6)]
        # (arrival, task) of each context, in the order and set aside.
        self.ordered = {context: [] for context in self.contexts}
        self.aside = {context: [] for context in self.contexts}
        self.throttled = set()
        self.arrivals = 0

    def arrival(self):
        self.arrivals += 1
        return self.arrivals

    @rule(number=st.integers(0, 5))
    def push(self, number):
        context, arrival = self.contexts[number], self.arrival()
        task = f"task {arrival}"
        self.queue.push(context, task)
        place = self.aside if context in self.throttled else self.ordered
        place[context].append((arrival, task))

    @rule(number=st.integers(0, 5))
    def throttle(self, number):
        context = self.contexts[number]
        self.queue.throttle(context)
        if context not in self.throttled:
            self.throttled.add(context)
            self.aside[context], self.ordered[context] = self.ordered[context], []

    @rule(number=st.integers(0, 5))
    def unthrottle(self, number):
        context = self.contexts[number]
        self.queue.unthrottle(context)
        self.throttled.discard(context)
        self.ordered[context] = sorted(self.ordered[context] + self.aside[context])
        self.aside[context] = []

    @rule(data=st.data())
    def release(self, data):
        candidates = [(context, entry) for context, entries in self.aside.items() for entry in entries]
        if candidates:
            index = data.draw(st.integers(0, len(candidates) - 1))
            context, entry = candidates[index]
            self.queue.release(context, entry[1])
            self.aside[context].remove(entry)
            self.ordered[context].append((self.arrival(), entry[1]))

    @rule(number=st.integers(0, 5), level=st.integers(0, 3))
    def move(self, number, level):
        self.contexts[number].rebase(level)

    def first(self):
        ready = [context for context in self.contexts if self.ordered[context]]
        return min(ready, key=lambda context: (context.level, self.ordered[context][0]), default=None)

    @rule()
    def take(self):
        expected = self.first()
        if expected is not None:
            context, _, task = self.queue.take()
            assert (context, task) == (expected, self.ordered[expected].pop(0)[1])

    @rule(number=st.integers(0, 5))
    def take_from(self, number):
        context = self.contexts[number]
        if self.ordered[context]:
            assert self.queue.take_from(context) == self.ordered[context].pop(0)[1]

    @rule()
    def head(self):
        assert self.queue.head() is self.first()

    @rule()
    def all_tasks(self):
        entries = [*self.ordered.values(), *self.aside.values()]
        assert sorted(self.queue) == sorted(task for tasks in entries for _, task in tasks)
        assert set(self.queue.contexts()) == {context for context in self.contexts if self.ordered[context]}

    @invariant()
    def agrees(self):
        assert self.queue.waiting == sum(map(len, self.ordered.values()))
        for context in self.contexts:
            assert self.queue.set_aside(context) == [task for _, task in self.aside[context]]


TestThrottling = ThrottlingMachine.TestCase
