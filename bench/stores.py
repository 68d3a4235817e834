"""The stores that ``bench/storage.py`` measures: ours, and what a Trio programmer would reach for.

Each gives the same two calls: create a record durably in a transaction of its own, and
read one by its id. All have the same table, the same pragmas (WAL, FULL) and the same
200 bytes; the others in their best honest form: one hop for a call, one connection
that writes, and as many that read as serve them best.
"""

from __future__ import annotations

import json
import sqlite3  # noqa: TID251 - it is what ours is compared with
import subprocess
import time
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw  # noqa: TID251 - it is what ours is compared with
import attrs
import msgspec
import trio

from bench.harness import Sample
from bench.peers.catalogue import Peer
from bench.peers.environments import surroundings
from rtos.bus import Bus
from rtos.daemons.data import Collection, DataDaemon, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Operation
from rtos.scheduler import open_scheduler, open_supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator

NOTES: Final = "notes"
COLLECTIONS: Final = (Collection(NOTES),)
DATA: Final = {"room_id": "general", "author": "helper-ai", "text": "a word and another " * 8}
"""The payload of a record; about 200 bytes as JSON."""
BODY: Final = msgspec.json.encode(DATA).decode()
APSW_READERS: Final = 2
"""More are slower: a hundred read half as fast, for each is a thread."""
AT: Final = "2026-01-01T00:00:00.000000Z"
PRAGMAS: Final = ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL")
SCHEMA: Final = (
    (
        "CREATE TABLE c_notes (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, version INTEGER NOT NULL,"
        " created_at TEXT NOT NULL, updated_at TEXT NOT NULL, body TEXT NOT NULL) STRICT"
    ),
    "CREATE INDEX c_notes$created ON c_notes (created_at, id)",
)
INSERT: Final = "INSERT INTO c_notes (id, version, created_at, updated_at, body) VALUES (?, 1, ?, ?, ?)"
SELECT: Final = "SELECT id, version, created_at, updated_at, body FROM c_notes WHERE id = ?"
FIELDS: Final = ("id", "version", "created_at", "updated_at")


@attrs.frozen
class Store:
    """What is called: ``create(id)``, and ``read(caller, id)`` with the caller's number."""

    create: Callable[[str], Awaitable[Any]]
    read: Callable[[int, str], Awaitable[Any]]


def values_of(id: str) -> tuple[str, str, str, str]:
    """What ``INSERT`` binds."""
    return id, AT, AT, BODY


def record_of(row: tuple[Any, ...]) -> dict[str, Any]:
    """A record, as ours gives it."""
    *meta, body = row
    data: dict[str, Any] = msgspec.json.decode(body)
    return dict(zip(FIELDS, meta, strict=True)) | data


def prepared(path: Path, ids: Iterable[str]) -> Path:
    """The others' file, with these records in it."""
    with closing(sqlite3.connect(path)) as connection:
        for statement in (*PRAGMAS, *SCHEMA):
            connection.execute(statement)
        connection.executemany(INSERT, map(values_of, ids))
        connection.commit()
    return path


async def fill(
    backend: Any, ids: Iterable[str], data: Callable[[int], dict[str, Any]] = lambda _: DATA
) -> None:
    """Put records into ours, a thousand to a transaction."""
    operations = [
        Operation(op="create", collection=NOTES, id=id, data=data(number)) for number, id in enumerate(ids)
    ]
    for first in range(0, len(operations), 1000):
        await backend.apply(None, operations[first : first + 1000])


@asynccontextmanager
async def ours_alone(folder: Path, ids: list[str], _: int) -> AsyncIterator[Store]:
    """Our backend, without the daemon before it."""
    path = folder / "ours.db"
    async with _backend(path) as backend:
        await fill(backend, ids)

        async def create(id: str) -> Any:
            return await backend.apply(None, [Operation(op="create", collection=NOTES, id=id, data=DATA)])

        yield Store(create, lambda _, id: backend.get(None, NOTES, id))


@asynccontextmanager
async def ours(folder: Path, ids: list[str], _: int) -> AsyncIterator[Store]:
    """The whole way: ``data/create`` and ``data/read`` through the bus."""
    path = folder / "ours.db"
    async with _backend(path) as backend:
        await fill(backend, ids)
    async with on_bus(path) as bus:
        execute = bus.commands.execute
        yield Store(
            lambda id: execute("data/create", collection=NOTES, data=DATA, id=id),
            lambda _, id: execute("data/read", collection=NOTES, id=id),
        )


@asynccontextmanager
async def on_bus(path: Path) -> AsyncIterator[Bus]:
    """A bus whose DataDaemon keeps its records in one file."""
    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        daemon = DataDaemon(COLLECTIONS, partial(open_sqlite_backend, lambda _: path))
        with bus.attach(daemon) as specification:
            async with open_supervisor(scheduler, [specification]):
                yield bus


def _backend(path: Path) -> Any:
    return open_sqlite_backend(lambda _: path, COLLECTIONS, RecordClock(), lambda *_: None)


@asynccontextmanager
async def apsw_async(
    folder: Path, ids: list[str], callers: int, *, readers_at_most: int = APSW_READERS
) -> AsyncIterator[Store]:
    """APSW's own async connections, each with its thread; autocommit, so a write is one hop."""
    path = str(prepared(folder / "apsw.db", ids))
    async with AsyncExitStack() as stack:
        writer, *readers = [
            await _apsw_connection(stack, path) for _ in range(1 + min(callers, readers_at_most))
        ]

        async def create(id: str) -> None:
            await writer.execute(INSERT, values_of(id))

        async def read(caller: int, id: str) -> dict[str, Any]:
            reader = readers[caller % len(readers)]
            return record_of(await reader.async_run(_apsw_read, reader, id))

        yield Store(create, read)


async def _apsw_connection(stack: AsyncExitStack, path: str) -> Any:
    connection: Any = await apsw.Connection.as_async(path)
    stack.push_async_callback(connection.aclose)
    for pragma in PRAGMAS:
        await (await connection.execute(pragma)).fetchall()
    return connection


def _apsw_read(connection: Any, id: str) -> Any:
    return connection.execute(SELECT, (id,)).fetchone()


@asynccontextmanager
async def standard_library(folder: Path, ids: list[str], callers: int) -> AsyncIterator[Store]:
    """The standard library's module in Trio's threads, under Trio's own limit of them."""
    path = prepared(folder / "standard.db", ids)
    with closing(_standard_connection(path)) as writer:
        readers = [_standard_connection(path) for _ in range(callers)]
        lock = trio.Lock()

        async def create(id: str) -> None:
            async with lock:
                await trio.to_thread.run_sync(writer.execute, INSERT, values_of(id))

        async def read(caller: int, id: str) -> dict[str, Any]:
            row = await trio.to_thread.run_sync(_standard_read, readers[caller], id)
            return record_of(row)

        yield Store(create, read)
        for reader in readers:
            reader.close()


def _standard_connection(path: Path) -> sqlite3.Connection:
    # Without its implicit transactions a statement is one, and a write is one hop.
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    for pragma in PRAGMAS:
        connection.execute(pragma).fetchall()
    return connection


def _standard_read(connection: sqlite3.Connection, id: str) -> Any:
    return connection.execute(SELECT, (id,)).fetchone()


class _SlowVFS(apsw.VFS):
    """The usual files; a sync takes so many seconds more."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        super().__init__("rtos-bench-slow", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - the driver's name
        return _SlowFile(name, flags, self.seconds)


class _SlowFile(apsw.VFSFile):
    def __init__(self, name: Any, flags: list[int], seconds: float) -> None:
        self._seconds = seconds
        super().__init__("unix", name, flags)

    def xSync(self, flags: int) -> None:  # noqa: N802 - the driver's name
        time.sleep(self._seconds)  # noqa: TID251 - the disk, for the thread that waits for it
        super().xSync(flags)


@contextmanager
def slow_disk(seconds: float) -> Iterator[None]:
    """Let every sync of APSW's files take so much longer while the block runs."""
    vfs = _SlowVFS(seconds)
    try:
        yield
    finally:
        apsw.set_default_vfs("unix")
        vfs.unregister()


def sqlite_anyio() -> Peer:
    """A program of its own, in an environment of its own."""
    here = Path(__file__).parent / "peers"
    needed = here / "requirements" / "sqlite_anyio.txt"
    return Peer("sqlite-anyio", here / "python" / "sqlite_anyio_peer.py", requirements=needed)


def by_sqlite_anyio(words: list[str], folder: Path, ids: list[str], scenario: tuple[str, int, int]) -> Sample:
    """What it said of one scenario: what to do, by how many, how often."""
    path = prepared(folder / "anyio.db", ids)
    spoken = [*words, str(path), *map(str, scenario), INSERT, SELECT, BODY]
    done = subprocess.run(spoken, capture_output=True, text=True, check=True, env=surroundings(), timeout=300)
    said = json.loads(done.stdout)
    return Sample(
        operations=len(said["latencies"]),
        cpu_seconds=said["cpu_seconds"],
        wall_seconds=said["wall_seconds"],
        latencies=said["latencies"],
        extra={"per_second": len(said["latencies"]) / said["wall_seconds"]},
    )
