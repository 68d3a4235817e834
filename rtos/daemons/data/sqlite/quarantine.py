"""A damaged database: set aside, and never silently replaced by an empty one.

Law: nothing is deleted here, only renamed. A user whose database was set aside
has files ``<name>.corrupt-<time>`` and no ``<name>``; as long as that is so every
command on it fails, also after the next boot, until somebody restores a backup or
decides to start empty.
"""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw  # noqa: TID251 - the one place that knows the driver

from rtos.daemons.data.files import sync_folder
from rtos.errors import StoreCorrupt

if TYPE_CHECKING:
    from collections.abc import Iterator

COMPANIONS: Final = ("-wal", "-shm", "-journal")
"""What belongs to a database and would be played into another one of its name."""
FOLDER: Final = "backups"
SUFFIX: Final = ".db"
CORRUPT: Final = "corrupt"
REPLACED: Final = "replaced"

CHECK_STEPS: Final = 1000
MOST_CHECKS: Final = 8000
"""Bounds the check of a database at its opening: about half a second, or 900 MB of it."""


def stamp() -> str:
    """The present, as a part of a file's name that sorts by time."""
    return datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")


def ended_uncleanly(path: Path) -> bool:
    """Whether a database was not closed by whoever wrote to it last.

    Its log says so: SQLite deletes it at the end of the last connection, and nothing
    is written to a database but by way of it. So no marker of ours is needed, which
    would cost two syncs of a folder at each opening.
    """
    try:
        return Path(f"{path}-wal").stat().st_size > 0
    except FileNotFoundError:
        return False


def check(connection: apsw.Connection, path: Path) -> None:
    """Look through a database for damage, within bounds.

    Damage beyond the bound is found when it is read, as it would be without this. An
    index of words that is damaged is dropped, to be made anew from the records.

    Raises:
      StoreCorrupt: there is some.
    """
    looks = iter(range(MOST_CHECKS))
    connection.set_progress_handler(lambda: next(looks, None) is None, CHECK_STEPS)
    try:
        found = [row[0] for row in connection.execute("PRAGMA quick_check(20)")]
    except apsw.InterruptError:
        return
    finally:
        connection.set_progress_handler(None)
    indexes = [_INDEX.search(said) for said in found]
    for said, index in zip(found, indexes, strict=True):
        if said != "ok" and index is None:
            raise StoreCorrupt(f"check {str(path)!r}", str(said), "restore a backup")
    for name in {index[1] for index in indexes if index is not None}:
        connection.execute(f"DROP TABLE {name}")


_INDEX: Final = re.compile(r"(?i:fts5).*\b(c_\w+\$text)\b")
"""What is said of a damaged index of words, with its name."""


def is_index_only(error: StoreCorrupt) -> bool:
    """Whether an index of words is damaged, and the records are not."""
    return getattr(error.__cause__, "extendedresult", None) == apsw.SQLITE_CORRUPT_VTAB


def refuse_if_set_aside(path: Path, user_id: str | None) -> None:
    """Refuse to take a database that was set aside for one that never was.

    Raises:
      StoreCorrupt: it was.
    """
    if path.exists():
        return
    aside = _names(path, CORRUPT)
    if aside:
        raise StoreCorrupt(
            f"open {str(path)!r}", f"it is damaged, and was set aside as {aside[-1]!r}", remedy(path, user_id)
        )


def quarantine(path: Path, user_id: str | None, error: StoreCorrupt) -> StoreCorrupt:
    """Set a closed database aside.

    Returns:
      What to tell of it: where it is now, and how to go on.
    """
    if not path.exists():
        return error
    try:
        name = set_aside(path, CORRUPT)
    except OSError as failure:
        reason = f"{error.reason}, and it cannot be set aside ({failure.strerror})"
        return StoreCorrupt(error.operation, reason, remedy(path, user_id))
    reason = f"{error.reason}; the database was set aside as {name!r}"
    return StoreCorrupt(error.operation, reason, remedy(path, user_id))


def set_aside(path: Path, why: str) -> str:
    """Rename the files of a closed database; its new name."""
    name = f"{path.name}.{why}-{stamp()}"
    # The log first: were it left alone beside a new database, it would be played into that.
    for suffix in (*COMPANIONS, ""):
        old = Path(f"{path}{suffix}")
        if old.exists():
            old.rename(path.with_name(f"{name}{suffix}"))
    sync_folder(path.parent)
    return name


def remedy(path: Path, user_id: str | None) -> str:
    """How to go on without a database: the command for a user's, the copy for everybody's."""
    backups = backups_of(path)
    if user_id is None:
        if not backups:
            return "there is no backup; boot on another folder, or make an empty file of that name"
        return f"copy the newest backup to that name: cp {str(backups[-1])!r} {str(path)!r}"
    start_empty = f"`rtos data/reset --user_id={user_id}` to start empty"
    if not backups:
        return f"there is no backup; {start_empty}"
    restore = f"`rtos data/restore --user_id={user_id}`"
    return f"{restore} takes the newest backup, {backups[-1].name!r}, or {start_empty}"


def backups_of(path: Path) -> list[Path]:
    """The backups of a database, the oldest first."""
    folder = path.parent / FOLDER
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208 - only the names
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = [folder / name for name in names if name.endswith(SUFFIX) and not name.startswith(".")]
    return sorted(found, key=lambda each: (each.stat().st_mtime_ns, each.name))


def _names(path: Path, why: str) -> list[str]:
    return sorted(_starting(path.parent, f"{path.name}.{why}-"))


def _starting(folder: Path, prefix: str) -> Iterator[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208 - only the names
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if name.startswith(prefix) and not name.endswith(COMPANIONS):
            yield name
