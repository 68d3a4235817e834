"""Spans of time, however they are written."""

from __future__ import annotations

import pytest

from rtos.daemons.data.query import Compare, Every
from rtos.daemons.data.timerange import parse_time_range
from rtos.errors import CommandRejected


@pytest.mark.parametrize(
    ("given", "moment"),
    [
        ("2026-01-31", "2026-01-31T00:00:00.000000Z"),
        ("2026-01-31T12:00", "2026-01-31T12:00:00.000000Z"),
        ("2026-01-31T12:00:00.5Z", "2026-01-31T12:00:00.500000Z"),
        ("2026-01-31T01:00:00+02:00", "2026-01-30T23:00:00.000000Z"),
        ("0099-01-01", "0099-01-01T00:00:00.000000Z"),
    ],
)
def test_a_moment_is_written_as_records_have_it(given, moment) -> None:
    condition = parse_time_range("data/list", {"start": given, "end": given})
    assert condition == Every((Compare("created_at", "$gte", moment), Compare("created_at", "$lt", moment)))


def test_no_span_is_all_of_time() -> None:
    assert parse_time_range("data/list", None) == parse_time_range("data/list", {}) == Every(())


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"from": "2026-01-31"}, "it has no 'from'; give start, end or both"),
        ({"start": "yesterday"}, "start is 'yesterday'; use a date"),
        ({"end": 7}, "end is 7"),
        ({"end": None}, "end is None"),
        ({"start": "0001-01-01T00:00:00+12:00"}, "start is"),
    ],
)
def test_what_is_no_span_is_refused(given, match) -> None:
    with pytest.raises(CommandRejected, match=match) as caught:
        parse_time_range("data/list", given)
    assert caught.value.parameter == "time_range"
