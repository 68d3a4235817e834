"""Users, personas and chat on the bus, with the store in memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import World, humans, replies

from rtos.bus import Bus
from rtos.daemons.data import open_sqlite_backend
from rtos.errors import CommandRejected, DaemonDown, StoreCorrupt
from rtos.user.claims import memory_id, reply_id
from rtos.user.directory import UserDirectoryManager
from rtos.user.persona import ANSWER_WITHIN

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def test_a_message_is_answered(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        sent = await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(5)
        history = await bus.commands.execute("chat/history", room="general")
        assert [m["text"] for m in history["items"]] == ["hello", "re: hello"]
        assert history["items"][1]["id"] == reply_id(None, sent["id"])
        assert history["items"][1]["causal_depth"] == 1


async def test_a_mention_goes_first(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        several = await humans(bus, 4)
        for sender, text in zip(several, ("one", "two", "three", "@helper-ai four"), strict=True):
            await bus.commands.execute("chat/send", room="general", text=text, sender=sender)
        await trio.sleep(30)
        assert world.script.asked == [
            "@helper-ai four",  # mentions it; personas run below whoever sent these
            "one",  # then in the order of arrival
            "two",
            "three",
        ]


async def test_a_human_is_answered_by_one_and_personas_do_not_answer_each_other_unasked(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(100)
        asked, answer = await replies(bus)
        assert asked == ("operator", "hello")
        assert answer in [("helper-ai", "re: hello"), ("other-ai", "re: hello")]


async def test_who_is_called_by_name_answers_alone(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="persona", name="Other AI")
        await bus.commands.execute("room/join", room="general", user="other-ai")
        await bus.commands.execute("chat/send", room="general", text="what now, @Other AI?")
        await trio.sleep(100)
        assert await replies(bus) == [
            ("operator", "what now, @Other AI?"),
            ("other-ai", "re: what now, @Other AI?"),
        ]


async def test_an_idle_persona_has_no_task_and_no_timer(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        assert world.users._lives.serving() == []
        assert bus.scheduler.statistics().timers == 0
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(5)
        assert world.users._lives.serving() == []
        # It is still lively; the one timer is the instant at which that changes.
        assert world.persona().feeling.label == "active"
        assert bus.scheduler.statistics().timers == 1
        await trio.sleep(7200)
        assert world.persona().feeling.label == "idle"
        # Now the one timer is the instant at which its memory of it fades.
        assert bus.scheduler.statistics().timers == 1
        await trio.sleep(82 * 86400)
        assert bus.scheduler.statistics().timers == 0
        kept = await bus.commands.execute("data/count", collection="memories", user_id="helper-ai")
        assert kept["count"] == 0


async def test_energy_is_spent_by_work_and_comes_back_with_rest(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        with bus.events.subscribe("persona:*:changed") as changes:
            await bus.commands.execute("chat/send", room="general", text="hello")
            await trio.sleep(5)
            assert world.persona().feeling.energy < 1.0
            change = await changes.receive()
            assert change.name == "persona:energy:changed"
            assert change.payload["to"] == "active"
        await trio.sleep(7200)
        told = await bus.commands.execute("user/get", id="helper-ai")
        assert told["energy"] > 0.999


async def test_what_was_not_answered_is_answered_after_a_restart(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 1000.0
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(1)
        assert world.script.asked == ["hello"]
    world.script.takes = 1.0
    async with world.running() as bus:
        await trio.sleep(5)
        assert await replies(bus) == [("operator", "hello"), ("helper-ai", "re: hello")]
    async with world.running() as bus:
        await trio.sleep(5)
        assert len(await replies(bus)) == 2
    assert world.script.asked == ["hello", "hello"]


async def test_an_answer_that_was_stored_before_a_crash_is_not_given_twice(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        sent = await bus.commands.execute("chat/send", room="general", text="hello")
        # As if it had crashed between its reply and its read mark.
        answer = {"room": "general", "sender": "helper-ai", "reply_to": sent["id"], "text": "re: hello"}
        await bus.commands.execute("chat/send", id=reply_id(None, sent["id"]), **answer)
        await trio.sleep(5)
        assert len(await replies(bus)) == 2
    async with world.running() as bus:
        await trio.sleep(5)
        assert len(await replies(bus)) == 2
        # It was found, and nothing was thought; what is remembered is what was said.
        assert world.script.asked == []
        memories = await bus.commands.execute("data/list", collection="memories", user_id="helper-ai")
        assert [memory["id"] for memory in memories["items"]] == [memory_id("helper-ai", sent["id"])]
        assert memories["items"][0]["body"] == "operator: hello\nhelper-ai: re: hello"
        assert memories["items"][0]["source"] == f"room general, message {sent['id']}"


async def test_a_question_that_takes_too_long_is_answered_with_regret(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 10 * ANSWER_WITHIN
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(2 * ANSWER_WITHIN)
        assert (await replies(bus))[1] == (
            "helper-ai",
            "I could not answer this in time; please ask me again.",
        )


async def test_too_many_questions_get_a_visible_refusal_each(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 40.0
    async with world.running() as bus:
        with bus.events.subscribe("inbox:shed") as shed:
            for number, sender in enumerate(await humans(bus, 4)):
                await bus.commands.execute("chat/send", room="general", text=str(number), sender=sender)
            await trio.sleep(1000)
            said = [text for sender, text in await replies(bus) if sender == "helper-ai"]
            assert len(said) == 4  # nobody is left without an answer
            assert sum("re: " in text for text in said) == 1
            assert sum("too busy" in text for text in said) == 3
            assert (await shed.receive()).payload["reason"] == "infeasible"
        assert world.persona().desk.waiting == 0
        assert world.persona().desk._inbox is None  # who has nothing to do holds nothing to do it with


async def test_a_persona_that_fails_once_is_tried_again(
    world: World, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.script.fails = True
    async with world.running() as bus:
        with bus.events.subscribe("persona:failed") as failures:
            sent = await bus.commands.execute("chat/send", room="general", text="hello")
            told = (await failures.receive()).payload
            assert told["persona_id"] == "helper-ai"
            assert told["message_id"] == sent["id"]
        world.script.fails = False
        await bus.commands.execute("chat/send", room="general", text="again")
        await trio.sleep(5)
        assert await replies(bus) == [
            ("operator", "hello"),
            ("operator", "again"),
            ("helper-ai", "re: hello"),
            ("helper-ai", "re: again"),
        ]
    assert "no words" in caplog.text


async def test_a_persona_is_started_once_however_many_ask(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        made = await bus.commands.execute("user/create", type="persona", name="New One")
        first = world.persona("new-one")
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(world.users._start, made)
        await trio.sleep(1)
        assert world.persona("new-one") is first


async def test_a_deleted_persona_stops_at_once(world: World, autojump_clock: trio.testing.MockClock) -> None:
    world.script.takes = 20.0
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="hello")
        await trio.sleep(1)
        assert world.users._lives.serving() == ["helper-ai"]
        assert await bus.commands.execute("user/delete", id="helper-ai") is True
        assert world.users._lives.serving() == []
        await trio.sleep(100)
        assert world.script.asked == ["hello"]
        assert await replies(bus) == [
            ("operator", "hello"),
            ("helper-ai", "I was deleted before I could answer this; please ask somebody else."),
        ]


async def test_users_made_by_others_come_to_life_by_the_event(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        data = {"type": "human", "display_name": "Ann"}
        await bus.commands.execute("data/create", collection="users", id="ann", data=data)
        await trio.sleep(0.1)
        told = await bus.commands.execute("user/get", id="ann")
        assert told["state"]["user_id"] == "ann"
        assert (world.root / "users" / "ann" / "data").is_dir()
        await bus.commands.execute("data/delete", collection="users", id="ann")
        await trio.sleep(0.1)
        with pytest.raises(CommandRejected, match="there is no user 'ann'"):
            await bus.commands.execute("user/get", id="ann")


async def test_a_newcomer_does_not_answer_what_was_said_before(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("chat/send", room="general", text="old")
        await trio.sleep(5)
        await bus.commands.execute("user/create", type="persona", name="New One")
        await bus.commands.execute("room/join", room="general", user="new-one")
        await bus.commands.execute("chat/send", room="general", text="@new-one new")
        await trio.sleep(20)
        assert [text for sender, text in await replies(bus) if sender == "new-one"] == ["re: @new-one new"]


async def test_state_is_stored_as_the_seed_says(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        state = await bus.commands.execute("data/read", key="user_state", user_id="operator")
        assert state["value"]["user_id"] == "operator"
        assert state["value"]["preferences"]["max_open_tabs"] == 10
        assert world.users._users["operator"].database_path == (
            world.root / "users" / "operator" / "data" / "longterm.db"
        )


async def test_two_who_join_at_once_are_both_in(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        for name in ("a", "b", "c", "d"):
            await bus.commands.execute("user/create", type="human", name=name)
        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c", "d"):
                nursery.start_soon(_join, bus, name)
        room = (await bus.commands.execute("room/list"))["items"][0]
        assert set(room["member_ids"]) == {"operator", "helper-ai", "a", "b", "c", "d"}


async def _join(bus: Bus, name: str) -> None:
    await bus.commands.execute("room/join", room="general", user=name)


async def test_history_goes_back_page_by_page(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        await bus.commands.execute("room/create", name="Quiet", members=["operator"])
        for number in range(5):
            await bus.commands.execute("chat/send", room="quiet", text=str(number))
        last = await bus.commands.execute("chat/history", room="quiet", limit=2)
        assert [m["text"] for m in last["items"]] == ["3", "4"]
        before = await bus.commands.execute(
            "chat/history", room="quiet", limit=2, before=last["items"][0]["created_at"]
        )
        assert [m["text"] for m in before["items"]] == ["1", "2"]
        with pytest.raises(CommandRejected, match="501 messages cannot be had at once"):
            await bus.commands.execute("chat/history", room="quiet", limit=501)


async def test_who_is_not_in_a_room_cannot_speak_there(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/create", type="human", name="Eve")
        with pytest.raises(CommandRejected, match=r"'eve' is not in room 'general'; `rtos room/join"):
            await bus.commands.execute("chat/send", room="general", text="psst", sender="eve")


class OnDisk(World):
    """A world whose records are in files."""

    def path(self, user_id: str | None) -> Path:
        folders = UserDirectoryManager(self.root)
        return self.root / "shared.db" if user_id is None else folders.get_database_path(user_id)

    @asynccontextmanager
    async def _store(self, collections: Any, clock: Any, on_change: Any) -> AsyncIterator[Any]:
        async with open_sqlite_backend(self.path, collections, clock, on_change) as backend:
            yield backend


async def _until(bus: Bus, id: str, state: str | None) -> dict[str, Any]:
    """A user, as soon as it is in this state; ``None``: as soon as it is served."""
    while True:
        shown: dict[str, Any] = await bus.commands.execute("user/get", id=id)
        if (shown["state"] if isinstance(shown["state"], str) else None) == state:
            return shown


async def test_a_user_whose_database_is_damaged_is_degraded_and_the_others_are_served(
    tmp_path: Path,
) -> None:
    world = OnDisk(tmp_path)
    async with world.running() as bus:
        await bus.commands.execute("data/store", key="k", value="kept", user_id="helper-ai")
        await bus.commands.execute("data/backup", user_id="helper-ai", to="good")
    world.path("helper-ai").write_bytes(b"no database " * 100)
    for _ in range(2):  # the second boot finds it set aside already
        async with world.running() as bus:
            execute = bus.commands.execute
            shown = await execute("user/get", id="helper-ai")
            assert shown["state"] == "degraded"
            assert "rtos data/restore --user_id=helper-ai" in shown["reason"]
            listed = {item["id"]: item.get("state") for item in (await execute("user/list"))["items"]}
            assert listed == {"helper-ai": "degraded", "operator": None}
            assert list(world.users.degraded()) == ["helper-ai"]
            for call in (
                execute("data/read", key="k", user_id="helper-ai"),
                execute("data/store", key="k", value=1, user_id="helper-ai"),
                execute("memory/recall", user="helper-ai", query="x"),
            ):
                with pytest.raises(StoreCorrupt, match="good.db.*data/reset --user_id=helper-ai"):
                    await call
            await execute("data/store", key="k", value=1, user_id="operator")
            await execute("chat/send", room="general", text="hello")
    async with world.running() as bus:
        await bus.commands.execute("data/restore", user_id="helper-ai")
        await _until(bus, "helper-ai", None)
        assert world.users.degraded() == {}
        record = await bus.commands.execute("data/read", key="k", user_id="helper-ai")
        assert record["value"] == "kept"


async def test_damage_while_it_runs_is_told_and_the_user_let_go_of(tmp_path: Path) -> None:
    world = OnDisk(tmp_path)
    async with world.running() as bus:
        execute = bus.commands.execute
        with bus.events.subscribe("data:degraded") as events:
            path = world.path("helper-ai")
            for suffix in ("-wal", "-shm", ""):
                Path(f"{path}{suffix}").unlink()
            path.write_bytes(b"no database " * 100)
            for _ in range(2):
                with pytest.raises(StoreCorrupt, match="set aside as 'longterm.db.corrupt-"):
                    await execute("data/read", key="k", user_id="helper-ai")
            told = (await events.receive()).payload
            assert told["user_id"] == "helper-ai"
            assert "there is no backup; `rtos data/reset --user_id=helper-ai`" in told["reason"]
        await _until(bus, "helper-ai", "degraded")
        assert "helper-ai" not in world.users._users
        await execute("data/reset", user_id="helper-ai")
        await _until(bus, "helper-ai", None)
        assert world.persona().id == "helper-ai"


async def test_the_shared_database_alone_refuses_the_boot(tmp_path: Path) -> None:
    world = OnDisk(tmp_path)
    async with world.running() as bus:
        backup = await bus.commands.execute("data/backup")
    world.path(None).write_bytes(b"no database " * 100)
    with pytest.raises(DaemonDown, match=f"cp '{backup['path']}' '{world.path(None)}'"):
        async with world.running():
            pytest.fail("it is not open")


async def test_the_shared_database_comes_back_while_it_runs(tmp_path: Path) -> None:
    world = OnDisk(tmp_path)
    async with world.running() as bus:
        execute = bus.commands.execute
        await execute("data/backup")
        await execute("user/create", type="persona", name="Later")
        path = world.path(None)
        for suffix in ("-wal", "-shm", ""):
            Path(f"{path}{suffix}").unlink()
        path.write_bytes(b"no database " * 100)
        with pytest.raises(StoreCorrupt, match="copy the newest backup to that name"):
            await execute("user/list")
        await execute("data/restore")
        assert {item["id"] for item in (await execute("user/list"))["items"]} == {"operator", "helper-ai"}
        while "later" in world.users._users:
            await trio.lowlevel.checkpoint()
        await execute("chat/send", room="general", text="hello")
        assert world.persona().id == "helper-ai"


async def test_users_that_are_truncated_are_gone_and_the_daemon_goes_on(world: World) -> None:
    async with world.running() as bus:
        ask = bus.commands.execute
        before = (await ask("user/list"))["count"]
        await ask("user/create", type="human", name="Ada")
        assert (await ask("data/truncate", collection="users"))["deleted"] == before + 1
        await ask("user/create", type="human", name="Ada")
        assert (await ask("user/list"))["count"] == 1
