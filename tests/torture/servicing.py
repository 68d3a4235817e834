"""A process that is killed at the n-th step of the servicing, and what must be true afterwards.

As a program it boots the whole system on a folder, lets a human send a few messages,
and kills itself when the loop begins its n-th step after the first of them was sent.
As a module it runs that program at one step after the other, several on the same
folder, so that a life also takes up what the last one left; then it lets the
system come to rest, and holds what is stored against what must be.
"""

from __future__ import annotations

import json
import random
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
from rtos.user.servicing import memory_id

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

TEXTS = ("@helper-ai what is a bowline?", "and a reef knot?", "@helper-ai why?", "where?", "thank you")
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
    """Wait until every message of a human is remembered, which is the last that is done about it."""
    with bus.events.subscribe("data:memories:created") as done:
        while True:
            told = await stored(bus)
            asked = [message["id"] for message in told["messages"] if message["sender_type"] == "human"]
            kept = {memory for _, memory, _ in told["memories"]}
            if all(kept & {memory_id(one, message) for one in PERSONAS} for message in asked):
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
      answers: how many replies each has.
      memories: how many memories there are of each exchange, by whose and the memory's id.
      answered: who has replied to each.
    """

    asked: list[str]
    answers: Counter[str]
    memories: Counter[tuple[str, str]]
    answered: dict[str, str]

    @classmethod
    def of(cls, told: dict[str, Any], *, but: Collection[str] = ()) -> Rest:
        """Of all that is stored; what concerns some other ids is none of its business."""
        places = {f"task {id}" for id in but}
        replies = [
            message for message in told["messages"] if message["reply_to"] and message["reply_to"] not in but
        ]
        return cls(
            [message["id"] for message in told["messages"] if message["sender_type"] == "human"],
            Counter(message["reply_to"] for message in replies),
            Counter((persona, id) for persona, id, source in told["memories"] if source not in places),
            {message["reply_to"]: message["sender_id"] for message in replies},
        )

    def check(self) -> None:
        """Every message was answered once, and is remembered once, by who has answered it."""
        wrong = {message: self.answers[message] for message in self.asked if self.answers[message] != 1}
        assert not wrong, f"not answered once: {wrong}"
        assert self.answers.keys() == set(self.asked)
        kept = (
            (self.answered[message], memory_id(self.answered[message], message)) for message in self.asked
        )
        assert self.memories == Counter(kept)


def check(lives: Sequence[dying.Life]) -> int:
    """Hold what is stored after the last life against what must be; how many messages there are."""
    rest = Rest.of(lives[-1].stored)
    rest.check()
    return len(rest.asked)


def kill_at_each(root: Path, points: int, *ways: str) -> tuple[int, int]:
    """Kill at so many steps, evenly over all that the servicing takes; 0 for each of them.

    Returns:
      How many lives were ended, and how many messages were found to be answered once.
    """
    return dying.kill_at_each(Path(__file__), root, points, check, *ways, lives=LIVES)


def draw_anew() -> None:
    """Let who answers what calls nobody fall differently in each life, as it may."""
    coordination._draw = lambda _: random.getrandbits(64)


def program(root: str, at: str, way: str = "") -> None:
    """Live, and say what is stored; ``forgetful`` gives replies any id, which the oracle must find."""
    draw_anew()
    if way == "forgetful":
        servicing.reply_id = lambda *_: uuid.uuid4().hex
    sys.stdout.write(json.dumps(trio.run(_live, Path(root), int(at))))


if __name__ == "__main__":
    program(*sys.argv[1:])
