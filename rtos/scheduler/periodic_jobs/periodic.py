"""Periodic jobs: released on an absolute grid, counted and timed.

Owns the wait for the next release and the account of the last one. Which instant is
next is the grid's business (``periodic_jobs/release_times.py``).

Law: one wake-up per release, by a kernel timer at the very instant, and none in
between. Each instant since the first is released or skipped, exactly once.
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
    """One release of a periodic job; times are absolute Trio times or seconds.

    Attributes:
      index: which instant of the grid, counted from its start.
      due: when it should have been released.
      late: how long after ``due`` the job got to run, seconds.
      deadline: when the job has to be done.
      skipped: releases that were left out just before this one.
    """

    index: int
    due: float
    late: float
    deadline: float
    skipped: int


@attrs.frozen
class MinMeanMax:
    """Least, mean and most of what was measured, in seconds; zeros while nothing was."""

    least: float
    mean: float
    most: float


@attrs.frozen
class PeriodicStatistics:
    """The account of one periodic job.

    Attributes:
      released: releases that got to run.
      done: those of them that have ended.
      missed: those that ended after their deadline.
      skipped: releases that were left out.
      late: releases that ran later than the jitter they are allowed.
      stopped: whether an overrun has ended it.
      wall: from the moment a job got to run until it asked for the next release.
      cpu: what its scheduling context used in that time.
      jitter: how late releases were, nanoseconds.
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

    A job is done when it asks for the next release; the last one of a loop that is
    left by ``break`` is never counted as done.
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
        # The one that is waited for; it stays when the wait is cancelled.
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

        Always a checkpoint. A cancellation ends the job, and releases nothing.
        """
        self._finish()
        self._scheduler.check_open("periodic")
        instant = self._next()
        if instant is None:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        # From the instant itself on, and not only once the job runs.
        if self._context is not None:
            self._context.rebase(self._context.base_level, instant.due + self._deadline)
        if instant.due <= self._scheduler.now():
            await trio.lowlevel.checkpoint()
        else:
            await self._wait(instant.due)
        return self._begin(instant)

    def statistics(self) -> PeriodicStatistics:
        """A snapshot; the histogram of the jitter goes on counting."""
        return PeriodicStatistics(
            released=self._released,
            done=self._wall.count,
            missed=self._missed,
            skipped=self._skipped,
            late=self._late,
            stopped=self._stopped,
            wall=_spread(self._wall),
            cpu=_spread(self._cpu),
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
    """Releases at ``start + offset + k * period``, for ``async for``.

    Args:
      scheduler: the open scheduler.
      period: seconds between two releases.
      offset: seconds from the start of the grid to its first instant.
      start: absolute Trio time of the start; now, by default. Jobs with one start
        keep their phases. Where it has passed, the first release is the next
        instant of the grid.
      overrun: what happens to releases that have passed when a job is done.
      catch_up: most releases in a row that CATCH_UP makes up for.
      deadline: seconds from a release until its job has to be done; by default
        the period.
      jitter: how late a release may be, in seconds, before it counts as late.
      context: the one that the loop runs under, and nobody else: it gets the
        deadline of each release. Without it deadlines are only counted.

    Raises:
      ValueError: the period or the deadline is not above 0, an instant is not
        finite, or ``catch_up`` is below 1.
      SchedulerClosed: the scheduler is not open.

    Not a checkpoint; waiting for a release is one.
    """
    scheduler.check_open("periodic")
    if deadline is not None and not deadline > 0:
        msg = f"periodic: deadline {deadline!r} has passed at the release; use seconds, above 0"
        raise ValueError(msg)
    origin = (scheduler.now() if start is None else start) + offset
    grid = Grid(origin, period, overrun, catch_up=catch_up)
    return Periodic(
        scheduler, grid, deadline=period if deadline is None else deadline, jitter=jitter, context=context
    )


def _spread(histogram: Histogram) -> MinMeanMax:
    return MinMeanMax(histogram.least / 1e9, histogram.mean / 1e9, histogram.most / 1e9)
