"""How moods come about: traces of what is told to a persona, and of how it gets over it.

All in the order in which it happens: it works, comes to an end, it has succeeded or failed, and is
praised or blamed by what it was told.
"""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.affect import PersonaState
from rtos.user.temperament import APPRAISALS, Temperament

NOW = 1_800_000_000.0
COST = 500.0
MINUTE = 60.0


def serve(state: PersonaState, at: float, *names: str) -> PersonaState:
    """Five seconds of work, and what it meant."""
    state = state.begin_work(at).end_work(at + 5.0, COST)
    for name in names:
        state = state.appraise(state.at, APPRAISALS[name])
    return state


def tempers(history: list[tuple[str, ...]], every: float) -> list[str]:
    """The temper after each of what happens, at such a distance."""
    return [state.temper for state in states(history, every)]


def states(history: list[tuple[str, ...]], every: float) -> list[PersonaState]:
    state, passed = PersonaState.rested(NOW), []
    for number, names in enumerate(history):
        state = serve(state, NOW + number * every, *names)
        passed.append(state)
    return passed


ANSWERED, PRAISED, BLAMED, FAILED = (
    ("succeeded",),
    ("succeeded", "praised"),
    ("succeeded", "blamed"),
    ("failed",),
)
CALLED_AND_BLAMED = ("succeeded", "called", "blamed")
TRACES = {
    "five answers make it content": ([ANSWERED] * 6, 1, "calm calm calm calm content content"),
    "also at two minutes": ([ANSWERED] * 6, 2, "calm calm calm calm content content"),
    "six at five minutes": ([ANSWERED] * 6, 5, "calm calm calm calm calm content"),
    "an answer every quarter of an hour is nothing special": ([ANSWERED] * 12, 15, " ".join(["calm"] * 12)),
    "one praise": ([PRAISED], 1, "content"),
    "two blames": ([BLAMED] * 2, 1, "calm upset"),
    "two blames, ten minutes apart": ([BLAMED] * 2, 10, "calm upset"),
    "two blames by name": ([CALLED_AND_BLAMED] * 2, 5, "calm upset"),
    "who is content gets over one": ([PRAISED, ANSWERED, BLAMED, ANSWERED], 1, "content content calm calm"),
    "who is upset is made good by praise": ([BLAMED, BLAMED, PRAISED, PRAISED], 1, "calm upset calm content"),
    "three failures": ([FAILED] * 3, 1, "calm calm upset"),
    "three failures, ten minutes apart": ([FAILED] * 3, 10, "calm calm upset"),
    "a failure among answers": ([ANSWERED, FAILED, ANSWERED, ANSWERED], 1, "calm calm calm calm"),
}


@pytest.mark.parametrize(("history", "minutes", "expected"), TRACES.values(), ids=TRACES)
def test_a_history_makes_a_temper(history: list[tuple[str, ...]], minutes: float, expected: str) -> None:
    assert tempers(history, minutes * MINUTE) == expected.split()


@pytest.mark.parametrize(
    ("history", "within"), [([ANSWERED] * 5, 3000), ([BLAMED] * 2, 3400), ([FAILED] * 3, 3100)]
)
def test_it_gets_over_it_by_itself_when_it_says(history: list[tuple[str, ...]], within: float) -> None:
    moved = states(history, MINUTE)[-1]
    state, temper = moved, moved.temper
    assert temper != "calm"
    while state.temper != "calm":
        assert state.temper == temper, "never through the opposite"
        state = state.advance(state.next_crossing_at(state.at))
    # Pleasure is back at the switch's other edge, 0.15.
    closed_form = math.log(abs(moved.mood.pleasure) / 0.15) * Temperament().mood_time
    assert state.at - moved.at == pytest.approx(closed_form, abs=0.1)
    assert state.at - moved.at < within
    while (at := state.next_crossing_at(state.at)) < math.inf:
        state = state.advance(at)
        assert state.temper == "calm"


def test_too_much_to_do_upsets_in_the_end() -> None:
    state, passed = PersonaState.rested(NOW), []
    for _ in range(7):
        state = state.appraise(NOW, APPRAISALS["swamped"])
        passed.append(state.temper)
    assert passed == ["calm"] * 6 + ["upset"]


@given(
    st.lists(
        st.tuples(
            st.floats(0.0, 7200.0),
            st.sampled_from([ANSWERED, ("called", "succeeded"), ("succeeded", "called"), ("called",), ()]),
        )
    )
)
def test_talk_that_judges_nothing_upsets_nobody(history: list[tuple[float, tuple[str, ...]]]) -> None:
    state = PersonaState.rested(NOW)
    for later, names in history:
        state = serve(state, state.at + later, *names)
        assert state.temper != "upset"
        assert state.mood.pleasure >= 0.0


@given(st.lists(st.sampled_from(["begin", "end", "quiet"])))
def test_work_by_itself_makes_no_temper(steps: list[str]) -> None:
    state = PersonaState.rested(NOW).appraise(NOW, APPRAISALS["praised"])
    alone = state
    for step in steps:
        at = state.at + MINUTE
        state = state.end_work(at, COST) if step == "end" else state.begin_work(at, lively=step == "begin")
        alone = alone.advance(at)
    assert state.mood.pleasure == alone.mood.pleasure
    assert state.mood.dominance == alone.mood.dominance
    assert state.temper == alone.temper
