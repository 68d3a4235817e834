"""The rules of supervision: who is restarted, how often, and after what wait.

Pure: time is handed in. The words and the defaults are OTP's, plus a backoff,
which OTP lacks: without one a child that fails at once burns its whole intensity
within microseconds.
"""

from __future__ import annotations

import enum
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence


class Restart(enum.Enum):
    """When a child that has ended is started again."""

    PERMANENT = "permanent"
    """Always."""
    TRANSIENT = "transient"
    """Only after an error."""
    TEMPORARY = "temporary"
    """Never."""


class Strategy(enum.Enum):
    """Who is restarted together with a child that has failed."""

    ONE_FOR_ONE = "one for one"
    """Nobody else."""
    REST_FOR_ONE = "rest for one"
    """Those that were started after it."""
    ONE_FOR_ALL = "one for all"
    """All."""


class PastIntensity(enum.Enum):
    """What happens when a child fails more often than its intensity allows."""

    ESCALATE = "escalate"
    """The supervisor gives up: all are stopped, and the failure goes up."""
    PARK = "park"
    """The child alone stays stopped until an operator unparks it."""


def wants_restart(restart: Restart, *, failed: bool) -> bool:
    """Whether a child that ended (``failed``: with an error) is to be started again."""
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and failed)


def affected(strategy: Strategy, names: Sequence[str], failed: str) -> tuple[str, ...]:
    """Who has to be started again, in start order, when ``failed`` is restarted."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (failed,)
    if strategy is Strategy.ONE_FOR_ALL:
        return tuple(names)
    return tuple(names[names.index(failed) :])


@attrs.define
class RestartWindow:
    """At most ``intensity`` restarts within any ``period`` (seconds)."""

    intensity: int
    period: float
    _times: deque[float] = attrs.field(factory=deque, init=False)

    def admit(self, now: float) -> bool:
        """Count a restart at ``now``, and say whether it is within the intensity."""
        times = self._times
        times.append(now)
        while times and times[0] <= now - self.period:
            times.popleft()
        # One more than fits is enough to know, and keeps the memory bounded.
        while len(times) > self.intensity + 1:
            times.popleft()
        return len(times) <= self.intensity

    @property
    def recent(self) -> int:
        """Restarts counted in the latest window."""
        return len(self._times)


@attrs.frozen
class Backoff:
    """The wait before a restart: it doubles with every one, and is capped.

    Attributes:
      first: seconds before the second restart in a row; the first is at once.
      cap: the longest wait, seconds.
    """

    first: float = 0.05
    cap: float = 5.0

    def delay(self, consecutive: int) -> float:
        """Seconds to wait before restart number ``consecutive``, which counts from 1."""
        if consecutive <= 1:
            return 0.0
        # The exponent is bounded first: 2.0 ** 1100 is an OverflowError.
        return float(min(self.first * 2.0 ** min(consecutive - 2, 64), self.cap))
