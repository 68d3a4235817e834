"""Response-time bounds with a reserve: what lending to less urgent levels can cost a job.

The kernel lends a share s of the time to less urgent levels that starve. With
r = s / (1 - s), and u and v the time of unlent and lent steps in a busy window of a job of
level i, the rules of ``budgets/starvation_guard.py`` give ``v <= r (u + E) + 2 L``. E is
the longest step of all, and L the longest step that can be lent or can block:

* While the loop stays saturated, each lent step of length x except the last is paid for
  by x / r of unlent time, minus the credit before the first, which is at most one step.
* The debt is forgotten when saturation ends: when a step of the *floor* level, or of a
  less urgent one, runs unlent. In the window, the floor must not be below level i for
  that. If it was lowered before the window, that can happen once: one last lent step is
  not paid for, and the next saturation has a last step too, hence 2 L. These include a
  step that was running when the window began: lent, it is one of them; unlent and less
  urgent than the floor, it ends the saturation at once.
* Or something of level i or above has starved *in* the window, for ``1 - s`` of a second,
  and is lent to. That can happen ``floor(window / (1 - s) s)`` times for each context; the
  analysis assumes one context per job, as for a daemon. Each time costs L once more.

So costs are multiplied by 1 + r, and ``2 L + r E``, minus the blocking, which it includes,
is added once.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Final

import attrs

from rtos.scheduler.analysis.effort import limited, spend
from rtos.scheduler.analysis.model import EPSILON, ONCE, Job
from rtos.scheduler.analysis.response_time import busy_window, response, utilisation

if TYPE_CHECKING:
    from collections.abc import Sequence

SLOWING_STEPS: Final = 20
"""Raising the cost of one job takes about as long as so many steps of the analysis."""

SECOND: Final = 1_000_000_000
"""How many units of time a second has, for sets in nanoseconds."""


@limited
def response_reserved(
    job: Job, jobs: Sequence[Job], *, reserve: float, blocking: int | None = None, second: int = SECOND
) -> int | None:
    """The bound for this kernel with a reserve.

    Args:
      job: one of ``jobs``.
      jobs: the set.
      reserve: the share of the CPU that is kept for less urgent levels, 0 <= reserve < 1;
        with 0 the bound is ``response``.
      blocking: assumed instead of the longest less urgent step.
      second: units of time in a second.

    Returns:
      The worst response, ``None`` if there is no bound.

    Raises:
      TooComplex: the limit of the work was reached.
      ValueError: ``reserve`` is out of its range.
    """
    if not 0 <= reserve < 1:
        msg = f"reserve is {reserve!r}; use 0 for none, or a share less than 1"
        raise ValueError(msg)
    if not reserve or not (blocking or _borrowers(job, jobs)):
        return response(job, jobs, blocking=blocking)
    spend(SLOWING_STEPS * len(jobs))
    share = Fraction(reserve)
    below = max((other.longest_step - EPSILON for other in jobs if other.level > job.level), default=0)
    blocked = below if blocking is None else blocking
    lent = max([blocked + EPSILON, *(other.longest_step for other in _borrowers(job, jobs))])
    ahead = max(other.longest_step for other in jobs)
    once = 2 * lent - blocked + _up(share / (1 - share) * ahead)
    shifted = {other.name: _slowed(other, share) for other in jobs}
    mine, rest = shifted[job.name], list(shifted.values())
    forgotten = _forgotten(mine, rest, share, once + blocked, lent, second)
    if forgotten is None:
        return None
    extra = Job(name="", level=0, cost=once + forgotten, period=ONCE)
    return response(mine, [extra, *rest], blocking=blocked)


def _borrowers(job: Job, jobs: Sequence[Job]) -> list[Job]:
    """The jobs that may go before ``job`` only because time is lent to them.

    The kernel lends only to levels less urgent than the step that would run. So lending
    to the job's own level, which can put later deadlines and later runs first, needs
    something more urgent in the set.
    """
    from_level = job.level + (not any(other.level < job.level for other in jobs))
    return [other for other in jobs if other.level >= from_level]


def _slowed(job: Job, share: Fraction) -> Job:
    # One level further down, which leaves level 0 for the work that goes before all jobs.
    return attrs.evolve(job, level=job.level + 1, cost=_up(job.cost / (1 - share)))


def _forgotten(
    job: Job, jobs: Sequence[Job], share: Fraction, once: int, lent: int, second: int
) -> int | None:
    """The time that is lent, and never paid for, to contexts that starve in the busy window."""
    patience = max(int((1 - share) * second), 1)
    ahead = [other for other in jobs if other.level <= job.level]
    each = len(ahead) * lent

    def unpaid(window: int) -> int:
        return window // patience * each

    # The demand is at least once + load * time - each, so beyond this time it stays above the time.
    load = utilisation(ahead) + Fraction(each, patience)
    never = max(Fraction(each - once) / (load - 1), Fraction(0)) if load > 1 else None
    window = busy_window(ahead, lambda time: once + unpaid(time), until=never)
    return None if window is None else unpaid(window)


def _up(amount: Fraction) -> int:
    return -(-amount.numerator // amount.denominator)
