"""The timer heap: timers by time, and when the loop must wake up next.

Pure: the time is passed in. Times are absolute Trio times, in seconds.

Invariants: a timer fires at most once. A cancelled timer never fires, not even if the
action of another timer of the same instant cancels it. Cancelling takes constant time
and leaves a cancelled entry in the heap; when cancelled entries outnumber the others they
are removed, so memory follows the number of active timers.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP = 64
"""Number of cancelled entries that is always tolerated."""


class Timer:
    """A time and an action. Made by ``TimerHeap.add``."""

    __slots__ = ("action", "at", "heap", "owner")

    def __init__(self, at: float, action: Callable[[], None], heap: TimerHeap, owner: object) -> None:
        self.at = at
        self.owner = owner
        self.action: Callable[[], None] | None = action
        # None once ``TimerHeap.due`` has taken it out of the heap.
        self.heap: TimerHeap | None = heap

    def cancel(self) -> None:
        """Never fire. Does nothing if the timer has fired or was cancelled before."""
        if self.action is not None:
            self.action = None
            if self.heap is not None:
                self.heap.discard()

    def fire(self) -> None:
        """Call the action, unless it was called or cancelled before."""
        action, self.action = self.action, None
        if action is not None:
            action()


class TimerHeap:
    """Timers, the earliest first; those of one instant in the order they were added.

    Attributes:
      entries: the heap; empty if there is no timer, which costs less to check than ``next_at``.
    """

    __slots__ = ("_added", "_cancelled", "entries")

    def __init__(self) -> None:
        self.entries: list[tuple[float, int, Timer]] = []
        self._added = 0
        self._cancelled = 0

    def __len__(self) -> int:
        """The number of active timers."""
        return len(self.entries) - self._cancelled

    def next_place(self) -> int:
        """Reserve a position for ``add``, before timers added later for the same instant."""
        self._added += 1
        return self._added

    def add(self, at: float, action: Callable[[], None], place: int = 0, owner: object = None) -> Timer:
        """Add a timer that calls ``action`` once the time ``at`` has passed.

        Args:
          at: absolute time in seconds; ``math.inf`` for never.
          action: called without arguments.
          place: position among timers of that instant, from ``next_place``; last by default.
          owner: the timer's owner, for ``cancel_all``.

        Raises:
          ValueError: ``at`` is NaN, which would break the order.
        """
        if math.isnan(at):
            msg = f"add_timer: {at!r} is not a time; use absolute seconds, or math.inf for never"
            raise ValueError(msg)
        timer = Timer(at, action, self, owner)
        if not place:
            self._added = place = self._added + 1
        heappush(self.entries, (at, place, timer))
        return timer

    def next_at(self) -> float:
        """When the earliest active timer is due; ``math.inf`` if there is none."""
        entries = self.entries
        while entries:
            if entries[0][2].action is not None:
                return entries[0][0]
            heappop(entries)
            self._cancelled -= 1
        return math.inf

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take out the timers that are due at ``now``, in order.

        Returns:
          A function for each, which fires it; it does nothing once the timer is cancelled.
        """
        actions: list[Callable[[], None]] = []
        while self.next_at() <= now and self.entries:
            timer = heappop(self.entries)[2]
            timer.heap = None
            actions.append(timer.fire)
        return actions

    def cancel_all(self, owner: object) -> None:
        """Cancel every timer of ``owner``. Takes time in proportion to the number of all timers."""
        for _, _, timer in self.entries.copy():
            if timer.owner is owner:
                timer.cancel()

    def discard(self) -> None:
        """Count a cancelled entry, and remove all of them if they outnumber the others."""
        self._cancelled += 1
        if self._cancelled > SWEEP and self._cancelled * 2 > len(self.entries):
            self.entries[:] = [entry for entry in self.entries if entry[2].action is not None]
            heapify(self.entries)
            self._cancelled = 0
