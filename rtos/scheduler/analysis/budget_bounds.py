"""Budgets in the analysis: what a task under a budget can cost others, however it behaves.

Of a budget of Q in every P only Q, P and the longest step L are used, never what its
task declared to need. All that is taken from the processor in a *busy window* of
another job, a time of length w before which nothing waits that goes before it, is at
most ``Q + floor(Q w / P) + L - 1``. Derivation, with the names of ``policy/bandwidth_server.py``:

* Let c = d - P, when the present grant began. Whatever grants an amount g, a refill or
  a wake-up, moves c forward to some c' with ``g <= Q (c' - c) / P`` and not beyond now.
  A refill of n periods grants at most n Q and moves c by n P. A wake-up that keeps the
  deadline grants nothing. One that does not grants Q - q: with d >= now and q P > Q (d -
  now) that is less than Q (now - c) / P; with d < now it is at most Q, for more than P.
* Where the window begins, at time 0, the budget is idle, or is exhausted and waits
  for d >= 0: were it neither, it would be waiting, and the window would have begun
  before. Exhausted it has q <= 0 and c >= -P. Idle it wakes later, at a, with a full
  budget and c = a, or keeps q <= Q (d - a) / P and c = d - P. In each case q together
  with all grants up to a time e is at most Q (e + P) / P.
* A step begins only with q >= 1, and a last step takes at most L: so what was taken is
  at most Q + Q w / P - 1 + L, in whole units the above.

For the machinery that is a job of cost Q, separation P and release jitter P, since ``Q
(ceil(w / P) + 1)`` is not less, and one single job of cost L. What is before the
processor by a deadline in the same level follows with ``d = c + P`` in place of e.

It has to be a busy window. In any window whatever more can be used: a task that was
kept waiting across its own deadline has what it had, and is granted Q at once when
that is used up, and Q again when the next deadline comes.

Of DEMOTE: beyond its budget the task runs without end, after everything that has a
deadline at the level it falls to. Up to that level it costs one step of blocking, and
below there is no bound.

Sources: Abeni & Buttazzo 1998 for the server; jitter as the form of a deferred
execution: Tindell, Burns, Wellings 1994.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.analysis.effort import limited
from rtos.scheduler.analysis.model import EPSILON, ONCE, Job
from rtos.scheduler.analysis.response_time import non_preemptive, response

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@attrs.frozen(kw_only=True)
class Limit:
    """A budget, and what hides behind it. Times are integers of the set's unit.

    Attributes:
      name: of the task; unique in its set, jobs included.
      level: its own.
      granted, period: of the budget.
      longest_step: the longest step of anything that runs under it.
      falls_to: the level that it is demoted to; ``None`` where it is throttled.
    """

    name: str
    level: int
    granted: int
    period: int
    longest_step: int
    falls_to: int | None = None

    def __attrs_post_init__(self) -> None:
        if not (0 < self.granted <= self.period and self.longest_step > 0):
            msg = (
                f"limit {self.name!r}: {self.granted} in {self.period} with steps of {self.longest_step};"
                " use 0 < granted <= period, and steps above 0"
            )
            raise ValueError(msg)
        if self.falls_to is not None and self.falls_to <= self.level:
            msg = f"limit {self.name!r}: level {self.falls_to} is no demotion from {self.level}"
            raise ValueError(msg)


@limited
def response_beside(job: Job, jobs: Sequence[Job], limits: Sequence[Limit]) -> int | None:
    """The bound for a job without a budget beside tasks with one, however these behave.

    Args:
      job: one of ``jobs``.
      jobs: what has no budget.
      limits: the budgets.

    Returns:
      The worst response, ``None`` if there is no bound.
    """
    if _is_below_a_fall(job, limits):
        return None
    return response(job, [*jobs, *_interference(job, limits)])


@limited
def response_within(job: Job, limit: Limit, jobs: Sequence[Job], limits: Sequence[Limit]) -> int | None:
    """The bound for a job that its own budget never holds back.

    Each run finds a full budget, and needs no more, if the budget grants its cost; if
    the grant before, which began at most a jitter and one step after that release, is
    over when the next can come; and if a run has ended by then. Its own deadline does
    not count under a budget: everything else of its level is taken to go first.

    Args:
      job: what runs under ``limit``, alone and at its level.
      limit: its budget.
      jobs: what has no budget.
      limits: the budgets, with or without ``limit``.

    Returns:
      The worst response, ``None`` if there is no bound or the budget does not suffice.
    """
    others = [other for other in limits if other.name != limit.name]
    if job.cost > limit.granted or _is_below_a_fall(job, others):
        return None
    steps = [*(one.longest_step for one in (job, *jobs)), *(other.longest_step for other in others)]
    late = max(steps) - EPSILON
    if limit.period + job.jitter + late > job.period:
        return None
    last = attrs.evolve(job, level=2 * job.level + 1)
    rest = [attrs.evolve(other, level=2 * other.level) for other in (*jobs, *_interference(job, others))]
    worst = non_preemptive(last, [last, *rest])
    return worst if worst is not None and worst <= job.period else None


def _is_below_a_fall(job: Job, limits: Sequence[Limit]) -> bool:
    return any(limit.falls_to is not None and limit.falls_to < job.level for limit in limits)


def _interference(job: Job, limits: Sequence[Limit]) -> Iterator[Job]:
    """The jobs that do to ``job`` whatever the budgets let happen."""
    for limit in limits:
        yield Job(
            name=limit.name,
            level=limit.level,
            cost=limit.granted,
            period=limit.period,
            jitter=limit.period,
            longest_step=min(limit.longest_step, limit.granted),
        )
        yield _once(limit, "overdrawn", limit.level, limit.period)
        if limit.falls_to is not None and limit.falls_to >= job.level >= limit.level:
            yield _once(limit, "demoted", job.level + 1, 0)


def _once(limit: Limit, what: str, level: int, jitter: int) -> Job:
    return Job(
        name=f"{limit.name}, {what}",
        level=level,
        cost=limit.longest_step,
        period=ONCE,
        jitter=jitter,
        deadline=limit.period,
    )
