"""Crashes of a persona: when it is started again, and when that is of no use any more.

Pure: time is handed in, in seconds on any one clock.

Law: a persona that fails ``MOST`` times within ``WINDOW`` seconds is given up, and one that
fails less often than that is started again, later each time that follows soon.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Final

from rtos.scheduler import Backoff

MOST: Final = 5
WINDOW: Final = 60.0
BACKOFF: Final = Backoff(first=0.2, cap=5.0)


class CrashLoop:
    """The latest crashes of one persona."""

    __slots__ = ("_times",)

    def __init__(self) -> None:
        self._times: deque[float] = deque(maxlen=MOST)

    def note(self, now: float) -> float:
        """Count a crash; in how many seconds to start again, ``math.inf`` for never."""
        while self._times and self._times[0] <= now - WINDOW:
            self._times.popleft()
        self._times.append(now)
        count = len(self._times)
        # The first start is not at once: what fails at once would fail again.
        return math.inf if count == MOST else BACKOFF.delay(count + 1)
