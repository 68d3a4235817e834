"""Moods and what pulls at them."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.temperament import APPRAISALS, Appraisal, Mood, Temperament, spend

AXIS = st.floats(-1, 1)
MOOD = st.builds(Mood, AXIS, AXIS, AXIS)
SHARE = st.floats(0, 1)


@given(MOOD, MOOD, SHARE)
def test_a_pull_stays_in_the_cube(mood: Mood, point: Mood, share: float) -> None:
    for here, there, pulled in zip(
        attrs.astuple(mood), attrs.astuple(point), attrs.astuple(mood.towards(point, share)), strict=True
    ):
        assert min(here, there) <= pulled <= max(here, there)


@given(MOOD, MOOD, SHARE, SHARE)
def test_two_pulls_are_one(mood: Mood, point: Mood, i: float, j: float) -> None:
    twice = mood.towards(point, i).towards(point, j)
    once = mood.towards(point, 1 - (1 - i) * (1 - j))
    assert attrs.astuple(twice) == pytest.approx(attrs.astuple(once), abs=1e-12)


def test_the_usual_appraisals_do_something() -> None:
    for name, appraisal in APPRAISALS.items():
        assert appraisal.intensity > 0, name
        assert appraisal.mood != Mood(), name


@pytest.mark.parametrize("wrong", [{"pleasure": 1.1}, {"arousal": -1.1}, {"dominance": float("nan")}])
def test_a_mood_outside_the_cube_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Mood(**wrong)


def test_an_appraisal_pulls_at_most_all_the_way() -> None:
    with pytest.raises(ValueError, match=r"intensity is 1\.5"):
        Appraisal(Mood(), 1.5)


@pytest.mark.parametrize(
    "wrong",
    [
        {"work_time": 0.0},
        {"rest_time": float("inf")},
        {"mood_time": -1.0},
        {"exhausted": 0.5},
        {"cost_scale": 0.0},
    ],
)
def test_a_senseless_temperament_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Temperament(**wrong)


COST = st.floats(0, 1e6)


@given(st.floats(0.1, 1.0), COST, COST)
def test_costs_add_up_in_any_order_and_never_exhaust(energy: float, a: float, b: float) -> None:
    own = Temperament()
    both = spend(energy, a + b, own)
    assert spend(spend(energy, a, own), b, own) == pytest.approx(both, rel=1e-9)
    assert spend(spend(energy, b, own), a, own) == pytest.approx(both, rel=1e-9)
    assert own.exhausted <= both <= energy


def test_spending_gives_nothing_back_to_whom_nothing_was_left() -> None:
    assert spend(0.05, 1000.0, Temperament()) == 0.05


@pytest.mark.parametrize("cost", [-1.0, float("nan")])
def test_a_cost_is_never_negative(cost: float) -> None:
    with pytest.raises(ValueError, match="give 0 or more"):
        spend(0.5, cost, Temperament())
