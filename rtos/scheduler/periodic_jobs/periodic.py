"""Periodic jobs: an ``async for`` loop over releases on an absolute time grid, with statistics.

Waits for the next release, and measures the job that ran at the last one. Which instant
is next is decided in ``release_times.py``.

Invariants: one wake-up per release, by a kernel timer for that instant, and none in
between. Each instant since the first is either released or skipped, exactly once.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import attrs
import outcome
import trio
from trio.lowlevel import Abort

from rtos.errors import SchedulerClosed
from rtos.scheduler.dispatch.current import current_context
from rtos.scheduler.periodic_jobs.release_times import Grid, Instant, Overrun
from rtos.scheduler.policy.histogram import Histogram

if TYPE_CHECKING:
    from trio.lowlevel import RaiseCancelT

    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.scheduler import Scheduler


@attrs.frozen
class Release:
    """One release of a periodic job.

    Attributes:
      index: number of the instant in the grid, from 0 at its start.
      due: when the job should have started; absolute Trio time.
      late: how long after ``due`` the job started, seconds.
      deadline: when the job must have ended; absolute Trio time.
      skipped: how many releases were skipped just before this one.
    """

    index: int
    due: float
    late: float
    deadline: float
    skipped: int


@attrs.frozen
class MinMeanMax:
    """Least, mean and greatest measured value, in seconds; all 0 if nothing was measured."""

    least: float
    mean: float
    most: float


@attrs.frozen
class PeriodicStatistics:
    """Statistics of one periodic job.

    Attributes:
      released: jobs that started.
      done: jobs that ended.
      missed: jobs that ended after their deadline.
      skipped: releases that were skipped.
      late: jobs that started later than the allowed jitter after their release.
      stopped: whether an overrun has ended the loop.
      wall: time from a job's start until it asked for the next release.
      cpu: CPU time of its scheduling context in that time.
      jitter: how late jobs started, nanoseconds.
    """

    released: int
    done: int
    missed: int
    skipped: int
    late: int
    stopped: bool
    wall: MinMeanMax
    cpu: MinMeanMax
    jitter: Histogram


class Periodic:
    """The releases of one periodic job, for ``async for``. Made by ``periodic``.

    A job ends when it asks for the next release. The last job of a loop that ends with
    ``break`` is not counted as done.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        grid: Grid,
        *,
        deadline: float,
        jitter: float,
        context: SchedulingContext | None,
    ) -> None:
        self._scheduler = scheduler
        self._grid = grid
        self._deadline = deadline
        self._jitter_allowed = jitter
        self._context = context
        # The instant that the loop waits for. A cancelled wait keeps it.
        self._pending: Instant | None = None
        self._running: Release | None = None
        self._began = 0.0
        self._began_cpu = 0
        self._begun = self._stopped = False
        self._waiting: trio.lowlevel.Task | None = None
        scheduler.on_close(self)
        self._released = self._missed = self._skipped = self._late = 0
        self._wall = Histogram()
        self._cpu = Histogram()
        self._jitter = Histogram()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Release:
        """End the running job, and wait for the next release.

        Raises:
          SchedulerClosed: the scheduler is closed, or closes during the wait.
          StopAsyncIteration: an overrun has stopped the job.
          ValueError: another Trio loop is running than the scheduler's.

        Always a checkpoint. A cancelled wait ends the job and releases nothing; the next
        call waits for the same release, or skips it if it has passed.
        """
        self._finish()
        self._scheduler.check_open("periodic")
        self._scheduler.check_loop("periodic")
        instant = self._next()
        if instant is None:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        # The deadline must hold from the release on, before the job has started.
        if self._context is not None:
            self._context.rebase(self._context.base_level, instant.due + self._deadline)
        if instant.due <= self._scheduler.now():
            await trio.lowlevel.checkpoint()
        else:
            await self._wait(instant.due)
        return self._begin(instant)

    def statistics(self) -> PeriodicStatistics:
        """A snapshot, except for the jitter: its histogram keeps counting."""
        return PeriodicStatistics(
            released=self._released,
            done=self._wall.count,
            missed=self._missed,
            skipped=self._skipped,
            late=self._late,
            stopped=self._stopped,
            wall=_in_seconds(self._wall),
            cpu=_in_seconds(self._cpu),
            jitter=self._jitter,
        )

    def _next(self) -> Instant | None:
        now = self._scheduler.now()
        if not self._begun:
            self._begun = True
            self._pending = self._grid.begin(now)
        elif not self._stopped:
            if self._pending is not None:
                self._grid.put_back(self._pending)
            self._pending = self._grid.following(now)
            if self._pending is None:
                self._stopped = True
            else:
                self._skipped += self._pending.skipped
        return self._pending

    async def _wait(self, due: float) -> None:
        timer = self._scheduler.add_timer(due, self._wake)

        def abort(_: RaiseCancelT) -> Abort:
            timer.cancel()
            self._waiting = None
            return Abort.SUCCEEDED

        self._waiting = trio.lowlevel.current_task()
        await trio.lowlevel.wait_task_rescheduled(abort)

    def _wake(self) -> None:
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting)
            self._waiting = None

    def scheduler_closed(self) -> None:
        """End the wait for the next release with ``SchedulerClosed``; called by the scheduler."""
        if self._waiting is not None:
            trio.lowlevel.reschedule(self._waiting, outcome.Error(SchedulerClosed("periodic")))
            self._waiting = None

    def _begin(self, instant: Instant) -> Release:
        now = self._scheduler.now()
        late = max(now - instant.due, 0.0)
        release = Release(instant.index, instant.due, late, instant.due + self._deadline, instant.skipped)
        self._pending = None
        self._released += 1
        self._late += late > self._jitter_allowed
        self._jitter.record(int(late * 1e9))
        self._running, self._began, self._began_cpu = release, now, self._cpu_ns()
        self._account().jobs += 1
        return release

    def _finish(self) -> None:
        release, self._running = self._running, None
        if release is None:
            return
        now = self._scheduler.now()
        self._missed += now > release.deadline
        self._wall.record(int((now - self._began) * 1e9))
        self._cpu.record(self._cpu_ns() - self._began_cpu)

    def _cpu_ns(self) -> int:
        return self._scheduler.cpu_ns(self._account())

    def _account(self) -> SchedulingContext:
        return self._context or current_context() or self._scheduler.host


def periodic(
    scheduler: Scheduler,
    period: float,
    *,
    offset: float = 0.0,
    start: float | None = None,
    overrun: Overrun = Overrun.SKIP,
    catch_up: int = 1,
    deadline: float | None = None,
    jitter: float = math.inf,
    context: SchedulingContext | None = None,
) -> Periodic:
    """The releases at ``start + offset + k * period``, for ``async for``.

    Args:
      scheduler: the open scheduler of the running loop.
      period: seconds between two releases, at least 1e-6.
      offset: seconds from the start of the grid to its first instant.
      start: absolute Trio time of the start; now by default. Jobs with the same start keep
        their phases. If it has passed, the first release is the next instant of the grid.
      overrun: what happens to releases that have passed when a job ends.
      catch_up: with ``CATCH_UP``, how many late releases in a row are made up for at most.
      deadline: seconds from a release until its job must have ended; the period by default.
      jitter: how late a job may start, in seconds, before it counts as late.
      context: the scheduling context of the task that runs the loop, and of no other task:
        it gets the deadline of each release. Without it missed deadlines are only counted.

    Raises:
      SchedulerClosed: the scheduler is not open.
      ValueError: a number is NaN or out of its range, or the scheduler belongs to another
        Trio loop.

    Not a checkpoint; waiting for a release is one.
    """
    scheduler.check_open("periodic")
    scheduler.check_loop("periodic")
    if deadline is not None and not deadline > 0:
        msg = f"periodic: deadline is {deadline!r}; use seconds after the release, above 0"
        raise ValueError(msg)
    if not jitter >= 0:
        msg = f"periodic: jitter is {jitter!r}; use seconds, 0 or more"
        raise ValueError(msg)
    origin = (scheduler.now() if start is None else start) + offset
    grid = Grid(origin, period, overrun, catch_up=catch_up)
    return Periodic(
        scheduler, grid, deadline=period if deadline is None else deadline, jitter=jitter, context=context
    )


def _in_seconds(histogram: Histogram) -> MinMeanMax:
    return MinMeanMax(histogram.least / 1e9, histogram.mean / 1e9, histogram.most / 1e9)
