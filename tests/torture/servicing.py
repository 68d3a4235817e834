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
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import dying
import trio

from rtos.runtime import Configuration, Runtime, open_runtime
from rtos.user import coordination, servicing
from rtos.user.claims import is_note, memory_id

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

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
SECOND = "second-ai"
PERSONAS = (PERSONA, SECOND)
ROOM = "general"
LIVES = 10
"""On one folder; more would leave more to answer than an inbox holds, and refusals are not remembered."""


async def prepare(runtime: Runtime) -> None:
    """Have two personas in one room, of whom one knows something."""
    execute = runtime.commands.execute
    if await execute("data/read", collection="users", id=SECOND) is None:
        await execute("user/create", type="persona", name="Second AI")
        await execute("room/join", room=ROOM, user=SECOND)
    await execute("memory/learn", user=PERSONA, name="knots.txt", text=LEARNED)


async def stored(bus: Any) -> dict[str, Any]:
    """What was said, and what is remembered of it by whom."""
    return {
        "messages": await dying.records(bus, "chat_messages"),
        "memories": [
            (persona, memory["id"], memory["source"])
            for persona in PERSONAS
            for memory in await dying.records(bus, "memories", persona)
            if memory["kind"] == "exchange"
        ],
    }


async def at_rest(bus: Any) -> None:
    """Wait until every message of a human has its claim, and every reply is remembered, which is the last."""
    with bus.events.subscribe("data:memories:created") as done:
        while True:
            told = await stored(bus)
            asked = {message["id"] for message in told["messages"] if message["sender_type"] == "human"}
            claims = [message for message in told["messages"] if message["reply_to"] in asked]
            known = {
                memory_id(message["sender_id"], message["reply_to"])
                for message in claims
                if not is_note(message)
            }
            if asked == {message["reply_to"] for message in claims} and known <= {
                memory for _, memory, _ in told["memories"]
            }:
                return
            await done.receive()


async def _live(root: Path, at: int) -> dict[str, Any]:
    async with open_runtime(Configuration(root=root, socket=False)) as runtime:
        death = dying.Death(at)
        if at:
            await prepare(runtime)
            trio.lowlevel.add_instrument(death)
            for text in TEXTS:
                await runtime.commands.execute("chat/send", room=ROOM, text=text)
        with trio.fail_after(60):
            await at_rest(runtime.bus)
        return {"steps": death.steps, **await stored(runtime.bus)}


@attrs.frozen
class Rest:
    """What is stored of messages when nothing is left to do.

    Attributes:
      asked: the ids of the messages of humans.
      claims: how many records say of each that it is answered, replies and notes.
      answers: how many replies that are shown answer each.
      notes: of each message that has a note, the reply that it names.
      covers: of each reply, by its id, what it says that it answers beside `reply_to`.
      memories: how many memories there are of each exchange, by whose and the memory's id.
      replies: who has given each reply, and to which message.
    """

    asked: list[str]
    claims: Counter[str]
    answers: Counter[str]
    notes: dict[str, str]
    covers: dict[str, list[str]]
    memories: Counter[tuple[str, str]]
    replies: list[tuple[str, str]]

    @classmethod
    def of(cls, told: dict[str, Any], *, but: Collection[str] = ()) -> Rest:
        """Of all that is stored; what concerns some other ids is none of its business."""
        places = {f"task {id}" for id in but}
        claims = [
            message for message in told["messages"] if message["reply_to"] and message["reply_to"] not in but
        ]
        replies = [message for message in claims if not is_note(message)]
        return cls(
            asked=[message["id"] for message in told["messages"] if message["sender_type"] == "human"],
            claims=Counter(message["reply_to"] for message in claims),
            answers=Counter(one for reply in replies for one in (reply["reply_to"], *reply["covers"])),
            notes={message["reply_to"]: message["answered_in"] for message in claims if is_note(message)},
            covers={reply["id"]: reply["covers"] for reply in replies},
            memories=Counter((who, id) for who, id, source in told["memories"] if source not in places),
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


def live(place: Path, at: int, *ways: str) -> dying.Life:
    """Live once."""
    return dying.live(Path(__file__), place, at, *ways)


def kill_at_each(root: Path, points: int) -> tuple[int, int, int]:
    """Kill at so many steps, evenly over all that the servicing takes; 0 for each of them.

    Returns:
      How many lives were ended, how many messages were found to be answered once, and how many of
      these together with a later one.
    """
    together = 0

    def check(lives: Sequence[dying.Life]) -> int:
        nonlocal together
        rest = Rest.of(lives[-1].stored)
        rest.check()
        together += len(rest.notes)
        return len(rest.asked)

    ended, asked = dying.kill_at_each(Path(__file__), root, points, check, lives=LIVES)
    return ended, asked, together


def draw_anew() -> None:
    """Let who answers what calls nobody fall differently in each life, as it may."""
    coordination._draw = lambda _: random.getrandbits(64)


def _forget() -> None:
    """Give replies any id, so that no later life finds them."""
    servicing.reply_id = lambda *_: uuid.uuid4().hex


def _die_unconcluded() -> None:
    """Die when the first reply is stored, before the persona has stored that the message is done."""
    send = servicing.Servicing._send

    async def die(*words: Any) -> None:
        await send(*words)
        os.kill(os.getpid(), signal.SIGKILL)

    servicing.Servicing._send = die


WAYS = {"forgetful": _forget, "unconcluded": _die_unconcluded}


def program(root: str, at: str, ways: Iterable[str] = ()) -> None:
    """Live, and say what is stored."""
    draw_anew()
    for way in ways:
        WAYS[way]()
    sys.stdout.write(json.dumps(trio.run(_live, Path(root), int(at))))


if __name__ == "__main__":
    program(*sys.argv[1:3], sys.argv[3:])
