"""Which patterns are let in."""

from __future__ import annotations

import pytest

from rtos.daemons.data.regex import MOST_LOOSE, may_explode

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
    # What does not count must not hide the repeat that stands behind it.
    "(?x)(a+) +$",
    "(?ix:(a+) *)",
    "(a+)(?#why)+",
    # No group is repeated, and yet each piece doubles the ways.
    "a?" * 30 + "a" * 30,
    "(?:aa|.a)" * 20 + "b",
    "a*" * 20 + "b",
    "a{0,9}" * 20,
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
    "^\\d{4}-\\d{2}-\\d{2}T\\d{2}:\\d{2}:\\d{2}Z$",
    "mon|tue|wed|thu|fri|sat|sun|one|two|three",
    "^.*?a+?b??$",
    "\\(?#",
    "[(?#]x+",
]


@pytest.mark.parametrize("pattern", EXPLODES)
def test_what_may_take_for_ever_is_told(pattern) -> None:
    assert may_explode(pattern)


def test_the_bound_is_the_one_that_is_documented() -> None:
    assert not may_explode("a*" * MOST_LOOSE)
    assert may_explode("a*" * (MOST_LOOSE + 1))


@pytest.mark.parametrize("pattern", FINE)
def test_what_is_used_every_day_is_let_in(pattern) -> None:
    assert not may_explode(pattern)
