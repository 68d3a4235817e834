"""Worst response times: how long from arrival to the end, in the worst of all cases.

``response`` is the bound for this kernel: levels, deadlines inside a level, and
steps that cannot be interrupted. The two others are its textbook special cases.

Sources: Joseph & Pandya 1986 and Lehoczky 1990 (preemptive); George, Rivierre,
Spuri 1996 and Davis, Burns, Bril, Lukkien 2007 (non-preemptive, all releases of
the busy period, since the first is not always the worst); Bril et al. 2009 and
Yao, Buttazzo, Bertogna 2011 (steps); George & Spuri's deadline busy period, after
González Harbour & Palencia 2003 (deadlines inside a level).

Every fixed point here grows from one iteration to the next; with a utilisation
above 1 there may be none, which is decided beforehand, and at exactly 1 the
iteration is cut off.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from itertools import takewhile
from typing import TYPE_CHECKING, Final

from rtos.scheduler.analysis.model import EPSILON, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MAX_ITERATIONS: Final = 100_000
MOST_RELEASES: Final = 10_000
"""Of a longer busy window the rest is bounded by a line: still a bound, no longer the least."""


def utilisation(jobs: Iterable[Job]) -> Fraction:
    """Processor time that the jobs ask for, per time; exact."""
    return sum((Fraction(job.cost, job.period) for job in jobs), Fraction(0))


def preemptive(job: Job, jobs: Sequence[Job], *, blocking: int = 0) -> int | None:
    """The bound if steps could be interrupted anywhere, for comparison.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other is not job and other.level <= job.level]
    if utilisation((job, *above)) > 1:
        return None
    worst = 0
    for release in range(MAX_ITERATIONS):

        def demand(time: int, release: int = release) -> int:
            return blocking + (release + 1) * job.cost + _demand(above, time, up_to=True)

        end = _fixed_point(demand, blocking + (release + 1) * job.cost)
        if end is None:
            return None
        worst = max(worst, end + job.jitter - release * job.period)
        if end + job.jitter <= (release + 1) * job.period:
            return worst
    return None


def non_preemptive(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound for one job a level, with steps that cannot be interrupted.

    Args:
      job: one of ``jobs``.
      jobs: the set; no two at one level.
      blocking: what to assume of less urgent steps instead of their lengths.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other.level < job.level]
    if blocking is None:
        blocking = _longest(other for other in jobs if other.level > job.level)
    return _longest_wait(job, above, blocking, lambda release: release * job.period - job.jitter)


def _longest_wait(job: Job, above: Sequence[Job], blocking: int, came: Callable[[int], int]) -> int | None:
    """The longest time from ``came(release)`` to the end, over the releases of a busy window."""
    busy = busy_window((job, *above), lambda _: blocking)
    if busy is None:
        return None
    releases = -(-(busy + job.jitter) // job.period)
    later = _no_later(job, above, blocking)
    worst, start = 0, None
    for release in range(releases):
        if release == MOST_RELEASES:
            # The line falls once a burst is over.
            return max(worst, later(max(release, -(-job.jitter // job.period))) - came(release))
        # From here on the line falls as fast as the waits can, at least.
        if release & (release - 1) == 0 and came(release) > 0 and later(release) - came(release) <= worst:
            return worst
        before = blocking + release * job.cost + job.cost - job.last_step
        # No run starts sooner than its forerunner and its cost, so there the search goes on.
        start = _fixed_point(_start_of(before, above), before if start is None else start + job.cost)
        if start is None:
            return None
        worst = max(worst, start + job.last_step - came(release))
    return worst


def _no_later(job: Job, above: Sequence[Job], blocking: int) -> Callable[[int], int]:
    """A line above the end of every release of a busy window: rounding up is at most one more of each.

    It grows by the cost over what the others leave, so by no more than a period.
    """
    spare = 1 - utilisation(above)
    once = blocking + sum(other.cost * (1 + Fraction(other.jitter, other.period)) for other in above)
    last = job.last_step
    return lambda release: last + math.floor((once + (release + 1) * job.cost - last) / spare)


def _start_of(before: int, above: Sequence[Job]) -> Callable[[int], int]:
    return lambda time: before + _demand(above, time, up_to=False)


def response(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound for this kernel: level, then absolute deadline, then arrival.

    Looks at every arrival of the job in its busy window at which something
    changes: those where its deadline coincides with another's of its level.

    Args:
      job: one of ``jobs``.
      jobs: the set.
      blocking: what to assume of less urgent steps instead of their lengths.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    if job.in_bursts:
        return in_bursts(job, jobs, blocking=blocking)
    above = [other for other in jobs if other.level < job.level]
    same = [other for other in jobs if other.level == job.level and other is not job]
    if not same:
        return non_preemptive(job, jobs, blocking=blocking)
    below = _longest(other for other in jobs if other.level > job.level) if blocking is None else blocking
    everybody = (job, *above, *same)
    longest = max(below, _longest(same))
    window = busy_window(everybody, lambda _: longest)
    if window is None:
        return None
    worst = 0
    for offset in _offsets(job, same, window):
        # Of its own level only what has the later deadline can be in the way,
        # with the one step that it has begun.
        late = _longest(other for other in same if other.deadline > job.deadline + offset)
        found = _response_at(job, above, same, offset, max(below, late))
        if found is None:
            return None
        worst = max(worst, found)
    return worst


def busy_window(
    jobs: Sequence[Job], besides: Callable[[int], int], *, until: Fraction | None = None
) -> int | None:
    """The longest time for which the jobs, and ``besides(time)`` within it, can keep the processor busy.

    Args:
      jobs: the set.
      besides: what else takes time, by the length of the window.
      until: where it does not end by then, it never does.

    Returns:
      ``None`` if there is no end.
    """
    asked = utilisation(jobs)
    if asked > 1:
        return None
    # Before what was there at the beginning is done, the window cannot end.
    once = besides(0) + sum(Fraction(job.cost * job.jitter, job.period) for job in jobs)
    first = max(1, math.floor(once / (1 - asked))) if asked < 1 else 1
    return _fixed_point(lambda time: besides(time) + _demand(jobs, time, up_to=True), first, until)


def in_bursts(job: Job, jobs: Sequence[Job], *, blocking: int | None = None) -> int | None:
    """The bound from release to end where arrivals come in bursts, whatever the order in a level.

    The release number q of the busy window comes no sooner than ``q * period -
    jitter`` after its begin. Everything of the same level is taken to go first.

    Source: Richter 2005, compositional performance analysis, in the form above.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    above = [other for other in jobs if other is not job and other.level <= job.level]
    if blocking is None:
        blocking = _longest(other for other in jobs if other.level > job.level)
    return _longest_wait(job, above, blocking, lambda release: max(0, release * job.period - job.jitter))


def _response_at(
    job: Job, above: Sequence[Job], same: Sequence[Job], offset: int, blocking: int
) -> int | None:
    """The bound for an arrival ``offset`` after the busy window began; before it, if negative."""
    own = ((offset + job.jitter) // job.period + 1) * job.cost
    # Of each other, how many have their deadline not after this one's.
    most = [
        max(0, -(-(offset + EPSILON + job.deadline - other.deadline + other.jitter) // other.period))
        for other in same
    ]

    def demand(time: int) -> int:
        earlier = sum(
            min(-(-(time + other.jitter) // other.period), number) * other.cost
            for other, number in zip(same, most, strict=True)
        )
        return blocking + own - (job.last_step - EPSILON) + _demand(above, time, up_to=True) + earlier

    began = _fixed_point(demand, 1)
    if began is None:
        return None
    return max(began - offset, EPSILON) + job.last_step - EPSILON


def _offsets(job: Job, same: Sequence[Job], window: int) -> Iterator[int]:
    """Arrivals at which one more job begins to count; between two of them nothing gets worse.

    With jitter the window may begin after the arrival: at the release.
    """
    seen = {-job.jitter}
    for other in (job, *same):
        first = other.deadline - job.deadline - other.jitter
        start = max(0, -(-(-job.jitter - first) // other.period))
        times = (first + count * other.period for count in range(start, start + MAX_ITERATIONS))
        seen.update(takewhile(lambda time: time < window, times))
    return iter(sorted(seen))


def _longest(jobs: Iterable[Job]) -> int:
    """The most that steps of these can be in the way: one that has just begun."""
    return max((job.longest_step - EPSILON for job in jobs), default=0)


def _demand(jobs: Iterable[Job], time: int, *, up_to: bool) -> int:
    """Processor time that releases before ``time`` ask for, or those at it too."""
    if up_to:
        return sum(-(-(time + job.jitter) // job.period) * job.cost for job in jobs)
    return sum(((time + job.jitter) // job.period + 1) * job.cost for job in jobs)


class TooComplex(ValueError):
    """The numbers are such that the analysis would take too long."""


_effort: Final[ContextVar[list[int]]] = ContextVar("rtos_analysis_effort")


@contextmanager
def at_most(iterations: int) -> Iterator[None]:
    """Give an analysis up after so many iterations; without this each loop has a bound of its own only.

    Raises:
      TooComplex: they are used up.
    """
    token = _effort.set([iterations])
    try:
        yield
    finally:
        _effort.reset(token)


def _fixed_point(grow: Callable[[int], int], start: int, until: Fraction | None = None) -> int | None:
    time = start
    left = _effort.get([1 << 62])
    for _ in range(MAX_ITERATIONS):
        left[0] -= 1
        if left[0] < 0:
            raise TooComplex("the analysis takes too long; bring periods and costs nearer to each other")
        further = grow(time)
        if further == time:
            return time
        time = further
        if until is not None and time > until:
            return None
    return None
