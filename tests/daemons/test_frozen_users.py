"""Users that are changed, frozen and thawed, and personas that fail again and again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from rtos.errors import CommandRejected
from rtos.user.crashes import MOST

sys.path.insert(0, str(Path(__file__).parent))
from test_users import World, _replies

if TYPE_CHECKING:
    from trio.testing import MockClock


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_user_is_changed_and_the_rest_stays(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        await ask("user/update", id="helper-ai", description="knows tides", expertise=["tides"])
        found = await ask("user/get", id="helper-ai")
        assert (found["display_name"], found["short_description"]) == ("Helper AI", "knows tides")
        # Without a restart: it is what the next message is weighed by.
        assert world.persona().entity.expertise == ("tides",)
        await ask("user/update", id="helper-ai", name="Tide AI")
        assert (await ask("user/get", id="helper-ai"))["short_description"] == "knows tides"
        with pytest.raises(CommandRejected, match="user/update: nothing is to be changed"):
            await ask("user/update", id="helper-ai")
        with pytest.raises(CommandRejected, match="user/update: users: display_name has 101 characters"):
            await ask("user/update", id="helper-ai", name="x" * 101)
        with pytest.raises(CommandRejected, match="there is no user 'nobody'"):
            await ask("user/update", id="nobody", name="x")
        with pytest.raises(CommandRejected, match="user/create: users: display_name has 101 characters"):
            await ask("user/create", type="human", id="x", name="x" * 101)


async def test_a_frozen_persona_hears_nothing_and_catches_up(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        await ask("chat/send", room="general", text="before")
        await trio.sleep(5)
        await ask("user/freeze", id="helper-ai", reason="on holiday")
        found = await ask("user/get", id="helper-ai")
        assert (found["state"], found["reason"]) == ("frozen", "on holiday")
        assert [one.get("state") for one in (await ask("user/list", type="persona"))["items"]] == ["frozen"]
        assert world.users.degraded() == {}
        await ask("chat/send", room="general", text="meanwhile")
        await trio.sleep(300)
        assert [text for _, text in await _replies(bus)] == ["before", "re: before", "meanwhile"]
        # Asking for it wakes nobody.
        assert (await ask("user/get", id="helper-ai"))["state"] == "frozen"
    # Nor does a restart.
    async with world.running() as bus:
        ask = bus.commands.execute
        await trio.sleep(5)
        assert (await ask("user/get", id="helper-ai"))["reason"] == "on holiday"
        assert len(await _replies(bus)) == 3
        await ask("user/thaw", id="helper-ai")
        await trio.sleep(5)
        assert (await _replies(bus))[-1] == ("helper-ai", "re: meanwhile")
        assert "reason" not in await ask("user/get", id="helper-ai")
        await ask("user/thaw", id="helper-ai")
        await trio.sleep(5)
        assert len(await _replies(bus)) == 4


async def test_who_is_frozen_amid_an_answer_gives_it_when_thawed(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        await ask("chat/send", room="general", text="hello")
        await trio.sleep(0.5)
        await ask("user/freeze", id="helper-ai")
        assert world.users._lives == {}
        await trio.sleep(10)
        assert len(await _replies(bus)) == 1
        await ask("user/thaw", id="helper-ai")
        await trio.sleep(5)
        assert [text for _, text in await _replies(bus)] == ["hello", "re: hello"]


async def test_a_frozen_user_can_be_deleted(world: World, autojump_clock: MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id="helper-ai")
        assert await bus.commands.execute("user/delete", id="helper-ai")
        with pytest.raises(CommandRejected, match="there is no user"):
            await bus.commands.execute("user/get", id="helper-ai")


async def test_a_persona_that_failed_starts_again_and_answers(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        world.script.fails = True
        with bus.events.subscribe("persona:failed") as failures:
            await bus.commands.execute("chat/send", room="general", text="hello")
            await failures.receive()
        found = await bus.commands.execute("user/get", id="helper-ai")
        assert found["state"] == "failed"
        assert found["reason"] == "failed with ValueError: no words; starts again in 0.2 s"
        world.script.fails = False
        # Said while it is away; both are unread, and are heard when it is back.
        await bus.commands.execute("chat/send", room="general", text="again")
        await trio.sleep(10)
        assert sorted(text for _, text in await _replies(bus)) == ["again", "hello", "re: again", "re: hello"]
        assert "reason" not in await bus.commands.execute("user/get", id="helper-ai")


async def test_a_persona_that_fails_at_every_message_is_frozen_with_a_report(
    world: World, autojump_clock: MockClock
) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        await ask("user/create", type="persona", name="Other AI")
        await ask("room/create", name="elsewhere", members=["operator", "other-ai"])
        world.script.fails = True
        with bus.events.subscribe("persona:frozen") as reports:
            await ask("chat/send", room="general", text="hello")
            report = (await reports.receive()).payload
        assert report == {
            "persona_id": "helper-ai",
            "reason": "failed 5 times within 60 s, at last with ValueError: no words",
        }
        assert world.script.asked == ["hello"] * MOST
        world.script.fails = False
        # Everybody else goes on, and it does not.
        await ask("chat/send", room="elsewhere", text="are you well?")
        await trio.sleep(600)
        assert world.script.asked == ["hello"] * MOST + ["are you well?"]
        assert (await ask("user/get", id="helper-ai"))["state"] == "frozen"
        assert world.users._restarts == {}
        # Thawed by an operator it has another chance, and another five failures.
        await ask("user/thaw", id="helper-ai")
        await trio.sleep(10)
        assert (await _replies(bus))[-1] == ("helper-ai", "re: hello")


async def test_a_system_that_is_stopped_while_a_persona_waits_to_start_again(
    world: World, autojump_clock: MockClock
) -> None:
    world.script.fails = True
    async with world.running() as bus:
        with bus.events.subscribe("persona:failed") as failures:
            await bus.commands.execute("chat/send", room="general", text="hello")
            await failures.receive()
    world.script.fails = False
    async with world.running() as bus:
        await trio.sleep(5)
        assert [text for _, text in await _replies(bus)] == ["hello", "re: hello"]
