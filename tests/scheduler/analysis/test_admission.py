from __future__ import annotations

import random

import attrs
import pytest

from rtos.scheduler.analysis import NO_DEADLINE, Job, TooComplex, judge
from rtos.scheduler.analysis.online import EFFORT_ONLINE

MS = 1_000_000
URGENT = Job(name="urgent", level=0, cost=2, period=20, deadline=6)


def test_a_job_that_fits_is_admitted_with_the_bounds_of_all_jobs() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=5, period=50))
    assert verdict.admitted
    assert verdict.bounds == {"urgent": 2 + 4, "new": 2 + 5}
    assert (verdict.late, verdict.offender) == ((), None)


def test_a_candidate_that_makes_another_job_late_is_refused() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=6, period=50))
    assert not verdict.admitted
    assert (verdict.late, verdict.offender) == (("urgent",), "new")
    assert verdict.reason == "'urgent' could miss the deadline, mostly because of 'new'"


def test_a_candidate_that_would_be_late_itself_is_refused() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=5, period=50, deadline=6))
    assert (verdict.late, verdict.offender) == (("new",), "urgent")
    alone = judge([], Job(name="new", level=1, cost=5, period=50, deadline=4))
    assert (alone.admitted, alone.offender) == (False, "new")


def test_a_job_that_is_late_anyway_is_no_reason_to_refuse() -> None:
    late = Job(name="late", level=1, cost=9, period=50, deadline=5)
    verdict = judge([late], Job(name="new", level=2, cost=1, period=50))
    assert verdict.admitted


def test_the_reserve_counts() -> None:
    new = Job(name="new", level=1, cost=5, period=50)
    assert judge([URGENT], new).admitted
    assert not judge([URGENT], new, reserve=0.05).admitted


def _seen(rng: random.Random) -> Job:
    """A command as a trace of a busy server shows it: near saturation, in bursts, without a deadline."""
    period = rng.randint(15_000, 400_000)
    return Job(
        name="seen",
        level=2,
        cost=int(period * rng.uniform(0.3, 0.89)),
        period=period,
        jitter=rng.randint(0, 200 * MS),
        deadline=NO_DEADLINE,
        in_bursts=True,
    )


def test_a_nearly_saturated_system_is_analysed_within_the_online_limit() -> None:
    rng = random.Random(1)
    urgent = Job(name="urgent", level=0, cost=2 * MS, period=20 * MS, deadline=7 * MS)
    new = Job(name="new", level=1, cost=1 * MS, period=100 * MS)
    judged = 0
    for _ in range(100):
        verdict = judge([urgent, _seen(rng)], new, reserve=0.05, effort=EFFORT_ONLINE)
        assert (verdict.bounds["urgent"], verdict.bounds["new"]) == (4_210_528, 5_263_160)
        judged += verdict.bounds["seen"] is not None
    assert judged > 80


def test_a_job_without_a_deadline_is_never_late() -> None:
    background = Job(name="background", level=2, cost=90, period=100, deadline=NO_DEADLINE, longest_step=1)
    verdict = judge([background], Job(name="new", level=1, cost=20, period=100, deadline=30))
    assert verdict.admitted
    assert verdict.bounds == {"new": 20, "background": None}


def test_a_verdict_that_is_too_complex_is_refused_unless_the_job_has_no_deadline() -> None:
    new = Job(name="new", level=0, cost=1, period=1_000, deadline=100)
    hard = Job(
        name="hard",
        level=1,
        cost=998_999,
        period=1_000_000,
        jitter=10**10,
        longest_step=1,
        deadline=NO_DEADLINE,
        in_bursts=True,
    )
    verdict = judge([hard], new, effort=5_000)
    assert (verdict.admitted, verdict.bounds) == (True, {"new": 1, "hard": None})
    with pytest.raises(TooComplex):
        judge([attrs.evolve(hard, deadline=1_000_000)], new, effort=5_000)
