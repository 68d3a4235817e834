"""Commands that go on for a while: following a room, and moving users."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from process import RTOS, ask, booted, rtos, started

pytestmark = pytest.mark.process


def test_following_a_room_shows_what_was_and_what_comes_each_once(tmp_path: Path) -> None:
    with booted(tmp_path):
        ask(tmp_path, "chat/send", "--wait", "first")
        with started("chat/history", "--follow", f"--root={tmp_path}") as follower:
            assert follower.stdout is not None
            seen = [json.loads(follower.stdout.readline()) for _ in range(2)]
            ask(tmp_path, "chat/send", "--wait", "second")
            seen += [json.loads(follower.stdout.readline()) for _ in range(2)]
            follower.send_signal(signal.SIGINT)
            rest, errors = follower.communicate(timeout=30)
            assert follower.returncode == 130
            assert (rest, errors) == ("", "")
            assert [message["sender_id"] for message in seen] == ["operator", "helper-ai"] * 2
            assert len({message["id"] for message in seen}) == 4


def test_a_follower_is_told_when_the_system_ends(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        ask(tmp_path, "chat/send", "hello")
        with started("chat/history", "--follow", f"--root={tmp_path}") as follower:
            assert follower.stdout is not None
            follower.stdout.readline()
            assert system.stop() == 0
            _, errors = follower.communicate(timeout=30)
            assert follower.returncode == 3
            assert errors.startswith("error: no system is running")


def test_a_pipe_that_is_closed_ends_the_command_silently(tmp_path: Path) -> None:
    with booted(tmp_path):
        command = f"{' '.join(RTOS)} system/state --root={tmp_path} | head -c 1"
        done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert (done.stdout, done.stderr) == ("{", "")


def test_users_of_the_old_layout_are_moved_and_then_found(tmp_path: Path) -> None:
    old = tmp_path / "personas" / "old-one" / "data"
    old.mkdir(parents=True)
    (old / "longterm.db").write_bytes(b"kept as it is")
    planned = rtos(tmp_path, "migrate", "user-directories", "--dry-run")
    assert planned.returncode == 0
    assert "move old-one" in planned.stdout
    assert planned.stdout.endswith("would move 1 users\n")
    assert old.exists()
    done = rtos(tmp_path, "migrate", "user-directories")
    assert done.returncode == 0
    assert done.stdout.endswith("moved 1 users\n")
    assert (tmp_path / "users" / "old-one" / "data" / "longterm.db").read_bytes() == b"kept as it is"
    assert not old.exists()
    again = rtos(tmp_path, "migrate", "user-directories")
    assert (again.returncode, again.stdout) == (0, "moved 0 users\n")


def test_nothing_is_moved_where_both_exist(tmp_path: Path) -> None:
    for folder in ("personas/a", "personas/b", "users/a"):
        (tmp_path / folder / "data").mkdir(parents=True)
    done = rtos(tmp_path, "migrate", "user-directories")
    assert done.returncode == 1
    assert "conflict a:" in done.stdout
    assert "nothing was moved" in done.stderr
    assert (tmp_path / "personas" / "b").exists()
    missing = rtos(tmp_path / "nowhere", "migrate", "user-directories")
    assert missing.returncode == 2
    assert "there is no folder" in missing.stderr
