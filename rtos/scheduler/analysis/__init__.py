"""Schedulability analysis: prove before a set of jobs runs that every deadline will be met.

The entry points, all of them pure and in integers::

    from rtos.scheduler.analysis import Job, analyse, judge, suggest_levels

    jobs = [Job(name="motor", level=0, cost=300_000, period=5_000_000), ...]
    report = analyse(jobs, reserve=0.05)        # the bound of each job, and how long steps may be
    levels = suggest_levels(jobs, reserve=0.05)  # levels with which all deadlines hold
    verdict = judge(jobs, new_job, reserve=0.05)  # whether one more job may join

``online.admit_now`` and ``online.verdict_now`` ask the same of a running scheduler.
Behind ``analyse`` are the bounds of single jobs: ``response`` (levels and deadlines),
``response_reserved`` (with a reserve), ``response_beside`` and ``response_within`` (with
budgets), ``preemptive`` and ``non_preemptive`` (textbook cases).

Modules: ``model`` (jobs and reports), ``response_time``, ``starvation_share``, ``budget_bounds``
(the bounds), ``report``, ``assign``, ``admission`` (the entry points), ``effort`` (the limit of
the work), ``system_file``, ``from_trace`` (where jobs come from), ``online``.
"""

from rtos.scheduler.analysis.admission import Verdict, judge
from rtos.scheduler.analysis.assign import suggest_levels
from rtos.scheduler.analysis.budget_bounds import Limit, response_beside, response_within
from rtos.scheduler.analysis.effort import TooComplex
from rtos.scheduler.analysis.model import NO_DEADLINE, Job, JobReport, SetReport
from rtos.scheduler.analysis.report import analyse
from rtos.scheduler.analysis.response_time import non_preemptive, preemptive, response, utilisation
from rtos.scheduler.analysis.starvation_share import response_reserved

__all__ = [
    "NO_DEADLINE",
    "Job",
    "JobReport",
    "Limit",
    "SetReport",
    "TooComplex",
    "Verdict",
    "analyse",
    "judge",
    "non_preemptive",
    "preemptive",
    "response",
    "response_beside",
    "response_reserved",
    "response_within",
    "suggest_levels",
    "utilisation",
]
