"""Statistics: snapshots of a scheduler's counters and of the CPU account of each context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from rtos.scheduler.policy.context import SchedulingContext


@attrs.frozen
class SchedulerStatistics:
    """Counters since the first scheduler of this loop was opened.

    Attributes:
      passes: passes of Trio's loop that ran at least one step; steps if ``ordered`` is false.
      donated: steps of workers that ran inside the step of a caller, without a pass of their own.
      sleeps: how often the loop went to sleep; an idle system adds none.
      ready: tasks that are released and wait to run.
      timers: timers that have not fired, of all schedulers of the loop.
      misses: calls to ports of this scheduler that were not answered by their deadline.
      unexplained: misses without a report, because there were too many at once.
      contexts: the account of each context of this scheduler that is in use, of Trio's system
        tasks (``system``) and of tasks without a context (``host``), most urgent first.
    """

    passes: int
    donated: int
    sleeps: int
    ready: int
    timers: int
    misses: int
    unexplained: int
    contexts: tuple[ContextStatistics, ...]


@attrs.frozen
class ContextStatistics:
    """The account of one scheduling context; times in seconds.

    Attributes:
      name: its name; need not be unique.
      level: its effective level, priority inheritance included.
      steps: steps that its tasks have run.
      cpu: time that these steps took.
      longest_step: the longest of them.
      billed: time that other contexts spent to serve its calls.
    """

    name: str
    level: int
    steps: int
    cpu: float
    longest_step: float
    billed: float


def account_of(context: SchedulingContext) -> ContextStatistics:
    """The account of ``context`` up to now."""
    return ContextStatistics(
        name=context.name,
        level=context.level,
        steps=context.steps,
        cpu=context.cpu_ns / 1e9,
        longest_step=context.longest_ns / 1e9,
        billed=context.billed_ns / 1e9,
    )
