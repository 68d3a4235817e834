"""SIGKILL at one step of the performing after the other: every task has one outcome in effect.

A part of them here; ``make torture`` takes more.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from typing import TYPE_CHECKING

import pytest
from performing import Rest, check, kill_at_each, live

from rtos.user.tasks import ATTEMPTS
from tests.support.effort import short_or_full

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Break = Callable[[Rest], object]

pytestmark = pytest.mark.process

POINTS = short_or_full(4, 12)
NEVER = sys.maxsize


def test_a_kill_at_any_step_of_the_performing_leaves_each_task_with_one_outcome(tmp_path: Path) -> None:
    ended, performed = kill_at_each(tmp_path, POINTS)
    assert ended >= POINTS
    assert performed > ended  # the most of those lives had given something


def test_what_no_life_outlives_fails_when_it_was_begun_too_often(tmp_path: Path) -> None:
    lives = [live(tmp_path / "x", at, "deadly") for at in (NEVER, *[0] * ATTEMPTS)]
    assert [life.killed for life in lives] == [True] * ATTEMPTS + [False]
    rest = Rest.of(lives)
    rest.check()
    assert {id.partition(".")[2]: task["status"] for id, task in rest.errands.items()} == {
        "bowline": "completed",
        "reef": "completed",
        "tie": "completed",
        "loop": "completed",
        "review": "completed",
        "tied": "failed",
        "spare": "pending",
        "splice": "cancelled",  # it depends on that
    }


@pytest.mark.parametrize(
    ("way", "match"),
    [("repeating", r"not told once: .*\(2, 1\)"), ("forgetful", r"remembered once: .*\(2, 1\)")],
)
def test_the_oracle_sees_outcomes_that_do_not_know_of_each_other(
    tmp_path: Path, way: str, match: str
) -> None:
    lives = [live(tmp_path / "x", NEVER, "unreported", way), live(tmp_path / "x", 0, way)]
    assert [life.killed for life in lives] == [True, False]
    with pytest.raises(AssertionError, match=match):
        check(lives)


# What the oracle sees in what is stored.


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Rest:
    return Rest.of([live(tmp_path_factory.mktemp("whole") / "x", NEVER)])


def _id(rest: Rest, name: str) -> str:
    return next(id for id in rest.tasks if id.endswith(f".{name}"))


def _changes(rest: Rest, name: str) -> list[int]:
    """Where in the log it is told of a task."""
    return [at for at, change in enumerate(rest.log) if change["record"]["id"] == _id(rest, name)]


def _write(name: str, **fields: object) -> Break:
    """Have other fields in a record, and in the last change of it."""

    def write(rest: Rest) -> None:
        last = rest.log[_changes(rest, name)[-1]]
        last["record"] = rest.tasks[_id(rest, name)] = {**last["record"], **fields}

    return write


def _append(name: str, **fields: object) -> Break:
    """One more change of a record."""

    def append(rest: Rest) -> None:
        rest.log.append(deepcopy(rest.log[_changes(rest, name)[-1]]))
        _write(name, **fields)(rest)

    return append


def _undo(name: str, changes: int) -> Break:
    """Without the last changes of a record."""

    def undo(rest: Rest) -> None:
        for at in _changes(rest, name)[: -changes - 1 : -1]:
            del rest.log[at]
        rest.tasks[_id(rest, name)] = rest.log[_changes(rest, name)[-1]]["record"]

    return undo


def _begin_first(rest: Rest) -> None:
    """One that depends on another is begun before that is completed."""
    loop, bowline = _changes(rest, "loop"), _changes(rest, "bowline")
    begun = next(at for at in loop if rest.log[at]["record"]["status"] == "in_progress")
    completed = next(at for at in bowline if rest.log[at]["record"]["status"] == "completed")
    rest.log.insert(completed, rest.log.pop(begun))


def _own(rest: Rest) -> None:
    """Two that a persona gave itself, of one kind."""
    for id in ("one", "another"):
        record = {**rest.tasks[_id(rest, "reef")], "id": id, "domain": "self", "task_type": "resume-work"}
        rest.log.append({"verb": "created", "record": record})
        rest.tasks[id] = record


def _count(which: str, name: str, number: int) -> Break:
    """So many messages or memories more of a task."""

    def count(rest: Rest) -> None:
        id = _id(rest, name)
        key = id if which == "told" else (rest.tasks[id]["assignee_id"], id)
        counts = getattr(rest, which)
        counts[key] += number
        if not counts[key]:
            del counts[key]

    return count


BROKEN: dict[str, tuple[str, Break]] = {
    "lost": ("acknowledged and not there: {'1.reef'}", lambda rest: rest.acknowledged.append("1.reef")),
    "another": ("is another one", _write("reef", description="what else?")),
    "no log": ("the log tells otherwise", lambda rest: rest.log.pop()),
    "deleted": ("is deleted", lambda rest: rest.log.append({**rest.log[-1], "verb": "deleted"})),
    "pending": ("is still pending", _undo("tied", 2)),
    "begun": ("is still in_progress", _undo("tied", 1)),
    "again": ("goes from completed to in_progress", _append("tied", status="in_progress", attempts=2)),
    "ended twice": ("goes from completed to failed", _append("tied", status="failed")),
    "failed": ("has failed", _write("tied", status="failed")),
    "cancelled": ("goes from in_progress to cancelled", _write("tied", status="cancelled")),
    "attempts": ("is begun 1 times", _write("tied", attempts=2)),
    "output": ("came to", _write("tied", result={"success": True, "output": "no", "error": ""})),
    "no success": ("came to", _write("tied", result={"success": False, "output": "no", "error": "so"})),
    "early": ("is in_progress before", _begin_first),
    "blocked": ("is blocked by", _write("tied", blocked_by=["1.tie"])),
    "unblocked": ("is blocked by", _write("splice", blocked_by=[])),
    "helpful": ("is completed and not pending", _append("spare", status="completed")),
    "two of a kind": ("more than one of a kind", _own),
    "untold": (r"not told once: .*\(0, 1\)", _count("told", "bowline", -1)),
    "told twice": (r"not told once: .*\(2, 1\)", _count("told", "bowline", 1)),
    "indiscreet": (r"not told once: .*\(1, 0\)", _count("told", "reef", 1)),
    "forgotten": (r"not remembered once: .*\(0, 1\)", _count("memories", "reef", -1)),
    "remembered twice": (r"not remembered once: .*\(2, 1\)", _count("memories", "reef", 1)),
    "uncounted": ("not counted once", lambda rest: rest.diaries["helper-ai"].update(performed=9)),
    "unanswered": ("not answered once", lambda rest: rest.exchanges.answers.clear()),
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_oracle_sees_what_is_broken(whole: Rest, name: str) -> None:
    whole.check()
    match, breaks = BROKEN[name]
    broken = deepcopy(whole)
    breaks(broken)
    with pytest.raises(AssertionError, match=match):
        broken.check()
