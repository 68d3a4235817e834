"""Response-time bounds with CPU budgets: what a task under a budget can cost other jobs at most.

A budget grants Q in every P. The bounds use only Q, P and the longest step L of the task,
never the costs that it declares, so they hold however the task behaves. In a *busy
window* of another job, a time of length w before which no work waits that goes before
that job, the task takes at most ``Q + floor(Q w / P) + L - 1`` of CPU time. The
derivation, with the names of ``policy/bandwidth_server.py`` (q: remaining budget, d:
deadline):

* Let c = d - P be the time at which the current grant began. An operation that grants an
  amount g, a refill or a wake-up, moves c forward to some c' with ``g <= Q (c' - c) / P``,
  and not beyond now. A refill of n periods grants at most n Q and moves c by n P. A
  wake-up that keeps the deadline grants nothing. Any other wake-up grants Q - q: with
  d >= now and q P > Q (d - now) that is less than Q (now - c) / P; with d < now it is at
  most Q, for more than P.
* At the beginning of the window, time 0, the budget is either idle, or exhausted and
  waiting for d >= 0. Otherwise its task would be waiting, and the window would have
  begun before. If exhausted, it has q <= 0 and c >= -P. If idle, it wakes up later, at a,
  with a full budget and c = a, or it keeps q <= Q (d - a) / P and c = d - P. In each case
  q together with all grants up to a time e is at most Q (e + P) / P.
* A step begins only with q >= 1, and a last step takes at most L. So the task takes at
  most Q + Q w / P - 1 + L; in whole units, the formula above.

In the analysis that is a job of cost Q, period P and release jitter P, since ``Q
(ceil(w / P) + 1)`` is not less, and one single job of cost L. The work that is ahead by a
deadline in the same level follows with ``d = c + P`` in place of e.

The bound needs a busy window. In an arbitrary window the task can take more: if it was
kept waiting past its own deadline, it still has its budget, is granted Q at once when
that is used up, and Q again at its next deadline.

With DEMOTE a task that has used up its budget runs without limit, after all jobs with a
deadline at the level to which it is demoted. Down to that level it costs one step of
blocking; below it there is no bound.

Sources: Abeni & Buttazzo 1998 for the server; Tindell, Burns, Wellings 1994 for jitter as
the model of deferred execution.
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
    """A CPU budget in the analysis; times in the unit of the set.

    Attributes:
      name: name of the task; unique in its set, jobs included.
      level: level of the task.
      granted: CPU time that the budget grants per period.
      period: period of the budget.
      longest_step: the longest step of any task that runs under the budget.
      falls_to: the level to which the task is demoted; ``None`` if it is throttled instead.
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
                f"limit {self.name!r}: granted {self.granted}, period {self.period}, longest_step"
                f" {self.longest_step}; use 0 < granted <= period, and 0 < longest_step"
            )
            raise ValueError(msg)
        if self.falls_to is not None and self.falls_to <= self.level:
            msg = (
                f"limit {self.name!r}: falls_to is {self.falls_to}; use a less urgent level than {self.level}"
            )
            raise ValueError(msg)


@limited
def response_beside(job: Job, jobs: Sequence[Job], limits: Sequence[Limit]) -> int | None:
    """The bound for a job without a budget beside tasks with budgets, however these behave.

    Args:
      job: one of ``jobs``.
      jobs: the jobs without a budget.
      limits: the budgets.

    Returns:
      The worst response, ``None`` if there is no bound.

    Raises:
      TooComplex: the limit of the work was reached.
    """
    if _is_below_a_fall(job, limits):
        return None
    return response(job, [*jobs, *_interference(job, limits)])


@limited
def response_within(job: Job, limit: Limit, jobs: Sequence[Job], limits: Sequence[Limit]) -> int | None:
    """The bound for a job that its own budget never throttles.

    Each run finds a full budget, and needs no more, under three conditions: the budget
    grants the cost of a run; the previous grant, which began at most a jitter and one step
    after its release, is over when the next release can come; and the previous run has
    ended by then. The job's own deadline does not order it under a budget, so all other
    jobs of its level are assumed to go first.

    Args:
      job: the only job that runs under ``limit``, at its level.
      limit: the budget of the job.
      jobs: the jobs without a budget.
      limits: the budgets, with or without ``limit``.

    Returns:
      The worst response, ``None`` if there is no bound or the budget is not sufficient.

    Raises:
      TooComplex: the limit of the work was reached.
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
    """Jobs that delay ``job`` as much as the tasks under the budgets can."""
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
