"""What users have open and have read, by the commands: stored, kept, and never lost on one another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import World

from rtos.errors import CommandRejected, DeadlineMissed, StoreBusy
from rtos.user.claims import reply_id
from rtos.user.memory import DAY, timestamp_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rtos.bus import Bus

WHO = ["operator", "helper-ai"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def _open(bus: Bus, entity_id: str, *, id: str = "operator", **given: Any) -> dict[str, Any]:
    """Open a document, and say what is open then."""
    opened: dict[str, Any] = await bus.commands.execute(
        "user/open", id=id, type="document", entity_id=entity_id, **given
    )
    return opened


def _shown(content: dict[str, Any]) -> list[str]:
    return [item["entity_id"] for item in content["open_items"]]


async def _state(bus: Bus, id: str = "operator") -> dict[str, Any]:
    """The state of a user: as it is stored, and in memory the same."""
    record = await bus.commands.execute("data/read", key="user_state", user_id=id)
    stored: dict[str, Any] = record["value"]
    known = (await bus.commands.execute("user/get", id=id))["state"]
    assert list(known["content_state"]["open_items"]) == stored["content_state"]["open_items"]
    assert {**known, "content_state": 0} == {**stored, "content_state": 0}
    return stored


class Slow:
    """Makes writes of one user's state take a while, by how many operations they have, or fail."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, id: str) -> None:
        assert world.backend is not None
        self.begun = trio.Event()
        self.takes: Callable[[int], float] = lambda _: 0.0
        self.fails = False
        self.count = 0
        self._id = id
        self._real = world.backend.apply
        monkeypatch.setattr(world.backend, "apply", self._apply)

    async def _apply(self, user_id: str | None, operations: Any) -> Any:
        if user_id == self._id and any(operation.id == "user_state" for operation in operations):
            self.count += 1
            self.begun.set()
            await trio.sleep(self.takes(len(operations)))
            if self.fails:
                raise StoreBusy("data/store", "another process holds it")
        return await self._real(user_id, operations)


# What is open.


@pytest.mark.parametrize("id", WHO)
async def test_what_is_opened_is_in_front_and_outlives_a_restart(
    world: World, id: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await _open(bus, "notes", id=id, title="Notes", subtitle="mine", metadata={"line": 3})
        content = await _open(bus, "plan", id=id, priority="high")
        assert _shown(content) == ["plan", "notes"]
        assert content["current_item_id"] == "document:plan"
        assert content["last_updated_at"] == timestamp_of(world.now())
    async with world.running() as bus:
        plan, notes = (await _state(bus, id))["content_state"]["open_items"]
        assert plan == {
            "id": "document:plan",
            "type": "document",
            "entity_id": "plan",
            "title": "",
            "subtitle": None,
            "last_accessed_at": content["last_updated_at"],
            "priority": "high",
            "metadata": {},
        }
        assert (notes["title"], notes["subtitle"], notes["metadata"]) == ("Notes", "mine", {"line": 3})


async def test_what_is_opened_again_moves_and_keeps_what_is_not_given(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await _open(bus, "notes", title="Notes", priority="urgent")
        await _open(bus, "plan")
        content = await _open(bus, "notes", title="My notes")
        assert _shown(content) == ["notes", "plan"]
        assert (content["open_items"][0]["title"], content["open_items"][0]["priority"]) == (
            "My notes",
            "urgent",
        )


async def test_no_more_is_open_than_is_preferred(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        for number in range(12):
            content = await _open(bus, str(number))
        assert _shown(content) == [str(number) for number in range(11, 1, -1)]
        world.users._preferences.accept("operator", {"max_open_tabs": 2})
        assert _shown(await _open(bus, "one")) == ["one", "11"]


async def test_when_what_is_in_front_is_closed_the_one_before_it_is(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        close = bus.commands.execute
        for name in ("a", "b", "c"):
            await _open(bus, name)
        content = await close("user/close", id="operator", item="document:c")
        assert (_shown(content), content["current_item_id"]) == (["b", "a"], "document:b")
        await close("user/close", id="operator", item="document:a")
        content = await close("user/close", id="operator", item="document:b")
        assert (_shown(content), content["current_item_id"]) == ([], None)
        assert (await _state(bus))["content_state"]["open_items"] == []


async def test_what_is_old_is_closed_when_something_is_opened_or_closed_and_not_before(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await _open(bus, "old")
        await _open(bus, "pinned", priority="urgent")
        world.wall += 20 * DAY
        await _open(bus, "recent")
        world.wall += 11 * DAY
        assert len((await _state(bus))["content_state"]["open_items"]) == 3
        assert _shown(await _open(bus, "new")) == ["new", "recent", "pinned"]
        world.wall += 25 * DAY
        content = await bus.commands.execute("user/close", id="operator", item="document:pinned")
        assert _shown(content) == ["new"]
        # What is opened again is not old, however long ago that was; and some never want to close anything.
        world.users._preferences.accept("operator", {"auto_close_after_days": 10**400})
        world.wall += 1000 * DAY
        assert _shown(await _open(bus, "newer")) == ["newer", "new"]
        assert bus.scheduler.statistics().timers == 0


@pytest.mark.parametrize(
    ("asked", "given", "match"),
    [
        (
            "user/open",
            {"id": "nobody"},
            r"user/open: parameter 'id': there is no user 'nobody'; `rtos user/list",
        ),
        ("user/open", {"type": "cat"}, r"user/open: parameter 'type': invalid enum value 'cat'"),
        ("user/open", {"entity_id": " "}, r"user/open: entity_id is blank; give some text"),
        ("user/open", {"entity_id": "x" * 201}, r"user/open: .*id has 2.. characters, more than"),
        (
            "user/open",
            {"title": "x" * 501},
            r"user/open: title has 501 characters, more than 500; shorten it",
        ),
        ("user/open", {"title": "\ud800"}, r"user/open: .*half a surrogate pair"),
        ("user/open", {"priority": "extreme"}, r"user/open: parameter 'priority'"),
        ("user/open", {"metadata": {"a": []}}, r"user/open: parameter 'metadata'"),
        ("user/open", {"metadata": {"a": 2**70}}, r"user/open: metadata has a number of more than 64 bits"),
        ("user/close", {"item": "cat"}, r"user/close: parameter 'item': 'cat' is not open; `rtos user/get"),
        ("user/close", {}, r"user/close: parameter 'item': lacks"),
    ],
)
async def test_what_cannot_be_opened_or_closed_changes_nothing(
    world: World, asked: str, given: dict[str, Any], match: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await _open(bus, "notes")
        before = await _state(bus)
        usual = {"id": "operator"} | ({"type": "document", "entity_id": "x"} if asked == "user/open" else {})
        with pytest.raises(CommandRejected, match=match):
            await bus.commands.execute(asked, **(usual | given))
        assert await _state(bus) == before


async def test_who_is_frozen_opens_nothing_until_it_is_thawed(
    world: World, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id="helper-ai")
        with pytest.raises(
            CommandRejected, match=r"user/open: .*'helper-ai' is frozen; `rtos user/thaw --id=helper-ai`"
        ):
            await _open(bus, "notes", id="helper-ai")
        await bus.commands.execute("user/thaw", id="helper-ai")
        assert _shown(await _open(bus, "notes", id="helper-ai")) == ["notes"]


# What is read.


async def test_a_read_mark_only_moves_forward(world: World, autojump_clock: trio.testing.MockClock) -> None:
    async with world.running() as bus:
        execute = bus.commands.execute
        sent = []
        for text in ("one", "two", "three"):
            sent.append(await execute("chat/send", room="general", text=text))
            await trio.sleep(5)
        for message, expected in ((1, 1), (0, 1), (1, 1), (2, 2), (0, 2)):
            read = await execute("user/read", id="operator", room="general", message=sent[message]["id"])
            assert read == {
                "last_read_message_timestamp": sent[expected]["created_at"],
                "last_read_message_id": sent[expected]["id"],
            }
        assert (await _state(bus))["room_read_state"] == {"general": read}


async def test_an_older_message_is_not_even_written(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        sent = await bus.commands.execute("chat/send", room="general", text="one")
        slow = Slow(world, monkeypatch, "operator")
        for _ in range(3):
            await bus.commands.execute("user/read", id="operator", room="general", message=sent["id"])
        assert slow.count == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"id": "nobody"}, r"user/read: parameter 'id': there is no user 'nobody'; `rtos user/list"),
        (
            {"id": "helper-ai"},
            r"user/read: parameter 'id': 'helper-ai' is a persona.*; give a user that is none",
        ),
        ({"room": "cellar"}, r"user/read: parameter 'room': there is no 'cellar'; `rtos room/list` shows"),
        ({"message": "m9"}, r"user/read: parameter 'message': there is no 'm9'; `rtos chat/history"),
        ({"message": ""}, r"user/read: parameter 'message': id is ''; use 1 to 200 characters"),
        (
            {"room": "quiet"},
            r"user/read: parameter 'message': .* is not in room 'quiet' but in 'general'; `rtos",
        ),
    ],
)
async def test_what_cannot_have_been_read_changes_nothing(
    world: World, given: dict[str, Any], match: str, autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("room/create", name="Quiet", members=["operator"])
        sent = await bus.commands.execute("chat/send", room="general", text="one")
        await trio.sleep(5)
        before = [await _state(bus, id) for id in WHO]
        usual = {"id": "operator", "room": "general", "message": sent["id"]}
        with pytest.raises(CommandRejected, match=match):
            await bus.commands.execute("user/read", **(usual | given))
        assert [await _state(bus, id) for id in WHO] == before


# One after the other.


async def test_no_change_is_lost_on_another_of_the_same_moment(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        sent = await bus.commands.execute("chat/send", room="general", text="one")
        await _open(bus, "gone")
        slow = Slow(world, monkeypatch, "operator")
        # The first to come would be the last to be stored.
        slow.takes = lambda _: 1.0 / slow.count
        execute = bus.commands.execute
        async with trio.open_nursery() as nursery:
            for name in ("a", "b", "c"):
                nursery.start_soon(_open, bus, name)
            nursery.start_soon(
                lambda: execute("user/read", id="operator", room="general", message=sent["id"])
            )
            nursery.start_soon(lambda: execute("user/close", id="operator", item="document:gone"))
        state = await _state(bus)
        assert set(_shown(state["content_state"])) == {"a", "b", "c"}
        assert state["room_read_state"]["general"]["last_read_message_id"] == sent["id"]
        assert world.users._users["operator"]._turn is None  # nobody writes, and nothing is held for it


@pytest.mark.parametrize("opening", [0.0, 3.0], ids=["the persona is slower", "the command is slower"])
async def test_what_is_opened_is_not_lost_on_what_a_persona_stores_of_itself(
    world: World, opening: float, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        slow = Slow(world, monkeypatch, "helper-ai")
        # One operation is a command's; more are the mark, the feeling and the memory of an exchange.
        slow.takes = lambda operations: opening if operations == 1 else 2.0
        sent = await bus.commands.execute("chat/send", room="general", text="hello")
        if opening:
            await trio.sleep(0.5)  # it is stored while the persona, which takes a second, comes to its end
        else:
            await slow.begun.wait()
        assert _shown(await _open(bus, "notes", id="helper-ai")) == ["notes"]
        await trio.sleep(10)
        assert world.users._lives.serving() == []
        assert slow.count == 2
        state = await _state(bus, "helper-ai")
        assert _shown(state["content_state"]) == ["notes"]
        # It has come as far as its own reply.
        assert state["room_read_state"]["general"]["last_read_message_id"] == reply_id(None, sent["id"])
    async with world.running() as bus:
        await trio.sleep(10)
        assert world.script.asked == ["hello"]


async def test_what_could_not_be_stored_did_not_happen(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        await _open(bus, "kept")
        before = await _state(bus)
        slow = Slow(world, monkeypatch, "operator")
        slow.fails = True
        with pytest.raises(StoreBusy, match="another process holds it"):
            await _open(bus, "lost")
        assert await _state(bus) == before
        slow.fails = False
        assert _shown(await _open(bus, "next")) == ["next", "kept"]


async def test_who_gives_up_waiting_for_its_turn_holds_up_nobody(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        slow = Slow(world, monkeypatch, "operator")
        slow.takes = lambda _: 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_open, bus, "first")
            await slow.begun.wait()
            with pytest.raises(DeadlineMissed):
                await bus.commands.execute(
                    "user/open",
                    id="operator",
                    type="document",
                    entity_id="late",
                    deadline=trio.current_time() + 1.0,
                )
            nursery.start_soon(_open, bus, "second")
        assert _shown((await _state(bus))["content_state"]) == ["second", "first"]


async def test_who_starts_anew_knows_of_what_was_being_stored(
    world: World, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with world.running() as bus:
        slow = Slow(world, monkeypatch, "operator")
        slow.takes = lambda _: 2.0
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_open, bus, "notes")
            await slow.begun.wait()
            await bus.commands.execute("user/freeze", id="operator")
            await bus.commands.execute("user/thaw", id="operator")
        assert _shown((await _state(bus))["content_state"]) == ["notes"]
        assert _shown(await _open(bus, "plan")) == ["plan", "notes"]
