"""A human who calls a persona by name reaches it past a hundred that are busy."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from rtos.scheduler.trace import Step
from rtos.testing import spend
from rtos.user.persona import CALLED, LEVEL
from rtos.user.responder import Reply

sys.path.insert(0, str(Path(__file__).parent))
from test_users import World, _replies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from rtos.bus import Bus
    from rtos.user.passages import Passage
    from rtos.user.responder import Question

BUSY = 100
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


async def _keep_busy(bus: Bus, world: World) -> None:
    ask = bus.commands.execute
    operations = [
        {
            "op": "create",
            "collection": "users",
            "id": f"busy-{number}",
            "data": {"type": "persona", "display_name": f"Busy {number}"},
        }
        for number in range(BUSY)
    ]
    await ask("data/batch", operations=operations)
    await ask("room/create", name="crowd", members=["operator", *(one["id"] for one in operations)])
    world.script.wanted = BUSY
    await ask("chat/send", room="crowd", text="think")
    await world.script.enough.wait()


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.script = Busy()  # type: ignore[assignment]
    return world


async def test_a_mention_waits_for_no_more_than_a_step_at_each_of_its_schedule_points(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await _keep_busy(bus, world)
        begun = trio.current_time()
        with bus.events.subscribe("data:chat_messages:created") as told:
            await bus.commands.execute("chat/send", room="general", text="@Helper AI, quickly")
            acknowledged = trio.current_time()
            while (await told.receive()).payload["record"]["sender_id"] != "helper-ai":
                pass
        asked = world.script.began["@Helper AI, quickly"]
        # A hundred that are as urgent would have been a hundred steps ahead of it.
        assert asked - begun <= 5 * STEP
        assert acknowledged - begun <= 3 * STEP
        # By the trace: from the step of the store in which it was committed to the persona's first,
        # nobody who is not called had more than the one step that was running, each time that it waited.
        steps = [one for one in bus.scheduler.trace.snapshot() if isinstance(one, Step)]
        mine = next(one for one in steps if one.name == "persona helper-ai")
        assert mine.level == CALLED
        between = [
            one.duration
            for one in steps
            if begun * 1e9 <= one.at < mine.at and one.name.startswith("persona busy")
        ]
        assert sum(between) <= 5 * STEP * 1e9
        assert all(one.level == LEVEL for one in steps if one.name.startswith("persona busy"))
        assert (await _replies(bus))[1] == ("helper-ai", "re: @Helper AI, quickly")
        world.script.free.set()


async def test_who_is_called_while_it_thinks_is_raised_and_falls_back(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="think")
        await world.script.enough.wait()
        persona, life = world.persona(), world.users._lives["helper-ai"]
        assert (persona.level, life.context.base_level) == (LEVEL, LEVEL)
        await bus.commands.execute("chat/send", room="general", text="@Helper AI, are you there?")
        await trio.sleep(STEP)
        assert (persona.level, life.context.base_level) == (CALLED, CALLED)
        world.script.free.set()
        await trio.sleep(1)
        assert len(await _replies(bus)) == 4
        assert persona.level == LEVEL


async def test_a_call_among_personas_raises_nobody(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        await bus.commands.execute(
            "chat/send", room="general", sender="other-ai", text="@Helper AI, think with me"
        )
        assert world.persona().level == LEVEL
        await trio.sleep(1)
        assert "@Helper AI, think with me" in world.script.began
