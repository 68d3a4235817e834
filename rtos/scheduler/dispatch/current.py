"""The scheduling context of the running task, as its own loop sees it.

A thread inherits the context variables of the task that started it (``trio.to_thread``),
so a second Trio loop in that thread finds a context there that belongs to the first
loop. Its tasks would be queued in the first loop and run in the wrong thread. Therefore
a context belongs to one loop: in any other loop it counts as the host's context.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import trio

from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.policy.levels import DEFAULT_LEVEL

if TYPE_CHECKING:
    from rtos.scheduler.dispatch.accounting import Accounts

accounts_variable: Final[trio.lowlevel.RunVar[Accounts | None]] = trio.lowlevel.RunVar("rtos_accounts", None)
"""The accounts of the running loop, while a scheduler is open in it."""


def current_context() -> SchedulingContext | None:
    """The scheduling context of the running task, or ``None`` for a task of the host.

    In a thread without a Trio loop: the context of the task that started the thread.
    """
    context = context_variable.get(None)
    if context is None:
        return None
    try:
        accounts = accounts_variable.get()
    except RuntimeError:
        # No loop runs in this thread.
        return context
    if context.owner is accounts or (accounts is not None and accounts.owns(context)):
        return context
    return None


def context_of(task: trio.lowlevel.Task) -> SchedulingContext | None:
    """The context that orders a task of the running loop; ``None`` if no scheduler is open in it."""
    accounts = accounts_variable.get()
    return None if accounts is None else accounts.context_of(task)


def current_level() -> int:
    """The effective level of the running task; ``DEFAULT_LEVEL`` for a task of the host."""
    context = current_context()
    return DEFAULT_LEVEL if context is None else context.level


def current_deadline() -> float:
    """The absolute deadline (Trio time) of the running job, ``math.inf`` if it has none."""
    context = current_context()
    return math.inf if context is None else context.job_deadline
