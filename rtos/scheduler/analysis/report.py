"""The report on a set of jobs: the bound of each, its slack, and how long the steps of others may be."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from rtos.scheduler.analysis.effort import EFFORT, TooComplex, limit_effort, spend, steps_left
from rtos.scheduler.analysis.model import EPSILON, Job, JobReport, SetReport
from rtos.scheduler.analysis.response_time import utilisation
from rtos.scheduler.analysis.starvation_share import response_reserved

if TYPE_CHECKING:
    from collections.abc import Sequence

READING_STEPS: Final = 5
"""Reading one job for the report of another takes about as long as so many steps of the analysis."""


def analyse(jobs: Sequence[Job], *, reserve: float = 0.0, effort: int = EFFORT) -> SetReport:
    """Prove what can be proved of a set.

    A job whose analysis takes too long is reported as ``too_complex``; the other jobs
    still get their bounds.

    Args:
      jobs: the set; in nanoseconds where there is a reserve.
      reserve: the share of the CPU that the kernel keeps for less urgent levels.
      effort: the limit of the work, in steps (see ``effort.py``).

    Raises:
      ValueError: two jobs have the same name, or ``reserve`` is not in [0, 1).
    """
    ordered = _ordered(jobs)
    reports = []
    with limit_effort(effort):
        for index, job in enumerate(ordered):
            # An equal share each of what is left, so that one job does not use up the work of all.
            with limit_effort(steps_left() // (len(ordered) - index)):
                reports.append(_report(job, ordered, reserve))
    return SetReport(tuple(reports), float(utilisation(ordered)), _step_bounds(reports))


def responses(jobs: Sequence[Job], *, reserve: float = 0.0, effort: int = EFFORT) -> dict[Job, int | None]:
    """The bounds of ``analyse`` alone, which take a fraction of its work.

    ``None`` where there is no bound, and for a job without a deadline whose bound is too
    complex to find.

    Args:
      jobs: as for ``analyse``.
      reserve: as for ``analyse``.
      effort: as for ``analyse``.

    Raises:
      TooComplex: the bound of a job with a deadline is too complex to find.
      ValueError: two jobs have the same name, or ``reserve`` is not in [0, 1).
    """
    ordered = _ordered(jobs)
    found: dict[Job, int | None] = {}
    with limit_effort(effort):
        for index, job in enumerate(ordered):
            with limit_effort(steps_left() // (len(ordered) - index)):
                found[job] = _bound(job, ordered, reserve)
    return found


def _ordered(jobs: Sequence[Job]) -> list[Job]:
    for name, count in Counter(job.name for job in jobs).items():
        if count > 1:
            msg = f"analyse: two jobs are named {name!r}; use a unique name for each job"
            raise ValueError(msg)
    return sorted(jobs, key=lambda job: (job.level, job.deadline))


def _bound(job: Job, jobs: Sequence[Job], reserve: float) -> int | None:
    try:
        return response_reserved(job, jobs, reserve=reserve)
    except TooComplex:
        if job.has_deadline:
            raise
        return None


def _report(job: Job, jobs: Sequence[Job], reserve: float) -> JobReport:
    try:
        spend(READING_STEPS * len(jobs))
        worst = response_reserved(job, jobs, reserve=reserve)
    except TooComplex:
        return JobReport(job=job, response=None, step_budget=None, offender=None, too_complex=True)
    return JobReport(
        job=job,
        response=worst,
        step_budget=_step_budget(job, jobs, reserve) if job.has_deadline else None,
        offender=None if job.meets_deadline(worst) else offender_of(job, jobs),
    )


def _step_budget(job: Job, jobs: Sequence[Job], reserve: float) -> int | None:
    """The longest less urgent step with which the job still meets its deadline.

    The response grows with the blocking, so the limit is found by halving. Steps longer
    than the longest period are not tried: no step should ever be that long. If the
    limit of work ends the search, the result is the longest step that was proved so far.
    """
    low, high = -EPSILON, min(job.deadline, max(other.period for other in jobs))

    def holds(blocking: int) -> bool:
        spend(len(jobs))
        return job.meets_deadline(response_reserved(job, jobs, reserve=reserve, blocking=blocking))

    try:
        if holds(0):
            low = 0
            if holds(high):
                low = high
        else:
            high = low
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if holds(middle) else (low, middle - 1)
    except TooComplex:
        pass
    return low + EPSILON or None


def _step_bounds(reports: Sequence[JobReport]) -> dict[str, int | None]:
    """By job, the least step budget of the levels above it."""
    bounds: dict[str, int | None] = {}
    least: int | None = None
    level, of_level = -1, least
    for report in reports:
        if report.job.level != level:
            level, of_level = report.job.level, least
        bounds[report.job.name] = of_level
        if report.job.has_deadline:
            budget = report.step_budget or 0
            least = budget if least is None else min(least, budget)
    return bounds


def offender_of(job: Job, jobs: Sequence[Job]) -> str | None:
    """The job to look at first: the one that takes most of the time until the deadline."""
    taken = {
        other.name: (other.longest_step if other.level > job.level else _share(job, other))
        for other in jobs
        if other is not job
    }
    return max(taken, key=lambda name: taken[name], default=None)


def _share(job: Job, other: Job) -> int:
    return -(-(job.deadline + other.jitter) // other.period) * other.cost
