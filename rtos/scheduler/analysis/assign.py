"""Which levels to give: Audsley's algorithm, the least urgent level first.

Deadline-monotonic order is not optimal where steps cannot be interrupted; this
finds an assignment whenever there is one with a level for each job.

Source: Audsley 1991, with the non-preemptive test of ``response.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.analysis.starvation_share import response_reserved

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job


def suggest_levels(jobs: Sequence[Job], *, reserve: float = 0.0) -> dict[str, int] | None:
    """Levels by name, one for each job, with which all meet their deadlines.

    Args:
      jobs: the set; levels are ignored.
      reserve: the share of the time that the kernel keeps for less urgent levels.

    Returns:
      ``None`` if no such levels exist.
    """
    left = list(jobs)
    placed: list[Job] = []
    while left:
        # The latest deadline is the likeliest to bear the least urgent level.
        for job in sorted(left, key=lambda job: -job.deadline):
            if _fits_last(job, left, placed, reserve):
                left.remove(job)
                placed.insert(0, job)
                break
        else:
            return None
    return {job.name: level for level, job in enumerate(placed)}


def _fits_last(job: Job, left: Sequence[Job], placed: Sequence[Job], reserve: float) -> bool:
    last = attrs.evolve(job, level=1)
    others = [attrs.evolve(other, level=0) for other in left if other is not job]
    below = [attrs.evolve(other, level=2) for other in placed]
    worst = response_reserved(last, [last, *others, *below], reserve=reserve)
    return worst is not None and worst <= job.deadline
