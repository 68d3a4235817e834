"""Admission at run time: a running system is asked for one more job.

The judgement is the analysis's; this gathers what it goes by. What was declared is
taken as declared, and every other command as the trace has seen it lately. What was
never seen is not counted: a longer run gives a better judgement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import ConfigurationError, NotAdmitted
from rtos.scheduler.analysis.admission import Verdict, judge, known_jobs
from rtos.scheduler.analysis.response import at_most
from rtos.scheduler.diagnosis.perfetto import chrome_trace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.scheduler.analysis import Job
    from rtos.scheduler.scheduler import Scheduler

RECORDS_SEEN: Final = 50_000
"""The most records of the trace that a judgement goes by."""
ITERATIONS: Final = 200_000
"""After so many an analysis is given up; hundreds of ordinary jobs take some thousands."""


async def verdict_now(scheduler: Scheduler, declared: Sequence[Job], candidate: Job) -> Verdict:
    """Judge whether a job may join what runs under ``scheduler``.

    Args:
      scheduler: whose trace and reserve count.
      declared: jobs that are known, in nanoseconds.
      candidate: the newcomer, in nanoseconds.

    Always a checkpoint; computes in a thread, so that nobody has to wait for it. A
    cancellation takes effect at once, and leaves the thread to end by itself.

    Raises:
      ConfigurationError: the order of tasks is Trio's own, for which there is no bound.
      ValueError: there is a job of its name, or the analysis would take too long.
    """
    if not scheduler.ordered:
        raise ConfigurationError(
            f"job {candidate.name!r} cannot be judged: nothing bounds a wait in Trio's own order",
            "use open_scheduler(ordered=True)",
        )
    records, reserve = scheduler.trace.later(limit=RECORDS_SEEN), scheduler.reserve

    def compute() -> Verdict:
        with at_most(ITERATIONS):
            return judge(known_jobs(declared, chrome_trace(records())), candidate, reserve=reserve)

    # Whoever is not waited for any more ends by itself.
    return await trio.to_thread.run_sync(compute, abandon_on_cancel=True)


async def admit_now(scheduler: Scheduler, declared: Sequence[Job], candidate: Job) -> Verdict:
    """``verdict_now``, for whoever goes on only when it may.

    Raises:
      ConfigurationError: the order of tasks is Trio's own, for which there is no bound.
      NotAdmitted: it would break a deadline that is kept without it, or its own.
      ValueError: there is a job of its name.
    """
    verdict = await verdict_now(scheduler, declared, candidate)
    if not verdict.admitted:
        raise NotAdmitted(
            f"job {candidate.name!r}", verdict.reason, remedy="shorten its steps or costs, or allow more time"
        )
    return verdict
