"""Places in line by key, least first; what no longer waits is skipped when it surfaces.

Pure. Place 0 belongs to nobody, and is what an empty heap shows.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Collection

_SLACK: Final = 64


class Places:
    """Places in line, of which those that are not in ``alive`` count no more.

    Args:
      alive: the places that still wait; looked at, and never changed.
    """

    __slots__ = ("_alive", "_entries")

    def __init__(self, alive: Collection[int]) -> None:
        self._alive = alive
        self._entries: list[tuple[float, int]] = []

    def __len__(self) -> int:
        """How many are kept, with those that count no more."""
        return len(self._entries)

    def push(self, key: float, place: int) -> None:
        """Put a place in line; a negative one is the place behind its sign."""
        # Whatever left by another heap is still in here; without a sweep it could stay for ever.
        if len(self._entries) > 2 * len(self._alive) + _SLACK:
            self._entries = [entry for entry in self._entries if abs(entry[1]) in self._alive]
            heapify(self._entries)
        heappush(self._entries, (key, place))

    def first(self) -> tuple[float, int]:
        """The least key and its place; ``(math.inf, 0)`` if nothing waits."""
        while self._entries and abs(self._entries[0][1]) not in self._alive:
            heappop(self._entries)
        return self._entries[0] if self._entries else (math.inf, 0)
