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

import trio

from rtos.daemons.data.sqlite import records
from rtos.daemons.data.sqlite.connection import open_connection, reported
from rtos.daemons.data.sqlite.worker import Job, Worker
from rtos.errors import StoreCorrupt
from rtos.scheduler import current_deadline, current_level

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.backend import OnChange
    from rtos.daemons.data.clock import RecordClock
    from rtos.daemons.data.collection import Collection
    from rtos.daemons.data.operation import Change, Operation, Record
    from rtos.daemons.data.query import Query

THREADS: Final = 2
OPEN_DATABASES: Final = 64


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
    ) -> None:
        self._database_path = database_path
        self._collections = tuple(collections)
        self._search = {collection.name: collection.search for collection in collections}
        self._indexes = {collection.name: collection.indexes for collection in collections}
        self._clock = clock
        self._on_change = on_change
        now = trio.lowlevel.current_clock().current_time
        each = max(open_databases // threads, 1)
        self._workers = [Worker(number, self._open, capacity=each, now=now) for number in range(threads)]

    async def apply(self, user_id: str | None, operations: Sequence[Operation]) -> list[Change]:
        """See ``Backend.apply``."""
        body = partial(_apply, operations=operations, clock=self._clock, search=self._search)
        done = partial(self._on_change, user_id)
        changes: list[Change] = await self._run(self._database_path(user_id), body, done)
        return changes

    async def get(self, user_id: str | None, collection: str, id: str) -> Record | None:
        """See ``Backend.get``."""
        record: Record | None = await self._read(user_id, partial(records.get, collection=collection, id=id))
        return record

    async def find(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        """See ``Backend.find``."""
        indexes = self._indexes[collection]
        body = partial(records.find, collection=collection, query=query, indexes=indexes)
        found = await self._read(user_id, body)
        return found or []

    async def search(self, user_id: str | None, collection: str, text: str, limit: int) -> list[Record]:
        """See ``Backend.search``."""
        body = partial(records.search, collection=collection, text=text, limit=limit)
        return await self._read(user_id, body) or []

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.start()

    async def aclose(self) -> None:
        """Finish what was accepted, close the files and end the threads. Shielded from cancellation."""
        for worker in self._workers:
            worker.close()
        with trio.CancelScope(shield=True):
            for worker in self._workers:
                await trio.to_thread.run_sync(worker.join)

    async def _read(self, user_id: str | None, body: Callable[[apsw.Connection], Any]) -> Any:
        """``None`` where there is no database: reading never makes one."""
        return await self._run(self._database_path(user_id), body)

    async def _run(
        self,
        path: Path,
        body: Callable[[apsw.Connection], Any],
        done: Callable[[Any], None] | None = None,
    ) -> Any:
        worker = self._workers[zlib.crc32(str(path).encode()) % len(self._workers)]
        job = Job(path, body, level=current_level(), deadline=current_deadline(), done=done)
        return await worker.run(job)

    def _open(self, path: Path, create: bool) -> apsw.Connection | None:
        connection = open_connection(path, self._collections, create=create)
        if connection is None:
            return None
        try:
            with reported("open", path):
                newest = records.newest(connection)
            if newest is not None:
                self._clock.advance_to(newest)
        except ValueError as error:
            connection.close()
            what, remedy = f"open {str(path)!r}", "restore a backup; the file is untouched"
            raise StoreCorrupt(what, str(error), remedy) from error
        except BaseException:
            connection.close()
            raise
        return connection


def _apply(
    connection: apsw.Connection,
    *,
    operations: Sequence[Operation],
    clock: RecordClock,
    search: dict[str, tuple[str, ...]],
) -> list[Change]:
    return records.apply_all(connection, operations, clock, search)


@asynccontextmanager
async def open_sqlite_backend(
    database_path: Callable[[str | None], Path],
    collections: Sequence[Collection],
    clock: RecordClock,
    on_change: OnChange,
    *,
    threads: int = THREADS,
    open_databases: int = OPEN_DATABASES,
) -> AsyncIterator[SqliteBackend]:
    """A SQLite backend, with its threads running while the block runs.

    Args:
      database_path: the file of a user's database, or the shared one's (``None``);
        refuses a user id that leads elsewhere.
      collections: what there is.
      clock: gives timestamps.
      on_change: told of the changes of every transaction that is durable.
      threads: how many work on the files.
      open_databases: how many files are kept open; the rest is opened again when needed.
    """
    backend = SqliteBackend(
        database_path, collections, clock, on_change, threads=threads, open_databases=open_databases
    )
    backend.start()
    try:
        yield backend
    finally:
        await backend.aclose()
