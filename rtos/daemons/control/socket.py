"""The listening socket: owner-only from its first instant, and never in the way of the next boot.

It is bound in a folder that only the owner can enter, so nobody else can connect
between its making and its protection.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_PATH: Final = 107
"""Bytes that the kernel allows in the name of a Unix socket."""


def check_path(path: Path) -> None:
    """Refuse a path that no socket can have; for before anything else has been made.

    Raises:
      ConfigurationError: it is too long.
    """
    if len(bytes(path)) > MAX_PATH:
        raise ConfigurationError(
            f"the control socket {str(path)!r} has a name of more than {MAX_PATH} bytes",
            "boot on a folder with a shorter path",
        )


async def listen(path: Path) -> trio.SocketListener:
    """Listen at ``path``; a file that a dead process left there is replaced.

    Raises:
      ConfigurationError: the path is too long, or the folder cannot be used.
    """
    check_path(path)
    listener = trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM)
    try:
        _make_way(path)
        await listener.bind(str(path))
        _protect(path)
        listener.listen(64)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"the control socket {str(path)!r} cannot be made ({error.strerror})",
            "mend the permissions of the folder, or boot on another one",
        ) from error
    return trio.SocketListener(listener)


def _make_way(path: Path) -> None:
    path.parent.chmod(0o700)
    path.unlink(missing_ok=True)


def _protect(path: Path) -> None:
    path.chmod(0o600)


@contextmanager
def removed_after(path: Path) -> Iterator[None]:
    """Remove the socket's file when the block ends."""
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
