"""A client of the control socket, for synchronous programs. Blocks, within its timeout."""

from __future__ import annotations

import json
import math
import shlex
import socket
from collections import deque
from contextlib import suppress
from time import monotonic
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
        self._buffer = bytearray()
        self._events: deque[dict[str, Any]] = deque()
        self._subscribed: set[int] = set()

    def __enter__(self) -> Self:
        """Connect.

        Raises:
          NotRunningError: nobody listens, or only for somebody else.
        """
        try:
            # Without a time limit: with one, a queue that is full for an instant refuses at once.
            self._socket.connect(str(self._root / SOCKET))
        except PermissionError:
            self._socket.close()
            raise NotRunningError(
                f"the system on {str(self._root)!r} belongs to another user; ask as that user"
            ) from None
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
          TimeoutError: no answer came.
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
        self._subscribed.add(self._asked)

    def events(self, *, timeout: float = math.inf) -> Iterator[dict[str, Any]]:
        """Events as they come: ``name``, ``payload``, ``lost``.

        Args:
          timeout: seconds that all of them together may take.

        Raises:
          AnswerError: the subscription cannot go on.
          TimeoutError: the time is up.
          NotRunningError: the system went away.
        """
        until = monotonic() + timeout
        while True:
            if self._events:
                yield self._events.popleft()
            elif "event" in (message := self._receive(until)):
                yield message["event"]

    def _ask(self, request: dict[str, Any], timeout: float) -> dict[str, Any]:
        self._asked += 1
        until = monotonic() + timeout
        self._socket.settimeout(timeout)
        # Whoever does not want to hear it to its end may have said why before hanging up.
        with suppress(ConnectionError):
            self._socket.sendall(json.dumps({"id": self._asked, **request}).encode() + b"\n")
        while True:
            message = self._receive(until)
            if "event" in message:
                # It came before the answer, and is still wanted.
                self._events.append(message["event"])
            elif message.get("id") in (self._asked, None):
                return message

    def _receive(self, until: float) -> dict[str, Any]:
        # What has come stays in the buffer when the time is up, so that the rest of
        # a line is never taken for one.
        searched = 0
        while (end := self._buffer.find(b"\n", searched)) < 0:
            searched = len(self._buffer)
            self._buffer += self._chunk(until)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        message: dict[str, Any] = json.loads(line)
        if "error" in message and message.get("id") in self._subscribed:
            raise AnswerError(message["error"])
        return message

    def _chunk(self, until: float) -> bytes:
        left = until - monotonic()
        if left <= 0:
            raise TimeoutError
        self._socket.settimeout(None if left == math.inf else left)
        try:
            chunk = self._socket.recv(65536)
        except ConnectionError as error:
            raise self._gone() from error
        if not chunk:
            raise self._gone()
        return chunk

    def _gone(self) -> NotRunningError:
        return NotRunningError(
            f"no system is running on {str(self._root)!r};"
            f" start one with `python -m rtos boot --root {shlex.quote(str(self._root))}`"
        )
