"""Relaxation: the closed forms, as laws."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.relaxation import mix, reach, relax

UNIT = st.floats(0.0, 1.0)
RATE = st.floats(1e-5, 1.0)
TIME = st.floats(0.0, 1e5)


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), UNIT)
def test_a_mix_lies_between_its_ends(start: float, end: float, share: float) -> None:
    assert min(start, end) <= mix(start, end, share) <= max(start, end)
    assert mix(start, end, 0.0) == start
    assert mix(start, end, 1.0) == pytest.approx(end, rel=1e-9, abs=1e-9)


@given(UNIT, UNIT, RATE)
def test_no_time_changes_nothing(value: float, target: float, rate: float) -> None:
    assert relax(value, target, rate, 0.0) == value


@given(UNIT, UNIT, RATE, TIME, TIME)
def test_time_in_pieces_is_time_at_once(value: float, target: float, rate: float, a: float, b: float) -> None:
    at_once = relax(value, target, rate, a + b)
    in_pieces = relax(relax(value, target, rate, a), target, rate, b)
    assert in_pieces == pytest.approx(at_once, rel=1e-9, abs=1e-12)


@given(UNIT, UNIT, RATE, TIME, TIME)
def test_it_only_approaches(value: float, target: float, rate: float, a: float, b: float) -> None:
    near, nearer = (relax(value, target, rate, t) for t in sorted((a, b)))
    assert min(value, target) <= nearer <= max(value, target)
    assert abs(target - nearer) <= abs(target - near) <= abs(target - value)


@given(UNIT, UNIT, UNIT, RATE, TIME)
def test_order_is_kept(value: float, other: float, target: float, rate: float, time: float) -> None:
    low, high = sorted((value, other))
    assert relax(low, target, rate, time) <= relax(high, target, rate, time) + 1e-15


# Constructed rather than filtered: a threshold so far on the way to the target.
WAY = st.tuples(UNIT, UNIT, st.floats(0.001, 0.999), RATE).filter(lambda way: abs(way[0] - way[1]) > 1e-3)


@given(WAY)
def test_it_is_at_the_threshold_when_it_is_said_to_be_and_not_before(
    way: tuple[float, float, float, float],
) -> None:
    value, target, share, rate = way
    threshold = value + (target - value) * share
    at = reach(value, target, rate, threshold)
    assert relax(value, target, rate, at) == pytest.approx(threshold, abs=1e-9)
    before = relax(value, target, rate, at * 0.99)
    assert (before < threshold) == (value < target)


@given(WAY, st.floats(0.01, 0.99))
def test_waiting_shortens_the_wait_by_exactly_that(
    way: tuple[float, float, float, float], part: float
) -> None:
    value, target, share, rate = way
    threshold = value + (target - value) * share
    at = reach(value, target, rate, threshold)
    later = relax(value, target, rate, at * part)
    assert reach(later, target, rate, threshold) == pytest.approx(at * (1 - part), rel=1e-6)


@given(UNIT, UNIT, UNIT, RATE)
def test_never_exactly_where_the_threshold_is_not_on_the_way(
    value: float, target: float, threshold: float, rate: float
) -> None:
    between = min(value, target) < threshold < max(value, target)
    if not between:
        assert reach(value, target, rate, threshold) == math.inf
    elif abs(threshold - target) > 1e-9 and abs(threshold - value) > 1e-9:
        assert 0 < reach(value, target, rate, threshold) < math.inf
