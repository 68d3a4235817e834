"""The reserve on the real scheduler in virtual time, compared with the bounds of the analysis."""

from __future__ import annotations

import random

import pytest

from rtos.scheduler.analysis import Job, Limit, analyse, response, response_reserved, suggest_levels
from rtos.testing import TICK, simulate
from tests.support.effort import short_or_full
from tests.support.random_systems import random_set

SETS = short_or_full(10, 32)
SECOND = round(1 / TICK)


def _hogs(chance: random.Random) -> list[Limit]:
    """Tasks less urgent than every job that take all the time they get; their budgets limit nothing."""
    return [
        Limit(name=f"hog {level}", level=level, granted=900, period=900, longest_step=chance.randint(1, 12))
        for level in sorted(chance.sample([4, 5, 6, 7], chance.randint(2, 4)))
    ]


def _beside(hogs: list[Limit]) -> list[Job]:
    return [Job(name=hog.name, level=hog.level, cost=hog.longest_step, period=1 << 40) for hog in hogs]


@pytest.mark.parametrize("share", [0.05, 0.2])
@pytest.mark.parametrize("levels", ["one each", "shared"])
def test_no_response_exceeds_its_bound_with_a_reserve(
    levels: str, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(f"{levels} {share}")
    ratios, exceeded = [], 0
    for number in range(SETS):
        size = chance.randint(1, 4)
        jobs = random_set(
            chance,
            number=size,
            total=chance.uniform(0.3, 0.7),
            levels=size if levels == "one each" else max(1, size // 2),
            shortest=20,
            longest=300,
            jitter=chance.choice([0.0, 0.0, 0.4]),
        )
        hogs = _hogs(chance)
        known = [*jobs, *_beside(hogs)]
        bounds = {job.name: response_reserved(job, known, reserve=share, second=SECOND) for job in jobs}
        plain = {job.name: response(job, known) for job in jobs}
        for seed in range(2):
            quantum = (0, 30, 1000)[(number + seed) % 3]
            for run in simulate(jobs, horizon=3000, seed=seed, limits=hogs, reserve=share, quantum=quantum):
                bound, without = bounds[run.job], plain[run.job]
                if bound is not None and without is not None:
                    assert run.response <= bound, (number, run, jobs, hogs)
                    ratios.append(run.response / bound)
                    exceeded += run.response > without
    with capsys.disabled():
        print(  # noqa: T201 - shown in the output of the tests
            f"\nobserved/bound with a reserve of {share}, {levels}: most {max(ratios):.3f} of {len(ratios)}"
            f" runs, {exceeded} of them above the bound without"
        )
    # Some responses exceed the bound without a reserve, so the bound must include it.
    assert exceeded


def test_bound_without_a_reserve_is_the_plain_bound() -> None:
    jobs = random_set(random.Random(3), number=5, total=0.6, levels=3, shortest=20, longest=300)
    for job in jobs:
        assert response_reserved(job, jobs, reserve=0) == response(job, jobs)
    assert analyse(jobs, reserve=0) == analyse(jobs)


def test_reserve_adds_a_blocking_step_and_stretches_costs() -> None:
    jobs = [Job(name="a", level=0, cost=70, period=1000), Job(name="b", level=1, cost=20, period=10_000)]
    assert response(jobs[0], jobs) == 70 + 19
    # Two steps of 20, a seventh of the longest step as earlier debt, and the job itself.
    assert response_reserved(jobs[0], jobs, reserve=1 / 8) == 2 * 20 + 10 + 80


def test_busy_window_longer_than_a_second_counts_starvation_again() -> None:
    jobs = [Job(name="a", level=0, cost=70, period=1000), Job(name="b", level=1, cost=20, period=10_000)]
    short = response_reserved(jobs[0], jobs, reserve=1 / 8, second=10_000)
    assert short == response_reserved(jobs[0], jobs, reserve=1 / 8)
    # The second is shorter than the window, so a level can starve within the window.
    longer = response_reserved(jobs[0], jobs, reserve=1 / 8, second=144)
    assert longer is not None
    assert short is not None
    assert longer == short + 20


def test_suggested_levels_take_the_reserve_into_account() -> None:
    jobs = [
        Job(name="slow", level=0, cost=40, longest_step=10, period=200),
        Job(name="fast", level=1, cost=10, period=50, deadline=24),
    ]
    assert suggest_levels(jobs) == {"fast": 0, "slow": 1}
    assert suggest_levels(jobs, reserve=0.05) is None


def test_reserve_outside_its_range_is_refused() -> None:
    job = Job(name="a", level=0, cost=1, period=10)
    with pytest.raises(ValueError, match=r"reserve is 1; use 0 for none"):
        response_reserved(job, [job], reserve=1)
