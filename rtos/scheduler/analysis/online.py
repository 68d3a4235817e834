"""Admission at run time: ask a running system whether it can take one more job.

The declared jobs count as declared. Every other command counts as the trace has seen it
lately. A command that was never seen does not count: a longer run gives a better
verdict. An embedded scheduler keeps no trace by default; see ``open_scheduler(trace=)``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import ConfigurationError, NotAdmitted
from rtos.scheduler.analysis.admission import Verdict, judge
from rtos.scheduler.analysis.from_trace import jobs_of_records

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis.model import Job
    from rtos.scheduler.scheduler import Scheduler

RECORDS_SEEN: Final = 50_000
"""The most records of the trace that a verdict is based on, the newest."""
EFFORT_ONLINE: Final = 2_000_000
"""The limit of one verdict, in steps of the analysis: about 0.5 s of a thread that is
not the loop's. Hundreds of ordinary jobs take some tens of thousands."""


async def verdict_now(scheduler: Scheduler, declared: Sequence[Job], candidate: Job) -> Verdict:
    """Decide whether a job may join the jobs that run under ``scheduler``.

    Args:
      scheduler: the scheduler whose trace and reserve count.
      declared: jobs that are known, in nanoseconds.
      candidate: the new job, in nanoseconds.

    Always a checkpoint; computes in a thread, so that the loop does not wait for it. A
    cancellation takes effect at once, and leaves the thread to end by itself.

    Raises:
      ConfigurationError: tasks run in Trio's own order, for which there is no bound.
      TooComplex: the analysis would take too long.
      ValueError: two jobs have the same name.
    """
    if not scheduler.ordered:
        raise ConfigurationError(
            f"job {candidate.name!r} cannot be analysed: response times are unbounded in Trio's own order",
            "use open_scheduler(ordered=True)",
        )
    records, reserve = scheduler.trace.later(limit=RECORDS_SEEN), scheduler.reserve

    def compute() -> Verdict:
        names = {job.name for job in declared}
        seen = [job for job in jobs_of_records(records()) if job.name not in names]
        return judge([*declared, *seen], candidate, reserve=reserve, effort=EFFORT_ONLINE)

    # After a cancellation nobody waits for the thread.
    return await trio.to_thread.run_sync(compute, abandon_on_cancel=True)


async def admit_now(scheduler: Scheduler, declared: Sequence[Job], candidate: Job) -> Verdict:
    """As ``verdict_now``, but raises if the candidate is not admitted.

    Raises:
      ConfigurationError: tasks run in Trio's own order, for which there is no bound.
      NotAdmitted: the candidate would break a deadline that is kept without it, or its own.
      TooComplex: the analysis would take too long.
      ValueError: two jobs have the same name.
    """
    verdict = await verdict_now(scheduler, declared, candidate)
    if not verdict.admitted:
        raise NotAdmitted(
            f"job {candidate.name!r}", verdict.reason, remedy="shorten its steps or costs, or allow more time"
        )
    return verdict
