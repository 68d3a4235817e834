"""The starvation guard: lends a share of the time to less urgent levels while the loop is saturated.

Without it a daemon in an endless loop locks out everything less urgent, including the
operator's command that would stop it.

Pure: the time is passed in, in nanoseconds.

Rule: the loop is *saturated* once a context has waited for ``(1 - share)`` of a second
while only more urgent levels ran. From then on the share is lent to the less urgent
levels, one step at a time, to the context that has waited longest. Saturation ends as
soon as a step of a lent level runs because nothing more urgent is ready.

Bound: over any time in which the loop is saturated and a less urgent context waits, with
u and v the time used by urgent and by lent steps, and r = share / (1 - share):
``|v - u * r| <= longest lent step + r * longest urgent step``. For the analysis a share
is one more less urgent step of blocking, and costs times ``1 + r``.

Cost: one comparison per choice among several tasks while no context starves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtos.scheduler.policy.context import SchedulingContext

WINDOW_NS: Final = 1_000_000_000
"""The time that ``share`` is a share of."""

_ALWAYS: Final = -1
_NEVER: Final = 1 << 62


class StarvationGuard:
    """Decides when a less urgent context goes first, and which.

    Args:
      share: of the time; 0 < share < 1.

    Attributes:
      patience: how long a context waits before the loop counts as saturated, in nanoseconds.
      look_at: time from which on ``pick`` must be called before each choice.
      is_saturated: whether ``ran`` must be called after each step.
    """

    __slots__ = ("_floor", "_owed", "_ratio", "is_saturated", "look_at", "patience")

    def __init__(self, share: float) -> None:
        self.patience = round(WINDOW_NS * (1 - share))
        self.look_at = _ALWAYS
        self.is_saturated = False
        # Urgent time that has to pass before the next step may be lent; a step may be
        # lent while it is not above zero.
        self._owed = 0.0
        self._ratio = (1 - share) / share
        # The most urgent level that a step was lent to.
        self._floor = 0

    def pick(self, level: int, waiting: Iterable[SchedulingContext], now: int) -> SchedulingContext | None:
        """Choose the context that goes before the most urgent one, or ``None``.

        Looks at every waiting context, but not more often than once per lent step, and
        not before a context can have waited for ``patience``.

        Args:
          level: effective level of the most urgent context.
          waiting: the contexts that have ready tasks.
          now: the time, in nanoseconds.
        """
        if level < 0:
            return None
        below = [context for context in waiting if context.level > level]
        oldest = min(below, key=_waiting_since, default=None)
        if oldest is not None and now - oldest.since >= self.patience:
            self._floor = min(self._floor, oldest.level) if self.is_saturated else oldest.level
            if not self.is_saturated:
                self.is_saturated = True
                self._owed = 0.0
            return oldest
        if self.is_saturated:
            # Only to levels that have starved: a runaway daemon waits too, now and then.
            return min(
                (context for context in below if context.level >= self._floor),
                key=_waiting_since,
                default=None,
            )
        self.look_at = self.patience + (now if oldest is None else oldest.since)
        return None

    def ran(self, level: int, spent: int, *, lent: bool) -> None:
        """Account for a step that has ended while the loop was saturated.

        Args:
          level: the level that it ran at.
          spent: its length, in nanoseconds.
          lent: whether ``pick`` had chosen it.
        """
        if lent:
            self._owed += spent * self._ratio
        elif level >= self._floor:
            self.is_saturated = False
            self.look_at = _ALWAYS
            return
        else:
            # Time that could have been lent while no context waited is not saved up: it
            # would be lent later in one go, when it hurts.
            self._owed = max(self._owed, 0.0) - spent
        self.look_at = _NEVER if self._owed > 0 else _ALWAYS


def _waiting_since(context: SchedulingContext) -> int:
    return context.since
