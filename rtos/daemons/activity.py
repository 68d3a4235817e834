"""ActivityDaemon: follows the events of the bus, and keeps every user's activity log.

Owns the lines that wait and the thread hop that writes them; knows no file's layout.
The first line that waits arms one timer; at its end, or when many wait, ONE hop to a
thread writes all of them. Nothing is armed while nothing happens.

Law: every line that was told is written, or counted in its user's log as lost: when
too many wait, or when the disk does not take them. What keeps failing is told once,
and harms nobody. On stopping, what waits is written.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from rtos.bus import Bus, command
from rtos.errors import CommandRejected, StoreError
from rtos.scheduler import PastIntensity
from rtos.user.activity import PATTERNS, ActivityFiles, entries, line
from rtos.user.records import Records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.bus import Event
    from rtos.bus.events import Subscription
    from rtos.user.directory import UserDirectoryManager

log = logging.getLogger("rtos.activity")

GATHER: Final = 1.0
"""Seconds from the first line that waits until it is written, at most."""
MOST: Final = 8192
"""How many lines wait at most; at half of it they are written at once."""
BACKLOG: Final = 8192
"""How many events may wait to be made lines."""
LIMIT: Final = 1000
"""The most lines that ``user/activity`` shows."""
_ASKED: Final = "activity:asked"
_ROOMS: Final = ("data:rooms:created", "data:rooms:updated", "data:rooms:deleted")


class ActivityDaemon:
    """Serves ``user/activity``.

    Args:
      directories: where users live.
      wall_clock: seconds since the epoch.
      files: the logs; for tests, other bounds.
    """

    name: ClassVar[str] = "activity"
    level: ClassVar[int] = 6
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 64
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(
        self,
        directories: UserDirectoryManager,
        *,
        wall_clock: Callable[[], float] = time.time,
        files: ActivityFiles | None = None,
    ) -> None:
        self._wall_clock = wall_clock
        self._files = files or ActivityFiles(
            directories.get_activity_log_path, directories.ensure_directories
        )
        self._bus: Bus
        self._users: set[str] = set()
        self._rooms: dict[str, tuple[str, ...]] = {}
        self._waiting: dict[str, list[bytes]] = {}
        self._count = 0
        self._lost: dict[str, int] = {}
        self._failing: set[str] = set()
        self._some = trio.Event()
        self._many = trio.Event()
        # Two hops at once would mix up the order of the lines.
        self._turn = trio.Lock()
        # Who looks at a log waits until what was told before has become lines.
        self._askers: dict[int, trio.Event] = {}
        self._asked = 0
        self.hops = 0
        """How many times lines were written."""

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when it knows who there is, and in which room; on leaving, what waits is written."""
        self._bus = bus
        with bus.events.subscribe(*PATTERNS, *_ROOMS, _ASKED, backlog=BACKLOG) as events:
            await self._read()
            async with trio.open_nursery() as nursery:
                followed = trio.Event()
                nursery.start_soon(self._follow, events, followed)
                nursery.start_soon(self._write_on)
                try:
                    yield
                finally:
                    # Also what was told and is not a line yet, whatever has ended us.
                    events.close()
                    with trio.CancelScope(shield=True):
                        await self._finish(followed)
                    nursery.cancel_scope.cancel()

    async def _finish(self, followed: trio.Event) -> None:
        await followed.wait()
        await self._flush()
        self._files.close()

    @command("user/activity")
    async def activity(self, *, id: str, limit: int = 50) -> dict[str, Any]:
        """Show the last lines of a user's activity log, oldest first."""
        if not 1 <= limit <= LIMIT:
            raise CommandRejected(
                "user/activity", f"limit is {limit!r}", parameter="limit", remedy=f"use 1 to {LIMIT}"
            )
        # Says who is not there, in the words of whoever knows.
        await self._bus.commands.execute("user/get", id=id)
        await self._caught_up()
        await self._flush()
        try:
            async with self._turn:
                items = await trio.to_thread.run_sync(self._files.tail, id, limit)
        except OSError as error:
            raise StoreError("user/activity", str(error), "mend the file and its folder") from error
        return {"items": items, "count": len(items), "lost": self._lost.get(id, 0)}

    # From events to lines.

    async def _caught_up(self) -> None:
        self._asked += 1
        asker = self._askers[self._asked] = trio.Event()
        self._bus.events.emit(_ASKED, {"number": self._asked})
        await asker.wait()

    async def _follow(self, events: Subscription, followed: trio.Event) -> None:
        try:
            with trio.CancelScope(shield=True):
                async for event in events:
                    await self._note(event)
        finally:
            followed.set()

    async def _note(self, event: Event) -> None:
        if event.lost:
            log.warning("%d events were lost and are in nobody's activity log", event.lost)
            self._let_go(self._asked)
            await self._read()
        if event.name == _ASKED:
            self._let_go(event.payload["number"])
            return
        if event.name in _ROOMS:
            self._follow_room(event.name, event.payload["record"])
            return
        members: tuple[str, ...] = ()
        if event.name == "data:chat_messages:created":
            members = self._rooms.get(event.payload["record"]["room_id"], ())
        at = _utc(self._wall_clock())
        if event.name == "data:users:created":
            self._users.add(event.payload["record"]["id"])
        for user_id, what, facts in entries(event.name, event.payload, members):
            # Rooms go on naming who was deleted, and what is deleted must not come back by its log.
            if user_id in self._users:
                self._add(user_id, line(at, what, facts))
        if event.name == "data:users:deleted":
            self._users.discard(event.payload["record"]["id"])
        if event.name == "data:restored" and event.payload["user_id"] is None:
            await self._read()

    def _let_go(self, number: int) -> None:
        """Whoever asked up to then has waited for all that was told before."""
        while self._askers and next(iter(self._askers)) <= number:
            self._askers.pop(next(iter(self._askers))).set()

    def _follow_room(self, name: str, record: dict[str, Any]) -> None:
        if name.endswith(":deleted"):
            self._rooms.pop(record["id"], None)
        else:
            self._rooms[record["id"]] = tuple(record["member_ids"])

    def _add(self, user_id: str, text: bytes) -> None:
        if self._count >= MOST:
            self._lose(user_id, 1)
            return
        self._waiting.setdefault(user_id, []).append(text)
        self._count += 1
        self._some.set()
        if self._count >= MOST // 2:
            self._many.set()

    async def _read(self) -> None:
        self._users = {record["id"] async for record in Records(self._bus, "users")}
        rooms = Records(self._bus, "rooms")
        self._rooms = {record["id"]: tuple(record["member_ids"]) async for record in rooms}

    # From lines to files.

    async def _write_on(self) -> None:
        while True:
            await self._some.wait()
            with trio.move_on_after(GATHER):
                await self._many.wait()
            await self._flush()

    async def _flush(self) -> None:
        """Write what waits, in one hop. A checkpoint; what was taken is written whatever is cancelled."""
        async with self._turn:
            if not self._waiting:
                return
            batch, gaps = self._take()
            self.hops += 1
            with trio.CancelScope(shield=True):
                written = await trio.to_thread.run_sync(self._files.write, batch)
            for user_id, (missing, _) in written.failed.items():
                gap = gaps.get(user_id, 0)
                # The line that told of the gap is missing itself, when nothing of the batch was written.
                untold = gap - 1 if gap and missing == len(batch[user_id]) else 0
                self._lose(user_id, missing + untold)
            self._tell({reason: user_id for user_id, (_, reason) in written.failed.items()})

    def _take(self) -> tuple[dict[str, list[bytes]], dict[str, int]]:
        """All that waits, a line of what is missing before the lines of whoever lacks some."""
        batch, self._waiting, self._count = self._waiting, {}, 0
        # Whoever still waits for the old one has nothing more to wait for.
        self._many.set()
        self._some, self._many = trio.Event(), trio.Event()
        at = _utc(self._wall_clock())
        gaps = {user_id: self._lost.pop(user_id) for user_id in batch if user_id in self._lost}
        for user_id, lost in gaps.items():
            batch[user_id].insert(0, line(at, "activity:lost", {"lines": lost}))
        return batch, gaps

    def _lose(self, user_id: str, lines: int) -> None:
        self._lost[user_id] = self._lost.get(user_id, 0) + lines

    def _tell(self, failing: dict[str, str]) -> None:
        for reason in sorted(failing.keys() - self._failing):
            user_id = failing[reason]
            log.warning(
                "the activity log of user %s cannot be written: %s; lines are counted meanwhile",
                user_id,
                reason,
            )
            self._bus.events.emit("activity:failed", {"user_id": user_id, "reason": reason})
        if self._failing and not failing:
            log.warning("activity logs are written again")
            self._bus.events.emit("activity:recovered", {"lost": sum(self._lost.values())})
        self._failing = set(failing)


def _utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
