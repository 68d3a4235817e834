"""SIGKILL at any point of answering: every question has exactly one answer in the end."""

from __future__ import annotations

import signal
import sqlite3  # noqa: TID251 - looks at the files from outside
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path
from random import Random

import msgspec
import pytest

from tests.support.effort import short_or_full

pytestmark = pytest.mark.process

CHILD = Path(__file__).with_name("answering.py")
KILLS = short_or_full(4, 12)
"""A part of what ``make torture`` does."""
DEEPEST = 160
"""Points that several questions and their answers pass."""


def live(root: Path, point: int) -> list[str]:
    """One life; the questions that were acknowledged in it."""
    done = subprocess.run(
        [sys.executable, CHILD, root, str(point)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == (-signal.SIGKILL if point else 0), done.stderr
    return done.stdout.split()


def kill_while_answering(root: Path, kills: int, seed: int) -> int:
    """So many lives of one system, and then the look at it; how many questions there were.

    Raises:
      AssertionError: one was lost, or has no answer, or two.
    """
    chance = Random(seed)
    acknowledged = [id for _ in range(kills) for id in live(root, chance.randrange(1, DEEPEST))]
    live(root, 0)
    with closing(sqlite3.connect(next((root / "data").glob("*.db")))) as shared:
        stored = [
            {"id": id} | msgspec.json.decode(body)
            for id, body in shared.execute("SELECT id, body FROM c_chat_messages")
        ]
    asked = {one["id"] for one in stored if one["sender_type"] == "human"}
    assert set(acknowledged) <= asked
    answers = Counter(one["reply_to"] for one in stored if one["sender_type"] == "persona")
    assert answers == dict.fromkeys(asked, 1)
    return len(asked)


def test_every_question_is_answered_once_whenever_it_is_killed(tmp_path: Path) -> None:
    assert kill_while_answering(tmp_path, KILLS, seed=20261123) > 3


def test_a_persona_that_answers_twice_would_be_seen(tmp_path: Path) -> None:
    live(tmp_path, 60)
    live(tmp_path, 0)
    with closing(sqlite3.connect(next((tmp_path / "data").glob("*.db")))) as shared:
        shared.execute(
            "INSERT INTO c_chat_messages (id, version, created_at, updated_at, body)"
            " SELECT id || 'x', version, created_at, updated_at, body FROM c_chat_messages"
            " WHERE json_extract(body, '$.sender_type') = 'persona' LIMIT 1"
        )
        shared.commit()
    with pytest.raises(AssertionError):
        kill_while_answering(tmp_path, 0, seed=1)
