"""What events mean to a persona: a table of sentences, and the rules that it follows from."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rtos.user.appraisal import BLAME, LOOKED_AT, OUTCOMES, PRAISE, SAYINGS, attended, heard, outcome
from rtos.user.inbox import InboxItem
from rtos.user.temperament import APPRAISALS

PRAISES = (
    "thanks",
    "Thank you!",
    "Thanks, and what is the port?",
    "no more questions. thanks a lot",
    "Well done.",
    "great",
    "Great, and now the other one.",
    "Perfect.",
    "that was very helpful",
    "You\u2019re brilliant",
    "Great answer!",
    "what a great answer",
    "good job on the parser",
    "@ai-5 nice work",
)
BLAMES = (
    "wrong",
    "No, wrong.",
    "@ai-5 wrong",
    "helper, wrong!",
    "That's wrong.",
    "That is completely wrong",
    "your answer is wrong because the port is 80",
    "useless",
    "bad answer",
    "you are so stupid",
    "you gave me a wrong answer",
    "what nonsense",
    "not helpful",
    "that isn't very helpful",
    "I do not think that is helpful",
    "no good",
    "the answer was not correct",
    "thanks for nothing",
)
NEUTRAL = {
    "": "nothing is said",
    "tides, question 3 of 1?": "nothing is judged",
    "not bad": "what is denied is neither",
    "that's not bad at all": "nor here",
    "not perfect": "nor is there a fault in not being the best",
    "no thanks": "an offer is declined",
    "thanks, but that is wrong": "both is neither",
    "thanks, that did not help": "nor here",
    "is that wrong?": "it is asked",
    "what is wrong with the pump?": "and here",
    "what is wrong with the pump": "a question, though it does not look it",
    "if that is wrong, tell me": "it is supposed",
    "the wrong door": "something else is judged",
    "this is a great city": "and here",
    "it was cold, dark, awful": "and here",
    "Great Britain is an island": "a name",
    "good morning": "a greeting",
    "stupid question, but where is it": "it is the asker's",
    "too bad": "it is nobody's",
    "thanks to the cache it is fast": "it is the cache's",
    "greatly wronged": "other words",
    "> that is wrong\n  > useless\nwhy do you say so?": "somebody else has said it",
    "the manual calls it `wrong`": "and here",
}


def verdict(text: str) -> tuple[str, ...]:
    return heard(text, human=True, mentions=False)


@pytest.mark.parametrize("text", PRAISES)
def test_praise(text: str) -> None:
    assert verdict(text) == ("praised",)


@pytest.mark.parametrize("text", BLAMES)
def test_blame(text: str) -> None:
    assert verdict(text) == ("blamed",)


@pytest.mark.parametrize(("text", "why"), NEUTRAL.items())
def test_neither(text: str, why: str) -> None:
    assert verdict(text) == (), why


def test_who_is_called_is_called_first() -> None:
    assert heard("@ai-5 where?", human=True, mentions=True) == ("called",)
    assert heard("@ai-5 thanks", human=True, mentions=True) == ("called", "praised")
    assert heard("@ai-5 wrong", human=False, mentions=True) == ("called",)


@given(st.text())
def test_only_humans_judge(text: str) -> None:
    assert heard(text, human=False, mentions=False) == ()


TALK = st.lists(
    st.sampled_from(
        [*PRAISES, *BLAMES, *NEUTRAL, "that", "is", "not", "wrong", "great", "?", ". ", ", ", "\n", "\n>"]
    ),
    max_size=40,
).map(" ".join)


@given(TALK | st.text(), TALK)
@example("?", "")
def test_what_it_means_is_known_and_never_both(text: str, more: str) -> None:
    assert verdict(text) in {(), ("praised",), ("blamed",)}
    assert set(heard(text, human=True, mentions=True)) <= set(APPRAISALS)
    assert verdict(f"thanks.\nthat is wrong.\n{text}") == (), "whatever else is said"
    shown = text.ljust(LOOKED_AT)
    assert verdict(shown + more) == verdict(shown[:LOOKED_AT])


@given(TALK)
def test_what_is_quoted_counts_for_nothing(text: str) -> None:
    quoted = "".join(f"> {line}\n" for line in text.splitlines())
    assert verdict(quoted) == ()
    assert verdict(f"{quoted}thanks"[:LOOKED_AT]) in {(), ("praised",)}


def test_what_is_answered_together_means_what_each_of_it_does() -> None:
    one = InboxItem(
        id="one",
        room_id="hall",
        sender_id="ann",
        sender_type="human",
        text="thanks",
        priority=0.5,
        arrived=0.0,
        mentions=True,
    )
    both = attrs.evolve(one, id="two", text="and what is a knot?", covers=(one,))
    assert attended(both, "said") == ("succeeded", "called", "praised", "called")
    assert attended(both, "passed") == ()


def test_a_word_is_not_on_both_sides() -> None:
    assert not PRAISE & BLAME


@pytest.mark.parametrize(
    ("kind", "reason", "means"),
    [
        ("said", None, ("succeeded",)),
        ("failed", None, ("failed",)),
        ("answered", None, ()),
        ("passed", None, ()),
        ("unheard", None, ()),
        # A refusal is said, and no success.
        ("said", "full", ("swamped",)),
        ("passed", "infeasible", ("swamped",)),
        ("said", "failed", ("failed",)),
        ("unheard", "loop", ()),
        ("unheard", "superseded", ()),
        ("said", "cleared", ()),
    ],
)
def test_what_became_of_it(kind: str, reason: str | None, means: tuple[str, ...]) -> None:
    assert outcome(kind, reason) == means
    assert set(means) <= set(APPRAISALS)


def test_every_appraisal_has_a_cause_and_every_cause_an_appraisal() -> None:
    judged = {verdict for verdict in SAYINGS.values() if verdict}
    assert judged | set(OUTCOMES.values()) | {"called"} == set(APPRAISALS)


def test_the_documents_show_what_each_does() -> None:
    told = (Path(__file__).parents[2] / "docs" / "personas.md").read_text(encoding="utf-8")
    for name, appraisal in APPRAISALS.items():
        figures = [*attrs.astuple(appraisal.mood), appraisal.intensity]
        assert f"| {name} | " + " | ".join(f"{figure:g}" for figure in figures) + " |" in told
