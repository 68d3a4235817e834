"""A day of 50 personas: who is woken, how often, and why."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from day import DAY, HOUR, HUMANS, PERSONAS, STEP, Day, picture, simulate_day

from tests.support.effort import FULL

SEED = 20261124
PICTURE = Path(__file__).parents[2] / "docs" / "pictures" / "day.svg"
"""``python tests/daemons/day.py 20261124 86400 docs/pictures/day.svg`` draws it."""


@cache
def a_day() -> Day:
    return simulate_day(SEED)


def test_wake_ups_are_events_and_crossings_exactly() -> None:
    day = a_day()
    wake_ups, events, crossings = day.totals
    assert wake_ups == events + crossings
    for who, life in day.lives.items():
        assert life.unexplained == [], who
        assert len(life.wake_ups) == life.events + life.crossings, who
    # It is a day, and not nothing: most of them are asked, and tire and rest.
    assert len(day.lives) > 0.9 * PERSONAS
    assert events > 300
    assert crossings > 100


def test_every_message_is_answered_by_one() -> None:
    day = a_day()
    assert day.messages > 60 * HUMANS
    assert day.replies + day.covered == day.messages


def test_every_task_is_completed_and_memory_is_consolidated_at_rest() -> None:
    tasks = a_day().tasks
    assert {status for _, status in tasks} == {"completed"}
    assert tasks["respond-to-message", "completed"] > 20 * HUMANS
    assert tasks["memory-consolidation", "completed"] > PERSONAS / 4


def test_a_wake_up_by_a_crossing_changes_a_label() -> None:
    day = a_day()
    for who, life in day.lives.items():
        # What it is asked changes labels too, so there are more changes, and never fewer.
        assert day.changes[who] >= life.crossings, who


def test_nobody_is_woken_at_night_but_to_come_to_rest() -> None:
    day = a_day()
    for life in day.lives.values():
        assert [at for at in life.wake_ups if at < 7 * 3600] == []


def test_one_seed_gives_one_day_also_in_a_process_of_its_own() -> None:
    until = DAY if FULL else 10 * HOUR
    day = simulate_day(SEED, until=until)
    script = Path(__file__).with_name("day.py")
    places = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    for hashes in ("0", "4711"):
        done = subprocess.run(
            [sys.executable, script, str(SEED), str(until)],
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
            env={**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": os.pathsep.join(places)},
        )
        assert done.stdout.split()[0] == day.digest
    assert simulate_day(SEED + 1, until=until).digest != day.digest


def test_a_curve_is_the_closed_form_between_what_was_seen() -> None:
    _, life = a_day().busiest
    course = life.course()
    times = [at for at, _ in course]
    assert (times[0], times[-1]) == (0.0, DAY)
    assert all(0.0 <= later - at <= STEP + 1e-6 for at, later in itertools.pairwise(times))
    for seen in life.samples:
        assert seen in course, "what was seen is on it"
    # Nobody tires, or gets livelier, between two samples: what happens is at one of them, and a jump.
    for (at, one), (later, other) in itertools.pairwise(course):
        if later > at:
            assert other.energy >= one.energy
            assert abs(other.mood.arousal) <= abs(one.mood.arousal)


def test_the_picture_in_the_documents_is_of_this_day() -> None:
    assert PICTURE.read_text() == picture(a_day())


def test_somebody_who_polls_is_found_out() -> None:
    day = simulate_day(SEED, polls=600.0, until=10 * HOUR)
    assert len(day.lives["ai-0"].unexplained) > 40
    assert all(life.unexplained == [] for who, life in day.lives.items() if who != "ai-0")


# One process simulates the day that most of them look at.
pytestmark = [pytest.mark.process, pytest.mark.xdist_group("day")]
