"""Admission: decide whether one more job may join jobs that are known.

Pure. Invariant: no job that keeps its deadline loses it to an admitted job, and an
admitted job keeps its own. A job that may be late anyway is no reason to refuse a job
that delays it further.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.analysis.effort import EFFORT, limit_effort
from rtos.scheduler.analysis.report import offender_of, responses

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job


@attrs.frozen(kw_only=True)
class Verdict:
    """The decision on one candidate.

    Attributes:
      candidate: its name.
      admitted: whether it may join.
      bounds: by job, the candidate among them, the worst response with the candidate;
        ``None`` where there is no bound. In the unit of the jobs.
      late: the jobs that could miss a deadline that they keep without the candidate.
      offender: the job that costs the first of these the most time.
    """

    candidate: str
    admitted: bool
    bounds: dict[str, int | None]
    late: tuple[str, ...] = ()
    offender: str | None = None

    @property
    def reason(self) -> str:
        """Why the candidate is refused, for people."""
        return (
            f"{', '.join(map(repr, self.late))} could miss the deadline, mostly because of {self.offender!r}"
        )


def judge(known: Sequence[Job], candidate: Job, *, reserve: float = 0.0, effort: int = EFFORT) -> Verdict:
    """Decide whether ``candidate`` may join the jobs that are known.

    Args:
      known: declared jobs, or jobs taken from a trace.
      candidate: the new job.
      reserve: the share of the CPU that the kernel keeps for less urgent levels.
      effort: the limit of the work, in steps (see ``effort.py``).

    Raises:
      TooComplex: the limit of the work was reached.
      ValueError: a known job has the candidate's name, or ``reserve`` is not in [0, 1).
    """
    with limit_effort(effort):
        before = responses(known, reserve=reserve, effort=effort // 2)
        after = responses([*known, candidate], reserve=reserve)
    kept = {job.name for job, worst in before.items() if job.meets_deadline(worst)}
    late = [
        job
        for job, worst in after.items()
        if not job.meets_deadline(worst) and job.name in {*kept, candidate.name}
    ]
    return Verdict(
        candidate=candidate.name,
        admitted=not late,
        bounds={job.name: worst for job, worst in after.items()},
        late=tuple(job.name for job in late),
        # A job that is late although it is alone has only itself to blame.
        offender=(offender_of(late[0], list(after)) or candidate.name) if late else None,
    )
