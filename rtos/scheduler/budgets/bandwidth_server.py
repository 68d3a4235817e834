"""Budgets: so much CPU time in every period, and what happens beyond it.

Pure: time is handed in. Times and amounts are integers, nanoseconds.

A constant bandwidth server (Abeni, Buttazzo: Integrating Multimedia Applications in
Hard Real-Time Systems, RTSS 1998) with hard refills and debt. It grants Q in every P
and has a deadline d, by which its contexts are ordered inside their level:

* it wakes up (from having nothing to run): a new deadline now + P and the full
  budget if d < now or q / (d - now) > Q / P, else it keeps both; so what it was
  granted in the past is never used up later in one go;
* it runs: q falls by what was used. A step cannot be cut, so q may fall below zero;
* q <= 0: it is exhausted until d. There q rises by Q and d by P, again and again
  while q <= 0: debt is paid back.

Isolation: among budgets of one level that throttle, each gets its Q in every P
whatever the others do, if for each i, over those k with periods no longer than i's,
sum Q_k/P_k + (sum o_k + b) / P_i <= 1. Here o_k is the most that k can overdraw, its
longest step less one unit, and b the longest step of all others. One longest step
for all of them together is not enough, since each may have overdrawn when it counts.

Law: what was used in the time from s to t is at most
Q * (ceil((t - s) / P) + 1) + the longest step. What sleeps is granted nothing, and
what is never exhausted owes nothing: ``q <= Q``, and q <= 0 only while exhausted.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING
from weakref import ref

import attrs

from rtos.scheduler.policy.levels import LEVELS, check_level

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.policy.context import SchedulingContext


class Exhausted(enum.Enum):
    """What happens to a context that has used up its budget, until the refill."""

    DEMOTE = "demote"
    """It runs at a less urgent level, on time that nobody else wants; that costs it nothing.

    A caller that is more urgent still raises it, and is then charged to the budget.
    """
    THROTTLE = "throttle"
    """It does not run at all, whoever waits for it."""
    CANCEL = "cancel"
    """It runs on, into debt; ``told`` has to cancel what should stop."""


@attrs.frozen
class Budget:
    """How much CPU time a context may use.

    Attributes:
      seconds: granted in every period.
      period: seconds.
      on_exhausted: what happens beyond that.
      level: where DEMOTE puts it, 1 to 7; the least urgent level by default.
      told: called once each time the budget has been used up. Soon, from the
        kernel, synchronous and short; what it raises is logged.
    """

    seconds: float
    period: float
    on_exhausted: Exhausted = Exhausted.DEMOTE
    level: int = LEVELS - 1
    told: Callable[[], None] | None = None

    def __attrs_post_init__(self) -> None:
        if not (0 < self.seconds <= self.period < math.inf):
            msg = f"Budget: {self.seconds!r} s in {self.period!r} s is no share; use 0 < seconds <= period"
            raise ValueError(msg)
        check_level("Budget", self.level)
        if self.on_exhausted is Exhausted.CANCEL and self.told is None:
            msg = "Budget: CANCEL cancels nothing by itself; pass told=, the cancel of a scope for example"
            raise ValueError(msg)


@attrs.frozen
class BudgetStatistics:
    """The account of a budget; times in seconds.

    Attributes:
      remaining: what is left until the refill; below zero it is debt.
      exhausted: whether it is used up just now.
      exhaustions: how often it was.
      refills: periods that it was granted anew.
      used: what was charged to it altogether.
    """

    remaining: float
    exhausted: bool
    exhaustions: int
    refills: int
    used: float


class BandwidthServer:
    """The state of one budget. Contexts that share one are granted it together.

    Attributes:
      granted, period: Q and P.
      remaining: q.
      deadline_ns: d.
      deadline: d in seconds, for the order inside a level.
      is_exhausted: whether it waits for a refill.
      is_active: whether one of its contexts has something to run; the kernel's.
      penalty: the level that its contexts have fallen to, 0 if they have not.
      members: weak references to the contexts that share it.
    """

    __slots__ = (
        "budget",
        "deadline",
        "deadline_ns",
        "exhaustions",
        "granted",
        "is_active",
        "is_exhausted",
        "members",
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
        self.members: list[ref[SchedulingContext]] = []
        self.exhaustions = 0
        self.refills = 0
        self.used = 0

    def __repr__(self) -> str:
        budget = self.budget
        return f"<BandwidthServer of {budget.seconds!r} s in {budget.period!r} s, {self.remaining} ns left>"

    def add(self, context: SchedulingContext) -> None:
        """Put ``context`` under this budget, for as long as the context is in use."""
        # The context refers to its budget: with weak references there is no cycle to collect.
        self.members.append(ref(context, self.members.remove))

    def contexts(self) -> list[SchedulingContext]:
        """The contexts that share this budget, in the order in which they joined."""
        return [context for member in self.members if (context := member()) is not None]

    def wake(self, now: int) -> bool:
        """Something has become ready where nothing was.

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
        """Pay for ``spent``.

        Returns:
          Whether that has used up what was left.
        """
        self.used += spent
        self.remaining -= spent
        if self.remaining > 0 or self.is_exhausted:
            return False
        self.is_exhausted = True
        self.exhaustions += 1
        return True

    def refill(self, now: int) -> bool:
        """Grant what is due by ``now``.

        Returns:
          Whether it was exhausted and is not any more.
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
        """When an exhausted budget will have paid its debt."""
        periods = -self.remaining // self.granted + 1
        return self.deadline_ns + (periods - 1) * self.period

    def place(self, level: int) -> tuple[int, float]:
        """Level and deadline that a context with base level ``level`` has under it.

        The deadline is the budget's and not the context's own: with deadlines
        nearer than the budget allows for it could take time that was promised to
        others of its level. Demoted it has none, and comes last.
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
