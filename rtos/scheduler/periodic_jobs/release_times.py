"""The grid of a periodic job: which instant is the next one, whatever happened before.

Pure: time is handed in. Times are absolute, in seconds.

Law: instant *k* is ``origin + k * period``, by multiplication, so nothing adds up and
the grid never drifts. Every index is handed out once or counted as skipped, in
order; only POSTPONE moves the grid, and then to the moment of the overrun.
"""

from __future__ import annotations

import enum
import math

import attrs


class Overrun(enum.Enum):
    """What happens to instants that have passed before the job was done."""

    SKIP = "skip"
    """They are left out; the job is released at the next instant that is still to come."""
    CATCH_UP = "catch up"
    """The latest of them, up to a limit, are released one after the other; the rest is left out."""
    POSTPONE = "postpone"
    """The first of them is released at once, and the grid goes on from there."""
    STOP = "stop"
    """There are no more releases."""


@attrs.frozen
class Instant:
    """One instant of the grid.

    Attributes:
      index: counts from the origin.
      due: when it is, or was.
      skipped: how many instants before it were left out.
    """

    index: int
    due: float
    skipped: int = 0


class Grid:
    """The instants of one periodic job.

    Args:
      origin: instant 0.
      period: seconds between two instants, above 0.
      overrun: what happens to instants that were passed over.
      catch_up: most late instants in a row under CATCH_UP, at least 1.

    Raises:
      ValueError: an argument is out of its range.
    """

    __slots__ = ("_base", "_catch_up", "_next", "_origin", "overrun", "period")

    def __init__(
        self, origin: float, period: float, overrun: Overrun = Overrun.SKIP, *, catch_up: int = 1
    ) -> None:
        if not (0 < period < math.inf):
            msg = f"periodic: period {period!r} is not a time between two releases; use seconds, above 0"
            raise ValueError(msg)
        if not math.isfinite(origin):
            msg = f"periodic: {origin!r} is no time to start; use absolute seconds"
            raise ValueError(msg)
        if catch_up < 1:
            msg = f"periodic: catch_up {catch_up!r} allows no release at all; use 1 or more, or SKIP"
            raise ValueError(msg)
        self._origin = origin
        # The index of the instant that the origin stands for; POSTPONE moves both.
        self._base = 0
        self._next = 0
        self.period = period
        self.overrun = overrun
        self._catch_up = catch_up

    def at(self, index: int) -> float:
        """The instant ``index``, as the grid lies now."""
        return self._origin + (index - self._base) * self.period

    def begin(self, now: float) -> Instant:
        """The first instant at or after ``now``; what lies before does not count as skipped."""
        index = max(self._first_from(now), 0)
        self._next = index + 1
        return Instant(index, self.at(index))

    def following(self, now: float) -> Instant | None:
        """The next instant, seen from ``now``; ``None`` once the grid has been stopped."""
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
        """The instant that was handed out last was not used; it is the next one again."""
        self._next = instant.index

    def _first_from(self, now: float) -> int:
        """The index of the first instant at or after ``now``."""
        index = math.ceil((now - self._origin) / self.period) + self._base
        # The division rounds; the instants themselves decide.
        while self.at(index) < now:
            index += 1
        while self.at(index - 1) >= now:
            index -= 1
        return index
