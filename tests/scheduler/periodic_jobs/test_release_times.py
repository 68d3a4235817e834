from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.periodic_jobs.release_times import Grid, Instant, Overrun

# When a job ends, and the release after it. Period 10, instants at 100, 110, 120, ...
TABLE = [
    # On time: the next instant, whatever the policy.
    *[(overrun, 1, 107.0, Instant(1, 110.0)) for overrun in Overrun],
    # Exactly at the next instant is on time.
    *[(overrun, 1, 110.0, Instant(1, 110.0)) for overrun in Overrun],
    # One instant was passed over.
    (Overrun.SKIP, 1, 113.0, Instant(2, 120.0, 1)),
    (Overrun.CATCH_UP, 1, 113.0, Instant(1, 110.0)),
    (Overrun.POSTPONE, 1, 113.0, Instant(1, 113.0)),
    (Overrun.STOP, 1, 113.0, None),
    # Four were, and the last of them is now.
    (Overrun.SKIP, 1, 140.0, Instant(4, 140.0, 3)),
    (Overrun.CATCH_UP, 1, 140.0, Instant(4, 140.0, 3)),
    (Overrun.CATCH_UP, 3, 140.0, Instant(2, 120.0, 1)),
    (Overrun.CATCH_UP, 9, 140.0, Instant(1, 110.0)),
    (Overrun.POSTPONE, 1, 140.0, Instant(1, 140.0)),
    (Overrun.STOP, 1, 140.0, None),
]


@pytest.mark.parametrize(("overrun", "catch_up", "done", "expected"), TABLE)
def test_instant_after_an_overrun(overrun: Overrun, catch_up: int, done: float, expected: Instant) -> None:
    grid = Grid(100.0, 10.0, overrun, catch_up=catch_up)
    assert grid.begin(93.0) == Instant(0, 100.0)
    assert grid.following(done) == expected


def test_grid_continues_after_an_overrun() -> None:
    skip, catch_up, postpone = (
        Grid(0.0, 10.0, overrun, catch_up=2) for overrun in (Overrun.SKIP, Overrun.CATCH_UP, Overrun.POSTPONE)
    )
    for grid in (skip, catch_up, postpone):
        grid.begin(0.0)
    assert [skip.following(now) for now in (34.0, 41.0)] == [Instant(4, 40.0, 3), Instant(5, 50.0)]
    assert [catch_up.following(now) for now in (34.0, 35.0, 36.0)] == [
        Instant(2, 20.0, 1),
        Instant(3, 30.0),
        Instant(4, 40.0),
    ]
    assert [postpone.following(now) for now in (34.0, 35.0, 45.0)] == [
        Instant(1, 34.0),
        Instant(2, 44.0),
        Instant(3, 54.0),
    ]


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (0.0, Instant(0, 100.0)),
        (100.0, Instant(0, 100.0)),
        (101.0, Instant(1, 110.0)),
        (120.0, Instant(2, 120.0)),
    ],
)
def test_grid_that_began_in_the_past_is_joined_at_its_next_instant(now: float, expected: Instant) -> None:
    assert Grid(100.0, 10.0).begin(now) == expected


def test_instant_that_was_put_back_comes_again_or_is_skipped() -> None:
    grid = Grid(0.0, 10.0)
    grid.begin(0.0)
    instant = grid.following(3.0)
    assert instant == Instant(1, 10.0)
    grid.put_back(instant)
    assert grid.following(4.0) == instant
    grid.put_back(instant)
    assert grid.following(11.0) == Instant(2, 20.0, 1)


@pytest.mark.parametrize("period", [0, -1.0, 1e-7, 5e-324, math.inf, math.nan])
def test_period_out_of_range_is_refused(period: float) -> None:
    with pytest.raises(ValueError, match="period is .*; use seconds, 1e-06 or more"):
        Grid(0.0, period)


@pytest.mark.parametrize("origin", [math.inf, -math.inf, math.nan, 1e300, -1e300, 1e15])
def test_start_where_a_period_makes_no_difference_is_refused(origin: float) -> None:
    """Far from 0 two instants would be the same number, and the search for the next one would not end."""
    with pytest.raises(ValueError, match="start and offset give .*; use absolute Trio time"):
        Grid(origin, 1.0)


def test_catch_up_below_1_is_refused() -> None:
    with pytest.raises(ValueError, match="catch_up is 0; use 1 or more"):
        Grid(0.0, 1.0, Overrun.CATCH_UP, catch_up=0)


periods = st.sampled_from([1e-4, 0.001, 0.1, 0.3, 1.0, 7.3, 3600.0])
origins = st.floats(-1e6, 1e6)
# How long each job takes, in periods; whole numbers end exactly on the grid.
jobs = st.lists(st.one_of(st.integers(0, 6).map(float), st.floats(0.0, 6.0)), max_size=30)


@given(periods, origins, jobs, st.sampled_from([Overrun.SKIP, Overrun.CATCH_UP]), st.integers(1, 4))
def test_every_instant_is_released_or_skipped_exactly_once(
    period: float, origin: float, jobs: list[float], overrun: Overrun, catch_up: int
) -> None:
    grid = Grid(origin, period, overrun, catch_up=catch_up)
    instant = grid.begin(origin)
    assert instant == Instant(0, origin)
    now, last = origin, 0
    for job in jobs:
        now = max(now, instant.due) + job * period
        following = grid.following(now)
        assert following is not None
        assert following.index == last + 1 + following.skipped
        # No drift: the instant is where the exact grid has it, but for rounding twice.
        exact = Fraction(origin) + following.index * Fraction(period)
        size = max(abs(origin), following.index * period, abs(following.due))
        assert abs(Fraction(following.due) - exact) <= 2 * Fraction(math.ulp(size))
        if overrun is Overrun.SKIP:
            assert following.due >= now
        # The naive model walks the instants one by one.
        passed = [k for k in range(last + 1, last + 60) if grid.at(k) <= now]
        late = [k for k in passed if grid.at(k) < now]
        if not late:
            assert following == Instant(last + 1, grid.at(last + 1))
        elif overrun is Overrun.CATCH_UP:
            assert following.index == passed[-catch_up:][0]
        else:
            assert following.index == late[-1] + 1
        instant, last = following, following.index


@given(periods, origins, jobs)
def test_postponed_grid_never_catches_up(period: float, origin: float, jobs: list[float]) -> None:
    grid = Grid(origin, period, Overrun.POSTPONE)
    instant, now = grid.begin(origin), origin
    for index, job in enumerate(jobs, 1):
        now = max(now, instant.due) + job * period
        following = grid.following(now)
        assert following is not None
        assert (following.index, following.skipped) == (index, 0)
        assert following.due >= now
        assert following.due >= instant.due
        if following.due > now:
            assert following.due - instant.due == pytest.approx(period, rel=1e-3, abs=1e-9)
        instant = following


@given(periods, origins, jobs)
def test_stopped_grid_has_no_more_instants(period: float, origin: float, jobs: list[float]) -> None:
    grid = Grid(origin, period, Overrun.STOP)
    instant, now = grid.begin(origin), origin
    for job in jobs:
        now = max(now, instant.due) + job * period
        late = grid.at(instant.index + 1) < now
        following = grid.following(now)
        assert (following is None) == late
        if following is None:
            return
        instant = following
