"""The rules of supervision: the matrix, the window in any period, the backoff."""

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
def test_who_is_started_again(restart, failed, wanted):
    assert wants_restart(restart, failed=failed) is wanted


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ("b",)),
        (Strategy.REST_FOR_ONE, ("b", "c")),
        (Strategy.ONE_FOR_ALL, ("a", "b", "c")),
    ],
)
def test_who_goes_with_a_child_that_failed(strategy, expected):
    assert affected(strategy, ("a", "b", "c"), "b") == expected


def test_the_window_slides():
    window = RestartWindow(2, 10.0)
    assert [window.admit(now) for now in (0.0, 1.0, 10.0, 10.5)] == [
        True,
        True,
        True,  # the first has just left the window
        False,  # 1, 10 and 10.5 are three within ten seconds
    ]
    assert window.recent == 3


def test_no_intensity_means_no_restart():
    assert RestartWindow(0, 5.0).admit(0.0) is False


def test_a_window_without_length_counts_nothing():
    window = RestartWindow(1, 0.0)
    assert all(window.admit(now) for now in (1.0, 1.0, 1.0))


@given(
    st.integers(0, 4),
    st.integers(1, 20),
    st.lists(st.integers(0, 8), max_size=60),
)
def test_never_more_than_the_intensity_within_any_period(intensity, period, gaps):
    window, now, admitted = RestartWindow(intensity, float(period)), 0, []
    for gap in gaps:
        now += gap
        if window.admit(float(now)):
            admitted.append(now)
    for start in admitted:
        assert sum(start <= at < start + period for at in admitted) <= intensity
    assert window.recent <= intensity + 1


@given(st.integers(0, 4), st.integers(1, 20), st.lists(st.integers(0, 30), max_size=60))
def test_one_that_keeps_to_the_intensity_is_never_refused(intensity, period, gaps):
    window, now, attempts = RestartWindow(intensity, float(period)), 0, []
    for gap in gaps:
        if sum(at > now + gap - period for at in attempts) >= intensity:
            continue
        now += gap
        attempts.append(now)
        assert window.admit(float(now))


def test_backoff_doubles_and_is_capped():
    backoff = Backoff(first=0.05, cap=0.3)
    assert [backoff.delay(number) for number in range(6)] == [0.0, 0.0, 0.05, 0.1, 0.2, 0.3]


@given(st.integers(-3, 10**6), st.floats(0.0, 1e3), st.floats(0.0, 1e3))
def test_backoff_is_bounded_and_never_falls(number, first, cap):
    backoff = Backoff(first=first, cap=cap)
    assert 0.0 <= backoff.delay(number) <= backoff.delay(number + 1) <= cap
