"""Files that are there as a whole or not at all, and survive a power cut. Blocks on the disk."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE_MODE: Final = 0o600
FOLDER_MODE: Final = 0o700
KEPT: Final = 5
"""How many backups of a database there are at most."""
_COPY: Final = 1 << 20


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, open to their owner only, whatever the umask; durably."""
    made = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(made):
        each.mkdir(mode=FOLDER_MODE, exist_ok=True)
        sync_folder(each.parent)


def sync_folder(folder: Path) -> None:
    """Make a folder's list of names durable."""
    # A commit that is durable is of no use in a folder that is not.
    _sync(folder, os.O_DIRECTORY)


def sync_file(path: Path) -> None:
    """Make what was written to a file durable.

    Never of a database that is open in this process: closing the file here would
    take away the locks that SQLite has on it.
    """
    _sync(path, 0)


def _sync(path: Path, flag: int) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_file(path: Path) -> int:
    """Make a file that only its owner can read, and open it; there must be none, nor a link.

    Raises:
      FileExistsError: there is something of that name.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)


def open_new(path: Path) -> BinaryIO:
    """As ``make_file``, to be written to."""
    return os.fdopen(make_file(path), "wb")


@contextmanager
def draft_of(path: Path) -> Iterator[Path]:
    """A name beside a file's, to write it under; whatever is there at the end is deleted."""
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    try:
        yield draft
    finally:
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(OSError):
                Path(f"{draft}{suffix}").unlink()


def sweep(folder: Path, name: str = "") -> None:
    """Delete the drafts that a process which was killed has left behind; nobody must be making one."""
    for draft in folder.glob(f".{name}*.partial*"):
        with suppress(OSError):
            draft.unlink()


def put_in_place(draft: Path, path: Path) -> None:
    """Give a complete file its name, over what has it; durably."""
    sync_file(draft)
    draft.replace(path)
    sync_folder(path.parent)


def copy_file(source: Path, target: Path) -> None:
    """Copy a file that nobody writes to into a new one."""
    descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    with os.fdopen(descriptor, "rb") as old, open_new(target) as new:
        while part := old.read(_COPY):
            new.write(part)


def is_full(error: OSError) -> bool:
    """Whether a file system has said that there is no room."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def is_out_of_files(error: OSError) -> bool:
    """Whether the process, or the machine, has too many files open."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


def remedy(error: OSError) -> str:
    """What to do about what a file system has said."""
    if is_full(error):
        return "make room on the disk"
    if is_out_of_files(error):
        return "allow more open files (ulimit -n), or close some, and try again"
    if error.errno == errno.ENOENT:
        return "look at the name"
    return "mend the permissions of the file and its folder"
