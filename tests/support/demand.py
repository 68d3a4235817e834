"""Demand: whether deadlines alone, without levels, can be met at all.

Sources: Baruah, Rosier, Howell 1990 (demand bound); George, Rivierre, Spuri 1996
(with steps that cannot be interrupted); Jeffay, Stanat, Martel 1991, exact for
sporadic jobs whose deadline is their period.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.scheduler.analysis.model import EPSILON
from rtos.scheduler.analysis.response_time import utilisation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job


def demand_bound(jobs: Sequence[Job], time: int) -> int:
    """The most work that must both arrive and be finished within ``time``."""
    return sum(max(0, (time - job.deadline) // job.period + 1) * job.cost for job in jobs)


def deadlines_suffice(jobs: Sequence[Job], *, steps: bool = True) -> bool:
    """Whether earliest deadline first meets every deadline.

    Args:
      jobs: the set; levels are ignored.
      steps: whether a job runs in one step that cannot be interrupted.
    """
    if utilisation(jobs) > 1:
        return False
    for time in _points(jobs):
        blocking = max((job.cost - EPSILON for job in jobs if job.deadline > time), default=0) if steps else 0
        if demand_bound(jobs, time) + blocking > time:
            return False
    return True


def jeffay(jobs: Sequence[Job]) -> bool:
    """Whether any scheduler that never interrupts can meet sporadic deadlines equal to the periods."""
    ordered = sorted(jobs, key=lambda job: job.period)
    if utilisation(ordered) > 1:
        return False
    for index, job in enumerate(ordered[1:], start=1):
        shorter = ordered[:index]
        points = {
            count * o.period + EPSILON for o in shorter for count in range(1, job.period // o.period + 1)
        }
        for time in points:
            if ordered[0].period < time < job.period:
                demand = job.cost + sum((time - EPSILON) // other.period * other.cost for other in shorter)
                if demand > time:
                    return False
    return True


def _points(jobs: Sequence[Job]) -> list[int]:
    """The instants at which demand grows, up to the end of the longest busy window."""
    time = start = sum(job.cost for job in jobs)
    longest = max((job.cost for job in jobs), default=0)
    for _ in range(100_000):
        further = longest + sum(-(-time // job.period) * job.cost for job in jobs)
        if further == time:
            break
        time = further
    end = max(time, start, max((job.deadline for job in jobs), default=0))
    return sorted({d for job in jobs for d in range(job.deadline, end + 1, job.period)})
