"""SIGKILL at one step of the servicing after the other: every message is answered exactly once in effect.

A part of them here; ``make torture`` takes every one.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from servicing import Rest, kill_at_each, live

from tests.support.effort import short_or_full

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

POINTS = short_or_full(4, 16)


def test_a_kill_at_any_step_of_the_servicing_leaves_each_message_answered_once(tmp_path: Path) -> None:
    ended, asked, together = kill_at_each(tmp_path, POINTS)
    assert ended >= POINTS
    assert asked > ended  # the most of those lives had sent something
    assert together > POINTS / 2  # and some of it was answered by one reply to several


def test_the_oracle_sees_answers_that_do_not_know_of_each_other(tmp_path: Path) -> None:
    killed = live(tmp_path / "x", sys.maxsize, "forgetful", "unconcluded")
    last = live(tmp_path / "x", 0, "forgetful")
    assert (killed.killed, last.killed) == (True, False)
    with pytest.raises(AssertionError, match="not answered once: .*: [2-9]"):
        Rest.of(last.stored).check()
