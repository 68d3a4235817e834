"""The life of users: changed, frozen, thawed, failing, deleted, started once, heard in time."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import Poisoned, World, humans, replies

from rtos.errors import CommandRejected, Conflict, StoreBusy
from rtos.user.chores import PERFORMED, Diary
from rtos.user.claims import memory_id, reply_id
from rtos.user.lives import FAILURES, TRIES
from rtos.user.servicing import LATE

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# Changing what is known.


async def test_an_update_merges_and_is_known_at_once(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        execute = bus.commands.execute
        changed = await execute("user/update", id="helper-ai", expertise=["knots"])
        assert (changed["display_name"], changed["expertise"]) == ("Helper AI", ["knots"])
        await execute("user/update", id="helper-ai", name="Ada", description="ties")
        shown = await execute("user/get", id="helper-ai")
        assert (shown["display_name"], shown["short_description"], shown["expertise"]) == (
            "Ada",
            "ties",
            ("knots",),
        )
        assert world.persona().entity.display_name == "Ada"
    async with world.running() as bus:
        assert world.persona().entity.expertise == ("knots",)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({}, r"user/update: there is nothing to change; give one of --name"),
        ({"status": "frozen"}, r"user/update.*status"),
        ({"name": "  "}, r"user/update.*display_name is blank"),
        ({"name": "x" * 101}, r"user/update.*101 characters"),
        ({"expertise": ["a", "a"]}, r"user/update.*has an entry twice"),
        ({"id": "nobody", "name": "x"}, r"user/update: parameter 'id': there is no user 'nobody'"),
    ],
)
async def test_what_an_update_refuses_changes_nothing(
    world: World, given: dict[str, Any], match: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        before = await bus.commands.execute("data/read", collection="users", id="helper-ai")
        with pytest.raises(CommandRejected, match=match):
            await bus.commands.execute("user/update", **{"id": "helper-ai", **given})
        assert await bus.commands.execute("data/read", collection="users", id="helper-ai") == before


async def test_an_event_that_comes_late_does_not_undo_a_newer_change(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        old = await bus.commands.execute("data/read", collection="users", id="helper-ai")
        await bus.commands.execute("user/update", id="helper-ai", name="Ada")
        bus.events.emit("data:users:updated", {"record": old, "user_id": None, "sequence": 0})
        await trio.sleep(1)
        assert world.persona().entity.display_name == "Ada"


# Freezing.


async def test_who_is_frozen_hears_nothing_and_catches_up_when_thawed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        execute = bus.commands.execute
        await execute("user/freeze", id="helper-ai", reason="it rambles")
        await execute("chat/send", room="general", text="one")
        await trio.sleep(1000)
        assert world.script.asked == []
        shown = await execute("user/get", id="helper-ai")
        assert (shown["state"], shown["reason"], shown["status"]) == ("frozen", "it rambles", "frozen")
        listed = {item["id"]: item.get("state") for item in (await execute("user/list"))["items"]}
        assert listed == {"helper-ai": "frozen", "operator": None}
        with pytest.raises(CommandRejected, match=r"'helper-ai' is frozen: it rambles; `rtos user/thaw"):
            await execute("chat/send", room="general", text="psst", sender="helper-ai")
        with pytest.raises(CommandRejected, match="is frozen already"):
            await execute("user/freeze", id="helper-ai")
        await execute("user/thaw", id="helper-ai")
        await trio.sleep(5)
        assert await replies(bus) == [("operator", "one"), ("helper-ai", "re: one")]
        with pytest.raises(CommandRejected, match="is not frozen"):
            await execute("user/thaw", id="helper-ai")


async def test_a_freeze_amid_an_answer_and_over_a_restart_loses_nothing(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 20.0
    async with world.running() as bus:
        for sender, text in zip(await humans(bus, 2), ("one", "two"), strict=True):
            await bus.commands.execute("chat/send", room="general", text=text, sender=sender)
        await trio.sleep(1)
        assert world.script.asked == ["one"]
        await bus.commands.execute("user/freeze", id="helper-ai")
        assert world.users._lives.serving() == []
    world.script.takes = 1.0
    async with world.running() as bus:
        await trio.sleep(100)
        assert world.script.asked == ["one"]
        assert (await bus.commands.execute("user/get", id="helper-ai"))["state"] == "frozen"
        await bus.commands.execute("user/thaw", id="helper-ai")
        await trio.sleep(5)
        assert [text for _, text in await replies(bus)] == ["one", "two", "re: one", "re: two"]


async def test_a_freeze_by_the_record_alone_holds_too(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        execute = bus.commands.execute
        data = {"status": "frozen", "frozen_reason": "by hand"}
        await execute("data/update", collection="users", id="helper-ai", data=data)
        await trio.sleep(1)
        assert (await execute("user/get", id="helper-ai"))["reason"] == "by hand"
        await execute("chat/send", room="general", text="one")
        await execute("data/update", collection="users", id="helper-ai", data={"status": "offline"})
        await trio.sleep(5)
        assert await replies(bus) == [("operator", "one"), ("helper-ai", "re: one")]


async def test_a_human_can_be_frozen(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id="operator", reason="away")
        with pytest.raises(CommandRejected, match="'operator' is frozen: away"):
            await bus.commands.execute("chat/send", room="general", text="psst")


# Failing.


async def test_a_persona_that_fails_at_every_message_is_frozen_and_the_others_go_on(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("@helper-ai one", "@helper-ai two", "@helper-ai three")
    async with world.running() as bus:
        execute = bus.commands.execute
        await execute("user/create", type="persona", name="Other AI")
        await execute("room/join", room="general", user="other-ai")
        with bus.events.subscribe("persona:frozen") as frozen:
            for sender, number in zip(await humans(bus, 3), ("one", "two", "three"), strict=True):
                await execute("chat/send", room="general", text=f"@helper-ai {number}", sender=sender)
            told = (await frozen.receive()).payload
        assert told["persona_id"] == "helper-ai"
        assert told["reason"] == "failed 5 times within 600 s, at last with ValueError('no words')"
        # At once, then after waits that double; the message that was failed at `TRIES` times was refused.
        assert trio.current_time() == pytest.approx(1 + 2 + 1, abs=4)
        assert world.script.asked == ["@helper-ai one"] * TRIES + ["@helper-ai two"] * (FAILURES - TRIES)
        assert (await execute("user/get", id="helper-ai"))["reason"] == told["reason"]
        said = [sender for sender, _ in await replies(bus)]
        assert said == ["human-0", "human-1", "human-2", "helper-ai"]
        await execute("chat/send", room="general", text="@other-ai four")
        await trio.sleep(10_000)
        assert ("other-ai", "re: @other-ai four") in await replies(bus)
        assert len(world.script.asked) == FAILURES + 1  # nobody has tried the frozen one again
        assert bus.scheduler.statistics().timers == 1, "when the other one's memory fades"
    world.script.poison = ()
    async with world.running() as bus:
        await trio.sleep(100)
        assert len(world.script.asked) == FAILURES + 1  # frozen it stays
        await bus.commands.execute("user/thaw", id="helper-ai")
        await trio.sleep(10)
        answered = [text for sender, text in await replies(bus) if sender == "helper-ai"]
        assert answered[1:] == ["re: @helper-ai two", "re: @helper-ai three"]


async def test_who_has_failed_rests_and_is_not_at_work_for_ever(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("poison")
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="poison")
        await trio.sleep(30)
        assert len(world.script.asked) == TRIES
        assert world.persona().feeling.duty == 0.0
        await trio.sleep(24 * 3600)
        shown = await bus.commands.execute("user/get", id="helper-ai")
        assert (shown["label"], shown["mood"], shown["energy"]) == ("idle", "calm", pytest.approx(1.0))


async def test_a_message_that_kills_is_refused_once_and_not_repeated_for_ever(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("poison")
    async with world.running() as bus:
        for sender, text in zip(await humans(bus, 2), ("poison", "hello"), strict=True):
            await bus.commands.execute("chat/send", room="general", text=text, sender=sender)
        await trio.sleep(30)
        said = [text for sender, text in await replies(bus) if sender == "helper-ai"]
        assert len(said) == 2
        assert "I have failed at this more than once" in said[0]
        assert said[1] == "re: hello"
    async with world.running() as bus:
        await trio.sleep(30)
        assert world.script.asked == ["poison"] * TRIES + ["hello"]


async def test_a_message_that_killed_before_the_freeze_gets_one_try_less_after_it(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script = Poisoned("*")
    async with world.running() as bus:
        for sender, text in zip(await humans(bus, 2), ("one", "two"), strict=True):
            await bus.commands.execute("chat/send", room="general", text=text, sender=sender)
        await trio.sleep(100)
        assert world.script.asked == ["one"] * 3 + ["two"] * 2
        await bus.commands.execute("user/thaw", id="helper-ai")
        await trio.sleep(100)
        assert world.script.asked == ["one"] * 3 + ["two"] * 3
        assert (await bus.commands.execute("user/get", id="helper-ai"))["status"] == "offline"
        assert len(await replies(bus)) == 4


async def test_what_the_store_refuses_is_waited_out_and_nobody_is_frozen(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="before")
        await trio.sleep(5)
        real, since = world.backend.apply, trio.current_time()
        refused: list[float] = []

        async def busy(user_id: str | None, operations: Any, *more: Any, **named: Any) -> Any:
            if user_id == "helper-ai" and trio.current_time() < since + 300:
                refused.append(trio.current_time() - since)
                raise StoreBusy("data/batch", "another process holds it")
            return await real(user_id, operations, *more, **named)

        monkeypatch.setattr(world.backend, "apply", busy)
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(1000)
        # At once, then 1, 2, 4, ... 60 s later; what it had said is not said again.
        gaps = [round(b - a) for a, b in itertools.pairwise(refused)]
        assert gaps == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
        assert [text for _, text in await replies(bus)] == ["before", "re: before", "hello", "re: hello"]
        assert world.script.asked == ["before", "hello"]
        assert (await bus.commands.execute("user/get", id="helper-ai"))["status"] == "offline"


async def test_an_answer_to_a_room_that_is_gone_is_given_to_nobody(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        with bus.events.subscribe("persona:failed", "persona:frozen") as failures:
            await bus.commands.execute("chat/send", room="general", text="hello")
            await trio.sleep(0.5)
            await bus.commands.execute("data/delete", collection="rooms", id="general")
            await trio.sleep(100)
            assert failures._receive.statistics().current_buffer_used == 0
        assert world.script.asked == ["hello"]


# Deleting.


async def test_what_a_deleted_persona_had_accepted_is_handed_back_in_one_message(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 20.0
    async with world.running() as bus:
        sent = [await bus.commands.execute("chat/send", room="general", text=text) for text in "abc"]
        await trio.sleep(1)
        before = trio.current_time()
        await bus.commands.execute("user/delete", id="helper-ai")
        assert trio.current_time() == before
        await trio.sleep(1000)
        history = (await bus.commands.execute("chat/history", room="general"))["items"][3:]
        assert [message["text"] for message in history] == [
            "I was deleted before I could answer this and 2 more of your messages; please ask somebody else."
        ]
        assert history[0]["reply_to"] == sent[0]["id"]
        assert world.script.asked == ["a\nb\nc"], "it was about to answer them together"


async def test_a_persona_deleted_by_its_record_hands_back_too(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 20.0
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="a")
        await trio.sleep(1)
        await bus.commands.execute("data/delete", collection="users", id="helper-ai")
        await trio.sleep(100)
        assert "I was deleted before I could answer this;" in (await replies(bus))[1][1]
        assert world.users._lives.serving() == []


async def test_a_persona_deleted_after_its_answer_and_before_its_mark_says_nothing_more(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        real = world.backend.apply

        async def stuck(user_id: str | None, *more: Any, **named: Any) -> Any:
            if user_id == "helper-ai":
                await trio.sleep_forever()
            return await real(user_id, *more, **named)

        monkeypatch.setattr(world.backend, "apply", stuck)
        await bus.commands.execute("chat/send", room="general", text="a")
        await trio.sleep(5)
        assert world.users._lives.serving() == ["helper-ai"]
        assert await bus.commands.execute("user/delete", id="helper-ai") is True
        assert await replies(bus) == [("operator", "a"), ("helper-ai", "re: a")]


async def test_a_persona_whose_deletion_fails_goes_on(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.script.takes = 20.0
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="a")
        await trio.sleep(1)
        real = world.backend.apply

        async def full(user_id: str | None, operations: Any, *more: Any, **named: Any) -> Any:
            if any(operation.op == "delete" for operation in operations):
                raise StoreBusy("data/batch", "another process holds it")
            return await real(user_id, operations, *more, **named)

        monkeypatch.setattr(world.backend, "apply", full)
        with pytest.raises(StoreBusy, match="another process holds it"):
            await bus.commands.execute("user/delete", id="helper-ai")
        await trio.sleep(50)
        assert await replies(bus) == [("operator", "a"), ("helper-ai", "re: a")]


# Remembering.


async def test_an_exchange_is_remembered_once_and_is_no_source_of_answers(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        sent = []
        for _ in range(2):
            sent.append(await bus.commands.execute("chat/send", room="general", text="knots?"))
            await trio.sleep(10)
        found = await bus.commands.execute("data/list", collection="memories", user_id="helper-ai")
        assert {memory["id"] for memory in found["items"]} == {
            memory_id("helper-ai", message["id"]) for message in sent
        }
        assert {memory["kind"] for memory in found["items"]} == {"exchange"}
        history = (await bus.commands.execute("chat/history", room="general"))["items"]
        assert [message["sources"] for message in history] == [[]] * 4


async def test_regret_is_an_answer_like_any_other(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 1000.0
    async with world.running() as bus:
        sent = await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(100)
        assert await replies(bus) == [("operator", "hello"), ("helper-ai", LATE)]
        again = {"room": "general", "sender": "helper-ai", "text": "more"}
        with pytest.raises(Conflict, match="exists"):
            await bus.commands.execute("chat/send", id=reply_id(None, sent["id"]), **again)


# Starting.


async def test_fifty_who_start_one_persona_at_once_start_it_once(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        data = {"type": "persona", "display_name": "New One"}
        made = await bus.commands.execute("data/create", collection="users", id="new-one", data=data)
        await trio.sleep(1)
        await world.users._stop("new-one")
        under_way, most, fails = 0, 0, [True, True]
        real = type(world.persona()).initialize

        async def slow(persona: Any) -> None:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            try:
                await trio.sleep(1)
                if fails:
                    fails.pop()
                    raise StoreBusy("data/read", "another process holds it")
                await real(persona)
            finally:
                under_way -= 1

        monkeypatch.setattr(type(world.persona()), "initialize", slow)
        refused = []

        async def start() -> None:
            try:
                await world.users._start(made)
            except StoreBusy as error:
                refused.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(start)
        # The first two starts fail, and whoever waited for them does not start it side by side.
        assert (most, len(refused)) == (1, 2)
        assert world.persona("new-one").id == "new-one"


async def test_who_is_deleted_while_it_is_made_does_not_come_to_life_afterwards(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        data = {"type": "persona", "display_name": "New One"}
        made = await bus.commands.execute("data/create", collection="users", id="new-one", data=data)
        await bus.commands.execute("data/delete", collection="users", id="new-one")
        await trio.sleep(1)  # both have been told
        await world.users._start_made(made)
        assert "new-one" not in world.users._users
        with pytest.raises(CommandRejected, match="there is no user 'new-one'"):
            await bus.commands.execute("user/get", id="new-one")


async def test_a_change_of_the_record_by_others_is_known(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        data = {"display_name": "Ada"}
        await bus.commands.execute("data/update", collection="users", id="helper-ai", data=data)
        await trio.sleep(1)
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        # A persona answers another one only if it is called by its name.
        for text in ("@Helper AI hello", "@Ada hello"):
            await bus.commands.execute("chat/send", room="general", text=text, sender="other-ai")
        await trio.sleep(5)
        assert [said for sender, said in await replies(bus) if sender == "helper-ai"] == ["re: @Ada hello"]


async def test_a_cancelled_life_leaves_its_message_for_the_next(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 10.0
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="hello")
        for wait in (0.5, 3.0, 9.5):
            await trio.sleep(wait)
            await world.users._lives.end("helper-ai")
            assert world.persona().desk.in_hand is not None
            world.users._lives.activate(world.persona())
        await trio.sleep(30)
        assert await replies(bus) == [("operator", "hello"), ("helper-ai", "re: hello")]
        assert world.persona().desk.in_hand is None


# What it gives itself.


async def test_who_is_called_while_it_stores_what_came_of_a_chore_loses_nothing(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        persona, real = world.persona(), world.backend.apply

        async def slow(user_id: str | None, *more: Any, **named: Any) -> Any:
            if user_id == "helper-ai":
                await trio.sleep(5)
            return await real(user_id, *more, **named)

        monkeypatch.setattr(world.backend, "apply", slow)
        persona.desk.chores.diary = Diary(performed=PERFORMED)
        world.users._lives.activate(persona)
        await trio.sleep(2)
        assert persona.desk.has_chore_in_hand
        # The first call ends the chore, and the second one the first.
        sent = [
            await bus.commands.execute("chat/send", room="general", text=text, sender="other-ai")
            for text in ("@Helper AI hello", "@Helper AI or rather hi")
        ]
        await trio.sleep(60)
        assert persona.desk.in_hand is None
        assert [persona.reading.holds("general", message["id"]) for message in sent] == [False, False]


async def test_what_is_found_stranded_while_an_answer_is_stored_is_taken_up_again(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        persona, real = world.persona(), world.backend.apply

        async def slow(user_id: str | None, *more: Any, **named: Any) -> Any:
            if user_id == "helper-ai":
                await trio.sleep(5)
            return await real(user_id, *more, **named)

        monkeypatch.setattr(world.backend, "apply", slow)
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(3)
        assert persona.desk.in_hand is not None
        begun = {
            "assignee_id": "helper-ai",
            "created_by": "operator",
            "description": "tidy up",
            "status": "in_progress",
            "attempts": 1,
        }
        task = await bus.commands.execute("data/create", collection="tasks", data=begun)
        persona.hear_task(task, missed=True)
        await trio.sleep(60)
        done = await bus.commands.execute("task/list", assignee="helper-ai", status="completed")
        assert {one["task_type"]: one["attempts"] for one in done["items"]} == {
            "resume-work": 1,
            "respond-to-message": 2,  # it was begun, put back, and begun again
        }
