"""What can be proved of a set of jobs before it runs. Pure, in integers."""

from rtos.scheduler.analysis.admission import Verdict, judge
from rtos.scheduler.analysis.assign import suggest_levels
from rtos.scheduler.analysis.limited import Limit, response_beside, response_within
from rtos.scheduler.analysis.model import Job, JobReport, SetReport
from rtos.scheduler.analysis.report import admit, analyse
from rtos.scheduler.analysis.reserved import response_reserved
from rtos.scheduler.analysis.response import non_preemptive, preemptive, response, utilisation

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
