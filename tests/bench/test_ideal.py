"""The ideal server: each case is a schedule that can be drawn."""

from __future__ import annotations

import pytest

from bench.ideal import served

BLOCKED = [(0.0, 6), (4.0, 0), (5.0, 0)]


def ends(arrivals, *, preemptive, deadline=100.0):
    """Level and end of each service of 10, in order."""
    starts = {level: [at for at, its in arrivals if its == level] for level in (0, 3, 6)}
    done = served(arrivals, 10.0, deadline, preemptive=preemptive)
    return [(level, wait + starts[level].pop(0)) for level, wait in done]


def test_what_has_begun_is_ended_first() -> None:
    assert ends(BLOCKED, preemptive=False) == [(6, 10.0), (0, 20.0), (0, 30.0)]


def test_a_preemptive_server_gives_way_at_once_and_goes_on_later() -> None:
    assert ends(BLOCKED, preemptive=True) == [(0, 14.0), (0, 24.0), (6, 30.0)]


def test_the_more_urgent_goes_first_and_then_who_came_first() -> None:
    arrivals = [(0.0, 6), (1.0, 6), (2.0, 3), (3.0, 0)]
    assert [level for level, _ in ends(arrivals, preemptive=False)] == [6, 0, 3, 6]


@pytest.mark.parametrize(("deadline", "count"), [(10.0, 1), (16.0, 2), (25.0, 3)])
def test_what_would_be_late_is_not_begun(deadline: float, count: int) -> None:
    assert len(ends(BLOCKED, preemptive=False, deadline=deadline)) == count


def test_it_rests_until_somebody_comes() -> None:
    assert ends([(0.0, 0), (50.0, 3)], preemptive=False) == [(0, 10.0), (3, 60.0)]
