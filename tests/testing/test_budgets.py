"""Budgets on the real scheduler in virtual time, compared with the bounds of the analysis."""

from __future__ import annotations

import random
from typing import Any

import attrs
import pytest
import trio

from rtos.scheduler import BandwidthServer, Budget, open_scheduler
from rtos.scheduler.analysis import Job, Limit, response, response_beside, response_within
from rtos.testing import TICK, run_virtual, simulate, spend
from rtos.testing.virtual import budget_of
from tests.support.effort import short_or_full
from tests.support.random_systems import random_set

SETS = short_or_full(20, 80)


def _limit(chance: random.Random, name: str, levels: int, *, share: float, demotes: bool) -> Limit:
    period = chance.randint(20, 300)
    granted = max(1, int(share * period))
    level = chance.randrange(levels)
    return Limit(
        name=name,
        level=level,
        granted=granted,
        period=period,
        # Up to several times the budget: a step cannot be interrupted.
        longest_step=chance.randint(1, max(2, chance.choice([1, 3]) * granted)),
        # Never demoted to a level above a job: the simulation would never end.
        falls_to=chance.randint(max(level + 1, levels - 1), 7) if demotes else None,
    )


def _set(chance: random.Random, what: str, rogues: int) -> tuple[list[Job], list[Limit]]:
    size = chance.randint(2, 5)
    levels = size if what == "one each" else max(1, size // 2)
    jobs = random_set(
        chance,
        number=size,
        total=chance.uniform(0.2, 0.6),
        levels=levels,
        shortest=20,
        longest=400,
        jitter=chance.choice([0.0, 0.0, 0.4]),
    )
    share = chance.uniform(0.05, 0.3) / rogues
    limits = [
        _limit(chance, f"rogue {number}", levels, share=share, demotes=chance.random() < 0.5)
        for number in range(rogues)
    ]
    return jobs, limits


def _worst(jobs: list[Job], **how: Any) -> dict[str, int]:
    worst: dict[str, int] = {}
    for seed in range(3):
        offsets = None if seed else [0] * len(jobs)
        for run in simulate(
            jobs, horizon=1200, seed=seed, offsets=offsets, sporadic=seed == 2, quantum=50 * seed, **how
        ):
            worst[run.job] = max(worst.get(run.job, 0), run.response)
    return worst


@pytest.mark.parametrize("rogues", [1, 2, 3])
@pytest.mark.parametrize("levels", ["one each", "shared"])
def test_greedy_task_under_a_budget_breaks_no_bound_of_others(
    levels: str, rogues: int, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(f"{levels} {rogues}")
    ratios = []
    for number in range(SETS):
        jobs, limits = _set(chance, levels, rogues)
        bounds = {job.name: response_beside(job, jobs, limits) for job in jobs}
        for name, value in _worst(jobs, limits=limits).items():
            bound = bounds[name]
            if bound is not None:
                assert value <= bound, (number, name, jobs, limits)
                ratios.append(value / bound)
    with capsys.disabled():
        mean = sum(ratios) / len(ratios)
        print(  # noqa: T201 - shown in the output of the tests
            f"\nobserved/bound beside {rogues} greedy tasks, {levels}:"
            f" mean {mean:.3f}, most {max(ratios):.3f} of {len(ratios)} jobs in {SETS} sets"
        )
    assert max(ratios) > 0.8


def _behaved(chance: random.Random, jobs: list[Job]) -> tuple[Job, Limit]:
    """One of the jobs, with a budget that is just sufficient."""
    job = max(jobs, key=lambda job: job.period)
    late = max(other.longest_step for other in jobs)
    period = max(job.cost, job.period - job.jitter - 2 * late)
    limit = Limit(
        name=job.name,
        level=job.level,
        granted=min(job.cost + chance.choice([0, 0, 1, 5]), period),
        period=period,
        longest_step=job.longest_step,
        falls_to=chance.choice([None, 7]),
    )
    return job, limit


@pytest.mark.parametrize("rogues", [1, 2])
def test_job_within_its_budget_keeps_its_bound(rogues: int, capsys: pytest.CaptureFixture[str]) -> None:
    chance = random.Random(rogues)
    ratios = []
    for number in range(SETS):
        jobs, limits = _set(chance, chance.choice(["one each", "shared"]), rogues)
        job, own = _behaved(chance, jobs)
        others = [other for other in jobs if other is not job]
        bound = response_within(job, own, others, limits)
        worst = _worst(jobs, limits=[*limits, own])
        if bound is not None:
            assert worst[job.name] <= bound, (number, job, own, jobs, limits)
            ratios.append(worst[job.name] / bound)
        for other in others:
            beside = response_beside(other, others, [*limits, own])
            assert beside is None or worst[other.name] <= beside, (number, other, own, jobs, limits)
    with capsys.disabled():
        mean = sum(ratios) / len(ratios)
        print(f"\nobserved/bound of a job under its own budget: mean {mean:.3f} of {len(ratios)} jobs")  # noqa: T201
    assert len(ratios) > SETS // 4


def test_insufficient_budget_has_no_bound() -> None:
    job = Job(name="job", level=1, cost=10, period=100, longest_step=5, last_step=5)
    enough = Limit(name="job", level=1, granted=10, period=96, longest_step=5)
    assert response_within(job, enough, [], []) == 10
    assert response_within(job, attrs.evolve(enough, granted=9), [], []) is None
    # A release is noticed when a step ends, up to four units late: the next refill could be too late.
    assert response_within(job, attrs.evolve(enough, period=97), [], []) is None


def test_demoted_task_blocks_one_step_down_to_its_level_and_unbounds_the_levels_below() -> None:
    rogue = Limit(name="rogue", level=1, granted=3, period=50, longest_step=5, falls_to=3)
    jobs = [Job(name=f"{level}", level=level, cost=2, period=200) for level in range(5)]
    bounds = [response_beside(job, jobs, [rogue]) for job in jobs]
    assert bounds[0] == 2 + 4
    # Two refills, the overdraft of one step, and one step that began while demoted.
    assert bounds[2] == 3 * 2 + 4 + 2 * 3 + 5
    assert bounds[3] == 4 * 2 + 4 + 2 * 3 + 5
    assert bounds[4] is None
    # A throttled task does not run on.
    assert response_beside(jobs[4], jobs, [attrs.evolve(rogue, falls_to=None)]) == 5 * 2 + 2 * 3 + 5


def test_greedy_task_breaks_the_bound_that_ignores_its_budget() -> None:
    """So the bounds above hold because of the budget, and include what the budget lets through."""
    urgent = Job(name="rogue", level=0, cost=2, period=40)
    job = Job(name="job", level=1, cost=10, period=100, longest_step=1)
    limit = Limit(name="other", level=0, granted=8, period=40, longest_step=2)
    declared = response(job, [urgent, job])
    assert declared is not None
    assert _worst([job], limits=[limit])["job"] > declared
    beside = response_beside(job, [job], [limit])
    assert beside is not None
    assert _worst([job], limits=[limit])["job"] <= beside


def test_bound_includes_two_refills_within_less_than_a_period() -> None:
    """The rest of one refill is used just before the next: why the bound has a jitter of one period."""
    limit = Limit(name="rogue", level=0, granted=50, period=100, longest_step=1)
    job = Job(name="job", level=1, cost=34, period=1000, longest_step=1)

    async def use(ticks: float) -> None:
        for _ in range(round(ticks)):
            spend(TICK)
            await trio.lowlevel.checkpoint()

    async def rogue() -> None:
        await use(35)
        await trio.sleep_until(70 * TICK)
        await use(100)

    async def main() -> float:
        async with open_scheduler(quantum=0, reserve=0) as scheduler, trio.open_nursery() as nursery:
            with scheduler.context("rogue", level=0, budget=budget_of(limit)):
                nursery.start_soon(rogue)
            await trio.sleep_until(70 * TICK)
            with scheduler.context("job", level=1):
                async with trio.open_nursery() as inner:
                    inner.start_soon(use, 34)
            ended = trio.current_time() / TICK
            nursery.cancel_scope.cancel()
        return ended - 70

    seen = run_virtual(main)
    assert seen >= 34 + 15 + 50
    bound = response_beside(job, [job], [limit])
    assert bound is not None
    # One refill and one step would be too little.
    assert 34 + 50 + 1 < seen <= bound


def test_server_catches_up_after_waiting_past_its_deadlines() -> None:
    """Why the bound is for busy windows: after a wait a server uses more than two refills at once."""
    server = BandwidthServer(Budget(10e-9, 100e-9))
    server.wake(0)
    used = 0
    for now in range(980, 1010):  # ready since 0, but runs only now, in steps of one
        assert not server.is_exhausted
        server.charge(1)
        server.refill(now + 1)
        used += 1
    assert server.is_exhausted
    assert used == 3 * server.granted > 2 * server.granted + 1


@pytest.mark.parametrize("wrong", [{"granted": 0}, {"granted": 51}, {"longest_step": 0}])
def test_impossible_limit_is_refused(wrong: dict[str, int]) -> None:
    right = {"level": 1, "granted": 5, "period": 50, "longest_step": 1}
    with pytest.raises(ValueError, match="limit 'x': .* use 0 < granted <= period"):
        Limit(name="x", **{**right, **wrong})


def test_demotion_to_the_same_level_is_refused() -> None:
    with pytest.raises(ValueError, match="limit 'x': falls_to is 1; use a less urgent level than 1"):
        Limit(name="x", level=1, granted=5, period=50, longest_step=1, falls_to=1)
