"""The reserve: a small share of the time for what less urgent levels have waiting.

Without it a daemon that runs away locks out everything below it, the operator's
command that would stop it included.

Pure: time is handed in, in nanoseconds.

Rule: the loop is *saturated* once something has waited for ``(1 - share)`` of a
second while only more urgent levels ran. From then on the share is lent to the
levels below, one step at a time, to whoever has waited longest. It is over as soon
as a step as little urgent as those runs because nothing more urgent is ready.

Law: over any time in which the loop is saturated and something less urgent waits,
with u and v what urgent and lent steps use in it, and r = share / (1 - share):
``|v - u * r| <= longest lent step + r * longest urgent step``. For the analysis a
share is one more less urgent step of blocking, and costs times ``1 + r``.

Price: a comparison per choice among several tasks while nothing starves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rtos.scheduler.policy.context import SchedulingContext

WINDOW_NS: Final = 1_000_000_000
"""The time that the share is a share of."""

_ALWAYS: Final = -1
_NEVER: Final = 1 << 62


class StarvationGuard:
    """Says when a less urgent step goes first, and which.

    Args:
      share: of the time, 0 < share < 1.

    Attributes:
      look_at: from when on ``pick`` has to be asked.
      is_saturated: whether ``ran`` has to be told of each pass.
    """

    __slots__ = ("_floor", "_owed", "_ratio", "is_saturated", "look_at", "patience")

    def __init__(self, share: float) -> None:
        self.patience = round(WINDOW_NS * (1 - share))
        self.look_at = _ALWAYS
        self.is_saturated = False
        # Urgent time that has to pass before the next step may be lent; below zero
        # there is something to lend.
        self._owed = 0.0
        self._ratio = (1 - share) / share
        # The most urgent level that something was lent to.
        self._floor = 0

    def pick(self, level: int, waiting: Iterable[SchedulingContext], now: int) -> SchedulingContext | None:
        """Choose what goes before a head of level ``level``, or ``None``.

        Looks at everything that waits, but not more often than once per lent
        step, and while nothing starves not before something could.
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
            # Only to levels that have starved: a runaway daemon waits too, at times.
            return min(
                (context for context in below if context.level >= self._floor),
                key=_waiting_since,
                default=None,
            )
        self.look_at = self.patience + (now if oldest is None else oldest.since)
        return None

    def ran(self, level: int, spent: int, *, lent: bool) -> None:
        """A pass has ended while the loop was saturated."""
        if lent:
            self._owed += spent * self._ratio
        elif level >= self._floor:
            self.is_saturated = False
            self.look_at = _ALWAYS
            return
        else:
            # What could have been lent and found nobody is not saved up: it would
            # be lent in one go, later, when it hurts.
            self._owed = max(self._owed, 0.0) - spent
        self.look_at = _NEVER if self._owed > 0 else _ALWAYS


def _waiting_since(context: SchedulingContext) -> int:
    return context.since
