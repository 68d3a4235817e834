"""Lines: whose turn it is, and how long the turn of one can be put off."""

from __future__ import annotations

import math

from hypothesis import given, settings
from hypothesis import strategies as st

from rtos.user.lines import REMEMBERED, Lines
from tests.support.effort import short_or_full


def test_who_has_had_more_waits_for_who_has_had_less() -> None:
    lines = Lines()
    for place in range(1, 5):
        lines.add("noisy", place, float(place), mentions=False)
    lines.charge("noisy", 2.0)
    lines.add("quiet", 5, 100.0, mentions=False)
    # Who comes begins where the others are on average, so its item has to be due first.
    assert lines.next(math.inf) == 1
    lines.remove("noisy", 1)
    lines.charge("noisy", 2.0)
    assert lines.next(math.inf) == 5
    lines.remove("quiet", 5)
    lines.charge("quiet", 2.0)
    assert lines.next(math.inf) == 2


def test_nobody_saves_up_what_it_did_not_ask_for() -> None:
    lines = Lines()
    lines.add("early", 1, 1.0, mentions=False)
    for place in range(2, 102):
        lines.add("busy", place, float(place), mentions=False)
    lines.remove("early", 1)
    for _ in range(50):
        lines.charge("busy", 1.0)
    for place in range(200, 210):
        lines.add("early", place, 0.5, mentions=False)
    turns = []
    for _ in range(6):
        place = lines.next(math.inf)
        who = "early" if place >= 200 else "busy"
        turns.append(who)
        lines.remove(who, place)
        lines.charge(who, 1.0)
    assert turns == ["early", "busy"] * 3


def test_who_leaves_and_comes_back_has_not_paid_by_that() -> None:
    lines = Lines()
    lines.add("other", 1, 50.0, mentions=False)
    for place in range(2, 12):
        # One at a time: whenever it has been served, it comes back.
        lines.add("sly", place, 0.0, mentions=False)
        if lines.next(math.inf) == 1:
            break
        lines.remove("sly", place)
        lines.charge("sly", 1.0)
    assert place <= 4


def test_when_nobody_waits_nobody_is_ahead() -> None:
    lines = Lines()
    lines.add("a", 1, 1.0, mentions=False)
    lines.add("b", 2, 2.0, mentions=False)
    lines.charge("a", 100.0)
    lines.remove("a", 1)
    lines.remove("b", 2)
    lines.charge("a", 100.0)
    lines.add("b", 3, 5.0, mentions=False)
    lines.add("a", 4, 4.0, mentions=False)
    assert lines.next(math.inf) == 4


def test_of_those_who_are_ahead_only_so_many_are_remembered() -> None:
    lines = Lines()
    lines.add("stays", 1, 1e9, mentions=False)
    for number in range(3 * REMEMBERED):
        lines.add(f"s{number}", number + 2, 1.0, mentions=False)
        lines.remove(f"s{number}", number + 2)
        lines.charge(f"s{number}", 1.0)
    assert len(lines._ahead) == REMEMBERED


@settings(max_examples=short_or_full(60, 300))
@given(
    senders=st.integers(2, 6),
    history=st.integers(0, 40),
    choices=st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
def test_the_turn_of_one_is_put_off_less_often_than_the_square_of_how_many_wait(
    senders: int, history: int, choices: list[int]
) -> None:
    """Against others who always have more, and whose items are always due sooner."""
    lines = Lines()
    names = [f"s{number}" for number in range(senders)]
    places = {}

    def offer(name: str, place: int, key: float) -> None:
        places[place] = name
        lines.add(name, place, key, mentions=False)

    for place, name in enumerate(names[1:], start=1):
        offer(name, place, 0.0)
    following = senders

    def serve() -> str:
        nonlocal following
        place = lines.next(math.inf)
        name = places.pop(place)
        # The next one is there before this one is gone, or a while later.
        if name != names[0]:
            offer(name, following + 1, float(choices[following % 40]))
        following += 1
        lines.remove(name, place)
        lines.charge(name, 1.0)
        return name

    for _ in range(history):
        serve()
    offer(names[0], 10_000, 1e6)
    waited = 0
    while serve() != names[0]:
        waited += 1
    assert waited < senders**2
