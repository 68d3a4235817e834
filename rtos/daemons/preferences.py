"""PreferencesDaemon: keeps what is in force the same as every user's `config/preferences.json`.

Owns the watches and the reading; what is in force is in a book that others look at.
A file is read when the system starts, when its folder tells of it, and on
`user/reload`; never because time has passed. Where nothing can be watched, the first
and the last remain.

Law: what was read last of a file is what is in force, as long as it was valid; each
change of it is told once, as `user:preferences:changed`, and each fault once, as
`user:preferences:rejected` and in the log.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final

import trio

from rtos.bus import Bus, Event, command, on
from rtos.daemons.watching import open_folder_watches
from rtos.errors import CommandRejected, RtosError
from rtos.scheduler import PastIntensity
from rtos.user.preferences import Given, PreferencesBook, check_names, checked, read, write
from rtos.user.records import Records

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rtos.daemons.watching import FolderWatches, Happened
    from rtos.user.directory import UserDirectoryManager

log = logging.getLogger("rtos.preferences")

FILE: Final = "preferences.json"
AT_ONCE: Final = 16
"""Users that are looked at in one step when they are new here, at about 20 us each."""
Value = bool | int | float | str | None


class PreferencesDaemon:
    """Serves ``user/preferences`` and ``user/reload``.

    Args:
      directories: where users live.
      book: what is in force.
      open_watches: watches folders; gives ``None`` where the platform cannot.
    """

    name: ClassVar[str] = "preferences"
    level: ClassVar[int] = 6
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 64
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(
        self,
        directories: UserDirectoryManager,
        book: PreferencesBook,
        *,
        open_watches: Callable[[], AbstractContextManager[FolderWatches | None]] = open_folder_watches,
    ) -> None:
        self._directories = directories
        self._book = book
        self._open_watches = open_watches
        self._watches: FolderWatches | None = None
        self._bus: Bus
        self._users: set[str] = set()
        self._told: set[str] = set()
        # What is read must be in force before anything is read anew.
        self._turn = trio.Lock()

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when every file is read and, where that is possible, watched."""
        self._bus = bus
        self._told.clear()
        with ExitStack() as stack:
            try:
                self._watches = stack.enter_context(self._open_watches())
            except OSError as error:
                self._watches = None
                self._tell_unwatched(error)
            self._users = await self._all()
            await self._look_first(self._users)
            async with trio.open_nursery() as nursery:
                if self._watches is not None:
                    nursery.start_soon(self._watch, self._watches)
                yield
                nursery.cancel_scope.cancel()

    # Commands.

    @command("user/preferences")
    async def preferences(self, *, id: str, changes: dict[str, Value] | None = None) -> dict[str, Any]:
        """Show what a user prefers, or change its file; null takes a name out of the file."""
        # Says who is not there, in the words of whoever knows.
        await self._bus.commands.execute("user/get", id=id)
        if changes:
            await self._change(id, changes)
        shown = await self._bus.commands.execute("user/get", id=id)
        return {
            "id": id,
            "preferences": shown["preferences"],
            "given": self._book.given(id),
            "path": str(self._directories.get_preferences_path(id)),
            "watched": self._watches is not None and id in self._watches,
            "wrong": self._book.wrong().get(id),
        }

    @command("user/reload")
    async def reload(self, *, id: str | None = None) -> dict[str, Any]:
        """Read the preferences of a user anew, or those of all."""
        if id is not None:
            await self._bus.commands.execute("user/get", id=id)
        else:
            # Who was made a moment ago may not have been told of yet.
            await self._take_stock()
        users = set(self._users) if id is None else {id}
        changed = await self._look(users)
        wrong = {user_id: reason for user_id, reason in self._book.wrong().items() if user_id in users}
        return {"read": len(users), "changed": changed, "wrong": wrong}

    async def _change(self, user_id: str, changes: dict[str, Value]) -> None:
        async with self._turn:
            try:
                given = await trio.to_thread.run_sync(self._rewrite, user_id, changes)
            except ValueError as error:
                raise CommandRejected(
                    "user/preferences", str(error), parameter="changes", remedy="nothing was changed, mend it"
                ) from None
            self._accept(user_id, given)

    def _rewrite(self, user_id: str, changes: dict[str, Value]) -> Given:
        path = self._directories.ensure_directories(user_id).preferences
        # A file that is broken is somebody's work: it is not written over, and this raises.
        before = read(path)
        check_names(changes)
        given = checked({name: value for name, value in (before | changes).items() if value is not None})
        write(path, given)
        return given

    # Events.

    @on("data:users:created", "data:users:deleted", "data:restored")
    async def follow(self, event: Event) -> None:
        """Watch who comes, and forget who goes."""
        if event.lost or event.name == "data:restored":
            await self._take_stock()
            return
        user_id = event.payload["record"]["id"]
        if event.name == "data:users:deleted":
            self._forget(user_id)
        else:
            self._users.add(user_id)
            await self._look_first({user_id})

    async def _take_stock(self) -> None:
        """Know who there is, from the records."""
        there = await self._all()
        for user_id in self._users - there:
            self._forget(user_id)
        new, self._users = there - self._users, there
        await self._look_first(new)

    def _forget(self, user_id: str) -> None:
        self._users.discard(user_id)
        self._book.forget(user_id)
        if self._watches is not None:
            self._watches.remove(user_id)

    async def _all(self) -> set[str]:
        return {record["id"] async for record in Records(self._bus, "users")}

    # Files.

    async def _watch(self, watches: FolderWatches) -> None:
        while True:
            await self._see(await watches.wait())

    async def _see(self, happened: Happened) -> None:
        if happened.lost:
            log.warning("changes of folders came too fast to be told; reading all preferences anew")
            await self._look(self._users)
            return
        for user_id in happened.gone:
            log.warning(
                "the config folder of user %s was moved or deleted; `user/reload` watches a new one",
                user_id,
            )
        # A folder that somebody took away is not made again: the user may be going altogether.
        await self._look(happened.gone, make=False)
        await self._look({user_id for user_id, name in happened.names if name == FILE})

    async def _look_first(self, user_ids: Iterable[str]) -> None:
        """Watch whoever is new here, and read what there is; a few a step, for nearly nobody has a file.

        On the loop: a thread would take five times as long, and hold up boot where time is virtual.
        """
        users = sorted(user_ids)
        for begin in range(0, len(users), AT_ONCE):
            self._take_up(self._read_all(users[begin : begin + AT_ONCE], make=True))
            await trio.lowlevel.checkpoint()

    async def _look(self, user_ids: Iterable[str], *, make: bool = True) -> dict[str, list[str]]:
        """Read files and put them in force; what has changed by that, by user."""
        wanted = sorted(user_ids)
        if not wanted:
            return {}
        async with self._turn:
            return self._take_up(await trio.to_thread.run_sync(self._read_all, wanted, make))

    def _take_up(self, found: dict[str, Given | RtosError]) -> dict[str, list[str]]:
        changed: dict[str, list[str]] = {}
        for user_id, given in found.items():
            if user_id not in self._users:
                # Deleted meanwhile, and forgotten already.
                self._forget(user_id)
            elif isinstance(given, RtosError):
                self._reject(user_id, str(given))
            elif names := self._accept(user_id, given):
                changed[user_id] = names
        return changed

    def _read_all(self, user_ids: list[str], make: bool) -> dict[str, Given | RtosError]:
        return {user_id: self._read(user_id, make) for user_id in user_ids}

    def _read(self, user_id: str, make: bool) -> Given | RtosError:
        try:
            path = self._directories.get_preferences_path(user_id)
            # Watched first, so that nothing falls between the two.
            self._watch_folder(user_id, path.parent, make)
            return read(path)
        except RtosError as error:
            return error

    def _watch_folder(self, user_id: str, folder: Path, make: bool) -> None:
        if self._watches is None or user_id in self._watches:
            return
        try:
            if make and not folder.is_dir():
                folder = self._directories.ensure_directories(user_id).config
            self._watches.add(user_id, folder)
        except OSError as error:
            self._tell_unwatched(error)

    def _tell_unwatched(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason not in self._told:
            self._told.add(reason)
            log.warning("preferences are not watched: %s; `user/reload` reads them", reason)

    def _accept(self, user_id: str, given: Given) -> list[str]:
        changed = self._book.accept(user_id, given)
        if changed:
            payload = {"user_id": user_id, "changed": changed, "given": given}
            self._bus.events.emit("user:preferences:changed", payload)
        return changed

    def _reject(self, user_id: str, reason: str) -> None:
        if self._book.reject(user_id, reason):
            log.warning("preferences of user %s are not in force: %s", user_id, reason)
            self._bus.events.emit("user:preferences:rejected", {"user_id": user_id, "reason": reason})
