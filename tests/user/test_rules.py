"""The rules of fields: each accepts up to its bound, and says what to do past it."""

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.rules import at_least, finite, non_blank, one_segment, short, small, unique, within


def check(rule: Any, value: Any) -> None:
    made = attrs.make_class("Made", {"field": attrs.field(validator=rule)})
    made(value)


@pytest.mark.parametrize(
    ("rule", "good", "bad", "text"),
    [
        (non_blank, " x ", " \t\n", "field is blank; give some text"),
        (one_segment, "joel", "../x", "field '../x' is not a user id; use letters"),
        (unique, ("a", "b"), ("a", "a"), "field has an entry twice"),
        (finite, 1.0, math.nan, "field is nan; give a finite number"),
        (finite, -1.0, math.inf, "field is inf; give a finite number"),
        (short(3), "äöü", "abcd", "field has 4 characters, more than 3; shorten it"),
        (short(1), ("abcd",), ("a", "b"), "field has 2 entries, more than 1"),
        (small(4), "äö", "äöü", "field has 6 bytes, more than 4; shorten it"),
        (at_least(1), 1, 0, "field is 0; give 1 or more"),
        (within(0.0, 1.0), 1.0, 1.1, "field is 1.1; give 0.0 to 1.0"),
        (within(0.0, 1.0), 0.0, math.nan, "field is nan; give 0.0 to 1.0"),
    ],
)
def test_rules(rule: Any, good: object, bad: object, text: str) -> None:
    check(rule, good)
    with pytest.raises(ValueError, match=text):
        check(rule, bad)


def test_errors_do_not_repeat_a_long_value() -> None:
    with pytest.raises(ValueError, match="is not a user id") as caught:
        check(one_segment, "x/" * 10_000)
    assert len(str(caught.value)) < 150


@given(st.text(), st.integers(0, 20))
def test_small_counts_the_bytes_that_are_stored(text: str, limit: int) -> None:
    if len(text.encode("utf-8", "replace")) <= limit:
        check(small(limit), text)
    else:
        with pytest.raises(ValueError, match="bytes, more than"):
            check(small(limit), text)
