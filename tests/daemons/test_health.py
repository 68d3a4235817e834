from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar

import pytest
import trio

from rtos.bus import Bus, command
from rtos.daemons.health import HealthDaemon
from rtos.errors import CommandRejected, DeadlineMissed, UnknownCommand
from rtos.scheduler import open_scheduler, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Slow:
    """One that can be kept busy."""

    name: ClassVar[str] = "slow"
    level: ClassVar[int] = 3
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 100

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        yield

    @command("slow/work")
    async def work(self, *, seconds: float = 0.0) -> str:
        """Take a while."""
        await trio.sleep(seconds)
        return "done"


@asynccontextmanager
async def _system(children: SimpleNamespace | None = None) -> AsyncIterator[Bus]:
    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        children = children or SimpleNamespace(supervisor=None)
        with bus.attach(Slow()) as slow, bus.attach(HealthDaemon(bus, children)) as health:
            async with open_supervisor(scheduler, [slow, health], intensity=0) as supervisor:
                children.supervisor = supervisor
                yield bus


async def test_ping(autojump_clock: trio.testing.MockClock) -> None:
    async with _system() as bus:
        await trio.sleep(2)
        answer = await bus.commands.execute("ping")
        assert answer["ready"] is True
        assert answer["daemons"] == 2
        assert answer["uptime"] == 2.0
        assert answer["memory"] > 1_000_000


async def test_the_state_tells_of_every_mailbox(autojump_clock: trio.testing.MockClock) -> None:
    async with _system() as bus, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(lambda: bus.commands.execute("slow/work", seconds=5))
        await trio.sleep(1)
        state = await bus.commands.execute("system/state")
        slow = state["daemons"][0]
        assert (slow["name"], slow["level"], slow["ready"], slow["restarts"]) == ("slow", 3, True, 0)
        assert (slow["mailbox"]["queued"], slow["mailbox"]["served"]) == (2, 1)
        assert {"system", "host", "slow", "health"} <= {account["name"] for account in state["contexts"]}


async def test_what_is_parked_is_shown_with_its_reason() -> None:
    children = SimpleNamespace(supervisor=None)
    async with _system(children) as bus:
        assert (await bus.commands.execute("ping"))["parked"] == []
        await children.supervisor.park("slow")
        answer = await bus.commands.execute("ping")
        assert (answer["ready"], answer["parked"]) == (False, ["slow"])
        slow, health = (await bus.commands.execute("system/state"))["daemons"]
        assert (slow["ready"], slow["parked"], slow["reason"]) == (False, True, "by hand")
        assert (health["ready"], health["parked"], health["reason"]) == (True, False, None)


async def test_it_answers_while_others_are_busy(autojump_clock: trio.testing.MockClock) -> None:
    async with _system() as bus, trio.open_nursery() as nursery:
        nursery.start_soon(lambda: bus.commands.execute("slow/work", seconds=5))
        await trio.sleep(1)
        asked = trio.current_time()
        await bus.commands.execute("ping")
        assert trio.current_time() == asked


async def test_commands_are_listed_with_their_parameters() -> None:
    async with _system() as bus:
        found = await bus.commands.execute("system/commands", name="slow/work")
        assert found["items"] == [
            {
                "name": "slow/work",
                "summary": "Take a while",
                "parameters": [{"name": "seconds", "type": "float", "required": False}],
            }
        ]
        with pytest.raises(UnknownCommand, match="did you mean slow/work"):
            await bus.commands.execute("system/commands", name="slow/wrk")


async def test_a_daemon_is_suspended_and_resumed(autojump_clock: trio.testing.MockClock) -> None:
    async with _system() as bus:
        await bus.commands.execute("daemon/suspend", daemon="slow")
        with pytest.raises(DeadlineMissed, match="before it started"):
            await bus.commands.execute("slow/work", deadline=trio.current_time() + 1)
        await bus.commands.execute("daemon/resume", daemon="slow")
        assert await bus.commands.execute("slow/work") == "done"
        with pytest.raises(CommandRejected, match="there is no daemon 'x'; use|there are slow, health"):
            await bus.commands.execute("daemon/suspend", daemon="x")
        with pytest.raises(CommandRejected, match="health could not be asked to resume"):
            await bus.commands.execute("daemon/suspend", daemon="health")


async def test_a_daemon_is_looked_at_while_it_is_busy(autojump_clock: trio.testing.MockClock) -> None:
    async with _system() as bus, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(partial(bus.commands.execute, "slow/work", seconds=5.0))
        await trio.sleep(1)
        seen = await bus.commands.execute("daemon/inspect", daemon="slow", limit=1)
        assert (seen["name"], seen["state"], seen["workers"], seen["idle"]) == ("slow", "serving", 1, 0)
        assert [call["kind"] for call in seen["head"]] == ["slow/work"]
        assert seen["statistics"]["queued"] == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"daemon": "x"}, "there is no daemon 'x'; there are slow, health"),
        ({"daemon": "slow", "limit": 1001}, "limit is 1001; use 0 to 1000"),
    ],
)
async def test_what_cannot_be_looked_at_is_said(parameters: dict[str, object], text: str) -> None:
    async with _system() as bus:
        with pytest.raises(CommandRejected, match=text):
            await bus.commands.send("daemon/inspect", parameters)
