"""The kernel: priorities, deadlines, supervision and accounts on a Trio loop.

Stands alone: a Trio program that only wants priorities opens a scheduler and
starts its tasks under scheduling contexts.
"""

from rtos.scheduler.admission import admit_now, verdict_now
from rtos.scheduler.budget import Budget, BudgetStatistics, Exhausted, Reservation
from rtos.scheduler.calls import Kind
from rtos.scheduler.child import ChildSpec, ChildState, CrashReport
from rtos.scheduler.context import (
    DEFAULT_LEVEL,
    LEVELS,
    SchedulingContext,
    current_context,
    current_deadline,
    current_level,
)
from rtos.scheduler.core import (
    ContextStatistics,
    Scheduler,
    SchedulerStatistics,
    open_scheduler,
)
from rtos.scheduler.crowd import Crowd, open_crowd
from rtos.scheduler.envelope import ChannelStatistics, DropReason
from rtos.scheduler.explain import MissReport, Part, Share
from rtos.scheduler.grid import Overrun
from rtos.scheduler.inspection import CallState, PortState, inspect
from rtos.scheduler.mailbox import MailboxReceiveChannel, MailboxSendChannel, open_mailbox
from rtos.scheduler.order import MailboxStatistics, OverloadPolicy
from rtos.scheduler.periodic import Periodic, PeriodicStatistics, Release, Spread, periodic
from rtos.scheduler.polling import PollingReport
from rtos.scheduler.port import Port
from rtos.scheduler.quarantine import Poison
from rtos.scheduler.reaction import OnMiss, Reaction
from rtos.scheduler.restart import Backoff, PastIntensity, Restart, Strategy
from rtos.scheduler.supervisor import Supervisor, open_supervisor
from rtos.scheduler.timers import Timer
from rtos.scheduler.trace import Trace
from rtos.scheduler.watchdog import Alarm, Cause, LateWakeUp, LongStep

__all__ = [
    "DEFAULT_LEVEL",
    "LEVELS",
    "Alarm",
    "Backoff",
    "Budget",
    "BudgetStatistics",
    "CallState",
    "Cause",
    "ChannelStatistics",
    "ChildSpec",
    "ChildState",
    "ContextStatistics",
    "CrashReport",
    "Crowd",
    "DropReason",
    "Exhausted",
    "Kind",
    "LateWakeUp",
    "LongStep",
    "MailboxReceiveChannel",
    "MailboxSendChannel",
    "MailboxStatistics",
    "MissReport",
    "OnMiss",
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
    "Reaction",
    "Release",
    "Reservation",
    "Restart",
    "Scheduler",
    "SchedulerStatistics",
    "SchedulingContext",
    "Share",
    "Spread",
    "Strategy",
    "Supervisor",
    "Timer",
    "Trace",
    "admit_now",
    "current_context",
    "current_deadline",
    "current_level",
    "inspect",
    "open_crowd",
    "open_mailbox",
    "open_scheduler",
    "open_supervisor",
    "periodic",
    "verdict_now",
]
