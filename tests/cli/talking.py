"""A control socket to talk to: the real daemon on a bus, or a script of lines."""

from __future__ import annotations

import socket
import threading
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import trio

from rtos.bus import Bus, command
from rtos.cli.client import SOCKET
from rtos.daemons.control import ControlDaemon
from rtos.scheduler import open_scheduler, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path


class Chat:
    """Rooms that remember, and answer when they are told to."""

    name: ClassVar[str] = "chat"
    level: ClassVar[int] = 2
    workers: ClassVar[int] = 4
    capacity: ClassVar[int] = 100

    def __init__(self, *, replies: bool = True) -> None:
        self.replies = replies
        self.said: list[dict[str, Any]] = []
        self.learned: list[str] = []
        self.waiting = trio.Event()
        self.gone = trio.Event()
        self._bus: Bus

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        self._bus = bus
        yield

    @command("chat/send")
    async def send(self, *, room: str, text: str) -> dict[str, Any]:
        """Say something."""
        message = self._say(room, text, None)
        if self.replies:
            self._say(room, "no reply to this one", "another")
            self._say(room, f"re: {text}", message["id"])
        return message

    @command("chat/history")
    async def history(self, *, room: str) -> dict[str, Any]:
        """What was said; somebody says something more meanwhile."""
        before = [record for record in self.said if record["room_id"] == room]
        both = self._say(room, "in both", None)
        self._say("elsewhere", "in another room", None)
        return {"items": [*before, both], "count": len(before) + 1}

    @command("memory/learn")
    async def learn(self, *, user: str, name: str, text: str) -> dict[str, int]:
        """Learn."""
        self.learned.append(name)
        return {"learned": 1, "known": 0}

    @command("chat/hang")
    async def hang(self) -> None:
        """Wait until it is cancelled."""
        self.waiting.set()
        try:
            await trio.sleep_forever()
        finally:
            self.gone.set()

    def _say(self, room: str, text: str, reply_to: str | None) -> dict[str, Any]:
        record = {
            "id": f"m{len(self.said)}",
            "room_id": room,
            "sender_name": "Somebody",
            "text": text,
            "reply_to": reply_to,
            "created_at": "2026-11-23T10:00:00.000000Z",
        }
        self.said.append(record)
        self._bus.events.emit("data:chat_messages:created", {"record": record, "user_id": None})
        return record


@asynccontextmanager
async def system(root: Path, chat: Chat) -> AsyncIterator[Bus]:
    """The chat, reached through a real control daemon."""
    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        with bus.attach(chat) as first, bus.attach(ControlDaemon(root / SOCKET)) as second:
            async with open_supervisor(scheduler, [first, second], intensity=0):
                with trio.fail_after(30):
                    yield bus


@contextmanager
def scripted(root: Path, play: Callable[[socket.socket], None]) -> Iterator[None]:
    """A server that does with its one client what ``play`` does, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(root / SOCKET))
        listener.listen()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                play(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield
        finally:
            thread.join(timeout=30)
            assert not thread.is_alive()
