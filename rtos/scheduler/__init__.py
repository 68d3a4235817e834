"""Priorities, deadlines, supervision and CPU accounting for Trio programs.

The public names are imported when they are first used, so a program that only opens
a scheduler does not load mailboxes, ports, supervisors or the analysis. Everything
else is imported from its module, for example ``rtos.scheduler.calls.inspect``.

``scheduler`` and ``kernel``: ``open_scheduler`` and the state of one Trio loop.
``statistics``: snapshots of the counters.
``policy``, ``dispatch``: levels, contexts, and the order in which tasks run.
``budgets``, ``tracing``, ``diagnosis``: CPU budgets, the trace, reports on misses.
``mailbox``, ``calls``, ``locks``: messages, calls and locks between tasks.
``periodic_jobs``, ``supervision``: periodic releases, and restarts of failed tasks.
``analysis``: checks before or at run time whether every deadline will be met.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rtos.scheduler.calls.call_statistics import CallStatistics
    from rtos.scheduler.calls.port import Port, open_port
    from rtos.scheduler.diagnosis.attribution import MissReport
    from rtos.scheduler.diagnosis.watchdog import Alarm
    from rtos.scheduler.dispatch.current import current_context
    from rtos.scheduler.locks import Condition, Lock, Semaphore
    from rtos.scheduler.mailbox.channels import MailboxReceiveChannel, MailboxSendChannel, open_mailbox
    from rtos.scheduler.mailbox.dead_letters import Poison
    from rtos.scheduler.mailbox.envelope import DropReason
    from rtos.scheduler.periodic_jobs.periodic import Periodic, Release, periodic
    from rtos.scheduler.periodic_jobs.release_times import Overrun
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, Exhausted
    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.policy.levels import DEFAULT_LEVEL
    from rtos.scheduler.policy.overload import OverloadPolicy
    from rtos.scheduler.scheduler import Scheduler, open_scheduler
    from rtos.scheduler.supervision.child import ChildSpec
    from rtos.scheduler.supervision.restart_policy import Backoff, PastIntensity, Restart, Strategy
    from rtos.scheduler.supervision.supervisor import Supervisor, open_supervisor

__all__ = [
    "DEFAULT_LEVEL",
    "Alarm",
    "Backoff",
    "BandwidthServer",
    "Budget",
    "CallStatistics",
    "ChildSpec",
    "Condition",
    "DropReason",
    "Exhausted",
    "Lock",
    "MailboxReceiveChannel",
    "MailboxSendChannel",
    "MissReport",
    "OverloadPolicy",
    "Overrun",
    "PastIntensity",
    "Periodic",
    "Poison",
    "Port",
    "Release",
    "Restart",
    "Scheduler",
    "SchedulingContext",
    "Semaphore",
    "Strategy",
    "Supervisor",
    "current_context",
    "open_mailbox",
    "open_port",
    "open_scheduler",
    "open_supervisor",
    "periodic",
]

_MODULES: Final = {
    "DEFAULT_LEVEL": "policy.levels",
    "Alarm": "diagnosis.watchdog",
    "Backoff": "supervision.restart_policy",
    "BandwidthServer": "policy.bandwidth_server",
    "Budget": "policy.bandwidth_server",
    "CallStatistics": "calls.call_statistics",
    "ChildSpec": "supervision.child",
    "Condition": "locks",
    "DropReason": "mailbox.envelope",
    "Exhausted": "policy.bandwidth_server",
    "Lock": "locks",
    "MailboxReceiveChannel": "mailbox.channels",
    "MailboxSendChannel": "mailbox.channels",
    "MissReport": "diagnosis.attribution",
    "OverloadPolicy": "policy.overload",
    "Overrun": "periodic_jobs.release_times",
    "PastIntensity": "supervision.restart_policy",
    "Periodic": "periodic_jobs.periodic",
    "Poison": "mailbox.dead_letters",
    "Port": "calls.port",
    "Release": "periodic_jobs.periodic",
    "Restart": "supervision.restart_policy",
    "Scheduler": "scheduler",
    "SchedulingContext": "policy.context",
    "Semaphore": "locks",
    "Strategy": "supervision.restart_policy",
    "Supervisor": "supervision.supervisor",
    "current_context": "dispatch.current",
    "open_mailbox": "mailbox.channels",
    "open_port": "calls.port",
    "open_scheduler": "scheduler",
    "open_supervisor": "supervision.supervisor",
    "periodic": "periodic_jobs.periodic",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
