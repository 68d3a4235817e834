"""Which levels to give: Audsley's algorithm, the least urgent level first.

Deadline-monotonic order is not optimal where steps cannot be interrupted; this
finds an assignment whenever there is one with a level for each job.

Source: Audsley 1991, with the non-preemptive test of ``response.py``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.analysis.response import non_preemptive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job


def suggest_levels(jobs: Sequence[Job]) -> dict[str, int] | None:
    """Levels by name, one for each job, with which all meet their deadlines.

    Returns:
      ``None`` if no such levels exist.
    """
    left = list(jobs)
    placed: list[Job] = []
    while left:
        # The latest deadline is the likeliest to bear the least urgent level.
        for job in sorted(left, key=lambda job: -job.deadline):
            if _fits_last(job, left, placed):
                left.remove(job)
                placed.insert(0, job)
                break
        else:
            return None
    return {job.name: level for level, job in enumerate(placed)}


def _fits_last(job: Job, left: Sequence[Job], placed: Sequence[Job]) -> bool:
    last = attrs.evolve(job, level=1)
    others = [attrs.evolve(other, level=0) for other in left if other is not job]
    below = [attrs.evolve(other, level=2) for other in placed]
    worst = non_preemptive(last, [last, *others, *below])
    return worst is not None and worst <= job.deadline
