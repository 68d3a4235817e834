"""The restart rules of a supervisor: who is restarted, how often, and after what backoff.

Pure: the caller passes the time. Terms and defaults are those of OTP. Backoff is an
addition: without it a child that fails at once uses up its restart intensity within
microseconds.
"""

from __future__ import annotations

import enum
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
    """Which other children are restarted when one child is restarted."""

    ONE_FOR_ONE = "one for one"
    """None."""
    REST_FOR_ONE = "rest for one"
    """Those that were started after it."""
    ONE_FOR_ALL = "one for all"
    """All."""


class PastIntensity(enum.Enum):
    """What happens when a child fails more often than its restart intensity allows."""

    ESCALATE = "escalate"
    """The supervisor stops all children and raises ``DaemonDown``."""
    PARK = "park"
    """This child stays stopped until an operator unparks it; the others go on."""


def wants_restart(restart: Restart, *, failed: bool) -> bool:
    """Whether a child that has ended, by an error if ``failed``, is started again."""
    return restart is Restart.PERMANENT or (restart is Restart.TRANSIENT and failed)


def affected(strategy: Strategy, names: Sequence[str], failed: str) -> tuple[str, ...]:
    """Return the children that are restarted when ``failed`` is, in start order."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (failed,)
    if strategy is Strategy.ONE_FOR_ALL:
        return tuple(names)
    return tuple(names[names.index(failed) :])


class RestartWindow:
    """Allows at most ``intensity`` restarts within any ``period``, in seconds.

    One window may count the restarts of several children.
    """

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        # Time and child of each restart counted, the oldest first.
        self._restarts: list[tuple[float, str]] = []

    def admit(self, now: float, name: str = "") -> bool:
        """Count a restart of ``name`` at ``now``; return whether it is within the intensity."""
        restarts = [restart for restart in self._restarts if restart[0] > now - self.period]
        restarts.append((now, name))
        # One more than is allowed tells enough, and bounds the memory.
        self._restarts = restarts[-(self.intensity + 1) :]
        return len(restarts) <= self.intensity

    def exclude(self, seconds: float, name: str = "") -> None:
        """Leave the last ``seconds`` out of the period of the restarts of ``name``.

        Used for the time of a restart that failed. Otherwise a child whose starts take
        longer than the period to fail would be restarted for ever.
        """
        self._restarts = sorted(
            (at + seconds if owner == name else at, owner) for at, owner in self._restarts
        )


def _at_least_zero(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        msg = f"Backoff({attribute.name}): {value!r} is not a duration; use seconds, 0 or more"
        raise ValueError(msg)


@attrs.frozen
class Backoff:
    """The wait before a restart. It doubles with every restart in a row, up to a limit.

    Attributes:
      first: seconds before the second restart in a row; the first one is immediate.
      cap: the longest wait, in seconds.

    Raises:
      ValueError: a duration is negative or NaN.
    """

    first: float = attrs.field(default=0.05, validator=_at_least_zero)
    cap: float = attrs.field(default=5.0, validator=_at_least_zero)

    def delay(self, consecutive: int) -> float:
        """Return the seconds to wait before restart number ``consecutive`` in a row, from 1."""
        if consecutive <= 1:
            return 0.0
        # The exponent is limited, since 2.0 ** 1100 raises OverflowError.
        return float(min(self.first * 2.0 ** min(consecutive - 2, 64), self.cap))
