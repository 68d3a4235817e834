"""One system per root folder.

The lock is the kernel's, on an open file, so it is gone with the process that
held it, however that ended; the pid in the file is only there to be named.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from rtos.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NAME: Final = "rtos.lock"


class RootLock:
    """The lock of a root folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Hold the lock while the block runs; the folder is made, owner-only, if it is missing.

        Raises:
          ConfigurationError: another process holds it, or the folder cannot be used.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
            fd = os.open(self._root / NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"the root folder {str(self._root)!r} cannot be used ({error.strerror})",
                "give another one with --root, or mend its permissions",
            ) from error
        try:
            self._take(fd)
            yield
        finally:
            os.close(fd)

    def _take(self, fd: int) -> None:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            raise ConfigurationError(
                f"a system is running on {str(self._root)!r} already, as process {holder}",
                "stop it first, or boot on another folder with --root",
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
