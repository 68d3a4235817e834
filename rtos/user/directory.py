"""Where a user's files are: one folder for everyone, human or not.

`{root}/users/{user_id}` holds `data/longterm.db`, `logs/activity.log` and
`config/preferences.json`. A user who still lives in the older
`{root}/personas/{user_id}` is served from there until migrated.

Synchronous, and only about paths: it opens no database and knows no user
beyond the id. It keeps no state, so two of them on one root agree.

Order: the new folder wins over the legacy one; where neither exists, the new
path is the answer. Law: no path handed out leaves the root, by name or by link.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from rtos.errors import StoreError
from rtos.user.identity import is_user_id, validate_user_id

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS: Final = "users"
LEGACY: Final = "personas"
_OWNER_ONLY: Final = 0o700
_OTHERS: Final = 0o077
_DOOMED: Final = ".deleted-"
# A migration can move a user between a look and a mkdir once; more often means two fight over the root.
_ATTEMPTS: Final = 3
_DATABASE_FILES: Final = ("", "-wal", "-shm")
_UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB")


@attrs.frozen
class UserDirectoryPaths:
    """Every path of one user; none of them needs to exist."""

    root: Path
    data: Path
    logs: Path
    config: Path
    database: Path
    activity_log: Path
    preferences: Path

    @classmethod
    def below(cls, root: Path) -> UserDirectoryPaths:
        """The fixed layout below a user's own folder."""
        data, logs, config = root / "data", root / "logs", root / "config"
        return cls(
            root=root,
            data=data,
            logs=logs,
            config=config,
            database=data / "longterm.db",
            activity_log=logs / "activity.log",
            preferences=config / "preferences.json",
        )


@attrs.frozen
class UserDiskUsage:
    """What a user takes on disk, in bytes."""

    database_bytes: int
    """`longterm.db` with its `-wal` and `-shm` companions."""
    total_bytes: int
    """Every regular file below the user's folder; links are not followed."""
    human_readable: str
    """The database's bytes for people: `"0 B"`, `"512 B"`, `"1.50 KB"`, in steps of 1024."""


class UserDirectoryManager:
    """Finds, makes, lists, measures and deletes the folders of users.

    Every method that takes a user id raises `CommandRejected` for one that may
    not name a user, and `StoreError` where a link leads outside the root or the
    file system refuses.

    Args:
      root: The `.continuum` folder; it need not exist yet.
    """

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def get_paths(self, user_id: str) -> UserDirectoryPaths:
        """All paths of a user: the new ones, or the legacy ones while only those exist."""
        new, legacy = self._candidates(user_id)
        with _reported(f"resolve user {user_id!r}"):
            root = legacy if not new.is_dir() and legacy.is_dir() else new
        return self._confined(UserDirectoryPaths.below(root))

    def get_database_path(self, user_id: str) -> Path:
        """Where the user's only database is, or will be."""
        return self.get_paths(user_id).database

    def get_activity_log_path(self, user_id: str) -> Path:
        """Where the user's activity log is, or will be."""
        return self.get_paths(user_id).activity_log

    def get_preferences_path(self, user_id: str) -> Path:
        """Where the user's preferences are, or will be."""
        return self.get_paths(user_id).preferences

    def exists(self, user_id: str) -> bool:
        """Whether the user has a folder, new or legacy."""
        return self.get_paths(user_id).root.is_dir()

    def ensure_directories(self, user_id: str) -> UserDirectoryPaths:
        """Make the user's folders, open to their owner only; safe to repeat.

        A legacy folder is completed where it is and never made anew: were the
        user migrated away meanwhile, a fresh empty one would split the user in
        two, so the look-up starts again instead.
        """
        for _ in range(_ATTEMPTS):
            paths = self.get_paths(user_id)
            with _reported(f"ensure directories of user {user_id!r}"):
                if self._make(paths):
                    return paths
        raise StoreError(
            f"ensure directories of user {user_id!r}",
            f"its folder was moved away {_ATTEMPTS} times meanwhile",
            "stop whatever else moves folders in this root",
        )

    def list_users(self) -> list[str]:
        """The ids of all users, sorted, each once, the legacy ones included."""
        return sorted({name for base in (USERS, LEGACY) for name in self._names(self._root / base)})

    def get_user_disk_usage(self, user_id: str) -> UserDiskUsage:
        """What the user takes on disk; zero for a user without a folder."""
        paths = self.get_paths(user_id)
        with _reported(f"measure user {user_id!r}"):
            database = sum(_size(Path(f"{paths.database}{suffix}")) for suffix in _DATABASE_FILES)
            total = sum(
                _size(Path(folder, name)) for folder, _, names in os.walk(paths.root) for name in names
            )
        return UserDiskUsage(
            database_bytes=database, total_bytes=total, human_readable=human_readable(database)
        )

    def delete_user_directory(self, user_id: str) -> bool:
        """Delete everything of a user, the legacy folder too, or a stale copy would come back to life.

        The folder is renamed before it is emptied, so an interruption leaves no
        half of a user behind; to delete again finishes the work. Close the
        user's database first.

        Returns:
          Whether there was anything to delete.
        """
        self.get_paths(user_id)
        with _reported(f"delete user {user_id!r}"):
            removed = [self._remove(folder, user_id) for folder in self._candidates(user_id)]
        return any(removed)

    def _candidates(self, user_id: str) -> tuple[Path, Path]:
        name = validate_user_id(user_id)
        return self._root / USERS / name, self._root / LEGACY / name

    def _confined(self, paths: UserDirectoryPaths) -> UserDirectoryPaths:
        for leaf in (paths.database, paths.activity_log, paths.preferences):
            self._refuse_outside(leaf)
        return paths

    def _refuse_outside(self, path: Path) -> None:
        if not self._is_inside(path):
            raise StoreError(
                f"resolve {str(path)!r}",
                "a symbolic link on the way leads outside the root",
                "replace the link by a real folder",
            )

    def _is_inside(self, path: Path) -> bool:
        # realpath rather than Path.resolve: a loop of links has no inside, and must not raise here.
        return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root))

    def _make(self, paths: UserDirectoryPaths) -> bool:
        base = paths.root.parent
        if base.name == USERS:
            _make_folder(self._root, parents=True)
            _make_folder(base)
            _make_folder(paths.root)
        try:
            for folder in (paths.data, paths.logs, paths.config):
                _make_folder(folder)
        except FileNotFoundError:
            return False
        for folder in (paths.root, paths.data, paths.logs, paths.config):
            _close_to_others(folder)
        return True

    def _names(self, base: Path) -> Iterator[str]:
        self._refuse_outside(base)
        with _reported("list users"):
            try:
                found = list(os.scandir(base))
            except FileNotFoundError:
                return
            for entry in found:
                if is_user_id(entry.name) and entry.is_dir() and self._is_inside(Path(entry.path)):
                    yield entry.name

    def _remove(self, folder: Path, user_id: str) -> bool:
        if folder.is_symlink():
            raise OSError(f"{str(folder)!r} is a symbolic link, delete what it names first")
        doomed = folder.with_name(_DOOMED + user_id)
        left_over = doomed.exists()
        if left_over:
            shutil.rmtree(doomed)
        if not folder.is_dir():
            return left_over
        folder.rename(doomed)
        sync_folder(folder.parent)
        shutil.rmtree(doomed)
        return True


def human_readable(size: int) -> str:
    """A size in bytes for people, in steps of 1024: `"0 B"`, `"1.50 KB"`, `"2.00 GB"`."""
    if size < 1024:
        return f"{size} B"
    value, unit = float(size), 0
    # 1023.999 KB would be printed as 1024.00 KB; the limit is what two digits can show.
    while value >= 1023.995 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.2f} {_UNITS[unit]}"


def sync_folder(folder: Path) -> None:
    """Make a folder's list of names survive a power cut. Blocks on the disk.

    Raises:
      OSError: as the file system has it.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _reported(operation: str) -> Iterator[None]:
    """Turn what the file system says into an error that a caller can act on."""
    try:
        yield
    except OSError as error:
        raise StoreError(operation, str(error), "look at the folder and its permissions") from error


def _make_folder(folder: Path, *, parents: bool = False) -> None:
    # The parent is synced too: an acknowledged write must not lose its folder to a power cut.
    try:
        folder.mkdir(mode=_OWNER_ONLY, parents=parents)
    except FileExistsError:
        if not folder.is_dir():
            raise
    else:
        sync_folder(folder.parent)


def _close_to_others(folder: Path) -> None:
    mode = folder.stat().st_mode
    if mode & _OTHERS:
        folder.chmod(mode & _OWNER_ONLY)


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size if not path.is_symlink() else 0
    except FileNotFoundError:
        return 0
