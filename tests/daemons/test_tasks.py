"""Tasks as records: given, begun in order, ended with what depends on them, told when overdue."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import living
import pytest
import trio
from living import World
from living import read_task as read

from rtos.errors import CommandRejected
from rtos.user.memory import timestamp_of
from rtos.user.tasks import own_task_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rtos.bus import Bus


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@asynccontextmanager
async def humans(world: World) -> AsyncIterator[Bus]:
    """A system in which nobody does anything by itself."""
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="human", name="Ann")
        yield bus


async def give(bus: Bus, id: str, **more: Any) -> dict[str, Any]:
    return await living.give(bus, id, **{"assignee": "ann", **more})


async def statuses(bus: Bus) -> dict[str, str]:
    found = await bus.commands.execute("task/list", limit=500)
    return {task["id"]: task["status"] for task in found["items"]}


async def test_a_task_is_given_begun_and_completed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        due = timestamp_of(world.now() + 7200)
        given = await give(bus, "one", due=due, estimate=60.0, priority=0.7, context="general")
        assert (given["status"], given["created_by"], given["due_date"]) == ("pending", "operator", due)
        assert (given["priority"], given["estimated_duration"], given["context_id"]) == (0.7, 60.0, "general")
        await trio.sleep(10)
        begun = await bus.commands.execute("task/start", id="one")
        assert (begun["status"], begun["attempts"]) == ("in_progress", 1)
        await trio.sleep(10)
        done = await bus.commands.execute("task/complete", id="one", output="here", metrics={"pages": 2})
        assert (done["status"], done["result"]["output"], done["result"]["success"]) == (
            "completed",
            "here",
            True,
        )
        assert done["completed_at"] > done["started_at"]
        assert done["result"]["metrics"] == {"pages": 2.0}
    async with world.running() as bus:
        assert await read(bus, "one") == done


@pytest.mark.parametrize(
    ("command", "given", "match"),
    [
        ("create", {"assignee": "nobody"}, "'assignee': there is no 'nobody'; `rtos user/list`"),
        ("create", {"by": "nobody"}, "'by': there is no 'nobody'; `rtos user/list`"),
        ("create", {"context": "attic"}, "'context': there is no 'attic'; `rtos room/list`"),
        ("create", {"description": "  "}, "description is blank"),
        ("create", {"description": "x" * 4097}, "description has 4097 bytes, more than 4096"),
        ("create", {"priority": 2.0}, "priority is 2.0; give 0.0 to 1.0"),
        ("create", {"estimate": -1.0}, "estimated_duration is -1.0; give 0.0 or more"),
        ("create", {"due": "soon"}, "'due': 'soon' is no time; give a time to come, such as '1970"),
        ("create", {"due": "1970-01-01"}, "'due': '1970-01-01' is past; give a time to come"),
        ("create", {"depends_on": ["x"]}, "'depends_on': there is no task 'x'"),
        ("create", {"depends_on": ["ended"]}, "'depends_on': 'ended' is cancelled; leave it out"),
        ("create", {"id": "open"}, "'id': there is a task 'open' already; leave the id out"),
        ("create", {"domain": "sports"}, "domain"),
        ("create", {"type": "sleep"}, "type"),
        ("start", {"id": "x"}, "'id': there is no task 'x'"),
        ("start", {"id": "ended"}, "'id': 'ended' is cancelled already"),
        ("start", {"id": "begun"}, "'id': 'begun' is in progress already"),
        ("start", {"id": "blocked"}, "'id': 'blocked' depends on 'open', not completed yet"),
        ("complete", {"id": "blocked"}, "'id': 'blocked' depends on 'open', not completed yet"),
        ("complete", {"id": "ended"}, "'id': 'ended' is cancelled already"),
        ("complete", {"id": "open", "output": "x" * 20_000}, "output has 20000 bytes"),
        ("complete", {"id": "open", "error": "x" * 501}, "error has 501 characters"),
        ("cancel", {"id": "ended"}, "'id': 'ended' is cancelled already"),
        ("release", {"id": "open"}, "'id': 'open' is pending; release what is in progress"),
        ("list", {"status": "lost"}, "status"),
    ],
)
async def test_what_is_no_good_is_refused_and_changes_nothing(
    world: World,
    command: str,
    given: dict[str, Any],
    match: str,
    autojump_clock: trio.testing.MockClock,
) -> None:
    async with humans(world) as bus:
        for id in ("open", "begun", "ended"):
            await give(bus, id)
        await give(bus, "blocked", depends_on=["open"])
        await bus.commands.execute("task/start", id="begun")
        await bus.commands.execute("task/cancel", id="ended")
        before = (await bus.commands.execute("task/list"))["items"]
        if command == "create":
            given = {"assignee": "ann", "description": "do it", **given}
        with pytest.raises(CommandRejected, match=match):
            await bus.commands.execute(f"task/{command}", **given)
        assert (await bus.commands.execute("task/list"))["items"] == before


async def test_lists_are_by_assignee_giver_status_and_due_date(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "one", due=timestamp_of(world.now() + 5))
        await give(bus, "two", by="ann", assignee="operator")
        await give(bus, "three")
        await bus.commands.execute("task/start", id="three")
        await bus.commands.execute("task/complete", id="two")

        async def ids(**asked: Any) -> list[str]:
            found = await bus.commands.execute("task/list", **asked)
            return [task["id"] for task in found["items"]]

        assert await ids() == ["one", "two", "three"]
        assert await ids(assignee="ann") == ["one", "three"]
        assert await ids(by="ann") == ["two"]
        assert await ids(status="open") == ["one", "three"]
        assert await ids(status="in_progress") == ["three"]
        assert await ids(status="completed") == ["two"]
        assert await ids(overdue=True) == []
        await trio.sleep(10)
        assert await ids(overdue=True) == ["one"]
        page = await bus.commands.execute("task/list", limit=2)
        assert await ids(limit=2, cursor=page["next_cursor"]) == ["three"]


async def test_nothing_is_begun_before_all_that_it_depends_on_is_completed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Elsewhere dependencies were stored and never looked at."""
    async with humans(world) as bus:
        await give(bus, "walls")
        await give(bus, "roof")
        task = await give(bus, "paint", depends_on=["walls", "roof"])
        assert task["blocked_by"] == ["walls", "roof"]
        await bus.commands.execute("task/complete", id="roof")
        assert (await read(bus, "paint"))["blocked_by"] == ["walls"]
        with pytest.raises(CommandRejected, match="'paint' depends on 'walls', not completed yet"):
            await bus.commands.execute("task/start", id="paint")
        await bus.commands.execute("task/complete", id="walls")
        assert (await read(bus, "paint"))["blocked_by"] == []
        await bus.commands.execute("task/start", id="paint")
        # What is completed already blocks nobody.
        assert (await give(bus, "admire", depends_on=["walls"]))["blocked_by"] == []


@pytest.mark.parametrize("how", ["failed", "cancelled"])
async def test_with_one_that_was_not_completed_ends_all_that_depends_on_it(
    world: World, how: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "ground")
        await give(bus, "walls", depends_on=["ground"])
        await give(bus, "windows", depends_on=["walls"])
        await give(bus, "roof", depends_on=["walls", "ground"])
        await give(bus, "garden")
        if how == "failed":
            await bus.commands.execute("task/complete", id="ground", success=False, error="swamp")
        else:
            await bus.commands.execute("task/cancel", id="ground", reason="swamp")
        assert await statuses(bus) == {
            "ground": how,
            "walls": "cancelled",
            "windows": "cancelled",
            "roof": "cancelled",
            "garden": "pending",
        }
        assert (await read(bus, "ground"))["result"]["error"] == "swamp"
        assert (await read(bus, "windows"))["result"]["error"] == (
            "it depends on 'walls', which was not completed"
        )


async def test_many_who_complete_what_one_depends_on_at_once_lose_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        ids = [f"part-{number}" for number in range(20)]
        for id in ids:
            await give(bus, id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: give(bus, "whole", depends_on=ids))
            for id in ids:
                nursery.start_soon(lambda id=id: bus.commands.execute("task/complete", id=id))
        assert (await read(bus, "whole"))["blocked_by"] == []
        await bus.commands.execute("task/start", id="whole")


async def test_of_those_who_begin_or_end_one_at_once_one_does(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "one")
        done: list[str] = []

        async def attempt(command: str) -> None:
            try:
                await bus.commands.execute(f"task/{command}", id="one")
            except CommandRejected:
                return
            done.append(command)

        for command in ("start", "complete"):
            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(attempt, command)
        assert done == ["start", "complete"]
        assert (await read(bus, "one"))["attempts"] == 1


async def test_of_one_kind_somebody_gives_itself_one_is_open_at_most(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Elsewhere a stale task of one kind brought forth another one every thirty seconds."""
    async with humans(world) as bus:
        own = {"domain": "self", "type": "skill-audit", "by": "ann"}
        first = await give(bus, "ignored", **own)
        assert first["id"] == own_task_id("ann", "skill-audit")
        with pytest.raises(CommandRejected, match="'type': 'ann' has a task 'skill-audit' already"):
            await give(bus, "again", **own)
        await give(bus, "other", domain="self", type="resume-work")
        await bus.commands.execute("task/complete", id=first["id"], output="fine")
        # The last one makes room, so that they do not pile up.
        second = await give(bus, "again", **own)
        assert (second["id"], second["version"], second["result"]) == (first["id"], 1, None)
        assert len(await statuses(bus)) == 2


async def test_what_is_overdue_is_told_once_by_one_timer(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        before = bus.scheduler.statistics().timers
        with bus.events.subscribe("task:overdue") as overdue:
            for id, seconds in (("late", 300.0), ("soon", 60.0), ("done", 90.0), ("both", 300.0)):
                await give(bus, id, due=timestamp_of(world.now() + seconds))
            assert bus.scheduler.statistics().timers == before + 1
            await bus.commands.execute("task/complete", id="done")
            began = trio.current_time()
            told = [(await overdue.receive(), trio.current_time() - began) for _ in range(3)]
            assert [(event.payload["task_id"], pytest.approx(at, abs=0.1)) for event, at in told] == [
                ("soon", 60.0),
                ("late", 300.0),
                ("both", 300.0),
            ]
            assert told[0][0].payload["assignee_id"] == "ann"
            assert bus.scheduler.statistics().timers == before
    async with world.running() as bus:
        with bus.events.subscribe("task:overdue") as overdue, trio.move_on_after(1000) as nothing:
            await overdue.receive()
        assert nothing.cancelled_caught, "it was told before the restart"
        assert (await read(bus, "late"))["overdue_at"] is not None


async def test_what_was_due_while_it_was_down_is_told_when_it_is_up(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "late", due=timestamp_of(world.now() + 60))
        await bus.commands.execute("task/start", id="late")
    world.wall += 600
    async with world.running() as bus:
        await trio.sleep(1)
        assert (await read(bus, "late"))["overdue_at"] is not None


async def test_what_was_given_to_somebody_who_is_deleted_is_cancelled(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "one")
        await give(bus, "two", depends_on=["one"])
        await give(bus, "mine", assignee="operator", depends_on=["two"])
        await give(bus, "free", assignee="operator")
        await bus.commands.execute("user/delete", id="ann")
        await trio.sleep(1)
        assert await statuses(bus) == {
            "one": "cancelled",
            "two": "cancelled",
            "mine": "cancelled",
            "free": "pending",
        }
        assert (await read(bus, "one"))["result"]["error"] == "'ann' was deleted"


async def test_also_if_nobody_was_there_to_be_told_of_it(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with humans(world) as bus:
        await give(bus, "one")
        # As if it was killed between the deletion and what follows from it.
        assert world.backend is not None
        world.backend._on_change = lambda *_: None
        await bus.commands.execute("data/delete", collection="users", id="ann")
        assert (await read(bus, "one"))["status"] == "pending"
    async with world.running() as bus:
        assert (await read(bus, "one"))["status"] == "cancelled"
