"""Admission: whether one more job may come, judged by what is known of the others.

Pure. Law: nobody who keeps his deadline loses it for a newcomer, and who is let in
keeps his own. A job that is late already is no reason to refuse what makes it later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from rtos.scheduler.analysis.from_trace import jobs_seen
from rtos.scheduler.analysis.report import offender_of, responses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rtos.scheduler.analysis.model import Job


@attrs.frozen(kw_only=True)
class Verdict:
    """The answer to one candidate.

    Attributes:
      candidate: its name.
      admitted: whether it may come.
      bounds: by job, the candidate among them, the worst response with it;
        ``None`` where there is no bound. In the unit of the jobs.
      late: who would miss a deadline that is kept without the candidate.
      offender: what costs the first of these most.
    """

    candidate: str
    admitted: bool
    bounds: dict[str, int | None]
    late: tuple[str, ...] = ()
    offender: str | None = None

    @property
    def reason(self) -> str:
        """Why not, for people."""
        return f"{', '.join(map(repr, self.late))} could miss the deadline, look at {self.offender!r}"


def judge(known: Sequence[Job], candidate: Job, *, reserve: float = 0.0) -> Verdict:
    """Whether ``candidate`` may join the jobs that are known.

    Args:
      known: declared, or taken from a trace.
      candidate: as it will be.
      reserve: the share of the time that the kernel keeps for less urgent levels.

    Raises:
      ValueError: there is a job of its name, or ``reserve`` is no share.
    """
    before = responses(known, reserve=reserve)
    kept = {job.name for job, worst in before.items() if _in_time(job, worst)}
    after = responses([*known, candidate], reserve=reserve)
    late = [
        job
        for job, worst in after.items()
        if not _in_time(job, worst) and job.name in {*kept, candidate.name}
    ]
    return Verdict(
        candidate=candidate.name,
        admitted=not late,
        bounds={job.name: worst for job, worst in after.items()},
        late=tuple(job.name for job in late),
        # Alone it can only be in its own way.
        offender=(offender_of(late[0], list(after)) or candidate.name) if late else None,
    )


def _in_time(job: Job, worst: int | None) -> bool:
    return worst is not None and worst <= job.deadline


def known_jobs(declared: Sequence[Job], trace: Mapping[str, Any] | None) -> list[Job]:
    """What is known of a running system: what was declared, and what was seen beside that.

    Raises:
      ConfigurationError: it is no trace.
    """
    names = {job.name for job in declared}
    seen = jobs_seen(trace) if trace is not None else []
    return [*declared, *(job for job in seen if job.name not in names)]
