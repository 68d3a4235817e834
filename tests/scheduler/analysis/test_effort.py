"""Sets near saturation: an analysis ends within its limit, and says that it found no answer."""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from rtos.scheduler.analysis import (
    Job,
    Limit,
    TooComplex,
    analyse,
    judge,
    non_preemptive,
    preemptive,
    response,
    response_beside,
    response_reserved,
    response_within,
    suggest_levels,
)
from rtos.scheduler.analysis.effort import limit_effort, spend, steps_left

if TYPE_CHECKING:
    from collections.abc import Callable

EFFORT = 50_000

OWN = Limit(name="own", level=4, granted=1 << 40, period=1 << 50, longest_step=1)

# Coprime periods: the hyperperiod is 10**34 ns and more.
PERIODS = (1_000_003, 10_000_019, 100_000_007, 1_000_000_007, 10_000_000_019)


def _saturated(
    *, levels: int = 1, in_bursts: bool = False, jitter: int = 0, missing: float = 1e-6
) -> list[Job]:
    """Five jobs with a utilisation of 0.999999."""
    return [
        Job(
            name=f"job {index}",
            level=index % levels,
            cost=int(period * (1 - missing) / len(PERIODS)),
            period=period,
            jitter=jitter,
            longest_step=period // 500,
            in_bursts=in_bursts,
        )
        for index, period in enumerate(PERIODS)
    ]


def _calls(action: Callable[[], Any]) -> int:
    """How many Python functions and generator steps run within ``action``."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event == "call"

    previous = sys.getprofile()
    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(previous)
    return calls


@pytest.mark.parametrize("reserve", [0, 1e-7, 0.05])
@pytest.mark.parametrize("levels", [1, 2, 5])
@pytest.mark.parametrize("in_bursts", [False, True])
def test_analysis_of_a_nearly_saturated_set_stays_within_its_limit(
    *, levels: int, in_bursts: bool, reserve: float
) -> None:
    jobs = _saturated(levels=levels, in_bursts=in_bursts, jitter=10_000_000_000)
    new = Job(name="new", level=3, cost=1, period=1 << 40)

    def check() -> None:
        analyse(jobs, reserve=reserve, effort=EFFORT)
        for entry in (suggest_levels, lambda jobs, **options: judge(jobs, new, **options)):
            with contextlib.suppress(TooComplex):
                entry(jobs, reserve=reserve, effort=EFFORT)

    # Three analyses. A step of the limit is at most about one call.
    assert _calls(check) < 3 * 2 * EFFORT


def test_a_job_that_is_too_complex_is_reported_and_the_others_have_bounds() -> None:
    jobs = [
        Job(name="urgent", level=0, cost=1_000, period=1_000_000, deadline=30_000_000),
        *(attrs.evolve(job, level=1) for job in _saturated(missing=0.002)),
    ]
    report = analyse(jobs, effort=EFFORT)
    urgent, *others = report.jobs
    assert (urgent.response, urgent.too_complex, urgent.feasible) == (20_000_000 - 1 + 1_000, False, True)
    assert any(one.too_complex and one.response is None and not one.feasible for one in others)
    assert not report.feasible


def test_a_set_of_very_many_jobs_is_too_complex_at_once() -> None:
    jobs = [Job(name=f"{number}", level=0, cost=1, period=10_000) for number in range(3_000)]
    reports = []
    assert _calls(lambda: reports.append(analyse(jobs))) < 2_000_000
    assert all(one.too_complex for one in reports[0].jobs[:2_900])


def test_the_result_with_a_limit_is_the_result_without_if_it_is_not_reached() -> None:
    jobs = [Job(name="a", level=0, cost=2, period=5), Job(name="b", level=1, cost=2, period=7)]
    assert analyse(jobs, effort=5_000) == analyse(jobs)


@pytest.mark.parametrize(
    "bound",
    [
        preemptive,
        non_preemptive,
        response,
        lambda job, jobs: response_reserved(job, jobs, reserve=1e-9),
        lambda job, jobs: response_beside(job, jobs, []),
        lambda job, jobs: response_within(attrs.evolve(job, period=1 << 60), OWN, jobs[:-1], []),
    ],
)
def test_every_bound_counts_its_work(bound: Callable[[Job, list[Job]], int | None]) -> None:
    jobs = _saturated(levels=5)
    with pytest.raises(TooComplex, match="too complex to analyse; lower costs"), limit_effort(100):
        bound(jobs[-1], jobs)


def test_a_full_processor_with_blocking_has_no_bound_and_needs_no_search() -> None:
    jobs = [
        Job(name="a", level=0, cost=PERIODS[0] - 1, period=PERIODS[0]),
        Job(name="b", level=0, cost=1, period=PERIODS[0]),
        Job(name="c", level=1, cost=2, period=PERIODS[4]),
    ]
    with limit_effort(1_000):
        assert response(jobs[0], jobs) is None
        assert preemptive(jobs[0], jobs[:2], blocking=1) is None
        assert response(jobs[1], jobs) is None


def test_an_inner_limit_is_taken_off_the_outer_one() -> None:
    with limit_effort(100):
        with limit_effort(30):
            spend(20)
            assert steps_left() == 10
        assert steps_left() == 80
        with pytest.raises(TooComplex), limit_effort(30):
            spend(31)
        assert steps_left() == 50
        with limit_effort(1_000):
            assert steps_left() == 50
