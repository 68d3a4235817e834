"""Copies of databases: made while they are written to, listed, and put back.

A copy is made by the driver's online backup, some pages at a time, by the
connection that writes: whatever it writes meanwhile goes into the copy as well,
so it never starts over, and it is of the moment at which it ends. ``VACUUM INTO``
would need the thread for the whole of it, or a second connection, whose end could
delete the log of a database that was put in its place meanwhile.

Law: a backup is complete, durable and readable by its owner only, or has no name.
Everything runs on the database's thread, or on files that nobody has open.
"""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.daemons.data.files import (
    KEPT,
    copy_file,
    make_file,
    make_folder,
    put_in_place,
    sweep,
    sync_file,
    sync_folder,
)
from rtos.daemons.data.sqlite import log, migrations
from rtos.daemons.data.sqlite.connection import reported
from rtos.daemons.data.sqlite.migrations import SCHEMA
from rtos.daemons.data.sqlite.quarantine import (
    COMPANIONS,
    FOLDER,
    REPLACED,
    SUFFIX,
    backups_of,
    stamp,
)
from rtos.daemons.data.sqlite.schema import rows, table_of
from rtos.errors import NotFound, StoreCorrupt, StoreError

PAGES: Final = 256
"""Pages in one step of a copy; at 4 KiB each it takes a millisecond or two."""


class Copy:
    """A copy of a database that is being made. Every method runs on the database's thread."""

    def __init__(self, draft: Path) -> None:
        self._draft = draft
        self._source: apsw.Connection | None = None
        self._target: apsw.Connection | None = None
        self._backup: apsw.Backup | None = None

    def step(self, source: apsw.Connection) -> bool:
        """Copy some pages; whether those were the last. Starts over on a new connection."""
        done = False
        try:
            with reported("back up to", self._draft):
                if source is not self._source:
                    self.close()
                    self._begin(source)
                assert self._backup is not None
                done = self._backup.step(PAGES)
                if done:
                    self._backup.finish()
        except BaseException:
            self.close()
            raise
        if done:
            self.close()
        return done

    def _begin(self, source: apsw.Connection) -> None:
        self._draft.unlink(missing_ok=True)
        os.close(make_file(self._draft))
        target = self._target = apsw.Connection(str(self._draft), flags=apsw.SQLITE_OPEN_READWRITE)
        # It is of no use until it is complete, and is synced then.
        for pragma in ("journal_mode = OFF", "synchronous = OFF"):
            list(target.execute(f"PRAGMA {pragma}"))
        self._backup = target.backup("main", source, "main")
        self._source = source

    def close(self) -> None:
        """Let go of both databases; safe to repeat."""
        with suppress(apsw.Error):
            if self._backup is not None:
                self._backup.close(True)
        if self._target is not None:
            self._target.close()
        self._source = self._target = self._backup = None


def backup_path(path: Path, name: str | None) -> Path:
    """Where a new backup of a database goes; makes the folder."""
    folder = path.parent / FOLDER
    with reported("back up to", folder):
        if folder.is_symlink():
            remedy = "replace the link by a real folder"
            raise StoreError(f"back up to {str(folder)!r}", "it is a symbolic link", remedy)
        make_folder(folder)
        sweep(folder)
    return folder / f"{name or stamp()}{SUFFIX}"


def keep(draft: Path, target: Path) -> dict[str, Any]:
    """Give a complete copy its name, and let go of the oldest ones."""
    with reported("back up to", target):
        put_in_place(draft, target)
        for old in backups_of(target.parent.parent / "any")[:-KEPT]:
            if old != target:
                old.unlink()
        sync_folder(target.parent)
        return described(target)


def described(backup: Path) -> dict[str, Any]:
    """A backup, as it is told of."""
    found = backup.stat()
    return {
        "name": backup.name.removesuffix(SUFFIX),
        "path": str(backup),
        "bytes": found.st_size,
    }


def present(path: Path) -> list[dict[str, Any]]:
    """The backups of a database, the newest first."""
    with reported("list backups of", path):
        return [described(each) for each in reversed(backups_of(path))]


def chosen(path: Path, name: str | None) -> Path:
    """A backup by its name, or the newest.

    Raises:
      NotFound: there is none.
    """
    with reported("restore", path):
        backups = backups_of(path)
    if name is None and backups:
        return backups[-1]
    for each in backups:
        if each.name.removesuffix(SUFFIX) == name:
            return each
    what = "backup" if name is None else f"backup {name!r}"
    there = ", ".join(each.name.removesuffix(SUFFIX) for each in backups)
    remedy = f"there are {there}" if there else "make one with data/backup"
    raise NotFound("data/restore", f"there is no {what} of {str(path)!r}", remedy)


def prepare(backup: Path, draft: Path) -> None:
    """Copy a backup beside the database that it is to replace, and look whether it is sound.

    Raises:
      StoreCorrupt: it is not; nothing was changed.
    """
    with reported("restore", backup):
        copy_file(backup, draft)
        sync_file(draft)
        # No log and no lock: nobody else knows the file.
        uri = f"{draft.absolute().as_uri()}?immutable=1"
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        with closing(apsw.Connection(uri, flags=flags)) as connection:
            found = [row[0] for row in connection.execute("PRAGMA integrity_check(1)")]
        if found != ["ok"]:
            raise StoreCorrupt(f"restore {str(backup)!r}", str(found[0]), "name another backup")
        _note_restored(draft)


def prepare_empty(path: Path, draft: Path) -> None:
    """Make an empty database beside the one that it is to replace."""
    with reported("reset", path):
        make_folder(path.parent)
        with closing(apsw.Connection(_made(draft), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            # A header and nothing else: a file of no bytes would count as none.
            connection.execute("PRAGMA user_version = 1; PRAGMA user_version = 0")
        _note_restored(draft)


def _note_restored(draft: Path) -> None:
    with closing(apsw.Connection(str(draft), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        # A newer one is not understood, and is refused when it is opened.
        if connection.pragma("user_version") <= SCHEMA:
            migrations.make_log(connection)
            log.note_restored(connection)
    sync_file(draft)


def _made(draft: Path) -> str:
    os.close(make_file(draft))
    return str(draft)


def replace(path: Path, draft: Path) -> str | None:
    """Put a prepared file in the place of a closed database, which is set aside; its new name.

    The database itself never lacks its name: a crash in between leaves the old one
    or the new one, and the old one has been given its second name before.
    """
    with reported("restore", path):
        name = f"{path.name}.{REPLACED}-{stamp()}"
        there = path.exists()
        if there:
            _link(path, path.with_name(name))
        for suffix in COMPANIONS:
            with suppress(FileNotFoundError):
                Path(f"{path}{suffix}").rename(path.with_name(f"{name}{suffix}"))
        sync_folder(path.parent)
        put_in_place(draft, path)
        return name if there else None


def _link(path: Path, other: Path) -> None:
    try:
        os.link(path, other)
    except PermissionError:
        # A file system without links; there the name is gone for a moment.
        path.rename(other)


def size(connection: apsw.Connection, collection: str) -> int:
    """How many records a collection has."""
    counted: int = rows(connection, f"SELECT count(*) FROM {table_of(collection)}")[0][0]
    return counted
