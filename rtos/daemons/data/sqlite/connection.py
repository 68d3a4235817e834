"""One database file: how it is opened, and what goes wrong.

Synchronous, and used by one worker thread only.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.daemons.data.files import is_full, make_file, make_folder, remedy, sync_folder
from rtos.daemons.data.sqlite import quarantine
from rtos.daemons.data.sqlite.migrations import SCHEMA
from rtos.daemons.data.sqlite.schema import migrate
from rtos.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreError, StoreFull

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rtos.daemons.data.collection import Collection

BUSY_MS: Final = 2000


def open_connection(
    path: Path,
    collections: Sequence[Collection],
    *,
    create: bool,
    busy_ms: int | None = None,
    suspect: bool = False,
) -> apsw.Connection | None:
    """Open a database, and give it the tables that it lacks.

    After an unclean end it is looked through for damage first.

    Args:
      path: its file.
      collections: what it has to hold.
      create: make the file and its folders if need be; otherwise answer ``None``.
      suspect: look through it for damage after a clean end, too.
      busy_ms: how long to wait for another program that holds it; ``BUSY_MS`` if left out.

    Raises:
      StoreError: the file is no database, is damaged, locked, newer, or cannot be made.
    """
    with reported("open", path):
        if create:
            _create(path)
        elif not path.exists() or path.stat().st_size == 0:
            return None
        doubtful = suspect or quarantine.ended_uncleanly(path)
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        with reported("open", path):
            connection.set_busy_timeout(BUSY_MS if busy_ms is None else busy_ms)
            # First of all, since even a pragma below may write to the file.
            _refuse_newer(connection, path)
            _configure(connection)
            if doubtful:
                quarantine.check(connection, path)
            migrate(connection, collections)
    except BaseException:
        # On a disk that fails, closing may fail as well; what was first is the reason.
        with suppress(apsw.Error):
            connection.close()
        raise
    return connection


def _create(path: Path) -> None:
    """Make an empty file that only its owner can read, and its folders; durably."""
    make_folder(path.parent)
    try:
        # SQLite would make it readable for all.
        os.close(make_file(path))
    except FileExistsError:
        return
    sync_folder(path.parent)


def _refuse_newer(connection: apsw.Connection, path: Path) -> None:
    version: int = connection.pragma("user_version")
    if version > SCHEMA:
        raise SchemaTooNew(
            f"open {str(path)!r}",
            f"it was written with schema {version}, and this program knows {SCHEMA}",
            "update the program; the file is untouched",
        )


def _configure(connection: apsw.Connection) -> None:
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
    except apsw.FullError as error:
        raise StoreFull(what, str(error), "make room on the disk") from error
    except apsw.IOError as error:
        raise StoreError(what, str(error), "look at the disk and its log") from error
    except (apsw.CantOpenError, apsw.ReadOnlyError, apsw.PermissionsError) as error:
        raise StoreError(what, *_reason(str(error))) from error
    except OSError as error:
        if is_full(error):
            raise StoreFull(what, str(error.strerror), "make room on the disk") from error
        raise StoreError(what, str(error.strerror), remedy(error)) from error


def _reason(said: str) -> tuple[str, str]:
    """Why a file cannot be opened, and what to do. The driver does not tell one cause from the other."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return f"{said} ({error.strerror})", remedy(error)
    return said, "mend the permissions of the file and its folder"
