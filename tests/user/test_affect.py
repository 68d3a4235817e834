"""Energy, mood and labels: the laws of the closed forms, and a day in virtual time."""

import itertools
import json
import math
from typing import Any

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtos.user.affect import ENGAGEMENT, TRIGGERS, PersonaState
from rtos.user.temperament import APPRAISALS, Appraisal, Mood, Temperament
from tests.support.effort import short_or_full

NOW = 1_800_000_000.0
HOUR = 3600.0

AXIS = st.floats(-1, 1)
MOOD = st.builds(Mood, AXIS, AXIS, AXIS)
TEMPERAMENT = st.builds(
    Temperament,
    work_time=st.floats(10, 1e5),
    rest_time=st.floats(10, 1e5),
    mood_time=st.floats(10, 1e5),
    exhausted=st.floats(0, 0.25),
    baseline=MOOD,
)
STATE = st.builds(
    PersonaState,
    energy=st.floats(0, 1),
    duty=st.floats(0, 1),
    load=st.floats(0, 2),
    mood=MOOD,
    at=st.just(NOW),
    switches=st.frozensets(st.sampled_from([trigger.name for trigger in TRIGGERS])),
    temperament=TEMPERAMENT,
)
TIME = st.floats(0, 1e6)


def values(state: PersonaState) -> list[float]:
    return [state.energy, *attrs.astuple(state.mood)]


@given(STATE, TIME)
def test_everything_stays_in_its_range(state: PersonaState, time: float) -> None:
    later = state.advance(NOW + time)
    assert 0 <= later.energy <= 1
    assert all(-1 <= axis <= 1 for axis in attrs.astuple(later.mood))
    assert later.at == NOW + time


@given(STATE)
def test_no_time_changes_nothing(state: PersonaState) -> None:
    assert state.advance(NOW) == state


@given(STATE, st.integers(0, 10**6), st.integers(0, 10**6))
def test_time_in_pieces_is_time_at_once(state: PersonaState, a: int, b: int) -> None:
    # Whole seconds: at today's wall clock a fraction would be rounded differently in pieces than at once.
    in_pieces, at_once = state.advance(NOW + a).advance(NOW + a + b), state.advance(NOW + a + b)
    assert values(in_pieces) == pytest.approx(values(at_once), rel=1e-9, abs=1e-9)


@given(STATE, TIME, TIME)
def test_rest_only_helps(state: PersonaState, a: float, b: float) -> None:
    resting = attrs.evolve(state, duty=0.0)
    early, late = (resting.advance(NOW + t).energy for t in sorted((a, b)))
    assert resting.energy <= early <= late


@given(STATE, st.floats(0, 1), TIME)
def test_more_energy_now_is_not_less_later(state: PersonaState, other: float, time: float) -> None:
    low, high = sorted((state.energy, other))
    poor, rich = (attrs.evolve(state, energy=energy).advance(NOW + time).energy for energy in (low, high))
    assert poor <= rich + 1e-12


@given(STATE, st.floats(0, 1), TIME)
def test_more_work_never_leaves_more_energy(state: PersonaState, other: float, time: float) -> None:
    # Between floor and ceiling; below its floor even work would lift the energy.
    start = max(state.energy, state.temperament.exhausted)
    state = attrs.evolve(state, energy=start)
    less, more = sorted((state.duty, other))
    lazy, busy = (attrs.evolve(state, duty=duty).advance(NOW + time).energy for duty in (less, more))
    assert busy <= lazy + 1e-9


@given(STATE, st.floats(0, 1e6))
def test_a_clock_set_back_makes_no_time_pass(state: PersonaState, back: float) -> None:
    earlier = state.advance(NOW - back)
    assert values(earlier) == values(state)
    assert earlier.at == NOW - back
    assert earlier.advance(NOW - back + 10).energy == pytest.approx(state.advance(NOW + 10).energy, abs=1e-6)


@given(STATE, TEMPERAMENT)
def test_a_state_never_contradicts_itself(state: PersonaState, own: Temperament) -> None:
    for one in (state, attrs.evolve(state, temperament=own), attrs.evolve(state, switches=frozenset())):
        for trigger in TRIGGERS:
            value, on = trigger.value(one), trigger.name in one.switches
            assert on == trigger.position(value, was_on=on), trigger.name
        assert not {"content", "upset"} <= one.switches


@given(STATE)
def test_the_next_crossing_changes_a_label_and_nothing_before_does(state: PersonaState) -> None:
    at = state.next_crossing_at(NOW)
    assert at > NOW
    if at == math.inf:
        assert state.advance(NOW + 1e9).switches == state.switches
        return
    assert state.advance(at).switches != state.switches
    before = state.advance(NOW + max(0.0, (at - NOW) * 0.99 - 0.5))
    # Where a target lies on an edge the value creeps up to it, and the tolerance is a matter of minutes.
    creeping = any(
        abs(trigger.value(before) - edge) < 1e-5 for trigger in TRIGGERS for edge in (trigger.on, trigger.off)
    )
    assert creeping or before.switches == state.switches


@given(STATE, st.floats(0.01, 0.9))
def test_asking_later_gives_the_same_instant(state: PersonaState, part: float) -> None:
    at = state.next_crossing_at(NOW)
    if 10 < at - NOW < 1e6:
        between = NOW + (at - NOW) * part
        assert state.next_crossing_at(between) == pytest.approx(at, abs=0.5)
        assert state.advance(between).next_crossing_at(between) == state.next_crossing_at(between)


@given(STATE)
def test_crossings_come_to_an_end(state: PersonaState) -> None:
    wakes = 0
    while (at := state.next_crossing_at(state.at)) < math.inf:
        assert at > state.at
        state = state.advance(at)
        wakes += 1
    assert wakes <= 6, "energy passes two edges at most, arousal two, pleasure two"


def test_the_fully_rested_have_nothing_to_wait_for() -> None:
    state = PersonaState.rested(NOW)
    assert (state.energy, state.label, state.temper) == (1.0, "idle", "calm")
    assert state.next_crossing_at(NOW) == math.inf
    assert state.next_crossing_at(NOW + 1e6) == math.inf


@given(STATE, TIME)
def test_work_pulls_at_arousal_alone_and_quiet_work_at_nothing(state: PersonaState, time: float) -> None:
    before = state.advance(NOW + time)
    busy, quiet = (state.begin_work(NOW + time, lively=lively) for lively in (True, False))
    assert (busy.duty, quiet.duty) == (1.0, 1.0)
    assert quiet.mood == before.mood
    assert attrs.evolve(busy.mood, arousal=before.mood.arousal) == before.mood
    assert busy.mood.arousal == pytest.approx((before.mood.arousal + 0.8) / 2)


@given(TEMPERAMENT)
def test_whoever_is_at_rest_in_his_usual_mood_has_nothing_to_wait_for(own: Temperament) -> None:
    assert PersonaState.rested(NOW, own).next_crossing_at(NOW) == math.inf


@given(STATE, st.floats(0, 1e5), st.floats(0, 1e5))
def test_costs_add_up(state: PersonaState, a: float, b: float) -> None:
    twice = state.end_work(NOW, a).end_work(NOW, b)
    assert twice.energy == pytest.approx(state.end_work(NOW, a + b).energy, rel=1e-9, abs=1e-12)
    assert twice.duty == 0.0


@given(STATE, MOOD, st.floats(0, 1), st.floats(0, 1))
def test_appraisals_compose(state: PersonaState, point: Mood, i: float, j: float) -> None:
    twice = state.appraise(NOW, Appraisal(point, i)).appraise(NOW, Appraisal(point, j))
    once = state.appraise(NOW, Appraisal(point, 1 - (1 - i) * (1 - j)))
    assert values(twice) == pytest.approx(values(once), abs=1e-12)


@settings(max_examples=short_or_full(80, 200))
@given(
    STATE,
    st.lists(
        st.one_of(
            st.tuples(st.sampled_from(["begin", "begin quietly"]), st.just(0.0)),
            st.tuples(st.just("end"), st.floats(0, 1e5)),
            st.tuples(st.just("burden"), st.floats(0, 2)),
            st.tuples(st.just("pass"), st.floats(0, 1e4)),
            st.tuples(st.sampled_from(sorted(APPRAISALS)), st.just(0.0)),
        ),
        max_size=20,
    ),
)
def test_no_history_leads_out_of_range_or_to_an_unknown_label(
    state: PersonaState, history: list[tuple[str, float]]
) -> None:
    for what, amount in history:
        now = state.at
        if what.startswith("begin"):
            state = state.begin_work(now, lively=what == "begin")
        elif what == "end":
            state = state.end_work(now, amount)
        elif what == "burden":
            state = state.burden(now, amount)
        elif what == "pass":
            state = state.advance(now + amount)
        else:
            state = state.appraise(now, APPRAISALS[what])
        assert 0 <= state.energy <= 1
        assert state.threshold == ENGAGEMENT[state.label][state.temper]
        assert state.next_crossing_at(state.at) > state.at


def test_hysteresis_keeps_a_label_between_its_edges() -> None:
    tired = PersonaState(at=NOW, energy=0.29)
    assert tired.label == "tired"
    assert attrs.evolve(tired, energy=0.49).label == "tired", "not rested yet"
    assert attrs.evolve(tired, energy=0.51).label == "idle"
    assert PersonaState(at=NOW, energy=0.31).label == "idle", "not tired yet"
    swamped = PersonaState(at=NOW).burden(NOW, 0.8)
    assert swamped.label == "overwhelmed"
    assert swamped.burden(NOW, 0.61).label == "overwhelmed"
    assert swamped.burden(NOW, 0.59).label == "idle"


def test_every_cell_of_the_table_makes_a_difference() -> None:
    cells = [threshold for row in ENGAGEMENT.values() for threshold in row.values()]
    assert all(0 < threshold < 1 for threshold in cells), (
        "there is something to refuse and something to serve"
    )
    for row in ENGAGEMENT.values():
        assert row["content"] < row["calm"] < row["upset"]
    for eager, reluctant in itertools.pairwise(ENGAGEMENT.values()):
        assert all(eager[temper] < reluctant[temper] for temper in eager)


def test_half_spent_and_just_back_from_work_is_not_the_most_eager() -> None:
    state = PersonaState.rested(NOW).begin_work(NOW).end_work(NOW + 60, cost=17_000.0)
    assert 0.3 < state.energy < 0.5
    assert state.label == "active"
    assert state.threshold > ENGAGEMENT["idle"]["calm"]


def test_it_survives_storage() -> None:
    state = PersonaState.rested(NOW).begin_work(NOW).end_work(NOW + 100, cost=30_000.0)
    stored = json.loads(json.dumps(state.to_builtins()))
    assert PersonaState.from_builtins(stored) == state


@given(STATE)
def test_any_state_survives_storage(state: PersonaState) -> None:
    stored = json.loads(json.dumps(state.to_builtins()))
    assert PersonaState.from_builtins(stored, state.temperament) == state


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"energy": 2.0}, "energy is 2.0"),
        ({"at": "x"}, r"\$.at"),
        ({"mood": {"pleasure": 9.0}}, "pleasure is 9.0"),
    ],
)
def test_what_was_stored_badly_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=text):
        PersonaState.from_builtins(PersonaState.rested(NOW).to_builtins() | change)


def test_a_process_that_was_down_all_night_wakes_up_rested() -> None:
    worn_out = PersonaState.rested(NOW).burden(NOW, 1.0).begin_work(NOW).advance(NOW + 4 * HOUR)
    assert worn_out.label == "overwhelmed"
    awake = PersonaState.from_builtins(worn_out.to_builtins()).wake(NOW + 12 * HOUR)
    assert awake.energy == pytest.approx(1.0, abs=1e-3)
    assert (awake.label, awake.temper, awake.duty, awake.load) == ("idle", "calm", 0.0, 0.0)


def test_a_day_wakes_up_for_its_work_and_its_crossings_and_for_nothing_else() -> None:
    """24 virtual hours with one answer every 10 minutes in the first 8: counted, not ticked."""
    state, wakes, labels = PersonaState.rested(NOW), 0, ["idle"]
    jobs = [NOW + 600.0 * number for number in range(48)]
    ends = [start + 120.0 for start in jobs]
    events = sorted([(at, "begin") for at in jobs] + [(at, "end") for at in ends])
    end = NOW + 24 * HOUR

    def note() -> None:
        if state.label != labels[-1]:
            labels.append(state.label)

    for at, what in [*events, (end, "stop")]:
        while (crossing := state.next_crossing_at(state.at)) < at:
            state, wakes = state.advance(crossing), wakes + 1
            note()
        state = (
            state.begin_work(at) if what == "begin" else state.end_work(at, 3_000.0 if what == "end" else 0.0)
        )
        note()
    assert state.next_crossing_at(state.at) == math.inf, "after the day's work nothing is left to wait for"
    assert labels[0] == labels[-1] == "idle"
    assert set(labels) == {"idle", "active"}
    assert wakes <= 4, "an idle half day costs as many wake-ups as there are thresholds to cross"
