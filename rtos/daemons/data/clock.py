"""Timestamps of records: wall time, but never twice the same and never backwards."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


class RecordClock:
    """Gives strictly increasing timestamps that sort as text; usable from any thread."""

    def __init__(self, wall_clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._wall_clock_ns = wall_clock_ns
        self._last = 0
        self._lock = threading.Lock()

    def next(self) -> str:
        """The present in ISO 8601, UTC, to the microsecond."""
        with self._lock:
            self._last = max(self._wall_clock_ns() // 1000, self._last + 1)
            return format_timestamp(self._last)

    def advance_to(self, timestamp: str) -> None:
        """Give only later ones from here on: what a store holds may be ahead of the wall clock.

        Raises:
          ValueError: it is none of the timestamps that this gives.
        """
        moment = datetime.strptime(timestamp, _FORM).replace(tzinfo=UTC)
        with self._lock:
            self._last = max(self._last, (moment - _EPOCH) // timedelta(microseconds=1))


def format_timestamp(microseconds: int) -> str:
    """Microseconds since the epoch as a timestamp."""
    moment = _EPOCH + timedelta(microseconds=microseconds)
    return moment.strftime(_FORM)
