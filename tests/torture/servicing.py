"""A process that is killed at the n-th step of the servicing, and what must be true afterwards.

As a program it boots the whole system on a folder, lets a human send a few messages,
and kills itself when the loop begins its n-th step after the first of them was sent.
As a module it runs that program at one step after the other, several on the same
folder, so that a life also takes up what the last one left; then it lets the
system come to rest, and holds what is stored against what must be.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import Any

import attrs
import trio

from rtos.runtime import Configuration, open_runtime
from rtos.user import coordination, servicing
from rtos.user.claims import is_note, memory_id
from rtos.user.records import Records

TEXTS = (
    "@helper-ai what is a bowline?",
    "@helper-ai why?",
    "and a reef knot?",
    "@helper-ai where?",
    "thank you",
)
"""Those that call it wait for it together, and have one reply where they do; the others go to either."""
LEARNED = "A bowline makes a loop that does not slip. A reef knot joins two ropes of one size."
PERSONA = "helper-ai"
PERSONAS = (PERSONA, "second-ai")
LIVES = 10
"""On one folder; more would leave more to answer than an inbox holds, and refusals are not remembered."""


class Death(trio.abc.Instrument):
    """Counts the steps of the loop, and kills the process at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more, or the end."""
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


async def _all(bus: Any, collection: str, user_id: str | None = None) -> list[dict[str, Any]]:
    return [record async for record in Records(bus, collection, user_id=user_id)]


async def _kept(bus: Any) -> list[tuple[str, str]]:
    """Who remembers an exchange, and the id of the memory."""
    return [
        (persona, memory["id"])
        for persona in PERSONAS
        for memory in await _all(bus, "memories", persona)
        if memory["kind"] == "exchange"
    ]


async def _at_rest(bus: Any) -> None:
    """Wait until every message of a human has its claim, and every reply is remembered, which is the last."""
    with bus.events.subscribe("data:memories:created") as done:
        while True:
            said = await _all(bus, "chat_messages")
            asked = {message["id"] for message in said if message["sender_type"] == "human"}
            claimed = {message["reply_to"] for message in said if message["reply_to"]}
            kept = {memory for _, memory in await _kept(bus)}
            replies = [message for message in said if message["reply_to"] and not is_note(message)]
            known = {memory_id(message["sender_id"], message["reply_to"]) for message in replies}
            if asked <= claimed and known <= kept:
                return
            await done.receive()


async def _live(root: Path, at: int) -> dict[str, Any]:
    async with open_runtime(Configuration(root=root, socket=False)) as runtime:
        death = Death(at)
        if at and await runtime.commands.execute("data/read", collection="users", id="second-ai") is None:
            await runtime.commands.execute("user/create", type="persona", name="Second AI")
            await runtime.commands.execute("room/join", room="general", user="second-ai")
        learned = {"user": PERSONA, "name": "knots.txt", "text": LEARNED}
        await runtime.commands.execute("memory/learn", **learned)
        if at:
            trio.lowlevel.add_instrument(death)
            for text in TEXTS:
                await runtime.commands.execute("chat/send", room="general", text=text)
        with trio.fail_after(60):
            await _at_rest(runtime.bus)
        return {
            "steps": death.steps,
            "messages": await _all(runtime.bus, "chat_messages"),
            "memories": await _kept(runtime.bus),
        }


@attrs.frozen
class Rest:
    """What is stored when nothing is left to do.

    Attributes:
      steps: how many the loop took from the first message on.
      asked: the ids of the messages of humans.
      claims: how many records say of each that it is answered, replies and notes.
      answers: how many replies that are shown answer each.
      notes: of each message that has a note, the reply that it names.
      covers: of each reply, by its id, what it says that it answers beside `reply_to`.
      memories: how many memories there are of each exchange, by whose and the memory's id.
      replies: who has given each reply, and to which message.
    """

    steps: int
    asked: list[str]
    claims: Counter[str]
    answers: Counter[str]
    notes: dict[str, str]
    covers: dict[str, list[str]]
    memories: Counter[tuple[str, str]]
    replies: list[tuple[str, str]]

    @classmethod
    def of(cls, told: dict[str, Any]) -> Rest:
        """From what a process has said."""
        claims = [message for message in told["messages"] if message["reply_to"]]
        replies = [message for message in claims if not is_note(message)]
        return cls(
            steps=told["steps"],
            asked=[message["id"] for message in told["messages"] if message["sender_type"] == "human"],
            claims=Counter(message["reply_to"] for message in claims),
            answers=Counter(one for reply in replies for one in (reply["reply_to"], *reply["covers"])),
            notes={message["reply_to"]: message["answered_in"] for message in claims if is_note(message)},
            covers={reply["id"]: reply["covers"] for reply in replies},
            memories=Counter((persona, memory) for persona, memory in told["memories"]),
            replies=[(reply["sender_id"], reply["reply_to"]) for reply in replies],
        )

    def check(self) -> None:
        """Every message was answered once, and every reply is remembered once, by who has given it."""
        for counts in (self.claims, self.answers):
            wrong = {message: counts[message] for message in self.asked if counts[message] != 1}
            assert not wrong, f"not answered once: {wrong}"
            assert counts.keys() == set(self.asked)
        said = {message: reply for reply, messages in self.covers.items() for message in messages}
        assert self.notes == said, "a note and its reply name each other"
        assert self.memories == Counter((who, memory_id(who, asked)) for who, asked in self.replies)


def live(root: Path, at: int, *ways: str) -> Rest | None:
    """One process; ``None`` if it was killed at that step."""
    words = [sys.executable, __file__, str(root), str(at), *ways]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    if at and done.returncode == -signal.SIGKILL:
        return None
    assert done.returncode == 0, done.stderr
    return Rest.of(json.loads(done.stdout))


def kill_at_each(root: Path, points: int, *ways: str) -> tuple[int, int, int]:
    """Kill at so many steps, evenly over all that the servicing takes; 0 for each of them.

    Returns:
      How many lives were ended, how many messages were found to be answered once, and how many of
      these together with a later one.
    """
    whole = live(root / "whole", sys.maxsize, *ways)
    assert whole is not None
    whole.check()
    stride = max(1, whole.steps // points) if points else 1
    steps = range(1, whole.steps + 1, stride)
    ended = asked = together = 0
    for first in range(0, len(steps), LIVES):
        place = root / str(first)
        ended += sum(live(place, at, *ways) is None for at in steps[first : first + LIVES])
        rest = live(place, 0, *ways)
        assert rest is not None
        rest.check()
        asked += len(rest.asked)
        together += len(rest.notes)
    return ended, asked, together


def program(root: str, at: str, way: str = "") -> None:
    """Live, and say what is stored; ``forgetful`` gives replies any id, which the oracle must find."""
    # Who answers what calls nobody falls differently in each life, as it may.
    coordination._draw = lambda _: random.getrandbits(64)
    if way == "forgetful":
        servicing.reply_id = lambda *_: uuid.uuid4().hex
    sys.stdout.write(json.dumps(trio.run(_live, Path(root), int(at))))


if __name__ == "__main__":
    program(*sys.argv[1:])
