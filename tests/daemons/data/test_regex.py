"""Which patterns are let in."""

from __future__ import annotations

import pytest

from rtos.daemons.data.regex import may_explode

EXPLODES = [
    "(a+)+$",
    "(a|aa)+",
    "((a)*b)*",
    "(?:a{2,5})*",
    "((?:x+))+",
    "(a?a?)*",
    "(a)\\1",
    "(?P<n>a)(?P=n)",
    "(a*){5,}",
    "(\\w+\\s?)*",
]
FINE = [
    "(ab)+",
    "a+b+",
    "[(+]+x",
    "\\(a+\\)+",
    "(a+)?",
    "^a.*b$",
    "[]+)]+",
    "(a|b)",
    "(?i)ab+",
    "\\d{2,4}-\\d+",
    "[^]]+",
    "",
    ")",
    "a{1}",
    "\\0+",
    "(?:abc){3}",
    "x(?=y)",
]


@pytest.mark.parametrize("pattern", EXPLODES)
def test_what_may_take_for_ever_is_told(pattern) -> None:
    assert may_explode(pattern)


@pytest.mark.parametrize("pattern", FINE)
def test_what_is_used_every_day_is_let_in(pattern) -> None:
    assert not may_explode(pattern)
