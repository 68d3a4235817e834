"""Energy and mood: how a persona is, as a function of time.

Pure: no Trio, no clock. Time is handed in as wall-clock seconds, so that a
night during which the process was down counts as rest.

Energy and each axis of mood relax towards a target, `v(t) = v* + (v0 - v*)
e^(-at)`, where the target changes only at events. So nothing has to tick: the
state at any instant, and the instant at which it next matters, are closed forms.
Rest and work are the two processes of sleep regulation (Borbély 1982) with
energy as the absence of sleep pressure; mood is a point in pleasure, arousal and
dominance (Mehrabian) that events pull and time returns to a temperament.

Laws: energy stays in its range and mood in its cube. Time added in pieces is
time added at once. A label changes only at an event or at `next_crossing_at`.
"""

from __future__ import annotations

import math
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import msgspec

from rtos.user.relaxation import reach, relax
from rtos.user.rules import at_least, finite, within
from rtos.user.temperament import Appraisal, Mood, Temperament, spend

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Label = Literal["idle", "active", "tired", "overwhelmed"]
Temper = Literal["content", "calm", "upset"]

# Far above what rounding does to a wall clock of today, far below what anybody could tell from the
# threshold. Without it a wake-up at a crossing could find the value a hair short of the threshold, and ask
# to be woken again at once, for ever.
_TOLERANCE: Final = 1e-6
_USUAL: Final = Temperament()


@cache
def _shared(names: tuple[str, ...]) -> frozenset[str]:
    # There are a few sets of switches, and a hundred thousand personas that each would make its own.
    return frozenset(names)


@attrs.frozen
class Trigger:
    """A switch with hysteresis (a Schmitt trigger): on at one value, off at another.

    Its side is told by the order of the two: on above off reacts to high values,
    on below off to low ones.
    """

    name: str
    value: Callable[[PersonaState], float]
    on: float
    off: float

    def position(self, value: float, *, was_on: bool) -> bool:
        """Where the switch stands at a value, coming from where it stood."""
        if was_on:
            return self._side() * (value - self.off) > _TOLERANCE
        return self._side() * (value - self.on) >= -_TOLERANCE

    def edge(self, *, was_on: bool) -> float:
        """The value to wait for, half the tolerance before the threshold and so surely past the change."""
        ahead = self._side() * _TOLERANCE / 2
        return self.off + ahead if was_on else self.on - ahead

    def _side(self) -> float:
        return math.copysign(1.0, self.on - self.off)


TRIGGERS: Final = (
    # Rested from half on: with less, who has worked for an hour would be idle, the most eager of all.
    Trigger("tired", lambda state: state.energy, on=0.30, off=0.50),
    Trigger("overwhelmed", lambda state: state.load, on=0.80, off=0.60),
    Trigger("active", lambda state: state.mood.arousal, on=0.30, off=0.15),
    Trigger("content", lambda state: state.mood.pleasure, on=0.30, off=0.15),
    Trigger("upset", lambda state: state.mood.pleasure, on=-0.30, off=-0.15),
)
"""All that a persona's labels depend on."""

ENGAGEMENT: Final[Mapping[Label, Mapping[Temper, float]]] = MappingProxyType(
    {
        "idle": {"content": 0.05, "calm": 0.10, "upset": 0.25},
        "active": {"content": 0.25, "calm": 0.30, "upset": 0.45},
        "tired": {"content": 0.45, "calm": 0.50, "upset": 0.65},
        "overwhelmed": {"content": 0.75, "calm": 0.80, "upset": 0.85},
    }
)
"""The priority from which on a message is worth attending to. Every cell can be reached, and none is 1:
what waits long enough is served however the persona feels."""


@attrs.frozen(kw_only=True)
class PersonaState:
    """How a persona is at one instant; a new one is made for every other instant.

    `switches` names the triggers that are on. They are brought in line with the
    values whenever a state is made, so no state contradicts itself.
    """

    energy: float = attrs.field(default=1.0, validator=within(0.0, 1.0))
    duty: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    """The share of the time that is worked: 0 at rest, 1 at work."""
    load: float = attrs.field(default=0.0, validator=[finite, at_least(0.0)])
    """The predicted time to work off what waits, as a share of what is bearable."""
    mood: Mood = _USUAL.baseline
    at: float = attrs.field(validator=finite)
    """The instant, in wall-clock seconds."""
    switches: frozenset[str] = frozenset()
    temperament: Temperament = _USUAL

    def __attrs_post_init__(self) -> None:
        on = tuple(
            trigger.name
            for trigger in TRIGGERS
            if trigger.position(trigger.value(self), was_on=trigger.name in self.switches)
        )
        object.__setattr__(self, "switches", _shared(on))

    @classmethod
    def rested(cls, now: float, temperament: Temperament | None = None) -> PersonaState:
        """Full of energy, with nothing to do and in its usual mood."""
        own = temperament or _USUAL
        return cls(at=now, mood=own.baseline, temperament=own)

    @property
    def label(self) -> Label:
        """The state in one word; the first that applies."""
        order: tuple[Label, ...] = ("overwhelmed", "tired", "active")
        return next((name for name in order if name in self.switches), "idle")

    @property
    def temper(self) -> Temper:
        """The mood in one word."""
        order: tuple[Temper, ...] = ("content", "upset")
        return next((name for name in order if name in self.switches), "calm")

    @property
    def threshold(self) -> float:
        """The priority from which on a message is worth attending to now."""
        return ENGAGEMENT[self.label][self.temper]

    def advance(self, now: float) -> PersonaState:
        """The state at another instant, if nothing happens until then.

        A clock that was set back makes no time pass, and the state starts from
        the new time, or it would stand still until the clock has caught up.
        """
        elapsed = max(0.0, now - self.at)
        target, rate = self._course()
        passed = -math.expm1(-elapsed / self.temperament.mood_time)
        return attrs.evolve(
            self,
            energy=relax(self.energy, target, rate, elapsed),
            mood=self.mood.towards(self.temperament.baseline, passed),
            at=now,
        )

    def begin_work(self, now: float, *, lively: bool = True) -> PersonaState:
        """At work from now on.

        Args:
          now: Wall-clock seconds.
          lively: Whether it makes the persona livelier; quiet work, such as consolidating memory, does not.
        """
        after = self.advance(now)
        return attrs.evolve(after, mood=after.mood.livelier() if lively else after.mood, duty=1.0)

    def end_work(self, now: float, cost: float = 0.0) -> PersonaState:
        """At rest from now on, after work that cost something beyond its time.

        Args:
          now: Wall-clock seconds.
          cost: In the unit of the temperament's `cost_scale`; 0 or more.
        """
        after = self.advance(now)
        return attrs.evolve(after, energy=spend(after.energy, cost, self.temperament), duty=0.0)

    def appraise(self, now: float, appraisal: Appraisal) -> PersonaState:
        """The state after an event that touches the mood; see `rtos.user.appraisal` for the usual ones."""
        after = self.advance(now)
        return attrs.evolve(after, mood=after.mood.towards(appraisal.mood, appraisal.intensity))

    def burden(self, now: float, load: float) -> PersonaState:
        """The state after the load has changed."""
        return attrs.evolve(self.advance(now), load=load)

    def wake(self, now: float) -> PersonaState:
        """The state after its process was down since `at`: nobody worked, nothing waited."""
        return attrs.evolve(self, duty=0.0, load=0.0).advance(now)

    def next_crossing_at(self, now: float) -> float:
        """When a label will change if nothing happens: later than `now`, or never (`math.inf`)."""
        state = self.advance(now)
        target, rate = state._course()
        mood, base, calming = state.mood, state.temperament.baseline, 1.0 / state.temperament.mood_time
        waits = [reach(state.energy, target, rate, state._edge("tired"))]
        waits += [reach(mood.arousal, base.arousal, calming, state._edge("active"))]
        waits += [
            reach(mood.pleasure, base.pleasure, calming, state._edge(name)) for name in ("content", "upset")
        ]
        return math.nextafter(now + min(waits), math.inf)

    def to_builtins(self) -> dict[str, Any]:
        """What has to be stored; the temperament is configuration and is not."""
        return {
            "energy": self.energy,
            "duty": self.duty,
            "load": self.load,
            "mood": attrs.asdict(self.mood),
            "at": self.at,
            "switches": sorted(self.switches),
        }

    @classmethod
    def from_builtins(cls, data: object, temperament: Temperament | None = None) -> PersonaState:
        """The state that was stored.

        Raises:
          msgspec.ValidationError: what was stored is no state; the text names the field.
        """
        return attrs.evolve(msgspec.convert(data, type=cls), temperament=temperament or _USUAL)

    def _edge(self, name: str) -> float:
        return _BY_NAME[name].edge(was_on=name in self.switches)

    def _course(self) -> tuple[float, float]:
        """Where energy is heading at this duty, and at which rate per second."""
        own = self.temperament
        tiring, resting = self.duty / own.work_time, (1.0 - self.duty) / own.rest_time
        rate = tiring + resting
        return (tiring * own.exhausted + resting) / rate, rate


def changes(before: PersonaState, after: PersonaState) -> list[tuple[str, dict[str, Any]]]:
    """Which of the words for a state are others than before, and what is told of each."""
    words = (("energy", before.label, after.label), ("mood", before.temper, after.temper))
    return [
        (name, {"from": was, "to": now, "energy": after.energy}) for name, was, now in words if was != now
    ]


_BY_NAME: Final = {trigger.name: trigger for trigger in TRIGGERS}
