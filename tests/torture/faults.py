"""Files that fail: SQLite's way to the disk, watched, so that any step of it can go wrong.

``Faulty`` counts what changes a file (write, sync, truncate, delete) and lets the n-th
fail, or ends the process there. ``PowerCut`` knows at any step what a disk would hold
if the power went: what was synced, and of the rest nothing, all or whatever came first.

Both are installed as SQLite's way by default, so that nothing has to be told of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import apsw  # noqa: TID251 - faults are made below the driver

BASE = "unix"
SECTOR = 512
"""What a disk writes as a whole, bytes."""


class _File(apsw.VFSFile):
    def __init__(self, vfs: _Watched, name: Any, flags: list[int]) -> None:
        self._vfs = vfs
        self._path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        super().__init__(BASE, name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - the driver's name, as below
        self._vfs.step("write", self._path, bytes(data), offset)
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802
        self._vfs.step("sync", self._path)
        super().xSync(flags)

    def xTruncate(self, size: int) -> None:  # noqa: N802
        self._vfs.step("truncate", self._path, b"", size)
        super().xTruncate(size)


class _Watched(apsw.VFS):
    """Tells ``step`` of whatever is about to change a file."""

    def __init__(self, name: str) -> None:
        super().__init__(name, BASE, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> Any:  # noqa: N802
        if name is None:
            # A temporary file, which nobody looks for afterwards.
            return apsw.VFSFile(BASE, name, flags)
        file = _File(self, name, flags)
        self.opened(file._path)
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802
        self.step("delete", filename)
        super().xDelete(filename, syncdir)

    def opened(self, path: str) -> None:
        """A file was opened."""

    def step(self, what: str, path: str, data: bytes = b"", at: int = 0) -> None:
        """Something is about to be done to a file."""
        raise NotImplementedError


class Faulty(_Watched):
    """Does ``act`` at the n-th step, and at all that follow if it is to last.

    Attributes:
      steps: what was done so far, and to which kind of file.
    """

    def __init__(
        self, at: int | None = None, act: Callable[[], None] | None = None, *, lasting: bool = False
    ) -> None:
        super().__init__("faulty")
        self.steps: list[tuple[str, str]] = []
        self._at, self._act, self._lasting = at, act, lasting

    def step(self, what: str, path: str, data: bytes = b"", at: int = 0) -> None:
        self.steps.append((what, path[-4:]))
        number = len(self.steps)
        if self._at is None or self._act is None:
            return
        if number == self._at or (self._lasting and number > self._at):
            if self._act is die and what == "write":
                # As the kernel may be stopped: a part of it is there.
                with open(path, "r+b") as file:  # noqa: PTH123
                    os.pwrite(file.fileno(), data[: len(data) // 2], at)
            self._act()


def refuse() -> None:
    """The disk does not do it."""
    raise apsw.IOError("the disk fails, by order of a test")


def fill_up() -> None:
    """The disk is full."""
    raise apsw.FullError("the disk is full, by order of a test")


def die() -> None:
    """The process ends here, with no word."""
    os.kill(os.getpid(), signal.SIGKILL)


ACTS: dict[str, Callable[[], None]] = {"refuse": refuse, "fill_up": fill_up, "die": die}


class PowerCut(_Watched):
    """Keeps what is safe apart from what was only written."""

    def __init__(self, look: Callable[[PowerCut], None] = lambda _: None) -> None:
        super().__init__("power-cut")
        self._safe: dict[str, bytes] = {}
        self._pending: dict[str, list[tuple[str, bytes, int]]] = {}
        self._look = look

    def opened(self, path: str) -> None:
        if path not in self._safe:
            self._safe[path] = Path(path).read_bytes()
            self._pending[path] = []

    def step(self, what: str, path: str, data: bytes = b"", at: int = 0) -> None:
        self._look(self)
        if what == "delete":
            self._safe.pop(path, None)
            self._pending.pop(path, None)
        elif what == "sync":
            self._safe[path] = _after(self._safe[path], self._pending[path])
            self._pending[path] = []
        else:
            self._pending[path].append((what, data, at))

    def image(self, survives: Callable[[], bool]) -> dict[str, bytes]:
        """What the disk holds after the power went; of what was not synced, each sector that ``survives``."""
        return {
            Path(path).name: _after(
                safe, [one for each in self._pending[path] for one in _lost(each, survives)]
            )
            for path, safe in self._safe.items()
        }


def _lost(change: tuple[str, bytes, int], survives: Callable[[], bool]) -> Iterator[tuple[str, bytes, int]]:
    what, data, at = change
    if what == "truncate":
        if survives():
            yield change
        return
    for first in range(0, len(data), SECTOR):
        if survives():
            yield what, data[first : first + SECTOR], at + first


def _after(content: bytes, changes: list[tuple[str, bytes, int]]) -> bytes:
    if not changes:
        return content
    result = bytearray(content)
    for what, data, at in changes:
        if what == "truncate":
            del result[at:]
        else:
            result.extend(bytes(max(at - len(result), 0)))
            result[at : at + len(data)] = data
    return bytes(result)


def survivors(seed: int) -> dict[str, Callable[[], bool]]:
    """What may be left of what was not synced: nothing, all, or some of it."""
    chance = Random(seed)
    return {"none": lambda: False, "all": lambda: True, "some": lambda: chance.random() < 0.5}


@contextmanager
def installed(vfs: Any) -> Iterator[Any]:
    """For the block; every connection made in it must be closed in it."""
    try:
        yield vfs
    finally:
        vfs.unregister()
