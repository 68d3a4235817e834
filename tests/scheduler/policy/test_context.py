"""The scheduling context: its effective level and deadline, inheritance, and its lifetime."""

import contextvars
import gc
import math
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.policy.levels import LEVELS, check_deadline, check_level


class Waited:
    """Something that a task waits for, which records each level and deadline that it is given."""

    def __init__(self):
        self.told = []

    def reprioritise(self, level, deadline):
        self.told.append((level, deadline))


def effective(context):
    return context.level, context.deadline


@pytest.mark.parametrize(
    ("inherited", "expected"),
    [
        ((2, math.inf), (2, math.inf)),  # a more urgent level comes with its own deadline
        ((2, 50.0), (2, 50.0)),
        ((4, 5.0), (4, 5.0)),  # inside a level the nearer deadline
        ((4, 50.0), (4, 10.0)),
        ((4, math.inf), (4, 10.0)),
        ((6, 1.0), (4, 10.0)),  # a less urgent level changes nothing, even with a nearer deadline
    ],
)
def test_more_urgent_of_own_and_inherited_takes_effect(inherited, expected):
    context = SchedulingContext("c", level=4, deadline=10.0)
    context.inherit(*inherited)
    assert effective(context) == expected
    assert (context.base_level, context.base_deadline) == (4, 10.0)
    context.fall_back()
    assert effective(context) == (4, 10.0)


def test_inherit_replaces_what_was_inherited_before():
    context = SchedulingContext("c", level=4)
    context.inherit(1, math.inf)
    context.inherit(3, math.inf)
    assert context.level == 3


def test_most_urgent_source_takes_effect_until_it_is_removed():
    context = SchedulingContext("c", level=5)
    context.inherit_from("port", 2, math.inf)
    context.inherit_from("lock", 1, 8.0)
    assert effective(context) == (1, 8.0)
    context.inherit_from("lock", 3, math.inf)  # replaces what the lock asked for before
    assert effective(context) == (2, math.inf)
    context.disinherit("port")
    assert effective(context) == (3, math.inf)
    context.disinherit("lock")
    assert effective(context) == (5, math.inf)


def test_removing_an_unknown_source_changes_nothing():
    context, call = SchedulingContext("c", level=5), Waited()
    context.waits[call] = None
    context.disinherit("port")
    context.inherit_from("lock", 1, math.inf)
    context.disinherit("port")
    assert context.level == 1
    assert call.told == [(1, math.inf)]


def test_sources_stay_in_effect_when_the_served_call_ends():
    context = SchedulingContext("c", level=5)
    context.inherit(1, math.inf)
    context.inherit_from("port", 3, math.inf)
    assert context.level == 1
    context.fall_back()
    assert context.level == 3
    context.inherit(4, math.inf)
    assert context.level == 3


def test_queued_context_moves_when_a_source_comes_and_goes():
    context, moves = SchedulingContext("c", level=5), []
    context.entry, context.moved = object(), lambda moved: moves.append(moved.level)
    context.inherit_from("lock", 2, math.inf)
    context.disinherit("lock")
    assert moves == [2, 5]


def test_rebase_keeps_the_inherited_level():
    context = SchedulingContext("c", level=4)
    context.inherit(1, 7.0)
    context.rebase(6)
    assert effective(context) == (1, 7.0)
    context.rebase(0, 3.0)
    assert effective(context) == (0, 3.0)
    context.rebase(5)
    assert effective(context) == (1, 7.0)
    context.fall_back()
    assert effective(context) == (5, math.inf)


def test_rebase_changes_the_deadline_of_nested_calls_unless_a_call_is_served():
    context = SchedulingContext("c", deadline=10.0)
    context.rebase(3, 20.0)
    assert context.job_deadline == 20.0
    context.chain, context.job_deadline = ("served",), 2.0
    context.rebase(3, 30.0)
    assert context.job_deadline == 2.0


def test_waits_are_reprioritised_at_each_change_and_at_no_other_time():
    context, call = SchedulingContext("c", level=4), Waited()
    context.waits[call] = None
    context.inherit(2, math.inf)
    context.inherit(2, math.inf)
    context.inherit(2, 5.0)
    context.inherit_from("lock", 3, math.inf)  # less urgent than what is in effect
    context.fall_back()
    context.disinherit("lock")
    assert call.told == [
        (2, math.inf),  # raised
        (2, 5.0),  # the same level, an earlier deadline; the repetition before was not passed on
        (3, math.inf),  # the slot was cleared, the source is still there
        (4, math.inf),  # lowered to its own level
    ]


class FakeBudget:
    """A budget that places its contexts at a fixed deadline, at ``penalty`` or above."""

    def __init__(self, penalty):
        self.penalty = penalty

    def place(self, level):
        return (max(level, self.penalty), 1.5)


levels, deadlines = st.integers(0, LEVELS - 1), st.sampled_from([1.0, 2.0, math.inf])
sources = st.sampled_from(["port", "lock", "mailbox"])
changes = st.one_of(
    st.tuples(st.just("inherit"), levels, deadlines),
    st.tuples(st.just("fall_back")),
    st.tuples(st.just("inherit_from"), sources, levels, deadlines),
    st.tuples(st.just("disinherit"), sources),
    st.tuples(st.just("rebase"), levels, deadlines),
    st.tuples(st.just("budget"), st.none() | levels),
)


@given(levels, deadlines, st.lists(changes, max_size=20))
def test_effective_is_the_minimum_of_own_served_call_and_sources(level, deadline, steps):
    context, call = SchedulingContext("c", level=level, deadline=deadline), Waited()
    context.waits[call] = None
    base, budget, slot, asked, told = (level, deadline), None, None, {}, []
    for step, *values in steps:
        before = effective(context)
        if step == "budget":
            budget = None if values[0] is None else FakeBudget(values[0])
            context.budget = budget
            context.reorder()
        else:
            getattr(context, step)(*values)
        match step:
            case "inherit":
                slot = tuple(values)
            case "fall_back":
                slot = None
            case "inherit_from":
                asked[values[0]] = tuple(values[1:])
            case "disinherit":
                asked.pop(values[0], None)
            case "rebase":
                base = tuple(values)
        own = base if budget is None else budget.place(base[0])
        assert effective(context) == min([own, *([slot] if slot else []), *asked.values()])
        if effective(context) != before:
            told.append(effective(context))
        assert call.told == told


def test_entering_twice_raises_runtime_error():
    def body():
        context = SchedulingContext("c")
        with (
            context,
            pytest.raises(RuntimeError, match="'c' is entered already; make one context per `with` block"),
        ):
            context.__enter__()
        assert context_variable.get(None) is None

    contextvars.copy_context().run(body)


@pytest.mark.parametrize("level", [-1, LEVELS, 1.5, "2", None])
def test_level_that_does_not_exist_raises_value_error(level):
    with pytest.raises(ValueError, match=r"there: level .* does not exist; use 0 \(most urgent\) to 7"):
        check_level("there", level)
    with pytest.raises(ValueError, match="rebase: level"):
        SchedulingContext("c").rebase(level)


@pytest.mark.parametrize("deadline", [math.nan, "soon", None])
def test_deadline_that_is_not_a_time_raises_value_error(deadline):
    with pytest.raises(ValueError, match=r"there: deadline .* is not a time; use absolute Trio time"):
        check_deadline("there", deadline)


@pytest.mark.parametrize("deadline", [0, -1.5, math.inf, -math.inf])
def test_any_other_number_is_a_deadline(deadline):
    check_deadline("there", deadline)


def test_context_that_was_entered_and_left_is_freed_without_the_garbage_collector():
    gc.collect()
    gc.disable()
    try:
        context = SchedulingContext("c")
        with context:
            copied = contextvars.copy_context()
            context.inherit_from("lock", 1, math.inf)
            context.disinherit("lock")
        gone = weakref.ref(context)
        del context
        assert gone() is not None, "a task started in the block still has it"
        del copied
        assert gone() is None
    finally:
        gc.enable()


def test_repr_shows_name_and_level():
    assert repr(SchedulingContext("name", level=3)) == "<SchedulingContext 'name' level=3>"
