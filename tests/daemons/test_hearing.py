"""What a message matters to a persona in the running system: every term of the table is reached there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import trio
from living import World

from rtos.user.desk import LATELY, Desk
from rtos.user.memory import seconds_of, timestamp_of
from rtos.user.priority import PRIORITY

if TYPE_CHECKING:
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.user.inbox import InboxItem

ALWAYS = PRIORITY["base"] + PRIORITY["human"] + PRIORITY["fresh"]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def offered(monkeypatch: pytest.MonkeyPatch) -> list[InboxItem]:
    items: list[InboxItem] = []
    real = Desk.offer

    def offer(desk: Desk, item: InboxItem, now: float) -> bool:
        items.append(item)
        return real(desk, item, now)

    monkeypatch.setattr(Desk, "offer", offer)
    return items


async def say(bus: Bus, text: str = "hello", **more: Any) -> None:
    await bus.commands.execute("chat/send", **{"room": "general", "text": text, **more})
    await trio.sleep(5)


def adds(item: InboxItem, *terms: str) -> bool:
    return item.priority == pytest.approx(min(1.0, ALWAYS + sum(PRIORITY[term] for term in terms)))


async def test_only_a_room_that_it_was_lately_at_work_in_counts_as_known(
    world: World, offered: list[InboxItem], autojump_clock: trio.testing.MockClock
) -> None:
    """Elsewhere all rooms of a persona did, so the term said nothing."""
    async with world.running() as bus:
        await bus.commands.execute("room/create", name="attic", members=["operator", "helper-ai"])
        await trio.sleep(1)
        await say(bus)
        await say(bus)
        await say(bus, room="attic")
        await trio.sleep(LATELY)
        await say(bus)
        first, again, elsewhere, later = offered
        assert adds(first)
        assert adds(again, "known room")
        assert adds(elsewhere)
        assert adds(later)


async def test_a_room_that_a_human_has_in_front_is_watched(
    world: World, offered: list[InboxItem], autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/open", id="operator", type="chat", entity_id="general")
        await say(bus)
        await bus.commands.execute("user/open", id="operator", type="document", entity_id="general")
        await trio.sleep(2 * LATELY)
        await say(bus)
        watched, not_watched = offered
        assert adds(watched, "watched")
        assert adds(not_watched)


async def test_a_room_in_which_much_is_said_is_hot(
    world: World, offered: list[InboxItem], autojump_clock: trio.testing.MockClock
) -> None:
    world.script.takes = 1000.0
    async with world.running() as bus:
        for number in range(6):
            await bus.commands.execute("chat/send", room="general", text=f"word {number}")
            await trio.sleep(1)
        *before, last = offered[:6]
        assert all(adds(item) for item in before)
        assert adds(last, "hot room")
        await bus.commands.execute("data/delete", collection="rooms", id="general")
        await trio.sleep(1)
        assert world.users._audience._warmth == {}


async def test_what_is_caught_up_with_is_not_fresh(
    world: World, offered: list[InboxItem], autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/freeze", id="helper-ai")
        await bus.commands.execute("chat/send", room="general", text="one")
        [record] = (await bus.commands.execute("chat/history"))["items"]
        # The wall clock of the personas, set to two minutes after the record was written.
        world.wall = _seconds(record["created_at"]) + 120.0 - trio.current_time()
        await bus.commands.execute("user/thaw", id="helper-ai")
        await trio.sleep(5)
        [item] = offered
        expected = PRIORITY["base"] + PRIORITY["human"] + PRIORITY["recent"]
        assert item.priority == pytest.approx(expected)


def _seconds(text: str) -> float:
    at = seconds_of(text)
    assert at is not None
    assert timestamp_of(at) == text
    return at


async def test_expertise_and_a_mention_count(
    world: World, offered: list[InboxItem], autojump_clock: trio.testing.MockClock
) -> None:
    async with world.running() as bus:
        await bus.commands.execute("user/update", id="helper-ai", expertise=["knots"])
        await say(bus, "who knows about knots?")
        await say(bus, "@helper-ai hello")
        knows, called = offered
        assert adds(knows, "expertise")
        assert adds(called, "mention", "known room")
