"""Every user's activity log, as the system writes it; real files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from living import World

from rtos.daemons import activity
from rtos.daemons.activity import ActivityDaemon
from rtos.errors import CommandRejected
from rtos.user.activity import ActivityFiles

if TYPE_CHECKING:
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.preferences import PreferencesBook


class Logged(World):
    """With activity logs."""

    files: ActivityFiles | None = None

    def others(self, directories: UserDirectoryManager, book: PreferencesBook) -> list[Any]:
        self.daemon = ActivityDaemon(directories, wall_clock=self.now, files=self.files)
        return [self.daemon]

    def log(self, user_id: str) -> list[dict[str, Any]]:
        path = self.root / "users" / user_id / "logs" / "activity.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def world(tmp_path: Path) -> Logged:
    return Logged(tmp_path)


async def _shown(bus: Bus, user_id: str, **given: Any) -> list[str]:
    found = await bus.commands.execute("user/activity", id=user_id, **given)
    return [item["event"] for item in found["items"]]


async def test_what_a_user_does_and_hears_is_in_its_log(world: Logged) -> None:
    world.script.takes = 0
    async with world.running() as bus:
        with bus.events.subscribe("data:chat_messages:created") as said:
            sent = await bus.commands.execute("chat/send", room="general", text="a secret word")
            while (await said.receive()).payload["record"]["reply_to"] != sent["id"]:
                pass
        assert await _shown(bus, "operator") == ["message:sent", "message:heard"]
        told = await _shown(bus, "helper-ai")
        assert [event for event in told if event.startswith("message")] == [
            "message:heard",
            "message:replied",
        ]
        lines = world.log("helper-ai")
        assert [line["reply_to"] for line in lines if "reply_to" in line] == [sent["id"]]
        # Ids only: who may read logs need not read what was said.
        assert "secret" not in json.dumps(lines)
        assert [line["at"] for line in lines] == sorted(line["at"] for line in lines)


async def _written(world: Logged) -> None:
    """Until whatever is being written is written; time stands still."""
    await trio.testing.wait_all_tasks_blocked()
    async with world.daemon._turn:
        pass


async def test_lines_are_written_together_a_second_after_the_first(
    world: Logged, mock_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await _shown(bus, "operator")
        hops = world.daemon.hops
        for number in range(50):
            await bus.commands.execute("chat/send", room="general", text=f"{number}")
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(0.9 * activity.GATHER)
        await _written(world)
        assert world.daemon.hops == hops
        mock_clock.jump(0.2 * activity.GATHER)
        await _written(world)
        assert world.daemon.hops == hops + 1
        assert sum(line["event"] == "message:sent" for line in world.log("operator")) == 50


async def test_what_waits_is_written_when_the_system_stops(world: Logged) -> None:
    world.script.takes = 1e6
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="the last word")
    assert [line["event"] for line in world.log("operator")] == ["message:sent"]


async def test_whoever_was_deleted_has_no_log_again(world: Logged) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="human", name="Ann")
        await bus.commands.execute("room/join", room="general", user="ann")
        await bus.commands.execute("user/delete", id="ann")
        await _shown(bus, "operator")
        ended = world.log("ann")
        assert ended[-1]["event"] == "user:deleted"
        await bus.commands.execute("chat/send", room="general", text="who is there?")
        assert (await _shown(bus, "operator"))[-1] == "message:sent"
        assert world.log("ann") == ended
        with pytest.raises(CommandRejected, match="there is no user 'ann'"):
            await bus.commands.execute("user/activity", id="ann")


async def test_lines_that_could_not_be_written_are_counted_and_told(world: Logged) -> None:
    world.script.takes = 1e6
    async with world.running() as bus:
        assert await _shown(bus, "operator") == []
        folder = world.root / "users" / "operator" / "logs"
        folder.rmdir()
        folder.write_text("in the way")
        with bus.events.subscribe("activity:failed", "activity:recovered") as told:
            await bus.commands.execute("chat/send", room="general", text="one")
            await bus.commands.execute("chat/send", room="general", text="two")
            failed = await told.receive()
            assert (failed.name, failed.payload["user_id"]) == ("activity:failed", "operator")
            folder.unlink()
            folder.mkdir()
            await bus.commands.execute("chat/send", room="general", text="three")
            assert (await told.receive()).name == "activity:recovered"
        assert [(line["event"], line.get("lines")) for line in world.log("operator")] == [
            ("activity:lost", 2),
            ("message:sent", None),
        ]


@pytest.mark.parametrize("limit", [0, activity.LIMIT + 1])
async def test_a_limit_out_of_bounds_is_refused(
    world: Logged, limit: int, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        with pytest.raises(CommandRejected, match=r"user/activity.*limit is .*; use 1 to 1000"):
            await bus.commands.execute("user/activity", id="operator", limit=limit)


async def test_what_becomes_of_a_task_is_in_the_log_of_whose_it_is(world: Logged) -> None:
    world.script.takes = 0
    async with world.running() as bus:
        with bus.events.subscribe("data:tasks:updated") as changed:
            for id in ("one", "two"):
                await bus.commands.execute("task/create", assignee="helper-ai", description="secret", id=id)
            await bus.commands.execute("task/create", assignee="operator", description="look")
            ended: set[str] = set()
            while ended < {"one", "two"}:
                record = (await changed.receive()).payload["record"]
                ended |= {record["id"]} if record["status"] == "completed" else set()
        found = await bus.commands.execute("user/activity", id="helper-ai")
        told = [(item["event"], item["task_id"]) for item in found["items"] if item["event"][:4] == "task"]
        assert sorted(told) == [
            ("task:completed", "one"),
            ("task:completed", "two"),
            ("task:given", "one"),
            ("task:given", "two"),
        ]
        assert [event for event in await _shown(bus, "operator") if event[:4] == "task"] == ["task:given"]
