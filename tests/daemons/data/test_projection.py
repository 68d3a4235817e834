"""Which fields come back, and how deep."""

from __future__ import annotations

import pytest

from rtos.daemons.data.projection import parse_fields, projected
from rtos.errors import CommandRejected

RECORD = {"id": "a", "version": 2, "n": None, "d": {"e": {"f": 1, "g": 2}, "h": 3}, "l": ["x", "y"]}
ALWAYS = {"id": "a", "version": 2}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ([], {}),
        (["id"], {}),
        (["n", "missing", "d.missing", "n.x"], {"n": None}),
        (["d.e.f"], {"d": {"e": {"f": 1}}}),
        (["d.e.f", "d.h"], {"d": {"e": {"f": 1}, "h": 3}}),
        (["d", "d.e.f"], {"d": RECORD["d"]}),
        (["d.e.f", "d.e", "d.e.g"], {"d": {"e": {"f": 1, "g": 2}}}),
        (["l.1"], {"l": {"1": "y"}}),
        (["l.1", "l"], {"l": ["x", "y"]}),
    ],
    ids=str,
)
def test_only_what_is_asked_for_comes_back(fields, wanted) -> None:
    before = repr(RECORD)
    assert projected(RECORD, parse_fields("data/list", fields)) == {**ALWAYS, **wanted}
    assert repr(RECORD) == before


def test_nothing_asked_for_is_all_of_it() -> None:
    assert projected(RECORD, parse_fields("data/list", None)) == RECORD


@pytest.mark.parametrize(
    ("fields", "match"), [(["a b"], "'a b' is no field"), (["a"] * 65, "65 fields; use")]
)
def test_what_is_no_field_is_refused(fields, match) -> None:
    with pytest.raises(CommandRejected, match=match) as caught:
        parse_fields("data/list", fields)
    assert caught.value.parameter == "fields"
