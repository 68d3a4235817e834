"""Moods, what events do to them, and what differs between personas.

Pure data, and the arithmetic of one pull. Time is no concern of this module.

Law: a mood stays in its cube, since a pull only goes part of the way to a point
that is in it. Two pulls to one point, of intensities `i` and `j`, are one of
`1 - (1 - i)(1 - j)`.
"""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import attrs

from rtos.user.relaxation import mix
from rtos.user.rules import at_least, finite, within

if TYPE_CHECKING:
    from collections.abc import Mapping

_AXIS: Final = within(-1.0, 1.0)
_AT_WORK: Final = 0.8
"""The arousal that work pulls towards."""


@attrs.frozen
class Mood:
    """A point in the cube of pleasure, arousal and dominance, each -1..1."""

    pleasure: float = attrs.field(default=0.0, validator=_AXIS)
    arousal: float = attrs.field(default=0.0, validator=_AXIS)
    dominance: float = attrs.field(default=0.0, validator=_AXIS)

    def towards(self, other: Mood, share: float) -> Mood:
        """The point that lies so far on the way to another: 0 here, 1 there."""
        return Mood(
            mix(self.pleasure, other.pleasure, share),
            mix(self.arousal, other.arousal, share),
            mix(self.dominance, other.dominance, share),
        )

    def livelier(self) -> Mood:
        """The mood of who begins to work."""
        # Work pulls at arousal alone. It comes before everything that is praised, blamed or fails, so a pull
        # at pleasure would halve, each time, what the others have made of it, and no mood would last.
        return attrs.evolve(self, arousal=mix(self.arousal, _AT_WORK, 0.5))


@attrs.frozen(kw_only=True)
class Temperament:
    """What differs between personas and does not change with time."""

    work_time: float = attrs.field(default=1800.0, validator=[finite, at_least(1.0)])
    """Seconds of uninterrupted work after which 1/e of the energy is left."""
    rest_time: float = attrs.field(default=900.0, validator=[finite, at_least(1.0)])
    """Seconds of rest after which 1/e of the tiredness is left."""
    mood_time: float = attrs.field(default=3600.0, validator=[finite, at_least(1.0)])
    """Seconds after which 1/e of a mood is left."""
    cost_scale: float = attrs.field(default=20_000.0, validator=[finite, at_least(1e-9)])
    """The cost of work, in tokens or whatever costs are given in, that leaves 1/e of the energy."""
    exhausted: float = attrs.field(default=0.1, validator=within(0.0, 0.25))
    """The energy that is always left; below the threshold of tiredness."""
    baseline: Mood = Mood()
    """The mood that everything returns to."""


@attrs.frozen
class Appraisal:
    """What an event does to the mood: where it pulls, and how hard, 0..1."""

    mood: Mood
    intensity: float = attrs.field(validator=within(0.0, 1.0))


APPRAISALS: Final[Mapping[str, Appraisal]] = MappingProxyType(
    {
        "called": Appraisal(Mood(0.2, 0.6, 0.0), 0.2),
        "praised": Appraisal(Mood(0.9, 0.4, 0.4), 0.4),
        # Shame is subdued. With an arousal as of anger, who is upset would be active for as long, and
        # never idle and upset.
        "blamed": Appraisal(Mood(-0.8, 0.1, -0.5), 0.4),
        "succeeded": Appraisal(Mood(0.5, 0.2, 0.4), 0.2),
        # Three upset. With 0.3 it would be two or three, by minutes.
        "failed": Appraisal(Mood(-0.6, 0.3, -0.4), 0.25),
        "swamped": Appraisal(Mood(-0.4, 0.8, -0.6), 0.2),
    }
)
"""What the usual events do to a mood; emotions as points of the cube, after OCC. `rtos.user.appraisal` says
which event means what."""


def spend(energy: float, cost: float, temperament: Temperament) -> float:
    """The energy left after a cost: costs add up, in any order, and never exhaust it."""
    if not cost >= 0.0:
        raise ValueError(f"cost is {cost!r}; give 0 or more")
    return min(energy, mix(energy, temperament.exhausted, -math.expm1(-cost / temperament.cost_scale)))
