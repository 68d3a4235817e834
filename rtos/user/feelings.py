"""Feelings: how a persona is now, on its clock, and who is told when that has another name.

Owns the state; what it is a function of, and what events do to it, is in `rtos.user.affect`.

Law: whenever a label changes at an event or a crossing, that is told once, as
``persona:energy:changed`` or ``persona:mood:changed``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rtos.user.affect import PersonaState, changes
from rtos.user.temperament import APPRAISALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.bus import Bus


class Feelings:
    """How one persona is.

    Args:
      bus: where it is told.
      persona_id: of whom.
      wall_clock: seconds since the epoch.

    Attributes:
      state: as of its last event.
    """

    __slots__ = ("_bus", "_persona_id", "_wall_clock", "state")

    def __init__(self, bus: Bus, persona_id: str, wall_clock: Callable[[], float]) -> None:
        self._bus = bus
        self._persona_id = persona_id
        self._wall_clock = wall_clock
        self.state = PersonaState.rested(wall_clock())

    def wake(self, stored: dict[str, Any]) -> None:
        """Take up what was stored where time has brought it since."""
        self.state = PersonaState.from_builtins(stored).wake(self._wall_clock())

    def begin_work(self, *, lively: bool) -> None:
        """At work from now on."""
        self._become(self.state.begin_work(self._wall_clock(), lively=lively))

    def end_work(self, cost: float) -> None:
        """At rest from now on."""
        self._become(self.state.end_work(self._wall_clock(), cost))

    def burden(self, load: float) -> None:
        """So much waits, as a share of what is bearable."""
        self._become(self.state.burden(self._wall_clock(), load))

    def appraise(self, *events: str) -> None:
        """Something has happened that touches the mood; names of `APPRAISALS`."""
        state = self.state
        for event in events:
            state = state.appraise(self._wall_clock(), APPRAISALS[event])
        self._become(state)

    def next_crossing_in(self) -> float:
        """Seconds until a label changes if nothing happens; ``math.inf`` for never."""
        now = self._wall_clock()
        return self.state.next_crossing_at(now) - now

    def _become(self, state: PersonaState) -> None:
        before, self.state = self.state, state
        for name, told in changes(before, state):
            self._bus.events.emit(f"persona:{name}:changed", {"persona_id": self._persona_id, **told})
