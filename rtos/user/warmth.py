"""Warmth: how lively a room is, 0..1, as a function of time.

Pure. Each message warms a room a part of the way to 1, and time cools it; nothing has to
tick. Six messages within seconds make a room hot (`rtos.user.priority.HOT`), and two minutes
without any leave 1/e of it.
"""

from __future__ import annotations

from typing import Final

import attrs

from rtos.user.relaxation import mix, relax

EACH: Final = 0.2
"""How far on the way to 1 a message warms a room."""
COOLING: Final = 120.0
"""Seconds after which 1/e of the warmth is left."""


@attrs.frozen
class Warmth:
    """How lively a room was at an instant."""

    value: float = 0.0
    at: float = 0.0
    """Seconds, on any one clock."""

    def after(self, now: float) -> float:
        """How lively it is if nothing was said since."""
        return relax(self.value, 0.0, 1.0 / COOLING, max(0.0, now - self.at))

    def warmed(self, now: float) -> Warmth:
        """After another message."""
        return Warmth(mix(self.after(now), 1.0, EACH), now)
