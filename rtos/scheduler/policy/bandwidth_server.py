"""CPU budgets: a constant bandwidth server, and the specification of a budget.

Pure: time is passed in. Times and amounts are integers, in nanoseconds.

A constant bandwidth server (Abeni, Buttazzo: Integrating Multimedia Applications in
Hard Real-Time Systems, RTSS 1998) with hard refills and debt. It grants Q in every P
and has a deadline d, by which its contexts are ordered inside their level:

* It wakes up (after having no task to run): a new deadline now + P and the full budget
  if d < now or q / (d - now) > Q / P, otherwise it keeps both. So a grant of the past is
  never used later in one go.
* It runs: q falls by the time used. A step cannot be cut, so q may fall below zero.
* q <= 0: it is exhausted until d. Then q rises by Q and d by P, again and again while
  q <= 0: debt is paid back.

Isolation: among budgets of one level that throttle, each gets its Q in every P whatever
the others do, if for each i, over those k with periods no longer than i's,
sum Q_k/P_k + (sum o_k + b) / P_i <= 1. Here o_k is the most that k can overdraw, its
longest step less one unit, and b the longest step of all others. One longest step for
all of them together is not enough, since each may have overdrawn when it counts. Steps
of cancelled tasks are never throttled and come on top.

Bound: the time used between s and t is at most
Q * (ceil((t - s) / P) + 1) + the longest step. A sleeping budget is granted nothing, and
a budget that is never exhausted owes nothing: ``q <= Q``, and q <= 0 only while exhausted.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING

import attrs

from rtos.scheduler.policy.levels import LEVELS, check_level

if TYPE_CHECKING:
    from collections.abc import Callable


class Exhausted(enum.Enum):
    """What happens to the tasks of a context from the exhaustion of its budget to the refill."""

    DEMOTE = "demote"
    """They run at a less urgent level, on time that no other context wants and that is not charged.

    A more urgent caller still raises them; the time at its level is charged to the budget.
    """
    THROTTLE = "throttle"
    """They do not run, whichever task waits for them, until the refill.

    A cancelled task runs at once all the same, so that no cancellation is delayed by a
    budget. Its steps are charged, and the debt delays the refill. Inside a shielded scope
    it is not cancelled, and is throttled.
    """
    CANCEL = "cancel"
    """They run on, into debt; the budget's ``notify`` function cancels the tasks that should stop."""


@attrs.frozen
class Budget:
    """How much CPU time a context may use.

    Attributes:
      seconds: CPU time granted in every period.
      period: length of a period, in seconds; at least ``seconds``.
      on_exhausted: what happens when the budget is used up; ``DEMOTE`` by default.
      level: the level that DEMOTE moves to, 1 to 7; 7, the least urgent, by default.
      notify: called by the kernel soon after each exhaustion; must be synchronous and
        short. An exception that it raises is logged. Required for ``CANCEL``.

    Raises:
      ValueError: not 0 < seconds <= period < inf, ``level`` does not exist, or ``CANCEL``
        without ``notify``.
    """

    seconds: float
    period: float
    on_exhausted: Exhausted = Exhausted.DEMOTE
    level: int = LEVELS - 1
    notify: Callable[[], None] | None = None

    def __attrs_post_init__(self) -> None:
        if not (0 < self.seconds <= self.period < math.inf):
            msg = f"Budget: {self.seconds!r} s in {self.period!r} s is not a share; use 0 < seconds <= period"
            raise ValueError(msg)
        check_level("Budget", self.level)
        if self.on_exhausted is Exhausted.CANCEL and self.notify is None:
            msg = "Budget: CANCEL cancels nothing by itself; pass notify=, such as a scope's cancel method"
            raise ValueError(msg)


@attrs.frozen
class BudgetStatistics:
    """A snapshot of a budget; times in seconds.

    Attributes:
      remaining: CPU time left until the refill; debt if below zero.
      exhausted: whether it is used up now.
      exhaustions: how often it has been used up.
      refills: how many periods have been granted.
      used: CPU time charged to it altogether.
    """

    remaining: float
    exhausted: bool
    exhaustions: int
    refills: int
    used: float


class BandwidthServer:
    """The state of one budget, which several contexts may share.

    Attributes:
      granted: Q, nanoseconds.
      period: P, nanoseconds.
      remaining: the rest of the grant, q, nanoseconds.
      deadline_ns: the deadline, d, nanoseconds.
      deadline: d in seconds, for the order inside a level.
      is_exhausted: whether it waits for a refill.
      is_active: whether one of its contexts has a task to run; set by the kernel.
      penalty: the level that its contexts are demoted to, 0 if they are not.
    """

    __slots__ = (
        "__weakref__",
        "budget",
        "deadline",
        "deadline_ns",
        "exhaustions",
        "granted",
        "is_active",
        "is_exhausted",
        "penalty",
        "period",
        "refills",
        "remaining",
        "used",
    )

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self.granted = max(round(budget.seconds * 1e9), 1)
        self.period = max(round(budget.period * 1e9), self.granted)
        self.remaining = self.granted
        # Long ago, so that the first wake-up starts the first period.
        self.deadline_ns = -1
        self.deadline = 0.0
        self.is_exhausted = False
        self.is_active = False
        self.penalty = 0
        self.exhaustions = 0
        self.refills = 0
        self.used = 0

    def __repr__(self) -> str:
        budget = self.budget
        return f"<BandwidthServer of {budget.seconds!r} s in {budget.period!r} s, {self.remaining} ns left>"

    def wake(self, now: int) -> bool:
        """Account for a first task that becomes ready at ``now``.

        Returns:
          Whether it has a new deadline.
        """
        refilled = self.refill(now)
        if self.is_exhausted:
            return False
        left = self.deadline_ns - now
        if left >= 0 and self.remaining * self.period <= self.granted * left:
            return refilled
        self.remaining = self.granted
        self.refills += 1
        self._set_deadline(now + self.period)
        return True

    def charge(self, spent: int) -> bool:
        """Charge ``spent`` nanoseconds.

        Returns:
          Whether that has exhausted the budget.
        """
        self.used += spent
        self.remaining -= spent
        if self.remaining > 0 or self.is_exhausted:
            return False
        self.is_exhausted = True
        self.exhaustions += 1
        return True

    def refill(self, now: int) -> bool:
        """Grant the periods that have begun by ``now``, if the budget is exhausted.

        Returns:
          Whether it is no longer exhausted.
        """
        if not self.is_exhausted or now < self.deadline_ns:
            return False
        periods = (now - self.deadline_ns) // self.period + 1
        self.remaining = min(self.remaining + periods * self.granted, self.granted)
        self.refills += periods
        self._set_deadline(self.deadline_ns + periods * self.period)
        self.is_exhausted = self.remaining <= 0
        return not self.is_exhausted

    def refill_at(self) -> int:
        """When an exhausted budget will have paid its debt, in nanoseconds of Trio time."""
        periods = -self.remaining // self.granted + 1
        return self.deadline_ns + (periods - 1) * self.period

    def place(self, level: int) -> tuple[int, float]:
        """Level and deadline of a context with base level ``level`` under this budget.

        The deadline is the budget's and not the context's own: with deadlines nearer than
        the budget allows for, it could take time that was granted to others of its level.
        A demoted context has none, and comes last in its level.
        """
        return (max(level, self.penalty), math.inf) if self.penalty else (level, self.deadline)

    def statistics(self) -> BudgetStatistics:
        """A snapshot."""
        return BudgetStatistics(
            remaining=self.remaining / 1e9,
            exhausted=self.is_exhausted,
            exhaustions=self.exhaustions,
            refills=self.refills,
            used=self.used / 1e9,
        )

    def _set_deadline(self, deadline: int) -> None:
        self.deadline_ns = deadline
        self.deadline = deadline / 1e9
