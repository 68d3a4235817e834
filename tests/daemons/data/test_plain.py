"""What a record may hold."""

from __future__ import annotations

import enum
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.daemons.data.plain import MOST_WORDS, copied, first_unknown, plain, wanted_words

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(value=PLAIN)
def test_a_plain_value_survives_being_written(value) -> None:
    assert repr(plain(value)) == repr(value)
    assert repr(msgspec.json.decode(msgspec.json.encode(plain(value)))) == repr(value)
    assert repr(copied(value)) == repr(value)


def test_nothing_is_shared_with_what_was_given() -> None:
    given = {"a": [1, {"b": []}]}
    for copy in (plain(given), copied(given)):
        copy["a"][1]["b"].append(1)
    assert given == {"a": [1, {"b": []}]}


def test_tuples_become_lists() -> None:
    assert plain({"a": (1, (2,))}) == {"a": [1, [2]]}


class Colour(str, enum.Enum):  # noqa: UP042 - the older kind, whose str() is its name
    RED = "red"


class Size(enum.IntEnum):
    BIG = 3


def test_a_member_of_an_enumeration_is_its_value() -> None:
    given = plain({"c": Colour.RED, Colour.RED: Size.BIG})
    assert repr(given) == "{'c': 'red', 'red': 3}"


def test_words_are_wanted_once_and_an_accent_belongs_to_its_letter() -> None:
    assert wanted_words("the Quay, the_quay: the r\u00e9sum\u00e9") == [
        "the",
        "Quay",
        "the_quay",
        "r\u00e9sum\u00e9",
    ]
    assert wanted_words("re\u0301sume\u0301") == ["r\u00e9sum\u00e9"]
    assert len(wanted_words(" ".join(map(str, range(5000))))) == MOST_WORDS


DEEP: list = []
for _ in range(100):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (math.nan, "it.x is nan"),
        (math.inf, "it.x is inf"),
        (2**63, "more than 64 bits"),
        (-(2**63) - 1, "more than 64 bits"),
        ("\ud800", "half a surrogate pair"),
        ({"\ud800": 1}, "half a surrogate pair"),
        ({1: 2}, "a key of it.x is 1"),
        (b"x", "it.x is a bytes"),
        ({1, 2}, "it.x is a set"),
        ([0, [object()]], "it.x\\[1\\]\\[0\\] is a object"),
        (DEEP, "nested more than 64 deep"),
    ],
    ids=lambda value: str(type(value)),
)
def test_what_cannot_be_stored_is_named(value, text) -> None:
    with pytest.raises(ValueError, match=text):
        plain({"x": value})


def test_what_holds_itself_is_refused() -> None:
    ring: list = []
    ring.append(ring)
    with pytest.raises(ValueError, match="deep"):
        plain(ring)


def test_the_first_unknown_key_is_found_however_deep() -> None:
    known = {"a": 1, "b": [{"c": 1}, {"c": 2}]}
    assert first_unknown({"a": 2, "b": [{}, {"c": 1}]}, known) is None
    assert first_unknown({"b": [{"c": 1}, {"d": 2}]}, known) == "b[1].d"
    assert first_unknown({"z": 1}, known) == "z"
