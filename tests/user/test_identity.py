"""User ids and slugs: nothing accepted here can leave a folder."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.errors import CommandRejected
from rtos.user.identity import MAX_USER_ID, is_user_id, slug, validate_user_id

HOSTILE = [
    "",
    ".",
    "..",
    "/",
    "../x",
    "a/b",
    "a\\b",
    "a\0b",
    "\0",
    " a",
    "a ",
    "a\n",
    "-rf",
    ".hidden",
    "_x",
    "joel.",
    "joël",
    "\uff4aoel",  # full-width letter
    "jo\u200bel",  # zero-width space
    "jo\u202eel",  # right-to-left override
    "a\u2044b",  # fraction slash
    "\u0661",  # a digit, but not an ASCII one
    "~",
    "a:b",
    "x" * (MAX_USER_ID + 1),
]


@pytest.mark.parametrize("value", HOSTILE)
def test_hostile_ids_are_rejected(value: str) -> None:
    with pytest.raises(CommandRejected, match="parameter 'user_id'") as caught:
        validate_user_id(value)
    assert caught.value.parameter == "user_id"


@pytest.mark.parametrize("value", [None, 7, b"joel", ["joel"], Path("joel")])
def test_only_text_is_an_id(value: object) -> None:
    with pytest.raises(CommandRejected, match="is not text"):
        validate_user_id(value)


@pytest.mark.parametrize(
    "value",
    ["joel", "helper-ai", "0", "A.b_c-d", "a..b", "x" * MAX_USER_ID, "5f0c9a4e-1d2b-4c3d-8e9f-0a1b2c3d4e5f"],
)
def test_usual_ids_are_accepted_unchanged(value: str) -> None:
    assert validate_user_id(value) == value


def test_the_error_names_the_command_and_is_short() -> None:
    with pytest.raises(
        CommandRejected, match=r"^data/read: .*has 100000 characters, more than 128; start"
    ) as caught:
        validate_user_id("x" * 100_000, "data/read")
    assert len(str(caught.value)) < 250


@given(st.text(max_size=200))
def test_what_is_accepted_is_one_plain_segment(value: str) -> None:
    if is_user_id(value):
        assert (Path("/root/users") / value).parent == Path("/root/users")
        assert value.isascii()
        assert not set(value) & set("/\\\0 ")
        assert validate_user_id(value) == value
    else:
        with pytest.raises(CommandRejected, match="user_id"):
            validate_user_id(value)


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_the_rule_is_the_one_that_is_promised(value: str) -> None:
    assert is_user_id(value) == (not value.endswith("."))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Helper AI", "helper-ai"),
        ("  Joel  ", "joel"),
        ("Zoë Müller", "zoe-muller"),
        ("Claude 3.5 (beta)", "claude-3-5-beta"),
        ("../../etc/passwd", "etc-passwd"),
        ("x" * 300, "x" * MAX_USER_ID),
    ],
)
def test_slugs(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_a_name_without_ascii_letters_still_has_an_id_of_its_own() -> None:
    assert re.fullmatch(r"user-[0-9a-f]{12}", slug("山田"))
    assert slug("山田") == slug("山田") != slug("田中")


@pytest.mark.parametrize("name", ["", " ", "\t\n"])
def test_a_blank_name_is_rejected(name: str) -> None:
    with pytest.raises(CommandRejected, match="display_name"):
        slug(name)


@given(st.text().filter(str.strip))
def test_a_slug_is_an_id_and_its_own_slug(name: str) -> None:
    made = slug(name)
    assert is_user_id(made)
    assert slug(made) == made
