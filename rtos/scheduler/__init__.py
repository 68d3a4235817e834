"""The kernel: priorities, deadlines, supervision and accounts on a Trio loop.

Stands alone: a Trio program that only wants priorities opens a scheduler and
starts its tasks under scheduling contexts.
"""

from rtos.scheduler.analysis.online import admit_now, verdict_now
from rtos.scheduler.budgets.bandwidth_server import BandwidthServer, Budget, BudgetStatistics, Exhausted
from rtos.scheduler.calls.call import CallStatistics
from rtos.scheduler.calls.inspect import CallState, PortState, inspect
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.attribution import MissReport, Part, Share
from rtos.scheduler.diagnosis.busy_poll import PollingReport
from rtos.scheduler.diagnosis.watchdog import Alarm, Cause, LateWakeUp, LongStep
from rtos.scheduler.mailbox.channels import MailboxReceiveChannel, MailboxSendChannel, open_mailbox
from rtos.scheduler.mailbox.dead_letters import Poison
from rtos.scheduler.mailbox.envelope import ChannelStatistics, DropReason
from rtos.scheduler.periodic_jobs.periodic import MinMeanMax, Periodic, PeriodicStatistics, Release, periodic
from rtos.scheduler.periodic_jobs.release_times import Overrun
from rtos.scheduler.policy.context import SchedulingContext, current_context, current_deadline, current_level
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, LEVELS
from rtos.scheduler.policy.overload import MailboxStatistics, OverloadPolicy
from rtos.scheduler.policy.timer_heap import Timer
from rtos.scheduler.scheduler import Scheduler, open_scheduler
from rtos.scheduler.statistics import ContextStatistics, SchedulerStatistics
from rtos.scheduler.supervision.child import ChildSpec, ChildState, CrashReport
from rtos.scheduler.supervision.restart_policy import Backoff, PastIntensity, Restart, Strategy
from rtos.scheduler.supervision.supervisor import Supervisor, open_supervisor
from rtos.scheduler.supervision.task_group import TaskGroup, open_task_group
from rtos.scheduler.tracing.ring import Trace

__all__ = [
    "DEFAULT_LEVEL",
    "LEVELS",
    "Alarm",
    "Backoff",
    "BandwidthServer",
    "Budget",
    "BudgetStatistics",
    "CallState",
    "CallStatistics",
    "Cause",
    "ChannelStatistics",
    "ChildSpec",
    "ChildState",
    "ContextStatistics",
    "CrashReport",
    "DropReason",
    "Exhausted",
    "LateWakeUp",
    "LongStep",
    "MailboxReceiveChannel",
    "MailboxSendChannel",
    "MailboxStatistics",
    "MinMeanMax",
    "MissReport",
    "OverloadPolicy",
    "Overrun",
    "Part",
    "PastIntensity",
    "Periodic",
    "PeriodicStatistics",
    "Poison",
    "PollingReport",
    "Port",
    "PortState",
    "Release",
    "Restart",
    "Scheduler",
    "SchedulerStatistics",
    "SchedulingContext",
    "Share",
    "Strategy",
    "Supervisor",
    "TaskGroup",
    "Timer",
    "Trace",
    "admit_now",
    "current_context",
    "current_deadline",
    "current_level",
    "inspect",
    "open_mailbox",
    "open_scheduler",
    "open_supervisor",
    "open_task_group",
    "periodic",
    "verdict_now",
]
