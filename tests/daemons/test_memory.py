"""The commands that remember and forget, over the bus."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest

from rtos.bus import Bus
from rtos.daemons.chat import ChatDaemon
from rtos.daemons.data import Collection, DataDaemon, open_memory_backend, open_sqlite_backend
from rtos.daemons.users import UserDaemon
from rtos.errors import CommandRejected
from rtos.scheduler import open_scheduler, open_supervisor
from rtos.user.directory import UserDirectoryManager
from rtos.user.entities import ENTITIES
from rtos.user.responder import RecallResponder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOTES = "# Harbour\n\nThe quay is long.\n\nThe crane is red.\n"
DAY = 86400.0


class World:
    """A system whose clock is moved by hand."""

    collections: ClassVar[list[Collection]] = [
        Collection(name, entity=entity, search=entity.search_fields) for name, entity in ENTITIES.items()
    ]

    def __init__(self, root: Path, kind: str) -> None:
        self.root, self.kind = root, kind
        self.wall = 1_800_000_000.0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bus]:
        directories = UserDirectoryManager(self.root)

        def path(user_id: str | None) -> Path:
            return self.root / "shared.db" if user_id is None else directories.get_database_path(user_id)

        def store(*args: Any) -> Any:
            return open_memory_backend(*args) if self.kind == "memory" else open_sqlite_backend(path, *args)

        users = UserDaemon(directories, RecallResponder(), wall_clock=lambda: self.wall)
        async with open_scheduler() as scheduler:
            bus = Bus(scheduler)
            with (
                bus.attach(DataDaemon(self.collections, store)) as one,
                bus.attach(ChatDaemon()) as two,
                bus.attach(users) as three,
            ):
                specs = [attrs.evolve(spec, shutdown=0.5) for spec in (one, two, three)]
                async with open_supervisor(scheduler, specs, intensity=0):
                    self.bus = bus
                    yield bus

    async def do(self, name: str, /, **given: Any) -> Any:
        """A command about the persona's memory."""
        return await self.bus.commands.execute(f"memory/{name}", user="helper-ai", **given)

    async def bodies(self, query: str, limit: int = 5) -> list[str]:
        return [item["body"] for item in (await self.do("recall", query=query, limit=limit))["items"]]


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, request.param)
    async with made.running():
        yield made


async def test_what_was_learned_is_recalled_and_not_learned_twice(world: World) -> None:
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 2, "known": 0}
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 0, "known": 2}
    assert await world.bodies("red crane", 1) == ["The crane is red."]


async def test_a_forgotten_memory_is_gone_from_recall(world: World) -> None:
    await world.do("learn", name="notes.md", text=NOTES)
    found = (await world.do("recall", query="crane", limit=1))["items"][0]
    assert await world.do("forget", id=found["id"]) == {"forgotten": 1}
    assert await world.bodies("crane") == []
    assert await world.bodies("quay") == ["The quay is long."]
    assert await world.do("forget", id=found["id"]) == {"forgotten": 0}


async def test_a_source_is_forgotten_and_no_other_of_a_similar_name(world: World) -> None:
    for name in ("notes.md", "my-notes.md", "notes.md.old", "Notes.md"):
        await world.do("learn", name=name, text=NOTES)
    assert await world.do("forget", source="notes.md") == {"forgotten": 2}
    found = (await world.do("recall", query="crane", limit=10))["items"]
    assert sorted(item["source"] for item in found) == [
        "Notes.md, line 5",
        "my-notes.md, line 5",
        "notes.md.old, line 5",
    ]
    assert await world.do("forget", source="notes.md") == {"forgotten": 0}


async def test_more_than_a_page_is_forgotten(world: World) -> None:
    text = "\n\n".join(f"word{number} alone" for number in range(1100))
    assert (await world.do("learn", name="long.md", text=text))["learned"] == 1100
    assert await world.do("forget", source="long.md") == {"forgotten": 1100}
    assert await world.bodies("alone") == []


@pytest.mark.parametrize("given", [{}, {"id": "a", "source": "b"}, {"source": ""}])
async def test_forgetting_takes_an_id_or_a_source(given: dict[str, str], world: World) -> None:
    with pytest.raises(CommandRejected, match="either an id or a source; give one of the two"):
        await world.do("forget", **given)


async def test_who_is_unknown_has_no_memory(world: World) -> None:
    for name, given in (("recall", {"query": "x"}), ("forget", {"id": "x"})):
        with pytest.raises(CommandRejected, match="there is no user 'nobody'"):
            await world.bus.commands.execute(f"memory/{name}", user="nobody", **given)
