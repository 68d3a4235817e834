"""Snapshots of what a scheduler has counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from rtos.scheduler.policy.context import SchedulingContext


@attrs.frozen
class SchedulerStatistics:
    """Counts since the first scheduler of this loop was opened.

    Attributes:
      passes: passes of Trio's loop that ran at least one step; in Trio's own order, steps.
      donated: steps of daemons that ran inside the step of a caller, with no pass of their own.
      sleeps: times the loop went to sleep; a system that is idle adds none.
      ready: tasks that are released and wait to run.
      timers: timers that have not fired.
      misses: calls to ports of this scheduler that were not answered by their deadline.
      unexplained: those of them for which there is no report, since there were too many.
      contexts: the account of each context that is alive, most urgent first.
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
    """The account of one scheduling context; times in seconds."""

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
