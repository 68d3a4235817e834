"""A file of lines, read some at a time. Blocks on the disk; used by one thread at a time."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, Self

import attrs

from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from pathlib import Path

MAX_LINE: Final = 16 << 20
"""Bytes of the longest line."""
MAX_TAKEN: Final = 1 << 20
"""Bytes after which no more lines are taken at once."""
_PART: Final = 1 << 20


@attrs.frozen
class Line:
    """A line that is not empty, and its number, from 1 on."""

    number: int
    text: bytes


class Lines:
    """The lines of a file, while the block runs."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._number = 0

    def __enter__(self) -> Self:
        self._file = os.fdopen(_open(self._path), "rb")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def take(self, most: int) -> list[Line]:
        """The next lines, fewer if they are long; none at the end.

        Raises:
          CommandRejected: one is too long.
        """
        taken: list[Line] = []
        size = 0
        while len(taken) < most and size < MAX_TAKEN and (text := self._file.readline(MAX_LINE + 1)):
            self._number += 1
            if len(text) > MAX_LINE:
                raise CommandRejected(
                    "data/import",
                    f"line {self._number} has more than {MAX_LINE} bytes",
                    parameter="from_path",
                    remedy="mend the line",
                )
            if text.strip():
                taken.append(Line(self._number, text))
                size += len(text)
        return taken


def counted(path: Path) -> int:
    """How many lines a file has; the last one counts without its end, too."""
    count, last = 0, b"\n"
    with os.fdopen(_open(path), "rb") as file:
        while part := file.read(_PART):
            count += part.count(b"\n")
            last = part[-1:]
    return count + (last != b"\n")


def _open(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise CommandRejected(
        "data/import", f"{path.name!r} is no file", parameter="from_path", remedy="name a file of lines"
    )
