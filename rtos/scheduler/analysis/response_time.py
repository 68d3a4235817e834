"""Response-time analysis: the longest time from a job's arrival to its end.

``response`` is the bound for this kernel: levels, deadlines inside a level, and
steps that cannot be interrupted. ``preemptive`` and ``non_preemptive`` are the
textbook special cases.

Sources: Joseph & Pandya 1986 and Lehoczky 1990 (preemptive); George, Rivierre,
Spuri 1996 and Davis, Burns, Bril, Lukkien 2007 (non-preemptive, all releases of
the busy window, since the first is not always the worst); Bril et al. 2009 and
Yao, Buttazzo, Bertogna 2011 (steps); George & Spuri's deadline busy period, after
González Harbour & Palencia 2003 (deadlines inside a level).

Every fixed point here is searched from below and grows with each iteration. It
exists: whether the busy window has an end is decided first, from the utilisation.
Finding it may take long. Every loop counts its work (``effort.py``), and every
function that returns a bound raises ``TooComplex`` when the limit is used up.
"""

from __future__ import annotations

import heapq
import math
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Final

from rtos.scheduler.analysis.effort import ITERATION, limited, spend
from rtos.scheduler.analysis.model import EPSILON, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

MOST_RELEASES: Final = 10_000
"""Releases of a busy window that are looked at one by one. A line bounds the
releases after them: still a bound, no longer the smallest."""

FRACTION_STEPS: Final = 8
"""Adding one exact fraction takes about as long as so many steps."""


def utilisation(jobs: Collection[Job]) -> Fraction:
    """The share of the CPU that the jobs ask for; exact."""
    spend(FRACTION_STEPS * len(jobs))
    return sum((Fraction(job.cost, job.period) for job in jobs), Fraction(0))


@limited
def preemptive(job: Job, jobs: Sequence[Job], *, blocking: int = 0) -> int | None:
    """The bound if steps could be interrupted anywhere, for comparison.

    Args:
      job: one of ``jobs``.
      jobs: the set.
      blocking: how long something less urgent may hold the CPU.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other is not job and other.level <= job.level]
    if _never_ends((job, *above), blocking):
        return None
    worst = release = end = 0
    while True:
        own = blocking + (release + 1) * job.cost
        end = _fixed_point(partial(_end, own, above), max(own, end), len(above))
        worst = max(worst, end + job.jitter - release * job.period)
        release += 1
        if end + job.jitter <= release * job.period:
            return worst


@limited
def non_preemptive(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound for one job per level, with steps that cannot be interrupted.

    Args:
      job: one of ``jobs``.
      jobs: the set; no two at one level.
      blocking: assumed instead of the longest less urgent step.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other.level < job.level]
    blocking = _blocking(job, jobs, blocking)
    return _longest_wait(job, above, blocking, lambda release: release * job.period - job.jitter)


def _longest_wait(job: Job, above: Sequence[Job], blocking: int, arrival: Callable[[int], int]) -> int | None:
    """The longest time from ``arrival(release)`` to the end, over the releases of a busy window."""
    busy = busy_window((job, *above), lambda _: blocking)
    if busy is None:
        return None
    releases = -(-(busy + job.jitter) // job.period)
    later = _no_later(job, above, blocking)
    worst, start = 0, 0
    for release in range(releases):
        if release == MOST_RELEASES:
            # The line falls once a burst is over.
            return max(worst, later(max(release, -(-job.jitter // job.period))) - arrival(release))
        # From here on the line falls at least as fast as the waits can.
        if (
            release & (release - 1) == 0
            and arrival(release) > 0
            and later(release) - arrival(release) <= worst
        ):
            return worst
        before = blocking + release * job.cost + job.cost - job.last_step
        # No run starts sooner than the run before it has started and cost its time.
        start = _fixed_point(
            partial(_start, before, above), start + job.cost if release else before, len(above)
        )
        worst = max(worst, start + job.last_step - arrival(release))
    return worst


def _no_later(job: Job, above: Sequence[Job], blocking: int) -> Callable[[int], int]:
    """A line above the ends of all releases of a busy window.

    It counts one more release of each job in ``above`` than the exact share, as much as
    rounding up can add. Per release it grows by the cost over the share of the CPU that
    ``above`` leaves, so by at most a period.
    """
    spare = 1 - utilisation(above)
    once = blocking + sum(other.cost * (1 + Fraction(other.jitter, other.period)) for other in above)
    last = job.last_step
    return lambda release: last + math.floor((once + (release + 1) * job.cost - last) / spare)


@limited
def response(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound for this kernel: level, then absolute deadline, then arrival.

    Looks at every arrival of the job in its busy window at which something changes:
    where its deadline coincides with the deadline of another job of its level.

    Args:
      job: one of ``jobs``.
      jobs: the set.
      blocking: assumed instead of the longest less urgent step.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    if job.in_bursts:
        return in_bursts(job, jobs, blocking=blocking)
    above = [other for other in jobs if other.level < job.level]
    same = [other for other in jobs if other.level == job.level and other is not job]
    if not same:
        return non_preemptive(job, jobs, blocking=blocking)
    below = _blocking(job, jobs, blocking)
    everybody = (job, *above, *same)
    longest = max(below, _longest(same))
    window = busy_window(everybody, lambda _: longest)
    if window is None:
        return None
    worst, began, blocked = 0, 0, -1
    for offset in _offsets(job, same, window):
        # In its own level only a job with a later deadline can block, with one step that it has begun.
        late = _longest(other for other in same if other.deadline > job.deadline + offset)
        if max(below, late) != blocked:
            blocked, began = max(below, late), 1
        # While the blocking stays the same, demand only grows with the offset, and so does its fixed point.
        began = _fixed_point(_demand_by(job, above, same, offset, blocked), began, len(everybody) + len(same))
        worst = max(worst, max(began - offset, EPSILON) + job.last_step - EPSILON)
    return worst


def busy_window(
    jobs: Collection[Job], besides: Callable[[int], int], *, until: Fraction | None = None
) -> int | None:
    """The longest time for which the jobs, and ``besides(time)`` within it, can keep the CPU busy.

    Args:
      jobs: the set.
      besides: what else takes time, by the length of the window; never falls.
      until: a window that does not end by then has no end.

    Returns:
      ``None`` if there is no end.
    """
    at_once = besides(0)
    if _never_ends(jobs, at_once):
        return None
    spare = 1 - utilisation(jobs)
    # The window cannot end before the work that was there at its beginning is done.
    once = at_once + sum(Fraction(job.cost * job.jitter, job.period) for job in jobs)
    time = max(1, math.floor(once / spare)) if spare else 1
    while until is None or time <= until:
        spend(ITERATION + len(jobs))
        further = besides(time) + _demand(jobs, time)
        if further == time:
            return time
        time = further
    return None


@limited
def in_bursts(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound from release to end where arrivals come in bursts, whatever the order in a level.

    Release q of the busy window comes no sooner than ``q * period - jitter`` after its
    beginning. All other jobs of the same level are assumed to go first.

    Source: Richter 2005, compositional performance analysis, in the form above.

    Args:
      job: one of ``jobs``.
      jobs: the set.
      blocking: assumed instead of the longest less urgent step.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other is not job and other.level <= job.level]
    blocking = _blocking(job, jobs, blocking)
    return _longest_wait(job, above, blocking, lambda release: max(0, release * job.period - job.jitter))


def _blocking(job: Job, jobs: Iterable[Job], given: int | None) -> int:
    """The longest step of a less urgent level than ``job``; ``given``, if there is one."""
    return _longest(other for other in jobs if other.level > job.level) if given is None else given


def _never_ends(jobs: Collection[Job], once: int) -> bool:
    """Whether a busy window has no end, given ``once`` of other work in it.

    With a utilisation of exactly 1 the jobs take all the time, so that any other work,
    and any job that a jitter adds, is never caught up with.
    """
    asked = utilisation(jobs)
    return asked > 1 or (asked == 1 and (once > 0 or any(job.jitter for job in jobs)))


def _demand_by(
    job: Job, above: Sequence[Job], same: Sequence[Job], offset: int, blocking: int
) -> Callable[[int], int]:
    """The work before the last step of a job that arrives ``offset`` after the window began.

    The arrival is before the window if the offset is negative.
    """
    own = ((offset + job.jitter) // job.period + 1) * job.cost
    before = blocking + own - (job.last_step - EPSILON)
    # Of each job of the level, how many releases have a deadline no later than this one's.
    earlier = [
        (other, count)
        for other in same
        if (count := -(-(offset + EPSILON + job.deadline - other.deadline + other.jitter) // other.period))
        > 0
    ]

    def demand(time: int) -> int:
        return (
            before
            + _demand(above, time)
            + sum(
                min(-(-(time + other.jitter) // other.period), count) * other.cost for other, count in earlier
            )
        )

    return demand


def _offsets(job: Job, same: Sequence[Job], window: int) -> Iterator[int]:
    """Arrivals at which one more job begins to count, ascending; in between nothing gets worse.

    With jitter the window may begin after the arrival: at the release.
    """
    grids: list[Iterable[int]] = [(-job.jitter,)]
    for other in (job, *same):
        first = other.deadline - job.deadline - other.jitter
        start = max(0, -(-(-job.jitter - first) // other.period))
        grids.append(range(first + start * other.period, window, other.period))
    latest = None
    for offset in heapq.merge(*grids):
        if offset != latest:
            yield offset
        latest = offset


def _longest(jobs: Iterable[Job]) -> int:
    """The longest time for which one of these jobs can block: a step that has just begun."""
    return max((job.longest_step - EPSILON for job in jobs), default=0)


def _end(own: int, above: Sequence[Job], time: int) -> int:
    """When ``own`` work ends that releases before ``time`` interrupt."""
    return own + _demand(above, time)


def _start(before: int, above: Sequence[Job], time: int) -> int:
    """When a last step starts that releases up to and at ``time`` go before."""
    return before + sum(((time + job.jitter) // job.period + 1) * job.cost for job in above)


def _demand(jobs: Iterable[Job], time: int) -> int:
    """The CPU time that releases before ``time`` ask for."""
    return sum(-(-(time + job.jitter) // job.period) * job.cost for job in jobs)


def _fixed_point(grow: Callable[[int], int], start: int, jobs: int) -> int:
    """The least fixed point at or above ``start``; each iteration looks at so many ``jobs``."""
    time = start
    while True:
        spend(ITERATION + jobs)
        further = grow(time)
        if further == time:
            return time
        time = further
