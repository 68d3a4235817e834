"""Ranking: each signal alone, on texts made for it; and what holds for any text."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.passages import Passage
from rtos.user.ranking import KNOWN, rank


def passage(text: str, heading: str = "", name: str = "n") -> Passage:
    return Passage(id=text, text=text, source=name, heading=heading)


def best(question: str, *candidates: Passage | str) -> str:
    return rank(question, [one if isinstance(one, Passage) else passage(one) for one in candidates])[
        0
    ].passage.text


@pytest.mark.parametrize(
    ("why", "question", "better", "worse"),
    [
        ("more of the words", "red apple price", "a red apple has its price", "a red car"),
        ("the rarer word", "zebra stable", "the zebra is striped", "the stable is brown. stable, stable"),
        ("inflections count", "deleted managers", "deleting one manager", "the manual says little"),
        ("together", "red apple", "the red apple", "red " + "and so on " * 10 + "apple"),
        ("a label", "goal of it", "**Goal**: to win", "some goal or other"),
        ("prose before code", "fallback path", "the fallback path", "```\nthe fallback path\n```"),
        (
            "where: a path",
            "where is the cache?",
            "the cache is in `/var/cache/x`",
            "the cache is fast and good",
        ),
        ("where: a place", "where is the office?", "the office is in Berlin", "the office is closed today"),
        ("which path", "what is the path of the log?", "log: `a/b/c.log`", "the path of the log may vary"),
        ("how many: a number", "how many tests pass?", "12 tests pass", "all tests pass"),
        ("how many: in words", "how many tests pass?", "twelve tests pass", "the tests pass"),
        ("when: a date", "when was it founded?", "it was founded in March 1998", "it was founded by friends"),
        (
            "who: a name",
            "who wrote the parser?",
            "the parser was written, says Ada",
            "the parser was rewritten twice",
        ),
        (
            "why: a reason",
            "why is polling bad?",
            "polling is bad because it wakes",
            "polling is bad and loud",
        ),
    ],
)
def test_signals(why: str, question: str, better: str, worse: str) -> None:
    extra = ["a stable thing", "one stable more"]
    assert best(question, worse, better, *extra) == better, why
    assert best(question, better, worse, *extra) == better, why


def test_a_heading_counts_for_its_passages() -> None:
    under = passage("to win", heading="Book > Goal")
    assert best("what is the goal?", "something else", under) == "to win"
    assert rank("what is the goal?", [under])[0].coverage == 1.0


def test_the_nearest_heading_counts_for_more() -> None:
    near, far = passage("x", heading="Book > Goal"), passage("y", heading="Goal > Book")
    assert best("what is the goal?", far, near) == "x"


def test_the_word_for_asking_may_be_missing_from_the_answer() -> None:
    found = rank("where does the cat live?", [passage("the cat: `/home/cat`"), passage("cats are fine")])
    assert found[0].passage.text.startswith("the cat:")
    assert found[0].coverage >= KNOWN


def test_a_word_that_nobody_knows_weighs_against_knowing() -> None:
    found = rank("who is the president of the user?", [passage("a user"), passage("another user")])
    assert found[0].coverage < KNOWN


def test_nothing_asked_nothing_found() -> None:
    assert rank("", [passage("anything")]) == []
    assert rank("who are you?", [passage("you are here")]) == []
    assert rank("zebra", [passage("horse")]) == []
    assert rank("zebra", []) == []


TEXT = st.lists(
    st.sampled_from(
        ["red", "apple", "path", "a/b/c.d", "12", "Ada", "```", "\n", ":", "users", "userId", "because"]
    ),
    max_size=25,
).map(" ".join)
QUESTION = st.lists(
    st.sampled_from(
        ["where", "how many", "who", "why", "red", "apples", "path", "user's", "zebra", "is the"]
    ),
    max_size=6,
).map(" ".join)


@given(QUESTION, st.lists(st.tuples(TEXT, TEXT), max_size=8))
def test_what_holds_for_any_question(question: str, made: list[tuple[str, str]]) -> None:
    candidates = [
        Passage(id=str(number), text=text, source="n", heading=heading.replace("\n", " "))
        for number, (text, heading) in enumerate(made)
    ]
    ranked = rank(question, candidates)
    assert all(one.score > 0 and 0 < one.coverage <= 1 + 1e-12 for one in ranked)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    assert {one.passage.id for one in ranked} <= {one.id for one in candidates}
    assert rank(question, candidates) == ranked


@given(st.text(max_size=100), st.text(max_size=300), st.text(max_size=50))
def test_no_text_breaks_it(question: str, text: str, heading: str) -> None:
    assert len(rank(question, [passage(text, heading)])) <= 1


def test_what_is_half_forgotten_counts_half_and_is_about_the_question_all_the_same() -> None:
    fresh = Passage("a", "the crane is red", "notes.md, line 1", "")
    weak = attrs.evolve(fresh, id="b", strength=0.5)
    found = rank("red crane", [weak, fresh])
    assert [one.passage.id for one in found] == ["a", "b"]
    assert found[1].score == pytest.approx(found[0].score / 2)
    assert found[1].coverage == found[0].coverage
