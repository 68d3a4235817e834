"""Priorities: each term as the table has it, and what counts as a mention."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.priority import PRIORITY, Circumstances, applying, mentions, priority, touches

OLD = 10_000.0


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        (Circumstances(age=OLD), {"base": 0.2}),
        (Circumstances(age=OLD, human=True), {"base": 0.2, "human": 0.3}),
        (Circumstances(age=OLD, mention=True), {"base": 0.2, "mention": 0.4}),
        (Circumstances(age=0.0), {"base": 0.2, "fresh": 0.2}),
        (Circumstances(age=59.9), {"base": 0.2, "fresh": 0.2}),
        (Circumstances(age=60.0), {"base": 0.2, "recent": 0.1}),
        (Circumstances(age=299.9), {"base": 0.2, "recent": 0.1}),
        (Circumstances(age=300.0), {"base": 0.2}),
        (Circumstances(age=OLD, known_room=True), {"base": 0.2, "known room": 0.1}),
        (Circumstances(age=OLD, expertise=True), {"base": 0.2, "expertise": 0.1}),
        (Circumstances(age=OLD, watched=True), {"base": 0.2, "watched": 0.15}),
        (Circumstances(age=OLD, temperature=0.7), {"base": 0.2, "hot room": 0.1}),
        (Circumstances(age=OLD, temperature=0.1), {"base": 0.2}),
    ],
)
def test_every_term_of_the_table(about: Circumstances, expected: dict[str, float]) -> None:
    assert applying(about) == expected
    assert priority(about) == pytest.approx(sum(expected.values()))


CIRCUMSTANCES = st.builds(
    Circumstances,
    human=st.booleans(),
    mention=st.booleans(),
    age=st.floats(0, 1e6),
    known_room=st.booleans(),
    expertise=st.booleans(),
    watched=st.booleans(),
    temperature=st.floats(0, 1),
)


@given(CIRCUMSTANCES)
def test_a_priority_is_the_sum_of_its_terms_cut_to_one(about: Circumstances) -> None:
    assert priority(about) == min(1.0, sum(applying(about).values()))
    assert PRIORITY["base"] <= priority(about) <= 1.0


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("@Helper AI, where is it?", "Helper AI"),
        ("ask @helper-ai.", "Helper AI"),
        ("(@HELPER-AI)", "Helper AI"),
        ("@joel", "Joel"),
        ("thanks @c++!", "C++"),
    ],
)
def test_mentions(text: str, name: str) -> None:
    assert mentions(text, name)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Helper AI", "Helper AI"),
        ("me@joel", "Joel"),
        ("@joella", "Joel"),
        ("@joel-the-second", "Joel"),
        ("@", " "),
        ("@helper", "Helper AI"),
    ],
)
def test_no_mentions(text: str, name: str) -> None:
    assert not mentions(text, name)


@given(st.text(max_size=50), st.text(max_size=20))
def test_no_text_or_name_breaks_the_search_for_mentions(text: str, name: str) -> None:
    assert mentions(text, name) in (True, False)


def test_expertise_is_whole_words_in_any_case() -> None:
    assert touches("How is SQLite set up?", ["sqlite"])
    assert touches("what is c++ good for", ["C++"])
    assert not touches("sqlites", ["sqlite"])
    assert not touches("anything", ["", " "])
    assert not touches("anything", [])
