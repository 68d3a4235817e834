"""The shortcuts of the response analysis, compared with the plain definition."""

from __future__ import annotations

import random
import sys

import pytest

from rtos.scheduler.analysis import Job, response, utilisation
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


def _in_levels(rng: random.Random) -> list[Job]:
    """Two to five jobs of small numbers in one to three levels, with jitter and steps."""
    while True:
        jobs = []
        for number in range(rng.randint(2, 5)):
            cost, period = rng.randint(1, 9), rng.randint(8, 60)
            longest = rng.randint(1, cost)
            jobs.append(
                Job(
                    name=f"{number}",
                    level=rng.randint(0, 2),
                    cost=cost,
                    period=period,
                    deadline=rng.randint(4, 90),
                    jitter=rng.choice([0, 0, rng.randint(1, 30)]),
                    longest_step=longest,
                    last_step=rng.randint(1, longest),
                )
            )
        if utilisation(jobs) < 0.95:
            return jobs


def _at_every_offset(job: Job, jobs: list[Job]) -> int:
    """The bound of deadline order, from every arrival in the window, each searched from the beginning."""
    above = [other for other in jobs if other.level < job.level]
    same = [other for other in jobs if other.level == job.level and other is not job]
    below = max((other.longest_step - 1 for other in jobs if other.level > job.level), default=0)

    def demand(time: int, others: list[Job]) -> int:
        return sum(-(-(time + other.jitter) // other.period) * other.cost for other in others)

    window, longest = 1, max([below, *(other.longest_step - 1 for other in same)])
    while (further := longest + demand(window, [job, *above, *same])) != window:
        window = further
    worst = 0
    for offset in range(-job.jitter, window):
        late = max((o.longest_step - 1 for o in same if o.deadline > job.deadline + offset), default=0)
        own = ((offset + job.jitter) // job.period + 1) * job.cost - (job.last_step - 1)
        began = 1
        while True:
            earlier = sum(
                min(
                    -(-(began + o.jitter) // o.period),
                    max(0, -(-(offset + 1 + job.deadline - o.deadline + o.jitter) // o.period)),
                )
                * o.cost
                for o in same
            )
            further = max(below, late) + own + demand(began, above) + earlier
            if further == began:
                break
            began = further
        worst = max(worst, max(began - offset, 1) + job.last_step - 1)
    return worst


def test_bound_in_deadline_order_is_the_longest_of_all_arrivals() -> None:
    rng = random.Random(4)
    shared = 0
    for _ in range(150):
        jobs = _in_levels(rng)
        for job in jobs:
            if any(other.level == job.level for other in jobs if other is not job):
                shared += 1
                assert response(job, jobs) == _at_every_offset(job, jobs), (job, jobs)
    assert shared > 200


def test_search_restarts_when_the_blocking_falls() -> None:
    """After the offset at which less blocks the job, its fixed point is below that of the offset before."""
    job = Job(name="job", level=1, cost=1, period=47, deadline=59, jitter=14)
    jobs = [
        Job(name="urgent", level=0, cost=9, period=31, jitter=30, longest_step=4, last_step=2),
        Job(name="early", level=1, cost=6, period=31, deadline=29, longest_step=5, last_step=4),
        job,
        Job(name="late", level=1, cost=3, period=17, deadline=60, jitter=18),
    ]
    assert response(job, jobs) == _at_every_offset(job, jobs)
