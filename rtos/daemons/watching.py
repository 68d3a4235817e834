"""Watches folders by what the kernel tells of them: inotify, without a package and without a poll.

Owns one descriptor for all folders. A folder is watched rather than a file, so that a
file that is replaced by a rename is seen. Where the platform has no inotify there is
no watch, and ``open_folder_watches`` says so by giving ``None``.

Law: whatever happens in a folder after ``add`` returned is told, by its key and the
name, or ``lost`` says that something may be missing; a folder that can no longer be
watched is told as gone. Nothing wakes anybody while nothing happens.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLOSE_WRITE: Final = 0x8
_MOVED_FROM: Final = 0x40
_MOVED_TO: Final = 0x80
_DELETE: Final = 0x200
_DELETE_SELF: Final = 0x400
_MOVE_SELF: Final = 0x800
_OVERFLOW: Final = 0x4000
_IGNORED: Final = 0x8000
_ONLY_FOLDERS: Final = 0x01000000
_NO_LINKS: Final = 0x02000000
# Not every write, but its end; neither reading nor the making of a name that is still empty.
_WATCHED: Final = (
    _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _DELETE_SELF | _MOVE_SELF | _ONLY_FOLDERS | _NO_LINKS
)
_HEAD: Final = struct.Struct("iIII")
_READ: Final = 1 << 16


@attrs.frozen
class Happened:
    """What has happened in the watched folders since it was last asked.

    Attributes:
      names: which names were written, moved or deleted, with the folder's key.
      gone: the keys of folders that are watched no more.
      lost: whether something may be missing; look at everything.
    """

    names: frozenset[tuple[str, str]] = frozenset()
    gone: frozenset[str] = frozenset()
    lost: bool = False


class FolderWatches:
    """Folders that are watched, by key; made by ``open_folder_watches``."""

    def __init__(self, libc: ctypes.CDLL, descriptor: int) -> None:
        self._libc = libc
        self._descriptor = descriptor
        self._keys: dict[int, str] = {}
        self._numbers: dict[str, int] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def add(self, key: str, folder: Path) -> None:
        """Watch a folder, in place of what had this key. May be called in a thread.

        Raises:
          OSError: there is no such folder, or the kernel watches no more of them
            (``ENOSPC``: `fs.inotify.max_user_watches`).
        """
        number = self._libc.inotify_add_watch(self._descriptor, os.fsencode(folder), _WATCHED)
        if number < 0:
            raise _error(folder)
        if self._numbers.get(key) != number:
            self.remove(key)
        self._numbers[key], self._keys[number] = number, key

    def remove(self, key: str) -> None:
        """Watch this folder no more; nothing when it is not watched."""
        number = self._numbers.pop(key, None)
        if number is not None:
            del self._keys[number]
            # That the folder is gone, and its watch with it, is no failure.
            self._libc.inotify_rm_watch(self._descriptor, number)

    async def wait(self) -> Happened:
        """Wait until something has happened in a watched folder.

        Always a checkpoint; a cancellation loses nothing.
        """
        while True:
            await trio.lowlevel.wait_readable(self._descriptor)
            try:
                happened = self._sorted(os.read(self._descriptor, _READ))
            except BlockingIOError:
                continue
            if happened != Happened():
                return happened

    def _sorted(self, raw: bytes) -> Happened:
        names, gone, lost = set(), set(), False
        for number, mask, name in _parsed(raw):
            if mask & _OVERFLOW:
                lost = True
            key = self._keys.get(number)
            if key is None:
                continue
            if mask & (_DELETE_SELF | _MOVE_SELF | _IGNORED):
                # A folder that was moved away would go on being told of under its old key.
                self.remove(key)
                gone.add(key)
            elif name:
                names.add((key, name))
        return Happened(frozenset(names), frozenset(gone), lost)


@contextmanager
def open_folder_watches() -> Iterator[FolderWatches | None]:
    """Watch folders while the block runs; ``None`` where the platform cannot.

    Nobody may wait any more when the block ends.

    Raises:
      OSError: the kernel gives this user no more of them
        (``EMFILE``: `fs.inotify.max_user_instances`).
    """
    libc = _libc()
    if libc is None:
        yield None
        return
    descriptor = libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    if descriptor < 0:
        raise _error(None)
    try:
        yield FolderWatches(libc, descriptor)
    finally:
        os.close(descriptor)


def _libc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        libc.inotify_init1.argtypes = (ctypes.c_int,)
        libc.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
        libc.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)
    except AttributeError:
        return None
    return libc


def _error(folder: Path | None) -> OSError:
    number = ctypes.get_errno()
    text = os.strerror(number)
    if number == errno.ENOSPC:
        # Nothing is wrong with the disk, which is what the kernel's word suggests.
        text = "no more folders can be watched; raise fs.inotify.max_user_watches"
    elif number == errno.EMFILE:
        text = "nothing more can be watched; raise fs.inotify.max_user_instances"
    return OSError(number, text) if folder is None else OSError(number, text, str(folder))


def _parsed(raw: bytes) -> Iterator[tuple[int, int, str]]:
    place = 0
    while place < len(raw):
        number, mask, _, length = _HEAD.unpack_from(raw, place)
        place += _HEAD.size
        yield number, mask, os.fsdecode(raw[place : place + length].rstrip(b"\0"))
        place += length
