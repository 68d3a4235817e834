"""Asking a running system: any command by its name, and a few that do more than one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rtos.cli import FAILED, NOT_RUNNING, OK, WRONG
from rtos.cli.arguments import UsageError
from rtos.cli.client import AnswerError, Client, NotRunningError
from rtos.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.cli.arguments import Invocation

WORDS: Final[dict[str, tuple[str, ...]]] = {
    "chat/send": ("text",),
    "data/read": ("key",),
    "memory/recall": ("query",),
    "user/get": ("id",),
    "user/delete": ("id",),
    "system/commands": ("name",),
    "daemon/suspend": ("daemon",),
    "daemon/resume": ("daemon",),
}
"""Which parameters may be given without their names, in order."""
REPLY_TIMEOUT: Final = 60.0
_WRONG: Final = frozenset({"CommandRejected", "UnknownCommand", "CallCycle", "ConfigurationError"})


def ask(invocation: Invocation) -> int:
    """Ask what the invocation asks, and show the answer; returns the exit code."""
    output = Output(json=invocation.json)
    try:
        SPECIAL.get(invocation.command, _execute)(invocation, output)
    except AnswerError as error:
        output.error(error.error)
        return WRONG if error.error.get("type") in _WRONG else FAILED
    except UsageError as error:
        output.error({"type": "UsageError", "message": str(error)})
        return WRONG
    except NotRunningError as error:
        output.error({"type": "NotRunning", "message": str(error)})
        return NOT_RUNNING
    except TimeoutError:
        output.error({"type": "Timeout", "message": "no answer in time; allow more with --timeout=SECONDS"})
        return FAILED
    return OK


def _execute(invocation: Invocation, output: Output) -> None:
    with Client(invocation.root) as client:
        result = client.execute(invocation.command, _parameters(invocation), timeout=invocation.timeout)
    output.result(invocation.command, result)


def _parameters(invocation: Invocation) -> dict[str, Any]:
    names = WORDS.get(invocation.command, ())
    if len(invocation.words) > len(names):
        extra = invocation.words[len(names)]
        raise UsageError(f"{invocation.command}: what is {extra!r}; name it, as in --name={extra}")
    parameters = dict(zip(names, invocation.words, strict=False)) | invocation.options
    if invocation.command.startswith("chat/"):
        parameters.setdefault("room", "general")
    return parameters


def _help(invocation: Invocation, output: Output) -> None:
    name = {"name": invocation.words[0]} if invocation.words else {}
    try:
        with Client(invocation.root) as client:
            known = client.execute("system/commands", name, timeout=invocation.timeout)["items"]
    except NotRunningError as error:
        output.usage([], str(error))
        return
    output.usage(known, "" if not name else invocation.words[0])


def _learn(invocation: Invocation, output: Output) -> None:
    user = invocation.options.get("user")
    if not user or not invocation.words or set(invocation.options) != {"user"}:
        raise UsageError("memory/learn takes a user and files; write memory/learn --user=ID FILE...")
    # All files are read before the first is sent, so that a typo learns nothing.
    documents = [_document(word) for word in invocation.words]
    learned = known = 0
    with Client(invocation.root) as client, output.progress("learning", len(documents)) as advance:
        for name, text in documents:
            params = {"user": user, "name": name, "text": text}
            result = client.execute("memory/learn", params, timeout=invocation.timeout)
            learned += result["learned"]
            known += result["known"]
            advance(name)
    output.result("memory/learn", {"documents": len(documents), "learned": learned, "known": known})


def _document(word: str) -> tuple[str, str]:
    path = Path(word)
    try:
        return path.name, path.read_bytes().decode("utf-8")
    except OSError as error:
        raise UsageError(
            f"memory/learn: {word!r} cannot be read ({error.strerror}); nothing was learned"
        ) from None
    except UnicodeDecodeError:
        raise UsageError(
            f"memory/learn: {word!r} is no text in UTF-8; convert it first, nothing was learned"
        ) from None


def _send(invocation: Invocation, output: Output) -> None:
    parameters = _parameters(invocation)
    wait = parameters.pop("wait", False)
    with Client(invocation.root) as client:
        if wait:
            client.subscribe("data:chat_messages:created")
        message = client.execute("chat/send", parameters, timeout=invocation.timeout)
        output.message(message)
        if wait:
            output.message(_reply(client, message["id"], REPLY_TIMEOUT if wait is True else _seconds(wait)))


def _reply(client: Client, id: str, timeout: float) -> dict[str, Any]:
    for event in client.events(timeout=timeout):
        record: dict[str, Any] = event["payload"]["record"]
        if record["reply_to"] == id:
            return record
    raise TimeoutError


def _seconds(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise UsageError(f"--wait is {value!r}; use a number of seconds, or nothing") from None


def _history(invocation: Invocation, output: Output) -> None:
    parameters = _parameters(invocation)
    follow = parameters.pop("follow", False)
    with Client(invocation.root) as client:
        if follow:
            # Before the history, so that nothing falls in between; what is in
            # both is shown once.
            client.subscribe("data:chat_messages:created")
        history = client.execute("chat/history", parameters, timeout=invocation.timeout)
        if not follow:
            output.result("chat/history", history)
            return
        shown = {record["id"] for record in history["items"]}
        for record in history["items"]:
            output.message(record)
        for event in client.events():
            record = event["payload"]["record"]
            if record["room_id"] == parameters["room"] and record["id"] not in shown:
                output.message(record)


def _trace(invocation: Invocation, output: Output) -> None:
    parameters = dict(invocation.options)
    out = parameters.pop("out", None)
    if not out or invocation.words:
        raise UsageError("trace needs a file to write; write trace --out=trace.json")
    with Client(invocation.root) as client:
        trace = client.execute("system/trace", parameters, timeout=invocation.timeout)
    try:
        Path(out).write_text(json.dumps(trace))
    except OSError as error:
        raise UsageError(f"trace: {out!r} cannot be written ({error.strerror}); name another file") from None
    events = len(trace["traceEvents"])
    output.result("trace", {"file": out, "events": events, "open": "https://ui.perfetto.dev"})


SPECIAL: Final[dict[str, Callable[[Invocation, Output], None]]] = {
    "help": _help,
    "memory/learn": _learn,
    "trace": _trace,
    "chat/send": _send,
    "chat/history": _history,
}
