"""One database file: how it is opened, what its tables are, and what goes wrong.

Synchronous, and used by one worker thread only.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rtos.daemons.data.collection import Collection

SCHEMA: Final = 1
"""Version of the layout below; a file that says more is left untouched."""
BUSY_MS: Final = 2000


def open_connection(path: Path, collections: Sequence[Collection]) -> apsw.Connection:
    """Open a database, made and given its tables if it is new.

    Raises:
      StoreError: the file is no database, is damaged, locked, newer, or cannot be made.
    """
    with reported("open", path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # SQLite would make it readable for all.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = apsw.Connection(str(path))
    try:
        with reported("open", path):
            _configure(connection)
            _migrate(connection, path, collections)
    except BaseException:
        connection.close()
        raise
    return connection


def _configure(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(BUSY_MS)
    _pragma_wal(connection)
    _pragma_durable(connection)
    _pragma_small_cache(connection)


def _pragma_wal(connection: apsw.Connection) -> None:
    # A reader must not wait for a writer, and a commit is one sync instead of three.
    list(connection.execute("PRAGMA journal_mode = WAL"))


def _pragma_durable(connection: apsw.Connection) -> None:
    # Acknowledged means durable. With NORMAL a power cut loses everything since
    # the last checkpoint: 200 of 200 commits in a simulated one; with FULL none.
    list(connection.execute("PRAGMA synchronous = FULL"))


def _pragma_small_cache(connection: apsw.Connection) -> None:
    # Per open file, in KiB; there are many files and most of them are small.
    list(connection.execute("PRAGMA cache_size = -512"))


def _migrate(connection: apsw.Connection, path: Path, collections: Sequence[Collection]) -> None:
    version: int = connection.pragma("user_version")
    if version > SCHEMA:
        raise SchemaTooNew(
            f"open {str(path)!r}",
            f"it was written with schema {version}, and this program knows {SCHEMA}",
            "update the program; the file is untouched",
        )
    with connection:
        for collection in collections:
            _make_tables(connection, collection)
        connection.pragma("user_version", SCHEMA)


def _make_tables(connection: apsw.Connection, collection: Collection) -> None:
    table = table_of(collection.name)
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table} (row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
        " version INTEGER NOT NULL, created_at TEXT NOT NULL, updated_at TEXT NOT NULL,"
        " body TEXT NOT NULL) STRICT"
    )
    connection.execute(f"CREATE INDEX IF NOT EXISTS {table}_created ON {table} (created_at, id)")
    for field in collection.indexes:
        connection.execute(
            f"CREATE INDEX IF NOT EXISTS {table}_by_{field} ON {table}"
            f" (json_extract(body, '$.{field}'), created_at, id)"
        )
    if collection.search:
        columns = ", ".join(collection.search)
        connection.execute(
            f"CREATE VIRTUAL TABLE IF NOT EXISTS {table}_text USING fts5"
            f" ({columns}, tokenize = 'porter unicode61')"
        )


def table_of(collection: str) -> str:
    """The table of a collection; collection names are words, so it needs no quoting."""
    return f"c_{collection}"


@contextmanager
def reported(operation: str, path: Path) -> Iterator[None]:
    """Turn what the driver and the file system raise into what a host can act on."""
    what = f"{operation} {str(path)!r}"
    try:
        yield
    except (apsw.NotADBError, apsw.CorruptError) as error:
        raise StoreCorrupt(what, str(error), "restore a backup; the file is untouched") from error
    except (apsw.BusyError, apsw.LockedError) as error:
        raise StoreBusy(what, str(error), "close the program that holds it, or try again") from error
    except (apsw.FullError, apsw.IOError) as error:
        raise StoreFull(what, str(error), "make room, or look at the disk") from error
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreError(what, str(error), "mend the permissions of the file and its folder") from error
    except OSError as error:
        raise StoreError(
            what, str(error.strerror), "mend the permissions of the file and its folder"
        ) from error


def rows(connection: apsw.Connection, sql: str, bindings: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """All rows of a statement, run to its end."""
    return list(connection.execute(sql, tuple(bindings)))
