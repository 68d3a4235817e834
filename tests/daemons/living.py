"""A system of users and chat in memory, for tests of their life."""

from __future__ import annotations

from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import trio

from rtos.bus import Bus
from rtos.daemons.chat import ChatDaemon
from rtos.daemons.data import Collection, DataDaemon, MemoryBackend
from rtos.daemons.tasks import TaskDaemon
from rtos.daemons.users import UserDaemon
from rtos.runtime.runtime import TRACE
from rtos.scheduler import open_scheduler, open_supervisor
from rtos.user.directory import UserDirectoryManager
from rtos.user.entities import ENTITIES
from rtos.user.persona import PersonaUser
from rtos.user.preferences import PreferencesBook
from rtos.user.responder import Question, Reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from rtos.user.passages import Passage


class Script:
    """A responder that says what it was asked, after a while."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.takes = 1.0
        self.fails = False

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        self.asked.append(question.text)
        if self.fails:
            raise ValueError("no words")
        await trio.sleep(self.takes)
        return Reply(f"re: {question.text}", tuple(passage.source for passage in passages))


class Poisoned(Script):
    """Fails at some texts, every time."""

    def __init__(self, *poison: str) -> None:
        super().__init__()
        self.poison = poison

    async def respond(self, question: Question, passages: Sequence[Passage]) -> Reply:
        if question.text in self.poison or "*" in self.poison:
            self.asked.append(question.text)
            raise ValueError("no words")
        return await super().respond(question, passages)


class World:
    """What outlives a system: the stored records and the folders."""

    collections: ClassVar[list[Collection]] = [Collection.of(entity) for entity in ENTITIES.values()]

    def __init__(self, root: Path) -> None:
        self.root = root
        self.script = Script()
        self.wall = 1_000_000.0
        self.backend: MemoryBackend | None = None

    @asynccontextmanager
    async def _store(self, collections: Any, clock: Any, on_change: Any) -> AsyncIterator[MemoryBackend]:
        if self.backend is None:
            self.backend = MemoryBackend(collections, clock, on_change)
        self.backend._on_change = on_change
        yield self.backend

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Bus]:
        directories, book = UserDirectoryManager(self.root), PreferencesBook()
        self.users = UserDaemon(directories, self.script, wall_clock=self.now, preferences=book)
        daemons = [
            DataDaemon(self.collections, self._store),
            ChatDaemon(),
            TaskDaemon(wall_clock=self.now),
            self.users,
            *self.others(directories, book),
        ]
        async with open_scheduler(trace=TRACE) as scheduler:
            bus = Bus(scheduler)
            with ExitStack() as stack:
                specs = [stack.enter_context(bus.attach(daemon)) for daemon in daemons]
                specs = [attrs.evolve(spec, shutdown=0.5) for spec in specs]
                async with open_supervisor(scheduler, specs, intensity=0):
                    yield bus

    def others(self, directories: UserDirectoryManager, book: PreferencesBook) -> list[Any]:
        """The daemons that run besides, for a test to say."""
        return []

    def now(self) -> float:
        return self.wall + trio.current_time()

    def persona(self, id: str = "helper-ai") -> PersonaUser:
        user = self.users._users[id]
        assert isinstance(user, PersonaUser)
        return user


async def humans(bus: Bus, number: int, room: str = "general") -> list[str]:
    """So many more humans in a room; what two of them say is never answered together."""
    names = [f"human-{each}" for each in range(number)]
    for name in names:
        await bus.commands.execute("user/create", type="human", name=name)
        await bus.commands.execute("room/join", room=room, user=name)
    return names


async def replies(bus: Bus, room: str = "general") -> list[tuple[str, str]]:
    history = await bus.commands.execute("chat/history", room=room)
    return [(message["sender_id"], message["text"]) for message in history["items"]]


async def give(bus: Bus, id: str, *, assignee: str = "helper-ai", **more: Any) -> dict[str, Any]:
    """Give somebody a task, described by its id."""
    task: dict[str, Any] = await bus.commands.execute(
        "task/create", **{"assignee": assignee, "description": f"do {id}", "id": id, **more}
    )
    return task


async def read_task(bus: Bus, id: str) -> dict[str, Any]:
    task: dict[str, Any] = await bus.commands.execute("data/read", collection="tasks", id=id)
    return task
