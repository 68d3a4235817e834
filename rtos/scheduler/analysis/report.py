"""The report: for each job its bound, its slack, and what the others' steps may cost it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.scheduler.analysis.model import EPSILON, Job, JobReport, SetReport
from rtos.scheduler.analysis.response import utilisation
from rtos.scheduler.analysis.starvation_share import response_reserved

if TYPE_CHECKING:
    from collections.abc import Sequence


def analyse(jobs: Sequence[Job], *, reserve: float = 0.0) -> SetReport:
    """Prove what can be proved of a set.

    Args:
      jobs: the set; in nanoseconds where there is a reserve.
      reserve: the share of the time that the kernel keeps for less urgent levels.

    Raises:
      ValueError: two jobs have one name, or ``reserve`` is no share.
    """
    ordered = _ordered(jobs)
    reports = tuple(_report(job, ordered, reserve) for job in ordered)
    return SetReport(reports, float(utilisation(ordered)), _step_bounds(reports))


def responses(jobs: Sequence[Job], *, reserve: float = 0.0) -> dict[Job, int | None]:
    """The bounds of ``analyse`` alone, which cost a fraction of the whole report.

    Raises:
      ValueError: two jobs have one name, or ``reserve`` is no share.
    """
    ordered = _ordered(jobs)
    return {job: response_reserved(job, ordered, reserve=reserve) for job in ordered}


def _ordered(jobs: Sequence[Job]) -> list[Job]:
    names = [job.name for job in jobs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"analyse: two jobs are named {twice[0]!r}; give each a name of its own"
        raise ValueError(msg)
    return sorted(jobs, key=lambda job: (job.level, job.deadline))


def admit(jobs: Sequence[Job], newcomer: Job, *, reserve: float = 0.0) -> tuple[bool, SetReport]:
    """Whether all deadlines, the newcomer's among them, hold with one more job."""
    report = analyse([*jobs, newcomer], reserve=reserve)
    return report.feasible, report


def _report(job: Job, jobs: Sequence[Job], reserve: float) -> JobReport:
    worst = response_reserved(job, jobs, reserve=reserve)
    slack = None if worst is None else job.deadline - worst
    late = slack is None or slack < 0
    return JobReport(
        job=job,
        response=worst,
        slack=slack,
        step_budget=_step_budget(job, jobs, reserve),
        offender=offender_of(job, jobs) if late else None,
    )


def _step_budget(job: Job, jobs: Sequence[Job], reserve: float) -> int | None:
    """The longest less urgent step with which the job still meets its deadline.

    The response grows with the blocking, so the limit is found by halving. Nothing
    longer than the longest period is looked for: no step should ever be.
    """

    def holds(blocking: int) -> bool:
        worst = response_reserved(job, jobs, reserve=reserve, blocking=blocking)
        return worst is not None and worst <= job.deadline

    if not holds(0):
        return None
    low, high = 0, min(job.deadline, max(other.period for other in jobs))
    if holds(high):
        return high + EPSILON
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low + EPSILON


def _step_bounds(reports: Sequence[JobReport]) -> dict[str, int | None]:
    bounds: dict[str, int | None] = {}
    for report in reports:
        above = [other.step_budget or 0 for other in reports if other.job.level < report.job.level]
        bounds[report.job.name] = min(above, default=None)
    return bounds


def offender_of(job: Job, jobs: Sequence[Job]) -> str | None:
    """Whom to look at first: what takes most of the time until the deadline."""
    taken = {
        other.name: (other.longest_step if other.level > job.level else _share(job, other))
        for other in jobs
        if other is not job
    }
    return max(taken, key=lambda name: taken[name], default=None)


def _share(job: Job, other: Job) -> int:
    return -(-(job.deadline + other.jitter) // other.period) * other.cost
