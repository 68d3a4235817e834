"""A human who calls a persona by name raises it, also while it thinks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from living import World, replies

from rtos.testing import spend
from rtos.user.priority import CALLED, LEVEL
from rtos.user.responder import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trio.testing import MockClock

    from rtos.user.passages import Passage
    from rtos.user.responder import Question

STEP = 0.002
"""Seconds of the processor that a busy persona takes at once."""


class Busy:
    """A responder that thinks for as long as it is let, but for what calls it by name."""

    def __init__(self, wanted: int = 1) -> None:
        self.wanted = wanted
        self.began: dict[str, float] = {}
        self.thinking, self.enough = 0, trio.Event()
        self.takes = 1.0
        self.fails = False
        self.free = trio.Event()

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        self.began[question.text] = trio.current_time()
        if question.text.startswith("think"):
            self.thinking += 1
            if self.thinking == self.wanted:
                self.enough.set()
            while not self.free.is_set():
                spend(STEP)
                await trio.lowlevel.checkpoint()
        return Reply(f"re: {question.text}", ())


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.script = Busy()  # type: ignore[assignment]
    return world


async def test_who_is_called_while_it_thinks_is_raised_and_falls_back(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="think")
        await world.script.enough.wait()
        persona, life = world.persona(), world.users._lives._lives["helper-ai"]
        assert (persona.desk.level, life.context.base_level) == (LEVEL, LEVEL)
        await bus.commands.execute("chat/send", room="general", text="@Helper AI, are you there?")
        await trio.sleep(STEP)
        assert (persona.desk.level, life.context.base_level) == (CALLED, CALLED)
        world.script.free.set()
        await trio.sleep(1)
        assert len(await replies(bus)) == 4
        assert persona.desk.level == LEVEL


async def test_a_call_among_personas_raises_nobody(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        await bus.commands.execute(
            "chat/send", room="general", sender="other-ai", text="@Helper AI, think with me"
        )
        assert world.persona().desk.level == LEVEL
        await trio.sleep(1)
        assert "@Helper AI, think with me" in world.script.began
