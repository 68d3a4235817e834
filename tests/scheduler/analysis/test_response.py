"""The shortcuts of the response analysis, compared with the plain definition."""

from __future__ import annotations

import random
import sys

import pytest

from rtos.scheduler.analysis import Job, utilisation
from rtos.scheduler.analysis.response_time import in_bursts

MODULE = sys.modules["rtos.scheduler.analysis.response_time"]


def _busy_set(rng: random.Random) -> list[Job]:
    """Three jobs with small numbers and a utilisation of 0.8 to 1."""
    while True:
        jobs = [
            Job(
                name=f"{level}",
                level=level,
                cost=rng.randint(1, 9),
                period=rng.randint(5, 40),
                jitter=rng.randint(0, 90),
                in_bursts=True,
            )
            for level in range(3)
        ]
        if 0.8 < utilisation(jobs) <= 1:
            return jobs


def _plainly(job: Job, above: list[Job], blocking: int) -> int:
    """The longest response of the busy window, searched release by release from the beginning."""

    def demand(time: int, besides: int) -> int:
        return besides + sum(((time + other.jitter) // other.period + 1) * other.cost for other in above)

    worst = release = 0
    while True:
        start = 0
        while (further := demand(start, blocking + release * job.cost)) != start:
            start = further
        worst = max(worst, start + job.cost - max(0, release * job.period - job.jitter))
        release += 1
        # The window ends when a release finds all work before it done.
        if start + job.cost <= release * job.period - job.jitter:
            return worst


def test_bound_is_the_longest_of_all_releases() -> None:
    rng = random.Random(2)
    seen = 0
    for _ in range(300):
        jobs = _busy_set(rng)
        if utilisation(jobs) == 1:
            continue
        seen += 1
        blocking = rng.randint(0, 20)
        assert in_bursts(jobs[2], jobs, blocking=blocking) == _plainly(jobs[2], jobs[:2], blocking)
    assert seen > 250


def test_window_that_is_cut_short_still_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(3)
    exact, above = 0, 0
    for _ in range(300):
        jobs = _busy_set(rng)
        least = in_bursts(jobs[2], jobs)
        with monkeypatch.context() as patch:
            patch.setattr(MODULE, "MOST_RELEASES", 3)
            short = in_bursts(jobs[2], jobs)
        if least is None:
            assert short is None
            continue
        assert short is not None
        assert short >= least
        exact, above = exact + (short == least), above + (short > least)
    assert exact > 20
    assert above > 20
