"""Databases of records in SQLite files, behind a few threads.

A database belongs to one thread, by its path, so its writes are in one order and
no connection is ever shared. A few threads are enough: the hop costs more than
the query, and more connections do not read faster.
"""

from __future__ import annotations

import zlib
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio

from rtos.daemons.data.figures import CollectionFigures, Explanation, StoreFigures
from rtos.daemons.data.files import draft_of, sweep
from rtos.daemons.data.operation import ChangePage
from rtos.daemons.data.query import Query
from rtos.daemons.data.sqlite import (
    backups,
    inspect,
    log,
    nearest,
    quarantine,
    records,
    searching,
    several,
    upkeep,
)
from rtos.daemons.data.sqlite.connection import open_connection, reported
from rtos.daemons.data.sqlite.hot import LIMIT, UNKNOWN, HotRecords
from rtos.daemons.data.sqlite.select import SELECT, outline_of, select
from rtos.daemons.data.sqlite.worker import Job, Worker, close, file_at
from rtos.daemons.data.sqlite.writes import apply_each
from rtos.errors import Conflict, NotFound, StoreCorrupt, StoreError
from rtos.scheduler.dispatch.current import current_deadline, current_level

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Hashable, Sequence
    from pathlib import Path

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.backend import OnChange, OnDegraded
    from rtos.daemons.data.clock import RecordClock
    from rtos.daemons.data.collection import Collection
    from rtos.daemons.data.operation import Change, Operation, Record
    from rtos.daemons.data.query import Node
    from rtos.daemons.data.vectors import Near

THREADS: Final = 2
OPEN_DATABASES: Final = 64
SLOW_DATABASES: Final = 8
"""How many of them the thread of the long reads keeps open."""


class SqliteBackend:
    """See ``Backend``. Made by ``open_sqlite_backend``."""

    def __init__(
        self,
        database_path: Callable[[str | None], Path],
        collections: Sequence[Collection],
        clock: RecordClock,
        on_change: OnChange,
        *,
        threads: int,
        open_databases: int,
        hot_bytes: int,
    ) -> None:
        self.on_degraded: OnDegraded = _ignore
        self._given_path = database_path
        # Whose each path is, and which of them were found set aside, or told of.
        self._owners: dict[Path, str | None] = {}
        self._aside: set[Path] = set()
        self._suspect: set[Path] = set()
        self._told: set[Path] = set()
        self._making: dict[Path, trio.Lock] = {}
        self._collections = tuple(collections)
        self._near = {collection.name: collection.near for collection in collections}
        self._search = {collection.name: collection.search for collection in collections}
        self._indexes = {collection.name: collection.indexes for collection in collections}
        self._durable = {collection.name for collection in collections if collection.durable}
        self._clock = clock
        self._on_change = on_change
        self._hot = HotRecords(hot_bytes)
        # Which file the remembered records of each database are of.
        self._files: dict[str | None, tuple[Path, tuple[int, int]]] = {}
        self._apply_each = partial(apply_each, clock=clock, search=self._search)
        now = trio.lowlevel.current_clock().current_time
        each = max((open_databases - SLOW_DATABASES) // threads, 1)
        self._slow = Worker(threads, self._open, capacity=SLOW_DATABASES, now=now, on_corrupt=self._set_aside)
        self._workers = [
            Worker(number, self._open, capacity=each, now=now, on_corrupt=self._set_aside, slow=self._slow)
            for number in range(threads)
        ]

    async def apply(self, user_id: str | None, operations: Sequence[Operation]) -> list[Change]:
        """See ``Backend.apply``."""

        def done(changes: list[Change]) -> None:
            self._remember_file(user_id, job)
            self._hot.changed(user_id, changes)
            self._on_change(user_id, changes)

        job = Job(
            self._database_path(user_id),
            level=current_level(),
            deadline=current_deadline(),
            done=done,
            durable=any(operation.collection in self._durable for operation in operations),
            together=self._apply_each,
            argument=operations,
        )
        try:
            changes: list[Change] = await self._run(job)
        except (Conflict, NotFound):
            raise
        except StoreError:
            # Whether a commit that failed took effect is not certain.
            self._forget(user_id)
            raise
        return changes

    async def get(self, user_id: str | None, collection: str, id: str) -> Record | None:
        """See ``Backend.get``."""
        known = self._hot.get(user_id, collection, id)
        if known is not UNKNOWN and self._is_as_it_was(user_id):
            await trio.lowlevel.checkpoint_if_cancelled()
            return known  # type: ignore[no-any-return]
        at = self._hot.generation(user_id)
        job = Job(
            self._database_path(user_id),
            level=current_level(),
            deadline=current_deadline(),
            together=_get_each,
            argument=(collection, id),
        )
        record: Record | None = await self._run(job)
        if self._remember_file(user_id, job):
            self._hot.found(user_id, collection, id, record, at=at)
        return record

    async def find(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        """See ``Backend.find``."""
        indexes = self._indexes[collection]
        body = partial(records.find, collection=collection, query=query, indexes=indexes)
        found = await self._read(user_id, body, outline_of("find", collection, query))
        return found or []

    async def search(self, user_id: str | None, collection: str, text: str, limit: int) -> list[Record]:
        """See ``Backend.search``."""
        body = partial(searching.search, collection=collection, text=text, limit=limit)
        return await self._read(user_id, body, ("search", collection, len(text) // 100)) or []

    async def nearest(self, user_id: str | None, collection: str, wanted: Near, limit: int) -> list[Record]:
        """See ``Backend.nearest``."""
        fields = self._near[collection]
        assert fields is not None, "the command has looked"
        body = partial(nearest.nearest, collection=collection, fields=fields, wanted=wanted, limit=limit)
        return await self._read(user_id, body, ("nearest", collection)) or []

    async def count(self, user_id: str | None, collection: str, where: Node) -> int:
        """See ``Backend.count``."""
        body = partial(several.count, collection=collection, where=where, indexes=self._indexes[collection])
        return await self._read(user_id, body, outline_of("count", collection, Query(where=where))) or 0

    async def find_ids(self, user_id: str | None, collection: str, query: Query) -> list[str]:
        """See ``Backend.find_ids``."""
        body = partial(
            several.find_ids, collection=collection, query=query, indexes=self._indexes[collection]
        )
        return await self._read(user_id, body, outline_of("ids", collection, query)) or []

    async def get_many(self, user_id: str | None, collection: str, ids: Sequence[str]) -> list[Record]:
        """See ``Backend.get_many``."""
        return await self._read(user_id, partial(several.get_many, collection=collection, ids=ids)) or []

    async def explain(self, user_id: str | None, collection: str, query: Query) -> Explanation:
        """See ``Backend.explain``. Where there is no database, there is no plan."""
        selection = select(SELECT, collection, query, self._indexes[collection])
        plan = await self._read(user_id, partial(inspect.plan, selection=selection)) or []
        return Explanation(sql=selection.text, plan=tuple(plan), exact=selection.exact, left=selection.left)

    async def figures(self, user_id: str | None) -> StoreFigures:
        """See ``Backend.figures``."""
        names = tuple(self._search)
        body = partial(inspect.figures, collections=names)
        found: StoreFigures | None = await self._read(user_id, body, "figures")
        return found or StoreFigures(collections=dict.fromkeys(names, CollectionFigures()))

    async def changes(self, user_id: str | None, after: int, limit: int) -> ChangePage:
        """See ``Backend.changes``."""
        return await self._read(user_id, partial(log.read, after=after, limit=limit)) or ChangePage([])

    async def vacuum(self, user_id: str | None) -> tuple[int, int]:
        """See ``Backend.vacuum``."""
        return await self._read(user_id, upkeep.vacuum) or (0, 0)

    async def backup(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """See ``Backend.backup``."""
        path = self._database_path(user_id)
        async with self._alone(path):
            target = await trio.to_thread.run_sync(backups.backup_path, path, name)
            with draft_of(target) as draft:
                await self._copy(path, draft)
                return await trio.to_thread.run_sync(backups.keep, draft, target)

    async def backups(self, user_id: str | None) -> list[dict[str, Any]]:
        """See ``Backend.backups``."""
        return await trio.to_thread.run_sync(backups.present, self._database_path(user_id))

    async def restore(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """See ``Backend.restore``."""
        path = self._database_path(user_id)
        async with self._alone(path):
            backup = await trio.to_thread.run_sync(backups.chosen, path, name)
            replaced = await self._put_in_place(path, partial(backups.prepare, backup))
        return {**backups.described(backup), "replaced": replaced}

    async def reset(self, user_id: str | None) -> dict[str, Any]:
        """See ``Backend.reset``."""
        path = self._database_path(user_id)
        async with self._alone(path):
            return {"replaced": await self._put_in_place(path, partial(backups.prepare_empty, path))}

    async def size(self, user_id: str | None, collection: str) -> int:
        """See ``Backend.size``."""
        size: int | None = await self._read(user_id, partial(backups.size, collection=collection))
        return size or 0

    def start(self) -> None:
        """Start the threads."""
        for worker in (*self._workers, self._slow):
            worker.start()

    async def aclose(self) -> None:
        """Finish what was accepted, close the files and end the threads. Shielded from cancellation."""
        with trio.CancelScope(shield=True):
            # The slow one last: what is long moves there.
            for workers in (self._workers, [self._slow]):
                for worker in workers:
                    worker.close()
                for worker in workers:
                    await trio.to_thread.run_sync(worker.join)

    def _remember_file(self, user_id: str | None, job: Job) -> bool:
        """Note which file a job has seen; whether there is one.

        What is remembered of another one is forgotten.
        """
        if job.file is None:
            return False
        seen = (job.path, job.file)
        if self._files.get(user_id, seen) != seen:
            self._hot.forget(user_id)
        self._files[user_id] = seen
        return True

    def _is_as_it_was(self, user_id: str | None) -> bool:
        """Whether the file is the one that is remembered, and not a backup that was put in its place."""
        kept = self._files.get(user_id)
        if kept is not None and file_at(kept[0]) == kept[1]:
            return True
        self._forget(user_id)
        return False

    def _forget(self, user_id: str | None) -> None:
        self._files.pop(user_id, None)
        self._hot.forget(user_id)

    async def _read(
        self, user_id: str | None, body: Callable[[apsw.Connection], Any], shape: Hashable = None
    ) -> Any:
        """``None`` where there is no database: reading never makes one."""
        job = self._job(user_id, body)
        job.shape = None if shape is None else (user_id, shape)
        return await self._run(job)

    def _job(
        self,
        user_id: str | None,
        body: Callable[[apsw.Connection], Any],
    ) -> Job:
        return self._job_at(self._database_path(user_id), body)

    def _job_at(
        self,
        path: Path,
        body: Callable[[apsw.Connection], Any],
    ) -> Job:
        return Job(path, body, level=current_level(), deadline=current_deadline())

    async def _run(self, job: Job) -> Any:
        path = job.path
        try:
            return await self._worker(path).run(job)
        except StoreCorrupt as error:
            self._forget(self._owners.get(path))
            if path in self._aside and path not in self._told:
                self._told.add(path)
                self.on_degraded(self._owners.get(path), f"{error.reason}; {error.remedy}")
            raise

    async def _copy(self, path: Path, draft: Path) -> None:
        copy = backups.Copy(draft)
        try:
            while not (done := await self._run(self._job_at(path, copy.step))):
                if done is None:
                    raise _nothing_there(path)
        except trio.Cancelled:
            # A step may still be at work; on its thread, what comes later comes after it.
            with trio.CancelScope(shield=True):
                await self._run_closed(path, copy.close)
            raise

    def _worker(self, path: Path) -> Worker:
        return self._workers[zlib.crc32(str(path).encode()) % len(self._workers)]

    async def _run_closed(self, path: Path, body: Callable[[], Any]) -> Any:
        """Do something with the files of a database, which is closed before."""
        job = Job(path, body, level=current_level(), deadline=current_deadline(), closed=True)
        return await self._worker(path).run(job)

    async def _put_in_place(self, path: Path, prepare: Callable[[Path], None]) -> str | None:
        await trio.to_thread.run_sync(sweep, path.parent, path.name)
        with draft_of(path) as draft:
            await trio.to_thread.run_sync(prepare, draft)
            replaced: str | None = await self._run_closed(path, partial(self._replace, path, draft))
        self._told.discard(path)
        return replaced

    def _replace(self, path: Path, draft: Path) -> str | None:
        replaced = backups.replace(path, draft)
        self._aside.discard(path)
        return replaced

    @asynccontextmanager
    async def _alone(self, path: Path) -> AsyncIterator[None]:
        """One at a time makes copies of a database, or puts one in its place."""
        async with self._making.setdefault(path, trio.Lock()):
            yield

    def _database_path(self, user_id: str | None) -> Path:
        path = self._given_path(user_id)
        self._owners[path] = user_id
        return path

    def _set_aside(self, path: Path, error: StoreCorrupt) -> StoreCorrupt:
        if quarantine.is_index_only(error):
            self._suspect.add(path)
            return StoreCorrupt(error.operation, error.reason, "try again; the index of words is made anew")
        self._aside.add(path)
        return quarantine.quarantine(path, self._owners.get(path), error)

    def _open(self, path: Path, create: bool) -> apsw.Connection | None:
        with reported("open", path):
            quarantine.refuse_if_set_aside(path, self._owners.get(path))
        connection = open_connection(
            path, self._collections, create=create, busy_ms=0, suspect=path in self._suspect
        )
        self._suspect.discard(path)
        if connection is None:
            return None
        try:
            with reported("open", path):
                newest = records.newest(connection)
            if newest is not None:
                self._clock.advance_to(newest)
        except ValueError as error:
            close(connection)
            what, remedy = f"open {str(path)!r}", "restore a backup; the file is untouched"
            raise StoreCorrupt(what, str(error), remedy) from error
        except BaseException:
            close(connection)
            raise
        return connection


def _ignore(_user_id: str | None, _reason: str) -> None:
    return None


def _get_each(
    connection: apsw.Connection, wanted: list[tuple[str, str]]
) -> list[outcome.Outcome[Record | None]]:
    return [outcome.Value(found) for found in records.get_each(connection, wanted)]


def _nothing_there(path: Path) -> NotFound:
    return NotFound("data/backup", f"there is no database {str(path)!r} yet", "store something first")


@asynccontextmanager
async def open_sqlite_backend(
    database_path: Callable[[str | None], Path],
    collections: Sequence[Collection],
    clock: RecordClock,
    on_change: OnChange,
    *,
    threads: int = THREADS,
    open_databases: int = OPEN_DATABASES,
    hot_bytes: int = LIMIT,
) -> AsyncIterator[SqliteBackend]:
    """A SQLite backend, with its threads running while the block runs.

    Args:
      database_path: the file of a user's database, or the shared one's (``None``);
        refuses a user id that leads elsewhere. Each in a folder of its own, where
        its backups are as well.
      collections: what there is.
      clock: gives timestamps.
      on_change: told of the changes of every transaction that is durable.
      threads: how many work on the files.
      open_databases: how many files are kept open; the rest is opened again when needed.
      hot_bytes: how much memory the records may take that are read without asking a thread; 0 for none.
    """
    backend = SqliteBackend(
        database_path,
        collections,
        clock,
        on_change,
        threads=threads,
        open_databases=open_databases,
        hot_bytes=hot_bytes,
    )
    backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()
