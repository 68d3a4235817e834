"""The scheduling context: what is effective, what is inherited, who is told."""

import contextvars
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.policy.context import SchedulingContext, current_context, current_deadline, current_level
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, LEVELS, check_level


class Waited:
    """A call that remembers what it was told."""

    def __init__(self):
        self.told = []

    def promote(self, level, deadline):
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
        ((6, 1.0), (4, 10.0)),  # what is less urgent changes nothing, however near its deadline
    ],
)
def test_the_more_urgent_takes_effect(inherited, expected):
    context = SchedulingContext("c", level=4, deadline=10.0)
    context.inherit(*inherited)
    assert effective(context) == expected
    assert (context.base_level, context.base_deadline) == (4, 10.0)
    context.fall_back()
    assert effective(context) == (4, 10.0)


def test_inheriting_replaces_and_inheriting_more_only_raises():
    context = SchedulingContext("c", level=4)
    context.inherit(1, math.inf)
    context.inherit(3, math.inf)
    assert context.level == 3
    context.inherit_more(1, math.inf)
    context.inherit_more(2, 1.0)
    assert effective(context) == (1, math.inf)


def test_rebase_keeps_what_is_inherited():
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


def test_rebase_changes_what_nested_calls_get_unless_a_call_is_served():
    context = SchedulingContext("c", deadline=10.0)
    context.rebase(3, 20.0)
    assert context.job_deadline == 20.0
    context.chain, context.job_deadline = ("served",), 2.0
    context.rebase(3, 30.0)
    assert context.job_deadline == 2.0


def test_those_that_it_waits_for_are_told_of_every_change_and_of_nothing_else():
    context, call = SchedulingContext("c", level=4), Waited()
    context.waits[call] = None
    context.inherit(2, math.inf)
    context.inherit(2, math.inf)
    context.inherit(2, 5.0)
    context.fall_back()
    assert call.told == [
        (2, math.inf),  # raised
        (2, 5.0),  # the same level, a nearer deadline; telling the same twice is spared
        (4, math.inf),  # whether falling back matters is the call's business
    ]


@given(
    st.integers(0, LEVELS - 1),
    st.sampled_from([1.0, 2.0, math.inf]),
    st.lists(st.tuples(st.integers(0, LEVELS), st.sampled_from([1.0, 2.0, math.inf])), max_size=10),
)
def test_effective_is_the_minimum_of_own_and_inherited(level, deadline, pairs):
    context = SchedulingContext("c", level=level, deadline=deadline)
    for pair in pairs:
        context.inherit(*pair)
        assert context.level <= context.base_level
        assert effective(context) == min((level, deadline), pair)


def test_entering_makes_it_current_and_leaving_undoes_it():
    def body():
        assert current_context() is None
        assert (current_level(), current_deadline()) == (DEFAULT_LEVEL, math.inf)
        outer, inner = SchedulingContext("outer", level=2, deadline=9.0), SchedulingContext("inner", level=6)
        with outer as entered:
            assert entered is outer
            assert (current_context(), current_level(), current_deadline()) == (outer, 2, 9.0)
            with inner:
                assert (current_context(), current_level()) == (inner, 6)
            assert current_context() is outer
        assert current_context() is None
        with outer:  # again, once it has been left
            assert current_context() is outer

    contextvars.copy_context().run(body)


def test_entering_twice_is_refused():
    def body():
        context = SchedulingContext("c")
        with context, pytest.raises(RuntimeError, match="'c' is entered already; make one per place"):
            context.__enter__()
        assert current_context() is None

    contextvars.copy_context().run(body)


@pytest.mark.parametrize("level", [-1, LEVELS, 1.5, "2", None])
def test_a_level_that_does_not_exist(level):
    with pytest.raises(ValueError, match=r"there: level .* does not exist; use 0 \(most urgent\) to 7"):
        check_level("there", level)
    with pytest.raises(ValueError, match="rebase: level"):
        SchedulingContext("c").rebase(level)


def test_repr_names_it():
    assert repr(SchedulingContext("name", level=3)) == "<SchedulingContext 'name' level=3>"
