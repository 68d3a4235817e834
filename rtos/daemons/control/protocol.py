"""The control protocol: one JSON object a line, both ways.

Pure. A request is ``{"id", "command", "params"?, "timeout"?}``, a subscription
``{"id", "subscribe": [patterns]}``, and ``{"id", "cancel": true}`` ends either.
A reply is ``{"id", "ok": true, "result"}`` or ``{"id", "ok": false, "error":
{"type", "message", ...}}``; a subscription is acknowledged by a reply and then
gets ``{"id", "event": {"name", "payload", "lost"}}``, until an error that it
cannot go on after. Whatever comes in, what goes out is a line.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import msgspec

from rtos.errors import CommandRejected, RtosError

MAX_LINE: Final = 12 * 1024 * 1024
"""The longest line, in bytes; the largest document fits in one."""
DEFAULT_TIMEOUT: Final = 30.0


class Request(msgspec.Struct, forbid_unknown_fields=True):
    """What a client asks; exactly one of ``command``, ``subscribe`` and ``cancel`` is set."""

    id: int | str
    command: str | None = None
    params: dict[str, Any] = {}
    timeout: float = DEFAULT_TIMEOUT
    subscribe: list[str] | None = None
    cancel: bool = False


_decoder = msgspec.json.Decoder(Request)


def decode(line: bytes) -> Request:
    """The request in a line.

    Raises:
      CommandRejected: there is none.
    """
    try:
        request = _decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CommandRejected(
            "request", f"the line is no request ({error})", remedy="see the protocol"
        ) from None
    asked = (request.command is not None) + (request.subscribe is not None) + request.cancel
    if asked != 1:
        raise CommandRejected(
            "request", "it asks for no one thing", remedy="give one of command, subscribe and cancel"
        )
    if not 0 < request.timeout < 1e6:
        raise CommandRejected(
            "request", f"timeout is {request.timeout!r}", parameter="timeout", remedy="use seconds above 0"
        )
    return request


def encode_result(id: int | str | None, result: Any) -> bytes:
    """The line for a reply."""
    return msgspec.json.encode({"id": id, "ok": True, "result": result}) + b"\n"


def encode_event(id: int | str, name: str, payload: Any, lost: int) -> bytes:
    """The line for an event."""
    return msgspec.json.encode({"id": id, "event": {"name": name, "payload": payload, "lost": lost}}) + b"\n"


def encode_error(id: int | str | None, error: Exception) -> bytes:
    """The line for a failure. Of an error that is not ours only the kind is told."""
    if isinstance(error, RtosError):
        told: dict[str, Any] = {"type": type(error).__name__, "message": str(error)}
        kind: Any = type(error)
        fields = attrs.fields_dict(kind) if attrs.has(kind) else ()
        values = {name: getattr(error, name) for name in fields}
        told |= {name: value for name, value in values.items() if isinstance(value, str | float | bool)}
    else:
        told = {
            "type": "KernelBug",
            "message": f"internal error ({type(error).__name__}); see the log of the system",
        }
    return msgspec.json.encode({"id": id, "ok": False, "error": told}) + b"\n"
