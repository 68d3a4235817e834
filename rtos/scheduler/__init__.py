"""The kernel: priorities, deadlines, supervision and accounts on a Trio loop.

Stands alone: a Trio program that only wants priorities opens a scheduler and
starts its tasks under scheduling contexts.
"""

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
from rtos.scheduler.order import MailboxStatistics, OverloadPolicy
from rtos.scheduler.port import Kind, Port
from rtos.scheduler.restart import Backoff, Restart, Strategy
from rtos.scheduler.supervisor import ChildSpec, ChildState, CrashReport, Supervisor, open_supervisor
from rtos.scheduler.timers import Timer

__all__ = [
    "DEFAULT_LEVEL",
    "LEVELS",
    "Backoff",
    "ChildSpec",
    "ChildState",
    "ContextStatistics",
    "CrashReport",
    "Kind",
    "MailboxStatistics",
    "OverloadPolicy",
    "Port",
    "Restart",
    "Scheduler",
    "SchedulerStatistics",
    "SchedulingContext",
    "Strategy",
    "Supervisor",
    "Timer",
    "current_context",
    "current_deadline",
    "current_level",
    "open_scheduler",
    "open_supervisor",
]
