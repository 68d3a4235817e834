"""Words: the terms of a question, and which words are the same."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.words import MAX_TERMS, STOP_WORDS, WEAK_WORDS, read, stem, terms


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("where does a user's database live?", ["user", "database", "live"]),
        ("Where does a user\u2019s \u201cdatabase\u201d live", ["user", "database", "live"]),
        ("the users' rooms", ["users", "rooms"]),
        ("What's the `data/longterm.db` path?", ["data", "longterm", "db", "path"]),
        ("isn't it don't", []),
        ("who are you?", []),
        ("", []),
        ("path path PATH", ["path"]),
        ("user_state of größe 12", ["user", "state", "größe", "12"]),
    ],
)
def test_terms(question: str, expected: list[str]) -> None:
    assert terms(question) == expected


def test_a_long_question_asks_for_no_more_than_its_beginning() -> None:
    assert len(terms(" ".join(f"w{number}" for number in range(1000)))) == MAX_TERMS


@given(st.text())
def test_terms_are_plain_words_each_once_and_stay_terms(question: str) -> None:
    found = terms(question)
    assert len(set(found)) == len(found)
    assert not set(found) & STOP_WORDS
    assert all(not set(word) & set("\"'*() \t\n:^-") for word in found)


@pytest.mark.parametrize(
    "family",
    [
        ["delete", "deletes", "deleted", "deleting", "deletion"],
        ["migrate", "migration", "migrations", "migrated"],
        ["manager", "managers"],
        ["utility", "utilities"],
        ["stop", "stopped", "stopping", "stops"],
        ["pass", "passing", "passes", "passed"],
        ["database", "databases", "db", "dbs"],
        ["directory", "directories", "dir", "dirs"],
        ["box", "boxes"],
        ["call", "calling", "calls"],
    ],
)
def test_families_share_a_stem(family: list[str]) -> None:
    assert len({stem(word) for word in family}) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("user", "us"), ("data", "date"), ("bus", "bu"), ("string", "str")]
)
def test_strangers_do_not(one: str, other: str) -> None:
    assert stem(one) != stem(other)


@given(st.text(st.characters(categories=["Ll", "Nd"]), min_size=1))
def test_a_stem_is_never_empty(word: str) -> None:
    assert stem(word)


def test_a_composed_name_is_found_whole_and_by_its_parts() -> None:
    (word,) = read("DataDaemon")
    assert word.forms == {stem("datadaemon"), "data", "daemon"}
    (word,) = read("HTTPServer2")
    assert {"http", stem("server2")} <= word.forms


@given(st.text())
def test_words_are_where_they_are_said_to_be(text: str) -> None:
    found = read(text)
    assert all(text[word.start : word.end].isalnum() for word in found)
    assert all(one.end <= other.start for one, other in itertools.pairwise(found))


def test_no_word_is_both_empty_and_weak() -> None:
    assert not STOP_WORDS & WEAK_WORDS
