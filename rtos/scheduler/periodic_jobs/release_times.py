"""The release times of a periodic job: an absolute grid that never drifts, and overrun policies.

Pure: the time is passed in. Times are absolute, in seconds.

Invariants: instant *k* is ``origin + k * period``, by multiplication, so that rounding
errors do not add up. Every index is returned once or counted as skipped, in order. Only
POSTPONE moves the grid, to the moment of the overrun.
"""

from __future__ import annotations

import enum
import math
from typing import Final

import attrs

SHORTEST_PERIOD: Final = 1e-6
"""The shortest period, seconds. Trio's clock and its timers are not finer."""


class Overrun(enum.Enum):
    """What happens to instants that have passed before the job ended."""

    SKIP = "skip"
    """They are skipped; the next release is the next instant to come."""
    CATCH_UP = "catch up"
    """The latest of them, up to a limit, are released one after the other; the rest are skipped."""
    POSTPONE = "postpone"
    """The first of them is released at once, and the grid continues from there."""
    STOP = "stop"
    """There are no more releases."""


@attrs.frozen
class Instant:
    """One instant of the grid.

    Attributes:
      index: number of the instant, 0 at the origin.
      due: its time.
      skipped: how many instants just before it were skipped.
    """

    index: int
    due: float
    skipped: int = 0


class Grid:
    """The instants of one periodic job.

    Args:
      origin: the time of instant 0.
      period: seconds between two instants, at least ``SHORTEST_PERIOD``.
      overrun: what happens to instants that have passed.
      catch_up: with ``CATCH_UP``, how many late instants in a row are released at most.

    Raises:
      ValueError: an argument is NaN or out of its range.
    """

    __slots__ = ("_base", "_catch_up", "_next", "_origin", "overrun", "period")

    def __init__(
        self, origin: float, period: float, overrun: Overrun = Overrun.SKIP, *, catch_up: int = 1
    ) -> None:
        if not (SHORTEST_PERIOD <= period < math.inf):
            msg = f"periodic: period is {period!r}; use seconds, {SHORTEST_PERIOD:g} or more"
            raise ValueError(msg)
        if not (math.isfinite(origin) and math.ulp(origin) * 1024 <= period):
            msg = f"periodic: start and offset give {origin!r}; use absolute Trio time, in seconds"
            raise ValueError(msg)
        if catch_up < 1:
            msg = f"periodic: catch_up is {catch_up!r}; use 1 or more, or Overrun.SKIP"
            raise ValueError(msg)
        self._origin = origin
        # The index of the instant at ``_origin``; POSTPONE moves both.
        self._base = 0
        self._next = 0
        self.period = period
        self.overrun = overrun
        self._catch_up = catch_up

    def at(self, index: int) -> float:
        """The time of instant ``index`` in the present grid."""
        return self._origin + (index - self._base) * self.period

    def begin(self, now: float) -> Instant:
        """The first instant at or after ``now``; earlier ones do not count as skipped."""
        index = max(self._first_from(now), 0)
        self._next = index + 1
        return Instant(index, self.at(index))

    def following(self, now: float) -> Instant | None:
        """The next instant; ``None`` if an overrun has stopped the grid."""
        index, skipped = self._next, 0
        if self.at(index) < now:
            if self.overrun is Overrun.STOP:
                return None
            if self.overrun is Overrun.POSTPONE:
                self._origin, self._base = now, index
            else:
                first = self._first_from(now)
                if self.overrun is Overrun.CATCH_UP:
                    passed = first if self.at(first) > now else first + 1
                    first = max(index, passed - self._catch_up)
                skipped, index = first - index, first
        self._next = index + 1
        return Instant(index, self.at(index), skipped)

    def put_back(self, instant: Instant) -> None:
        """Return the latest instant unused: it is the next one again."""
        self._next = instant.index

    def _first_from(self, now: float) -> int:
        """The index of the first instant at or after ``now``."""
        index = math.ceil((now - self._origin) / self.period) + self._base
        # The division rounds, so the times of the instants decide.
        while self.at(index) < now:
            index += 1
        while self.at(index - 1) >= now:
            index -= 1
        return index
