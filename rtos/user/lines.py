"""Lines: what waits for a persona, in one line for each sender, and whose turn it is.

Pure. Who has had no more of the persona's time than all who wait have had on average is
eligible, and of those the one whose item is due first comes next (EEVDF: Stoica and
Abdel-Wahab 1995, with equal weights). Whoever comes back begins at that average: what
it did not ask for is not saved up.

Bound: of `n` senders, one that has something worth attending to is served after less than
`n * n` others of equal cost. Let `d` be what each of the others has had more than it. As long
as it waits, only one whose `d` is at most the average of all `d` is served, so no `d` exceeds
that average by more than one cost `c`; then their sum is at most `n (n - 1) c`, and each
service adds `c` to a sum that was `-(n - 1) c` at least.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from rtos.user.places import Places

if TYPE_CHECKING:
    from collections.abc import Collection

REMEMBERED: Final = 256
"""Senders with nothing waiting of which it is known that they are ahead."""


class _Line:
    """What waits of one sender, and how much of the persona's time it has had, in seconds."""

    __slots__ = ("calling", "had", "others", "waiting", "worst")

    def __init__(self, had: float) -> None:
        self.had = had
        self.waiting: set[int] = set()
        self.calling = Places(self.waiting)
        self.others = Places(self.waiting)
        self.worst = Places(self.waiting)

    def first(self, horizon: float) -> tuple[float, int]:
        # Nobody needs to be looked at behind the front: who is due first reaches the threshold first.
        called, other = self.calling.first(), self.others.first()
        return called if other[0] > horizon else min(called, other)


class Lines:
    """A line for each sender that has something waiting."""

    def __init__(self) -> None:
        self._lines: dict[str, _Line] = {}
        # Who has had more than the average and has nothing waiting now.
        self._ahead: dict[str, float] = {}

    def __len__(self) -> int:
        """How many senders wait."""
        return len(self._lines)

    def waiting(self, sender_id: str) -> Collection[int]:
        """The places of what waits of a sender, in no order."""
        line = self._lines.get(sender_id)
        return line.waiting if line is not None else ()

    def add(self, sender_id: str, place: int, key: float, *, mentions: bool) -> None:
        """Put a place in its sender's line."""
        line = self._lines.get(sender_id)
        if line is None:
            if not self._lines:
                # Nobody has been kept waiting, so nobody is ahead of anybody.
                self._ahead.clear()
            had = max(self._ahead.pop(sender_id, 0.0), self._average())
            line = self._lines[sender_id] = _Line(had)
        line.waiting.add(place)
        (line.calling if mentions else line.others).push(key, place)
        line.worst.push(-key, -place)

    def remove(self, sender_id: str, place: int) -> None:
        """Take a place out of its sender's line."""
        line = self._lines[sender_id]
        line.waiting.remove(place)
        if line.waiting:
            return
        average = self._average()
        del self._lines[sender_id]
        if self._lines and line.had > average:
            self._remember(sender_id, line.had)

    def charge(self, sender_id: str, seconds: float) -> None:
        """Note how long the persona was at work for a sender, if others wait."""
        line = self._lines.get(sender_id)
        if line is not None:
            line.had += seconds
        elif self._lines:
            self._remember(sender_id, max(self._ahead.get(sender_id, 0.0), self._average()) + seconds)

    def next(self, horizon: float) -> int:
        """The place whose turn it is; 0 if none calls the persona or is due by ``horizon``."""
        fronts = [(line.had, line.first(horizon)) for line in self._lines.values()]
        fronts = [front for front in fronts if front[1][1]]
        if not fronts:
            return 0
        # Never less than the least of them, which rounding alone could make it.
        average = max(sum(had for had, _ in fronts) / len(fronts), min(had for had, _ in fronts))
        return min(first for had, first in fronts if had <= average)[1]

    def first_due(self) -> tuple[bool, float]:
        """Whether any of what waits calls the persona, and the least key of what does not."""
        calls = any(line.calling.first()[1] for line in self._lines.values())
        return calls, min((line.others.first()[0] for line in self._lines.values()), default=math.inf)

    def longer_than(self, sender_id: str) -> int:
        """The last place of the longest line, if a sender's would be shorter with one more; otherwise 0."""
        own = self._lines.get(sender_id)
        longest = max(self._lines.values(), key=lambda line: len(line.waiting))
        if len(longest.waiting) <= (len(own.waiting) if own is not None else 0) + 1:
            return 0
        return -longest.worst.first()[1]

    def last(self, sender_id: str) -> tuple[float, int]:
        """Key and place of the last in a sender's line; ``(-math.inf, 0)`` if it has none."""
        line = self._lines.get(sender_id)
        key, place = line.worst.first() if line is not None else (math.inf, 0)
        return -key, -place

    def _average(self) -> float:
        had = [line.had for line in self._lines.values()]
        return sum(had) / len(had) if had else 0.0

    def _remember(self, sender_id: str, had: float) -> None:
        self._ahead[sender_id] = had
        if len(self._ahead) > REMEMBERED:
            del self._ahead[min(self._ahead, key=lambda one: self._ahead[one])]
