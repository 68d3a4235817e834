"""What can be proved of a set of jobs before it runs. Pure, in integers."""

from rtos.scheduler.analysis.admission import Verdict, judge
from rtos.scheduler.analysis.assign import suggest_levels
from rtos.scheduler.analysis.budget_bounds import Limit, response_beside, response_within
from rtos.scheduler.analysis.model import Job, JobReport, SetReport
from rtos.scheduler.analysis.report import admit, analyse
from rtos.scheduler.analysis.response import non_preemptive, preemptive, response, utilisation
from rtos.scheduler.analysis.starvation_share import response_reserved

__all__ = [
    "Job",
    "JobReport",
    "Limit",
    "SetReport",
    "Verdict",
    "admit",
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
