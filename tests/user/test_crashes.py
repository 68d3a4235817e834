from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from rtos.user.crashes import BACKOFF, MOST, WINDOW, CrashLoop


def test_each_start_comes_later_and_then_none() -> None:
    crashes = CrashLoop()
    delays = [crashes.note(float(number)) for number in range(MOST)]
    assert delays[:-1] == [0.2, 0.4, 0.8, 1.6]
    assert delays[-1] == math.inf


def test_what_is_long_ago_does_not_count() -> None:
    crashes = CrashLoop()
    for number in range(100):
        assert crashes.note(number * WINDOW) == BACKOFF.first


@given(st.lists(st.floats(0, WINDOW), min_size=1, max_size=40))
def test_it_is_given_up_exactly_when_so_many_fall_into_one_window(pauses: list[float]) -> None:
    crashes, times, now = CrashLoop(), [], 0.0
    for pause in pauses:
        now += pause
        times.append(now)
        lately = [time for time in times if time > now - WINDOW]
        assert (crashes.note(now) == math.inf) == (len(lately) >= MOST)
