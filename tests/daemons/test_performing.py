"""Tasks that personas perform, and those that they give themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest
import trio
from living import Poisoned, World, give, replies
from living import read_task as read

from rtos.daemons import memory
from rtos.errors import StoreBusy
from rtos.user import chores, planning
from rtos.user.chores import EXCHANGES, PERFORMED
from rtos.user.inbox import PersonaInbox
from rtos.user.lives import TRIES
from rtos.user.memory import timestamp_of
from rtos.user.performing import WITHIN
from rtos.user.priority import LEVEL, RESTING
from rtos.user.tasks import ATTEMPTS, own_task_id

if TYPE_CHECKING:
    from pathlib import Path

    from rtos.bus import Bus

HOUR = 3600.0


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def memories(bus: Bus) -> list[dict[str, Any]]:
    found = await bus.commands.execute("data/list", collection="memories", user_id="helper-ai", limit=500)
    return list(found["items"])


async def own(bus: Bus, kind: str) -> dict[str, Any] | None:
    task: dict[str, Any] | None = await bus.commands.execute(
        "data/read", collection="tasks", id=own_task_id("helper-ai", kind)
    )
    return task


async def talk(bus: Bus, count: int, *, apart: float = 30.0) -> None:
    for number in range(count):
        await bus.commands.execute("chat/send", room="general", text=f"how do bees dance, {number}?")
        await trio.sleep(apart)


# Tasks that it is given.


async def test_a_task_is_performed_told_in_its_room_and_remembered(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await give(bus, "one", context="general")
        await give(bus, "two")
        await trio.sleep(10)
        done = await read(bus, "one")
        assert (done["status"], done["result"]["output"], done["attempts"]) == ("completed", "re: do one", 1)
        assert (await read(bus, "two"))["status"] == "completed"
        assert await replies(bus) == [("helper-ai", "re: do one")]
        kept = {memory["source"]: memory for memory in await memories(bus)}
        assert set(kept) == {"task one", "task two"}
        assert kept["task one"]["body"] == "operator: do one\nhelper-ai: re: do one"
        assert (kept["task one"]["said_by"], kept["task one"]["room_id"]) == ("operator", "general")
        log = await bus.commands.execute("data/changes", limit=500)
        told = [
            change["record"]["status"]
            for change in log["items"]
            if change["collection"] == "tasks" and change["record"]["id"] == "one"
        ]
        assert told == ["pending", "in_progress", "completed"]


async def test_a_task_that_depends_on_another_is_performed_after_it(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await give(bus, "by hand", assignee="operator")
        await give(bus, "after", depends_on=["by hand"])
        await give(bus, "last", depends_on=["after"])
        await trio.sleep(1000)
        assert world.script.asked == []
        await bus.commands.execute("task/complete", id="by hand")
        await trio.sleep(10)
        assert world.script.asked == ["do after", "do last"]


async def test_a_task_that_is_told_of_again_and_again_is_performed_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Elsewhere a task that was not begun yet was put in the queue again every ten seconds."""
    async with world.running() as bus:
        await give(bus, "busy")
        task = await give(bus, "one", context="general")
        for _ in range(20):
            bus.events.emit("data:tasks:updated", {"record": task, "user_id": None, "sequence": 0})
            await trio.sleep(0.3)
        await trio.sleep(100)
        assert world.script.asked == ["do busy", "do one"]
        assert await replies(bus) == [("helper-ai", "re: do one")]


async def test_a_question_does_not_wait_for_a_heap_of_tasks(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        for number in range(50):
            await give(bus, f"task-{number}")
        await bus.commands.execute("chat/send", room="general", text="@helper-ai quick?")
        await trio.sleep(100)
        assert "@helper-ai quick?" in world.script.asked[:4]
        assert len(world.script.asked) == 51


async def test_there_may_be_more_tasks_than_an_inbox_holds_and_none_is_lost(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Tasks are records: what there is no room for waits there, and is fetched without a poll."""
    world.script.takes = 10.0
    async with world.running() as bus:
        with bus.events.subscribe("inbox:shed") as shed:
            for number in range(250):
                await give(bus, f"task-{number}", priority=(number % 10) / 10)
            await trio.sleep(250 * 10.0 + 120)
            with trio.move_on_after(1) as nothing:
                await shed.receive()
            assert nothing.cancelled_caught
        left = await bus.commands.execute("task/list", status="open")
        assert left["items"] == []
        assert sorted(world.script.asked) == sorted(f"do task-{number}" for number in range(250))
        assert (await replies(bus)) == []


async def test_what_was_put_off_is_fetched_again_where_it_could_not_be_read(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        real, refused = bus.commands.execute, 0

        async def busy(name: str, /, **given: Any) -> Any:
            nonlocal refused
            if name == "data/list" and given.get("limit") == planning.FETCHED and not refused:
                refused += 1
                raise StoreBusy(name, "the disk is slow", "again later")
            return await real(name, **given)

        bus.commands.execute = busy  # type: ignore[method-assign,assignment]
        for number in range(120):
            await give(bus, f"task-{number}")
        await trio.sleep(1000)
        assert refused == 1
        left = await bus.commands.execute("task/list", status="open")
        assert left["items"] == []


async def test_what_is_due_soon_goes_first(world: World, autojump_clock: trio.testing.MockClock) -> None:
    """Elsewhere what a due date adds was computed, and not used where tasks are picked up."""
    async with world.running() as bus:
        await give(bus, "busy")
        await trio.sleep(0.5)
        await give(bus, "some day")
        await give(bus, "this week", due=timestamp_of(world.now() + 100 * HOUR))
        await give(bus, "today", due=timestamp_of(world.now() + 10 * HOUR))
        await give(bus, "now", due=timestamp_of(world.now() + HOUR / 2))
        await trio.sleep(100)
        assert world.script.asked == [f"do {id}" for id in ("busy", "now", "today", "this week", "some day")]


async def test_a_task_that_takes_too_long_fails_and_the_next_is_performed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 1_000_000.0
    async with world.running() as bus:
        await give(bus, "endless")
        await give(bus, "estimated", estimate=20.0)
        await trio.sleep(WITHIN + 1)
        assert (await read(bus, "endless"))["result"]["error"] == "it took longer than 600 s"
        await trio.sleep(60)
        assert (await read(bus, "estimated"))["result"]["error"] == "it took longer than 60 s"
        assert await memories(bus) == []


async def test_a_task_that_is_cancelled_is_left_off_at_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 100.0
    async with world.running() as bus:
        for id in ("in hand", "waiting"):
            await give(bus, id, context="general")
        await trio.sleep(10)
        assert (await read(bus, "in hand"))["status"] == "in_progress"
        for id in ("in hand", "waiting"):
            await bus.commands.execute("task/cancel", id=id)
        await trio.sleep(0.1)
        assert world.persona().desk.in_hand is None
        await trio.sleep(300)
        assert world.script.asked == ["do in hand"]
        assert await replies(bus) == []
        assert await memories(bus) == []


async def test_a_task_that_it_fails_at_is_tried_so_often_and_then_has_failed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("do poison")
    async with world.running() as bus:
        await give(bus, "poison", context="general")
        await give(bus, "after it", depends_on=["poison"])
        await give(bus, "good")
        await trio.sleep(100)
        assert world.script.asked.count("do poison") == TRIES
        failed = await read(bus, "poison")
        assert (failed["status"], failed["result"]["success"]) == ("failed", False)
        assert failed["result"]["error"] == "it was tried more than once, and failed each time"
        assert (await read(bus, "after it"))["status"] == "cancelled"
        assert (await read(bus, "good"))["status"] == "completed"
        # Whoever waits in the room is told, and it is no memory.
        words = "I could not do this: it was tried more than once, and failed each time."
        assert await replies(bus) == [("helper-ai", words)]
        assert [memory["source"] for memory in await memories(bus)] == ["task good"]


async def test_what_nobody_here_can_do_fails_and_says_so(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute(
            "task/create", assignee="helper-ai", description="tune", domain="self", type="fine-tune-lora"
        )
        await trio.sleep(5)
        failed = await own(bus, "fine-tune-lora")
        assert failed is not None
        assert (failed["status"], failed["result"]["error"]) == ("failed", "nobody here can tune a model")


async def test_tasks_of_a_frozen_persona_wait_and_those_of_a_deleted_one_end(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id="helper-ai")
        await give(bus, "one")
        await trio.sleep(1000)
        assert (await read(bus, "one"))["status"] == "pending"
        await bus.commands.execute("user/thaw", id="helper-ai")
        await trio.sleep(10)
        assert (await read(bus, "one"))["status"] == "completed"
        world.script.takes = 100.0
        await give(bus, "two", context="general")
        await trio.sleep(10)
        await bus.commands.execute("user/delete", id="helper-ai")
        await trio.sleep(200)
        assert (await read(bus, "two"))["status"] == "cancelled"
        assert await replies(bus) == []


# What it gives itself.


async def test_nothing_is_given_to_itself_by_who_has_done_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    """Elsewhere the first look fires all timers at once."""
    async with world.running() as bus:
        await trio.sleep(7 * 24 * HOUR)
        assert (await bus.commands.execute("task/list"))["items"] == []


async def test_memory_is_consolidated_by_who_is_rested_and_has_nothing_else_to_do(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await talk(bus, EXCHANGES)
        assert world.persona().feeling.label == "active"
        assert await own(bus, "memory-consolidation") is None
        with bus.events.subscribe("persona:energy:changed", "data:tasks:created") as events:
            crossing, made = await events.receive(), await events.receive()
        # Not by a timer of its own: at the crossing at which it comes to rest.
        assert (crossing.payload["from"], crossing.payload["to"]) == ("active", "idle")
        assert made.payload["record"]["task_type"] == "memory-consolidation"
        await trio.sleep(1)
        done = await own(bus, "memory-consolidation")
        assert done is not None
        assert (done["status"], done["created_by"], done["domain"]) == ("completed", "helper-ai", "self")
        assert done["result"]["metrics"]["merged"] == EXCHANGES
        assert [memory["kind"] for memory in await memories(bus)] == ["summary"]
        # It made nobody livelier, and is not done again for the same.
        assert world.persona().feeling.label == "idle"
        await trio.sleep(24 * HOUR)
        assert (await own(bus, "memory-consolidation")) == done


@attrs.define
class Slowness:
    """What is seen of consolidations that take a while."""

    begun: trio.Event = attrs.field(factory=trio.Event)
    ended: int = 0


@pytest.fixture
def slowness(monkeypatch: pytest.MonkeyPatch) -> Slowness:
    seen, real = Slowness(), memory.consolidate

    async def consolidate(*args: Any, **more: Any) -> Any:
        seen.begun.set()
        await trio.sleep(100)
        done = await real(*args, **more)
        seen.ended += 1
        return done

    monkeypatch.setattr(memory, "consolidate", consolidate)
    return seen


@pytest.mark.parametrize("called", [True, False])
async def test_a_mention_cuts_a_consolidation_short_and_it_is_done_at_the_next_rest(
    world: World, slowness: Slowness, called: bool, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await talk(bus, EXCHANGES)
        with trio.fail_after(24 * HOUR):
            await slowness.begun.wait()
        assert world.users._lives._lives["helper-ai"].context.base_level == RESTING > LEVEL
        before = await memories(bus)
        name = "@helper-ai " if called else ""
        await bus.commands.execute("chat/send", room="general", text=f"{name}are you there?")
        await trio.sleep(5)
        if called:
            assert (await replies(bus))[-1][0] == "helper-ai", "it did not wait for the consolidation"
            assert slowness.ended == 0
            assert [one for one in await memories(bus) if one in before] == before, "nothing is left of it"
            task = await own(bus, "memory-consolidation")
            assert task is not None
            assert task["status"] == "in_progress"
        else:
            assert (await replies(bus))[-1][0] == "operator", (
                "whoever does not call it waits for what is left"
            )
        await trio.sleep(3 * HOUR)
        assert (await replies(bus))[-1][0] == "helper-ai"
        task = await own(bus, "memory-consolidation")
        assert task is not None
        assert task["status"] == "completed"
        assert slowness.ended > 0
        assert world.persona().desk.chores.diary.exchanges < EXCHANGES


async def test_skills_are_audited_after_so_many_tasks(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("do poison")
    world.script.takes = 2.0
    async with world.running() as bus:
        for number in range(PERFORMED - 1):
            await give(bus, f"task-{number}", domain="code" if number % 3 else "chat")
        await give(bus, "poison")
        await trio.sleep(3 * HOUR)
        done = await own(bus, "skill-audit")
        assert done is not None
        assert done["result"]["output"] == (
            "chat: 7 completed, 1 failed, 2.0 s each\ncode: 12 completed, 0 failed, 2.0 s each"
        )
        assert done["result"]["metrics"]["code completed"] == 12.0
        await trio.sleep(24 * HOUR)
        assert (await own(bus, "skill-audit")) == done


async def test_what_was_begun_before_a_restart_is_taken_up_again(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 100.0
    async with world.running() as bus:
        await give(bus, "one", context="general")
        await give(bus, "by hand", assignee="operator")
        await bus.commands.execute("task/start", id="by hand")
        await trio.sleep(10)
        assert (await read(bus, "one"))["status"] == "in_progress"
    async with world.running() as bus:
        await trio.sleep(1)
        resumed = await own(bus, "resume-work")
        assert resumed is not None
        assert (resumed["status"], resumed["result"]["output"]) == ("completed", "1 taken up again")
        await trio.sleep(200)
        done = await read(bus, "one")
        assert (done["status"], done["attempts"]) == ("completed", 2)
        assert await replies(bus) == [("helper-ai", "re: do one")]
        assert (await read(bus, "by hand"))["status"] == "in_progress", "that is the operator's business"


async def test_a_task_that_never_ends_well_is_given_up_after_so_many_restarts(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 100.0
    for _ in range(ATTEMPTS):
        async with world.running() as bus:
            if await read(bus, "one") is None:
                await give(bus, "one")
            await trio.sleep(10)
            assert (await read(bus, "one"))["status"] == "in_progress"
    async with world.running() as bus:
        await trio.sleep(10)
        failed = await read(bus, "one")
        assert failed["result"]["error"] == f"it was begun {ATTEMPTS} times and never finished"


async def test_what_came_of_a_task_is_found_after_a_crash_before_its_record_said_so(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        real = bus.commands.execute

        async def dying(name: str, /, **given: Any) -> Any:
            if name == "task/complete":
                await trio.sleep_forever()
            return await real(name, **given)

        bus.commands.execute = dying  # type: ignore[method-assign,assignment]
        await give(bus, "one", context="general")
        await trio.sleep(10)
        assert (await read(bus, "one"))["status"] == "in_progress"
        assert len(await memories(bus)) == 1
    async with world.running() as bus:
        await trio.sleep(10)
        done = await read(bus, "one")
        assert (done["status"], done["result"]["output"]) == ("completed", "re: do one")
        assert world.script.asked == ["do one"], "nobody has thought about it twice"
        assert await replies(bus) == [("helper-ai", "re: do one")]
        assert len(await memories(bus)) == 1


@pytest.mark.parametrize("takes", [1.0, WITHIN + 1.0])
async def test_what_was_said_in_the_room_before_a_crash_is_what_came_of_it(
    world: World, takes: float, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = takes
    async with world.running() as bus:
        real = bus.commands.execute

        async def dying(name: str, /, **given: Any) -> Any:
            if name == "data/batch" and given.get("user_id") == "helper-ai":
                await trio.sleep_forever()
            return await real(name, **given)

        bus.commands.execute = dying  # type: ignore[method-assign,assignment]
        await give(bus, "one", context="general")
        await trio.sleep(WITHIN + 10)
        assert (await read(bus, "one"))["status"] == "in_progress"
        said = await replies(bus)
    async with world.running() as bus:
        await trio.sleep(10)
        done = await read(bus, "one")
        assert await replies(bus) == said
        assert world.script.asked == ["do one"], "nobody has thought about it twice"
        if takes < WITHIN:
            assert (done["status"], done["result"]["output"]) == ("completed", "re: do one")
            assert len(await memories(bus)) == 1
        else:
            assert (done["status"], done["result"]["error"]) == ("failed", "it took longer than 600 s")
            assert said == [("helper-ai", "I could not do this: it took longer than 600 s.")]
            assert await memories(bus) == []


async def test_how_much_has_happened_is_known_after_a_restart(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await talk(bus, EXCHANGES - 1)
    async with world.running() as bus:
        diary = world.persona().desk.chores.diary
        assert diary.exchanges == EXCHANGES - 1
        assert diary.fades_at < world.now() + 82 * 24 * HOUR
        await talk(bus, 1)
        await trio.sleep(3 * HOUR)
        done = await own(bus, "memory-consolidation")
        assert done is not None
        assert done["status"] == "completed"


async def test_a_consolidation_that_cannot_be_ordered_is_tried_again_and_is_nobodys_fault(
    world: World, monkeypatch: pytest.MonkeyPatch, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await talk(bus, EXCHANGES)
        real, refused = bus.commands.execute, 0

        async def busy(name: str, /, **given: Any) -> Any:
            nonlocal refused
            if name == "task/create" and refused < 3:
                refused += 1
                raise StoreBusy(name, "the disk is slow", "again later")
            return await real(name, **given)

        bus.commands.execute = busy  # type: ignore[method-assign,assignment]
        await trio.sleep(3 * HOUR)
        assert refused == 3
        done = await own(bus, "memory-consolidation")
        assert done is not None
        assert done["status"] == "completed"
        assert world.persona().entity.status != "frozen"


def test_what_a_persona_gives_itself_is_known_by_its_kind() -> None:
    assert list(chores.CHORES) == ["resume-work", "skill-audit", "memory-consolidation"]
    assert [attrs.asdict(chore)["at_rest"] for chore in chores.CHORES.values()] == [False, True, True]
    # One more than an inbox holds, or what waits in records would be forgotten there.
    assert PersonaInbox().statistics().capacity < planning.FETCHED
