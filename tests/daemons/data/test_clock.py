"""Timestamps of records only ever go forward."""

from __future__ import annotations

import pytest

from rtos.daemons.data import RecordClock
from rtos.daemons.data.clock import format_timestamp


def test_a_clock_that_stands_or_goes_back_gives_later_ones_all_the_same() -> None:
    wall = iter([5_000, 5_999, 5_000, 1_000, 9_000_000])
    clock = RecordClock(lambda: next(wall))
    given = [clock.next() for _ in range(5)]
    assert given == [format_timestamp(micros) for micros in (5, 6, 7, 8, 9_000)]


def test_they_are_iso_8601_in_utc_and_sort_as_text() -> None:
    assert format_timestamp(0) == "1970-01-01T00:00:00.000000Z"
    assert format_timestamp(1_700_000_000_000_001) == "2023-11-14T22:13:20.000001Z"


def test_what_a_store_holds_may_be_ahead() -> None:
    clock = RecordClock(lambda: 0)
    clock.advance_to("2030-01-01T00:00:00.000000Z")
    clock.advance_to("2029-01-01T00:00:00.000000Z")
    assert clock.next() == "2030-01-01T00:00:00.000001Z"
    for wrong in ("yesterday", "2031-01-01T00:00:00", "2031-01-01T00:00:00.000000+01:00"):
        with pytest.raises(ValueError, match="does not match"):
            clock.advance_to(wrong)
