"""A system of users, chat and storage of either kind, for tests of what they remember."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import attrs

from rtos.bus import Bus
from rtos.daemons.chat import ChatDaemon
from rtos.daemons.data import Collection, DataDaemon, open_memory_backend, open_sqlite_backend
from rtos.daemons.tasks import TaskDaemon
from rtos.daemons.users import UserDaemon
from rtos.scheduler import open_scheduler, open_supervisor
from rtos.user.directory import UserDirectoryManager
from rtos.user.entities import ENTITIES
from rtos.user.responder import RecallResponder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from rtos.user.embedding import Embedder


class World:
    """A system whose clock is moved by hand."""

    collections: ClassVar[list[Collection]] = [Collection.of(entity) for entity in ENTITIES.values()]
    embedder: Embedder | None = None

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

        users = UserDaemon(
            directories, RecallResponder(), wall_clock=lambda: self.wall, embedder=self.embedder
        )
        async with open_scheduler() as scheduler:
            bus = Bus(scheduler)
            with (
                bus.attach(DataDaemon(self.collections, store)) as one,
                bus.attach(ChatDaemon()) as two,
                bus.attach(TaskDaemon(wall_clock=lambda: self.wall)) as three,
                bus.attach(users) as four,
            ):
                specs = [attrs.evolve(spec, shutdown=0.5) for spec in (one, two, three, four)]
                async with open_supervisor(scheduler, specs, intensity=0):
                    self.bus = bus
                    yield bus

    async def do(self, name: str, /, **given: Any) -> Any:
        """A command about the persona's memory."""
        return await self.bus.commands.execute(f"memory/{name}", user="helper-ai", **given)

    async def bodies(self, query: str, limit: int = 5) -> list[str]:
        return [item["body"] for item in (await self.do("recall", query=query, limit=limit))["items"]]
