"""Rates: how often something may come from one place, in one number each.

Pure. The generic cell rate algorithm (ATM Forum, Traffic Management 4.0), which lets
through the same as a bucket of tokens that fills by one every ``interval`` seconds, and
knows to the instant when the next one may come; nothing has to tick.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Rate:
    """So many at once, and one every so many seconds.

    Attributes:
      interval: seconds.
      burst: how many may come at once after a long rest.
    """

    interval: float = attrs.field(validator=attrs.validators.gt(0.0))
    burst: int = attrs.field(validator=attrs.validators.ge(1))


class Rates:
    """One rate for each of many keys.

    Args:
      rate: of each.
      capacity: how many keys are known at once. Of more, the one that may come soonest is
        forgotten, so it gets at most what it has used of its burst once more.
    """

    __slots__ = ("_capacity", "_due", "_rate")

    def __init__(self, rate: Rate, capacity: int = 1024) -> None:
        self._rate = rate
        self._capacity = capacity
        # When the bucket of each will be full again; those that are full are nowhere.
        self._due: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._due)

    def next_at(self, key: str) -> float:
        """From when on one may come, which may have been long ago."""
        return self._due.get(key, 0.0) - (self._rate.burst - 1) * self._rate.interval

    def admit(self, key: str, now: float) -> bool:
        """Let one through, if it may come now; what may not, costs nothing.

        Args:
          key: where it comes from.
          now: seconds, of a clock that does not go back.
        """
        if now < self.next_at(key):
            return False
        self._due[key] = max(self._due.get(key, 0.0), now) + self._rate.interval
        if len(self._due) > self._capacity:
            self._sweep(now)
        return True

    def is_idle(self, now: float) -> bool:
        """Whether nothing that has come still counts."""
        return all(due <= now for due in self._due.values())

    def _sweep(self, now: float) -> None:
        self._due = {key: due for key, due in self._due.items() if due > now}
        if len(self._due) > self._capacity:
            del self._due[min(self._due, key=lambda key: self._due[key])]
