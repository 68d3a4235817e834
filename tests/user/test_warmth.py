"""How lively a room is: in its bounds, hot after six messages, and cold again by itself."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.priority import HOT
from rtos.user.warmth import COOLING, Warmth

TIMES = st.lists(st.floats(0.0, 600.0), max_size=40).map(sorted)


@given(TIMES)
def test_it_stays_between_nothing_and_one(times: list[float]) -> None:
    room = Warmth()
    for at in times:
        before = room.after(at)
        room = room.warmed(at)
        assert 0.0 <= before < room.value <= 1.0 or room.value == pytest.approx(1.0)


@given(TIMES, st.floats(0.0, 1000.0), st.floats(0.0, 1000.0))
def test_time_added_in_pieces_is_time_added_at_once(times: list[float], one: float, other: float) -> None:
    room = Warmth()
    for at in times:
        room = room.warmed(at)
    halfway = Warmth(room.after(room.at + one), room.at + one)
    assert halfway.after(halfway.at + other) == pytest.approx(room.after(room.at + one + other), abs=1e-12)


def test_six_messages_within_seconds_make_a_room_hot_and_a_minute_without_any_cools_it() -> None:
    room = Warmth()
    trace = []
    for second in range(6):
        room = room.warmed(float(second))
        trace.append(room.value >= HOT)
    assert trace == [False, False, False, False, False, True]
    assert room.after(5.0 + 60.0) < HOT
    assert room.after(5.0 + COOLING) == pytest.approx(room.value / 2.718281828459045)


def test_a_clock_that_is_set_back_cools_nothing() -> None:
    room = Warmth().warmed(100.0)
    assert room.after(50.0) == room.value
