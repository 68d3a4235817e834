from __future__ import annotations

import random

import pytest

from rtos.errors import ConfigurationError
from rtos.scheduler.analysis import Job, judge
from rtos.scheduler.analysis.admission import known_jobs
from rtos.scheduler.analysis.from_trace import NO_DEADLINE
from rtos.scheduler.analysis.online import ITERATIONS
from rtos.scheduler.analysis.response import at_most

MS = 1_000_000
URGENT = Job(name="urgent", level=0, cost=2, period=20, deadline=6)


def test_who_fits_is_admitted_with_everybodys_bound() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=5, period=50))
    assert verdict.admitted
    assert verdict.bounds == {"urgent": 2 + 4, "new": 2 + 5}
    assert (verdict.late, verdict.offender) == ((), None)


def test_who_would_make_another_late_is_named() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=6, period=50))
    assert not verdict.admitted
    assert (verdict.late, verdict.offender) == (("urgent",), "new")
    assert verdict.reason == "'urgent' could miss the deadline, look at 'new'"


def test_who_would_be_late_himself_is_told_who_is_in_the_way() -> None:
    verdict = judge([URGENT], Job(name="new", level=1, cost=5, period=50, deadline=6))
    assert (verdict.late, verdict.offender) == (("new",), "urgent")
    alone = judge([], Job(name="new", level=1, cost=5, period=50, deadline=4))
    assert (alone.admitted, alone.offender) == (False, "new")


def test_who_is_late_already_refuses_nobody() -> None:
    late = Job(name="late", level=1, cost=9, period=50, deadline=5)
    verdict = judge([late], Job(name="new", level=2, cost=1, period=50))
    assert verdict.admitted


def test_the_reserve_counts() -> None:
    new = Job(name="new", level=1, cost=5, period=50)
    assert judge([URGENT], new).admitted
    assert not judge([URGENT], new, reserve=0.05).admitted


def test_what_was_declared_goes_before_what_was_seen() -> None:
    common = {"cat": "call", "id": 1}
    trace = {
        "traceEvents": [
            {"ph": "X", "cat": "step", "ts": 0, "dur": 9, "tid": 2, "args": {"level": 0}},
            {**common, "name": "urgent", "ph": "s", "ts": 0, "tid": 1},
            {**common, "name": "urgent", "ph": "t", "ts": 0, "tid": 2},
            {**common, "name": "urgent", "ph": "f", "ts": 9, "tid": 1},
        ]
    }
    assert known_jobs([URGENT], trace) == [URGENT]
    assert [job.cost for job in known_jobs([], trace)] == [9000]
    assert known_jobs([URGENT], {"traceEvents": []}) == [URGENT]
    with pytest.raises(ConfigurationError, match="the file is no trace"):
        known_jobs([], {})


def _seen(rng: random.Random) -> Job:
    """A command as a trace of a busy server shows it: near saturation, in bursts, no deadline."""
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


def test_a_nearly_saturated_system_is_judged_with_the_effort_that_a_running_one_allows() -> None:
    rng = random.Random(1)
    urgent = Job(name="urgent", level=0, cost=2 * MS, period=20 * MS, deadline=7 * MS)
    new = Job(name="new", level=1, cost=1 * MS, period=100 * MS)
    judged = 0
    for _ in range(100):
        with at_most(ITERATIONS):
            verdict = judge([urgent, _seen(rng)], new, reserve=0.05)
        assert (verdict.bounds["urgent"], verdict.bounds["new"]) == (4_210_528, 5_263_160)
        judged += verdict.bounds["seen"] is not None
    assert judged > 80
