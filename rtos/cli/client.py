"""A client of the control socket, for synchronous programs. Blocks, within its timeout."""

from __future__ import annotations

import json
import socket
from collections import deque
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

SOCKET = "control.sock"
GRACE = 5.0
"""Seconds beyond a request's own timeout that its answer may take to come back."""


class NotRunningError(Exception):
    """Nobody listens there."""


class AnswerError(Exception):
    """The system answered with an error."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error.get("message", "unknown error"))
        self.error = error


class Client:
    """One connection to a running system."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._socket = socket.socket(socket.AF_UNIX)
        self._asked = 0
        self._buffer = b""
        self._events: deque[dict[str, Any]] = deque()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
          NotRunningError: nobody listens.
        """
        try:
            self._socket.connect(str(self._root / SOCKET))
        except OSError:
            self._socket.close()
            raise self._gone() from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def execute(self, command: str, params: dict[str, Any], *, timeout: float) -> Any:
        """Have a command executed, and wait for its result.

        Args:
          command: its name.
          params: its parameters; text is taken for numbers where they are wanted.
          timeout: seconds.

        Raises:
          AnswerError: it failed.
          NotRunningError: the system went away.
        """
        reply = self._ask({"command": command, "params": params, "timeout": timeout}, timeout + GRACE)
        if not reply["ok"]:
            raise AnswerError(reply["error"])
        return reply["result"]

    def subscribe(self, *patterns: str) -> None:
        """Receive events from here on.

        Raises:
          AnswerError: a pattern is no good.
        """
        reply = self._ask({"subscribe": list(patterns)}, GRACE)
        if not reply["ok"]:
            raise AnswerError(reply["error"])

    def events(self, *, timeout: float | None = None) -> Iterator[dict[str, Any]]:
        """Events as they come: ``name``, ``payload``, ``lost``.

        Raises:
          TimeoutError: none came for ``timeout`` seconds.
          NotRunningError: the system went away.
        """
        while True:
            if self._events:
                yield self._events.popleft()
            elif "event" in (message := self._receive(timeout)):
                yield message["event"]

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        self._asked += 1
        try:
            self._socket.settimeout(timeout)
            self._socket.sendall(json.dumps({"id": self._asked, **request}).encode() + b"\n")
        except OSError as error:
            raise self._gone() from error
        while True:
            message = self._receive(timeout)
            if "event" in message:
                # It came before the answer, and is still wanted.
                self._events.append(message["event"])
            elif message.get("id") in (self._asked, None):
                return message

    def _receive(self, timeout: float | None) -> dict[str, Any]:
        self._socket.settimeout(timeout)
        parts = [self._buffer]
        while b"\n" not in parts[-1]:
            try:
                chunk = self._socket.recv(65536)
            except TimeoutError:
                raise
            except OSError as error:
                raise self._gone() from error
            if not chunk:
                raise self._gone()
            parts.append(chunk)
        line, _, self._buffer = b"".join(parts).partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def _gone(self) -> NotRunningError:
        return NotRunningError(
            f"no system is running on {str(self._root)!r};"
            f" start one with `python -m rtos boot --root {self._root}`"
        )
