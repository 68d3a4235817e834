"""One outcome of a task, whatever a crash has left of it: told, remembered, counted, or begun only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import World, replies

from rtos.user.claims import memory_id, reply_id
from rtos.user.servicing import Servicing
from rtos.user.tasks import ATTEMPTS

if TYPE_CHECKING:
    from pathlib import Path

    from rtos.bus import Bus

PERSONA = "helper-ai"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def give(bus: Bus, id: str, *, begun: int = 0, **how: Any) -> dict[str, Any]:
    """A task that its persona, which is frozen meanwhile, has begun so many times."""
    execute = bus.commands.execute
    await execute("user/freeze", id=PERSONA)
    made: dict[str, Any] = await execute(
        "task/create", id=id, assignee=PERSONA, description="why?", **{"context": "general", **how}
    )
    for attempt in range(begun):
        if attempt:
            await execute("task/release", id=id)
        made = await execute("task/start", id=id)
    return made


async def say(bus: Bus, id: str) -> None:
    """What its persona has said of it before a crash."""
    message = {
        "room_id": "general",
        "sender_id": PERSONA,
        "sender_type": "persona",
        "sender_name": "Helper AI",
        "text": "because",
        "reply_to": id,
    }
    await bus.commands.execute(
        "data/create", collection="chat_messages", id=reply_id(PERSONA, id), data=message
    )


async def remember(bus: Bus, id: str) -> None:
    """What is written in one batch with that: the memory of it, and that it is counted."""
    execute = bus.commands.execute
    memory = {"kind": "exchange", "body": f"operator: why?\n{PERSONA}: because", "source": f"task {id}"}
    await execute(
        "data/create", collection="memories", id=memory_id(PERSONA, id), data=memory, user_id=PERSONA
    )
    state = await execute("data/read", key="persona_state", user_id=PERSONA)
    value = {**({} if state is None else state["value"]), "at": 1_000_000.0, "diary": {"performed": 1}}
    await execute("data/store", key="persona_state", value=value, user_id=PERSONA)


async def outcome(bus: Bus, id: str) -> tuple[str, str, str]:
    await bus.commands.execute("user/thaw", id=PERSONA)
    await trio.sleep(30)
    task = await bus.commands.execute("data/read", collection="tasks", id=id)
    result = task["result"] or {"output": "", "error": ""}
    return task["status"], result["output"], result["error"]


async def memories(bus: Bus, id: str) -> list[str]:
    found = await bus.commands.execute("data/list", collection="memories", user_id=PERSONA)
    return [memory["body"] for memory in found["items"] if memory["source"] == f"task {id}"]


def performed(world: World) -> int:
    return world.persona().desk.chores.diary.performed


@pytest.mark.parametrize("begun", [1, ATTEMPTS])
async def test_what_was_said_before_a_crash_came_of_it_however_often_it_was_begun(
    world: World, autojump_clock: trio.testing.MockClock, begun: int
) -> None:
    async with world.running() as bus:
        await give(bus, "t", begun=begun)
        await say(bus, "t")
        # A second time it would come to nothing.
        world.script.takes = 10_000.0
        assert await outcome(bus, "t") == ("completed", "because", "")
        assert await replies(bus) == [(PERSONA, "because")]
        assert await memories(bus, "t") == [f"operator: why?\n{PERSONA}: because"]
        assert (world.script.asked, performed(world)) == ([], 1)


@pytest.mark.parametrize("begun", [1, ATTEMPTS])
async def test_what_was_remembered_before_a_crash_came_of_it_and_is_counted_once(
    world: World, autojump_clock: trio.testing.MockClock, begun: int
) -> None:
    async with world.running() as bus:
        await give(bus, "t", begun=begun)
        await say(bus, "t")
        await remember(bus, "t")
        assert await outcome(bus, "t") == ("completed", "because", "")
        assert len(await replies(bus)) == len(await memories(bus, "t")) == 1
        assert (world.script.asked, performed(world)) == ([], 1)


async def test_what_was_begun_too_often_and_left_nothing_is_not_begun_again(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await give(bus, "t", begun=ATTEMPTS)
        assert await outcome(bus, "t") == ("failed", "", "it was begun 3 times and never finished")
        assert (world.script.asked, await replies(bus), await memories(bus, "t")) == ([], [], [])


async def test_what_is_about_something_called_like_a_room_is_told_in_no_room(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await give(bus, "t", domain="code")
        assert await outcome(bus, "t") == ("completed", "re: why?", "")
        assert await replies(bus) == []
        found = await bus.commands.execute("data/list", collection="memories", user_id=PERSONA)
        assert [(memory["source"], memory["room_id"]) for memory in found["items"]] == [("task t", None)]


async def test_what_is_found_begun_while_something_else_is_concluded_is_taken_up(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        await give(bus, "before", begun=1)
        await bus.commands.execute("task/create", id="now", assignee=PERSONA, description="what?")
        before = await bus.commands.execute("data/read", collection="tasks", id="before")
    real = Servicing.conclude

    async def conclude(self: Servicing, *given: Any) -> None:
        await real(self, *given)
        if not told:
            told.append(before["id"])
            world.persona().hear_task(before, missed=True)

    told: list[str] = []
    monkeypatch.setattr(Servicing, "conclude", conclude)
    # It is told of nothing that is begun but while it concludes.
    monkeypatch.setattr("rtos.user.assignments.OPEN", ("pending",))
    async with world.running() as bus:
        assert await outcome(bus, "before") == ("completed", "re: why?", "")
        assert told == ["before"]
