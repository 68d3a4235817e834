"""Suggest levels: Audsley's algorithm, the least urgent level first.

Deadline-monotonic order is not optimal where steps cannot be interrupted. Audsley's
algorithm finds levels whenever a level for each job would do.

If there are more jobs than levels, each level takes as many of the remaining jobs as fit
into it, where they run in order of deadline. That never rules out a solution: the jobs
that remain can only gain when another job moves below them.

Source: Audsley 1991, with the non-preemptive test of ``response_time.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.analysis.effort import EFFORT, limit_effort, spend
from rtos.scheduler.analysis.starvation_share import response_reserved
from rtos.scheduler.policy.levels import LEVELS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job


def suggest_levels(
    jobs: Sequence[Job], *, reserve: float = 0.0, effort: int = EFFORT
) -> dict[str, int] | None:
    """Levels by name with which all jobs meet their deadlines, the most urgent level 0.

    Args:
      jobs: the set; their levels are ignored.
      reserve: the share of the CPU that the kernel keeps for less urgent levels.
      effort: the limit of the work, in steps (see ``effort.py``).

    Returns:
      A level for each job if there are at most ``LEVELS`` jobs, else shared levels. These
      may go beyond the levels of the kernel if the set needs more; the fewest possible
      are not searched for. ``None`` if no such levels exist.

    Raises:
      TooComplex: the limit of the work was reached.
    """
    left = sorted(jobs, key=lambda job: -job.deadline)
    levels: list[list[Job]] = []
    with limit_effort(effort):
        while left:
            placed = [job for level in levels for job in level]
            level: list[Job] = []
            # The job with the latest deadline is the likeliest to fit into the least urgent level.
            for job in list(left):
                rest = [other for other in left if other is not job]
                if _fit([*level, job], rest, placed, reserve):
                    level.append(job)
                    left = rest
                    if len(jobs) <= LEVELS:
                        break
            if not level:
                return None
            levels.append(level)
    return {job.name: number for number, level in enumerate(reversed(levels)) for job in reversed(level)}


def _fit(level: Sequence[Job], above: Sequence[Job], below: Sequence[Job], reserve: float) -> bool:
    """Whether the jobs of one level meet their deadlines between the levels above and below."""
    spend(10 * (len(level) + len(above) + len(below)))
    own = [attrs.evolve(job, level=1) for job in level]
    others = [attrs.evolve(job, level=0) for job in above] + [attrs.evolve(job, level=2) for job in below]
    together = [*own, *others]
    return all(job.meets_deadline(response_reserved(job, together, reserve=reserve)) for job in own)
