"""The timer heap: what is due, and when the loop must be woken next.

Pure: time is handed in. Times are absolute Trio times, in seconds.

Law: a timer fires at most once; one that is cancelled never fires, also when it
was due together with the one whose action cancels it. Cancelling is O(1) and
leaves a dead entry behind; dead entries never reach the front and are swept when
they outnumber the living, so memory follows the living ones.
"""

from __future__ import annotations

import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP = 64
"""Dead entries that are always tolerated."""


class Timer:
    """One instant and what to do then. Made by ``TimerHeap.add``."""

    __slots__ = ("action", "at", "heap", "owner")

    def __init__(self, at: float, action: Callable[[], None], heap: TimerHeap, owner: object) -> None:
        self.at = at
        self.owner = owner
        self.action: Callable[[], None] | None = action
        # None once it has left the heap to be fired.
        self.heap: TimerHeap | None = heap

    def cancel(self) -> None:
        """Never fire. Harmless when it has fired or was cancelled before."""
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
    """Timers, the earliest first; equal ones in the order they were added."""

    __slots__ = ("_added", "_dead", "_heap")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Timer]] = []
        self._added = 0
        self._dead = 0

    def __len__(self) -> int:
        return len(self._heap) - self._dead

    def next_place(self) -> int:
        """A place among timers of one instant, for one that may be added later."""
        self._added += 1
        return self._added

    def add(self, at: float, action: Callable[[], None], place: int = 0, owner: object = None) -> Timer:
        """A timer that calls ``action`` once ``at`` (absolute, seconds) has passed.

        Args:
          at: when.
          action: what to do then.
          place: among timers of that instant (``next_place``); 0 for the last.
          owner: whose timer it is, for ``cancel_all``.

        Raises:
          ValueError: ``at`` is no time at all (NaN), which would break the order.
        """
        if math.isnan(at):
            msg = f"add_timer: {at!r} is not a time; use absolute seconds, or math.inf for never"
            raise ValueError(msg)
        timer = Timer(at, action, self, owner)
        heappush(self._heap, (at, place or self.next_place(), timer))
        return timer

    def next_at(self) -> float:
        """When the earliest living timer is due; ``math.inf`` when there is none."""
        heap = self._heap
        while heap:
            if heap[0][2].action is not None:
                return heap[0][0]
            heappop(heap)
            self._dead -= 1
        return math.inf

    def due(self, now: float) -> list[Callable[[], None]]:
        """Take what is due at ``now``, in order, to be called; each is handed out once.

        What is called after its timer was cancelled does nothing.
        """
        actions: list[Callable[[], None]] = []
        while self.next_at() <= now and self._heap:
            timer = heappop(self._heap)[2]
            timer.heap = None
            actions.append(timer.fire)
        return actions

    def cancel_all(self, owner: object) -> None:
        """Cancel every timer of ``owner``. Takes time in proportion to all timers."""
        for _, _, timer in self._heap.copy():
            if timer.owner is owner:
                timer.cancel()

    def discard(self) -> None:
        """Count a dead entry, and sweep when the dead outnumber the living."""
        self._dead += 1
        if self._dead > SWEEP and self._dead * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[2].action is not None]
            heapify(self._heap)
            self._dead = 0
