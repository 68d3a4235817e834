"""Who answers: laws over any room and any message."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.user.coordination import (
    EACH_WAITING,
    LAST_WORD,
    LONGEST_TALK,
    MOST_WAITING,
    RELEVANCE,
    VIGOUR,
    Decision,
    Facts,
    Heard,
    calls,
    decide,
    score,
    stand,
)
from rtos.user.hearing import ANSWER_WITHIN
from rtos.user.questions import TURN

NAMES = ["Ada", "Bo Li", "Cy", "Di", "Ann"]
words = st.sampled_from(["how", "do", "knots", "hold", "sails", "@ada", "@Bo Li", "@cy", "@nobody", "\n"])
messages = st.builds(
    Heard,
    id=st.uuids().map(str),
    sender_id=st.sampled_from(["ann", "ada", "elsewhere"]),
    text=st.lists(words, min_size=1, max_size=6).map(" ".join),
    human=st.booleans(),
    depth=st.integers(0, LAST_WORD + 2),
)


def persona(name: str, **known: object) -> Facts:
    return attrs.evolve(Facts(id=name.lower().replace(" ", "-"), name=name), **known)


@st.composite
def rooms(draw: st.DrawFn) -> list[Facts]:
    """Ann is a human; any of the others may be frozen, spent or busy."""
    some = draw(st.lists(st.sampled_from(NAMES), unique=True))
    return [
        persona(
            name,
            able=name != "Ann" and draw(st.booleans()),
            expertise=tuple(draw(st.sets(st.sampled_from(["knots", "sails"])))),
            label=draw(st.sampled_from(sorted(VIGOUR))),
            waiting=draw(st.integers(0, 9)),
            rests=draw(st.booleans()),
        )
        for name in some
    ]


def decided(message: Heard, room: list[Facts]) -> Decision:
    return decide(message, [stand(message, one) for one in room])


def answering(message: Heard, room: list[Facts]) -> list[str]:
    """Who is asked first."""
    decision = decided(message, room)
    able = {one.id for one in room if one.able}
    return [id for id in (*decision.called, *decision.order[:1]) if id in able]


@given(messages, rooms())
def test_of_a_humans_message_that_calls_nobody_exactly_one_answers_if_anybody_can(
    message: Heard, room: list[Facts]
) -> None:
    others = [one for one in room if one.id != message.sender_id]
    if not message.human or any(calls(message.text, one) for one in others):
        return
    able = {one.id for one in others if one.able}
    assert len(answering(message, room)) == min(1, len(able))
    decision = decided(message, room)
    assert decision.anybody
    assert sorted(decision.order) == sorted(able), "everybody who can stands by, and nobody twice"


@given(messages, rooms())
def test_everybody_whom_a_human_calls_answers_and_nobody_else(message: Heard, room: list[Facts]) -> None:
    called = {one.id for one in room if one.id != message.sender_id and calls(message.text, one)}
    if not message.human or not called:
        return
    decision = decided(message, room)
    assert set(decision.called) == called
    assert not decision.order
    assert {one.id for one in room if decision.part(one.id) == "called"} == called


@given(messages, rooms(), st.randoms(use_true_random=False))
def test_the_order_of_the_members_makes_no_difference(
    message: Heard, room: list[Facts], chance: random.Random
) -> None:
    shuffled = list(room)
    chance.shuffle(shuffled)
    assert decided(message, shuffled) == decided(message, room)


@given(messages, rooms())
def test_nobody_answers_itself_and_who_cannot_answer_is_not_in_line(
    message: Heard, room: list[Facts]
) -> None:
    decision = decided(message, room)
    assert message.sender_id not in (*decision.called, *decision.order)
    assert set(decision.order) <= {one.id for one in room if one.able}


@given(messages, rooms())
def test_what_a_persona_says_is_answered_by_one_at_most(message: Heard, room: list[Facts]) -> None:
    if not message.human:
        assert len(answering(message, room)) <= 1
        assert not decided(message, room).order


@given(st.integers(2, 5), st.integers(0, 3), st.sampled_from(NAMES[:4]))
def test_talk_of_personas_alone_ends(count: int, start: int, first: str) -> None:
    """Everybody calls the next at the beginning of each reply, and never gives up."""
    room = [persona(name) for name in NAMES[:count]]
    said, depth, speaker = 1, start, first
    text = f"@{room[1].name} hello" if first == room[0].name else f"@{room[0].name} hello"
    while True:
        heard = Heard(id=str(said), sender_id=persona(speaker).id, text=text, human=False, depth=depth)
        asked = answering(heard, room)
        if not asked:
            break
        speaker = next(one.name for one in room if one.id == asked[0])
        text = f"@{room[(NAMES.index(speaker) + 1) % count].name} and you?"
        said, depth = said + 1, depth + 1
    assert said == LONGEST_TALK - start


def test_a_name_within_the_text_of_a_persona_calls_nobody() -> None:
    room = [persona("Ada"), persona("Cy")]
    for text, asked in (
        ("@Ada why?", ["ada"]),
        ("why, @Ada?", []),
        ("> @Ada why?\n@Ada yes", []),
        ("\n@Ada why?", []),
        ("why?", []),
    ):
        assert answering(Heard(id="m", sender_id="cy", text=text, human=False), room) == asked


def test_who_is_called_and_cannot_answer_is_answered_for_by_nobody() -> None:
    room = [persona("Ada", able=False), persona("Cy")]
    decision = decided(Heard(id="m", sender_id="ann", text="what now, @ada?"), room)
    assert decision == Decision(called=("ada",))
    assert decision.part("cy") == "aside"


def test_a_message_that_calls_a_human_is_for_no_persona() -> None:
    room = [persona("Ann", able=False), persona("Cy")]
    assert answering(Heard(id="m", sender_id="ben", text="@Ann are you there?"), room) == []


def test_who_was_renamed_answers_to_its_name_and_to_its_id() -> None:
    room = [persona("Ada", id="helper-ai"), persona("Cy")]
    for text in ("@Ada hello", "@helper-ai hello", "@Helper AI hello"):
        assert answering(Heard(id="m", sender_id="ann", text=text), room) == ["helper-ai"]


QUESTION = Heard(id="m", sender_id="ann", text="which knots hold?")


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (persona("Ada", expertise=("knots",)), persona("Cy")),
        (persona("Ada"), persona("Cy", label="active")),
        (persona("Ada", label="active"), persona("Cy", label="tired")),
        (persona("Ada", label="tired"), persona("Cy", label="overwhelmed")),
        (persona("Ada", expertise=("knots",), label="tired"), persona("Cy")),
        (persona("Ada", label="tired"), persona("Cy", label="overwhelmed", expertise=("knots",))),
        (persona("Ada", waiting=1), persona("Cy", waiting=2)),
        (persona("Ada", waiting=9), persona("Cy", rests=True, expertise=("knots",))),
        (persona("Ada", expertise=("knots",), waiting=5), persona("Cy")),
        (persona("Ada"), persona("Cy", expertise=("knots",), waiting=7)),
    ],
)
def test_who_is_preferred(better: Facts, worse: Facts) -> None:
    assert decided(QUESTION, [worse, better]).order == (better.id, worse.id)
    swapped = [attrs.evolve(worse, id=better.id), attrs.evolve(better, id=worse.id)]
    assert decided(QUESTION, swapped).order == (worse.id, better.id), "whatever they are called"


@given(st.integers(0, 20))
def test_what_waits_takes_off_a_bounded_part_of_the_score(waiting: int) -> None:
    off = score("", persona("Ada")) - score("", persona("Ada", waiting=waiting))
    assert off == pytest.approx(EACH_WAITING * min(waiting, MOST_WAITING))


def test_load_spreads_among_equals() -> None:
    room = [persona(f"P{number}") for number in range(10)]
    asked = Counter(
        answering(Heard(id=f"message {number}", sender_id="ann", text="hello"), room)[0]
        for number in range(2000)
    )
    # 200 each; of ten draws from that distribution none is 5 standard deviations (67) off.
    assert set(asked) == {one.id for one in room}
    assert all(133 < count < 267 for count in asked.values()), asked


def test_the_draw_is_the_same_in_every_process() -> None:
    room = [persona(f"P{number}") for number in range(10)]
    assert decided(QUESTION, room).order[:3] == ("p8", "p2", "p1")


def test_the_documents_tell_the_numbers_as_they_are() -> None:
    told = (Path(__file__).parents[2] / "docs" / "personas.md").read_text(encoding="utf-8")
    told = " ".join(told.split())
    assert f"below causal depth {LAST_WORD} only" in told
    assert f"{RELEVANCE} for who has a keyword" in told
    assert f"up to {1 - RELEVANCE:.1f} for vigour (idle 1, active 0.8, tired 0.3, overwhelmed 0" in told
    assert dict(VIGOUR) == {"idle": 1.0, "active": 0.8, "tired": 0.3, "overwhelmed": 0.0}
    assert f"less {EACH_WAITING} for each message that waits" in told
    assert (MOST_WAITING, LONGEST_TALK) == (10, 7), "ten, and seven, in words"
    assert f"asked as well after {TURN:g} seconds" in told
    assert f"one deadline, {ANSWER_WITHIN:g} seconds after" in told
