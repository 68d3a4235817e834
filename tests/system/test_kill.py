"""SIGKILL at any moment, again and again: what was acknowledged is there afterwards."""

from __future__ import annotations

import itertools
import random
import subprocess
import threading
from pathlib import Path

import pytest
from process import System, booted, started

from rtos.cli.client import AnswerError, Client, NotRunningError
from tests.support.effort import short_or_full

pytestmark = pytest.mark.process

ROUNDS = short_or_full(4, 20)


class Writer(threading.Thread):
    """Sends, creates and learns until the system is gone; remembers what was acknowledged."""

    def __init__(self, root: Path, name: str, enough: int, on_enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self.root, self.label, self.enough, self.on_enough = root, name, enough, on_enough
        self.messages: list[str] = []
        self.users: list[str] = []
        self.memories: list[str] = []

    def run(self) -> None:
        try:
            with Client(self.root) as client:
                for number in itertools.count():
                    self._write(client, number)
                    if number == self.enough:
                        self.on_enough.set()
        except (NotRunningError, AnswerError):
            self.on_enough.set()

    def _write(self, client: Client, number: int) -> None:
        text = f"{self.label} says {number}"
        sent = client.execute("chat/send", {"room": "general", "text": text}, timeout=30)
        self.messages.append(sent["id"])
        if number % 5 == 0:
            name = f"{self.label}-{number}"
            made = client.execute("user/create", {"type": "human", "name": name}, timeout=30)
            self.users.append(made["id"])
        if number % 3 == 0:
            fact = f"the fact numbered {self.label}{number} is true"
            params = {"user": "helper-ai", "name": f"{self.label}{number}.txt", "text": fact}
            assert client.execute("memory/learn", params, timeout=30)["learned"] == 1
            self.memories.append(fact)


def _all(client: Client, **params: object) -> list[dict]:
    found: list[dict] = []
    while True:
        after = {"id": {"$gt": found[-1]["id"]}} if found else {}
        page = client.execute(
            "data/list", {**params, "filter": after, "sort": ["id"], "limit": 500}, timeout=60
        )
        found += page["items"]
        if page["count"] < 500:
            return found


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    chance = random.Random(20261123)
    messages: set[str] = set()
    users: set[str] = set()
    memories: set[str] = set()
    for turn in range(ROUNDS):
        system = System(tmp_path)
        enough = threading.Event()
        writers = [Writer(tmp_path, f"w{turn}x{n}", chance.randrange(12), enough) for n in range(3)]
        for writer in writers:
            writer.start()
        assert enough.wait(timeout=60)
        system.kill()
        for writer in writers:
            writer.join(timeout=60)
            messages.update(writer.messages)
            users.update(writer.users)
            memories.update(writer.memories)
    with booted(tmp_path), Client(tmp_path) as client:
        stored = _all(client, collection="chat_messages")
        assert messages <= {record["id"] for record in stored}
        assert users <= {record["id"] for record in _all(client, collection="users")}
        known = {record["body"] for record in _all(client, collection="memories", user_id="helper-ai")}
        assert memories <= known
        # Every answer is there once at the most, however often its message was taken up again.
        answered = [record["reply_to"] for record in stored if record["reply_to"]]
        assert len(answered) == len(set(answered))
    assert len(messages) > ROUNDS


def test_what_was_not_answered_before_the_kill_is_answered_after_it(tmp_path: Path) -> None:
    with booted(tmp_path) as system, Client(tmp_path) as client:
        client.execute("daemon/suspend", {"daemon": "chat"}, timeout=30)
        client.execute("daemon/resume", {"daemon": "chat"}, timeout=30)
        sent = client.execute("chat/send", {"room": "general", "text": "anything?"}, timeout=30)
        system.kill()
    with booted(tmp_path), Client(tmp_path) as client:
        client.subscribe("data:chat_messages:created")
        history = client.execute("chat/history", {}, timeout=30)["items"]
        replies = [record for record in history if record["reply_to"] == sent["id"]]
        if not replies:
            replies = [next(client.events(timeout=30))["payload"]["record"]]
        assert [record["reply_to"] for record in replies] == [sent["id"]]


def test_a_kill_while_it_boots_leaves_a_root_that_boots(tmp_path: Path) -> None:
    chance = random.Random(7)
    for _ in range(short_or_full(4, 12)):
        with (
            started(
                "boot", f"--root={tmp_path}", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            ) as process,
            pytest.raises(subprocess.TimeoutExpired),
        ):
            # Long enough to be in the midst of it, on a fast machine and on a slow one.
            process.wait(timeout=chance.uniform(0.05, 0.6))
    with booted(tmp_path), Client(tmp_path) as client:
        assert [user["id"] for user in client.execute("user/list", {}, timeout=30)["items"]] == [
            "operator",
            "helper-ai",
        ]
        assert client.execute("room/list", {}, timeout=30)["count"] == 1
