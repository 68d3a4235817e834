"""The tour of the README, as a new user takes it, against a real booted process."""

from __future__ import annotations

import json
import signal
import stat
from pathlib import Path

import pytest
from process import ask, booted, rtos

pytestmark = pytest.mark.process

SEED = Path(__file__).parents[1] / "data" / "user-storage-refactoring.md"
README = Path(__file__).parents[2] / "README.md"
QUESTION = "where does a user's database live?"
ANSWER = ".continuum/users/{userId}/data/longterm.db"


def test_the_persona_answers_from_what_it_has_learned(tmp_path: Path) -> None:
    with booted(tmp_path):
        learned = ask(tmp_path, "memory/learn", "--user=helper-ai", str(SEED), str(README))
        assert learned["documents"] == 2
        assert learned["learned"] > 40
        again = ask(tmp_path, "memory/learn", "--user=helper-ai", str(SEED))
        assert again == {"documents": 1, "learned": 0, "known": again["known"]}
        answer = ask(tmp_path, "chat/send", "--room=general", "--wait", QUESTION)
        assert answer["sender_id"] == "helper-ai"
        assert ANSWER in answer["text"]
        assert any(source.startswith(SEED.name) for source in answer["sources"])
        history = ask(tmp_path, "chat/history", "--room=general")
        assert [message["sender_id"] for message in history["items"]] == ["operator", "helper-ai"]
        assert history["items"][1]["reply_to"] == history["items"][0]["id"]


def test_it_says_so_when_it_knows_nothing(tmp_path: Path) -> None:
    with booted(tmp_path):
        answer = ask(tmp_path, "chat/send", "--wait", "who won the chess championship?")
        assert answer["text"].startswith("I know nothing about that")
        assert answer["sources"] == []


def test_a_first_boot_makes_an_operator_a_persona_and_a_room(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        assert [line["ready"] for line in system.lines if "ready" in line] == [
            "data",  # nobody can keep anything before it
            "chat",
            "tasks",
            "users",  # reads users and rooms, and seeds them
            "health",
            "preferences",
            "activity",
            "control",  # lets people in, when all the others can answer
        ]
        found = ask(tmp_path, "data/list", "--collection=users", '--filter={"type":"persona"}')
        assert [user["id"] for user in found["items"]] == ["helper-ai"]
        assert [user["id"] for user in ask(tmp_path, "user/list")["items"]] == ["operator", "helper-ai"]
        assert ask(tmp_path, "room/list")["items"][0]["member_ids"] == ["operator", "helper-ai"]
        assert ask(tmp_path, "ping")["ready"] is True
    for user in ("operator", "helper-ai"):
        folder = tmp_path / "users" / user
        assert (folder / "data" / "longterm.db").is_file()
        assert (folder / "logs").is_dir()
        assert (folder / "config").is_dir()


def test_a_persona_that_is_created_answers_and_one_that_is_deleted_does_not(tmp_path: Path) -> None:
    with booted(tmp_path):
        made = ask(tmp_path, "user/create", "--type=persona", "--name=Second One")
        assert made["id"] == "second-one"
        ask(tmp_path, "room/create", "--name=Two", '--members=["operator","second-one"]')
        ask(tmp_path, "memory/learn", "--user=second-one", str(SEED))
        answer = ask(tmp_path, "chat/send", "--room=two", "--wait", QUESTION)
        assert answer["sender_name"] == "Second One"
        assert ask(tmp_path, "user/delete", "second-one") is True
        gone = rtos(tmp_path, "user/get", "second-one")
        assert gone.returncode == 2
        assert "there is no user 'second-one'" in gone.stderr
        ask(tmp_path, "chat/send", "--room=two", QUESTION)
        # Whoever could still answer has by now: the other room's persona is asked after it.
        ask(tmp_path, "chat/send", "--room=general", "--wait", QUESTION)
        senders = [message["sender_id"] for message in ask(tmp_path, "chat/history", "--room=two")["items"]]
        assert senders == ["operator", "second-one", "operator"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly_and_nothing_is_lost(tmp_path: Path, number: int) -> None:
    with booted(tmp_path) as system:
        mode = stat.S_IMODE((tmp_path / "control.sock").stat().st_mode)
        assert mode == 0o600
        sent = ask(tmp_path, "chat/send", "hello")
        assert system.stop(number) == 0
        assert system.errors == ""
        assert not (tmp_path / "control.sock").exists()
    with booted(tmp_path):
        history = ask(tmp_path, "chat/history")
        assert history["items"][0]["id"] == sent["id"]


def test_output_is_a_table_for_people_and_json_for_programs(tmp_path: Path) -> None:
    with booted(tmp_path):
        done = rtos(tmp_path, "user/list")
        assert json.loads(done.stdout)["count"] == 2
