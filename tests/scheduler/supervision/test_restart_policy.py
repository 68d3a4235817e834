"""The restart rules: restart types, strategies, the restart window, and backoff."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.supervision.restart_policy import (
    Backoff,
    Restart,
    RestartWindow,
    Strategy,
    affected,
    wants_restart,
)


@pytest.mark.parametrize(
    ("restart", "failed", "wanted"),
    [
        (Restart.PERMANENT, False, True),
        (Restart.PERMANENT, True, True),
        (Restart.TRANSIENT, False, False),
        (Restart.TRANSIENT, True, True),
        (Restart.TEMPORARY, False, False),
        (Restart.TEMPORARY, True, False),
    ],
)
def test_restart_type_decides_whether_a_child_is_started_again(restart, failed, wanted):
    assert wants_restart(restart, failed=failed) is wanted


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ("b",)),
        (Strategy.REST_FOR_ONE, ("b", "c")),
        (Strategy.ONE_FOR_ALL, ("a", "b", "c")),
    ],
)
def test_strategy_decides_which_children_are_restarted_together(strategy, expected):
    assert affected(strategy, ("a", "b", "c"), "b") == expected


def test_window_slides():
    window = RestartWindow(2, 10.0)
    assert [window.admit(now) for now in (0.0, 1.0, 10.0, 10.5)] == [
        True,
        True,
        True,  # the first one has just left the window
        False,  # 1, 10 and 10.5 are three within ten seconds
    ]


def test_excluded_time_applies_to_one_child_only():
    window = RestartWindow(2, 10.0)
    assert window.admit(0.0, "a")
    assert window.admit(1.0, "b")
    # The next restart of a took 12 s to fail: that time is left out of its period only.
    window.exclude(12.0, "a")
    assert window.admit(12.0, "a")
    assert not window.admit(12.0, "b")


def test_excluded_time_does_not_age_a_restart():
    window = RestartWindow(2, 5.0)
    admitted = [window.admit(0.0)]
    for now in (30.0, 60.0):
        window.exclude(30.0)
        admitted.append(window.admit(now))
    assert admitted == [True, True, False]


@pytest.mark.parametrize("options", [{"first": -1.0}, {"cap": -1.0}, {"first": math.nan}])
def test_impossible_backoff_is_rejected(options):
    (name,) = options
    with pytest.raises(ValueError, match=rf"Backoff\({name}\): .* is not a duration; use seconds, 0 or more"):
        Backoff(**options)


def test_intensity_zero_allows_no_restart():
    assert RestartWindow(0, 5.0).admit(0.0) is False


def test_window_with_period_zero_counts_nothing():
    window = RestartWindow(1, 0.0)
    assert all(window.admit(now) for now in (1.0, 1.0, 1.0))


@given(
    st.integers(0, 4),
    st.integers(1, 20),
    st.lists(st.integers(0, 8), max_size=60),
)
def test_admitted_restarts_within_any_period_never_exceed_the_intensity(intensity, period, gaps):
    window, now, admitted = RestartWindow(intensity, float(period)), 0, []
    for gap in gaps:
        now += gap
        if window.admit(float(now)):
            admitted.append(now)
    for start in admitted:
        assert sum(start <= at < start + period for at in admitted) <= intensity


@given(st.integers(0, 4), st.integers(1, 20), st.lists(st.integers(0, 30), max_size=60))
def test_restarts_within_the_intensity_are_always_admitted(intensity, period, gaps):
    window, now, attempts = RestartWindow(intensity, float(period)), 0, []
    for gap in gaps:
        if sum(at > now + gap - period for at in attempts) >= intensity:
            continue
        now += gap
        attempts.append(now)
        assert window.admit(float(now))


def test_backoff_doubles_up_to_its_cap():
    backoff = Backoff(first=0.05, cap=0.3)
    assert [backoff.delay(number) for number in range(6)] == [0.0, 0.0, 0.05, 0.1, 0.2, 0.3]


@given(st.integers(-3, 10**6), st.floats(0.0, 1e3), st.floats(0.0, 1e3))
def test_backoff_never_falls_and_never_exceeds_its_cap(number, first, cap):
    backoff = Backoff(first=first, cap=cap)
    assert 0.0 <= backoff.delay(number) <= backoff.delay(number + 1) <= cap
