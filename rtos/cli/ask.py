"""Asking a running system: any command by its name, and a few that do more than one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rtos.cli.arguments import UsageError
from rtos.cli.client import AnswerError, Client, NotRunningError
from rtos.cli.exit_codes import FAILED, NOT_RUNNING, OK, WRONG
from rtos.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
    "daemon/park": ("name",),
    "daemon/unpark": ("name",),
}
"""Which parameters may be given without their names, in order."""
HERE: Final = frozenset({"boot", "check", "help", "migrate", "trace"})
"""What the command line does itself; no daemon knows of it."""
MESSAGES: Final = "data:chat_messages:created"
REPLY_TIMEOUT: Final = 60.0
"""Seconds that a reply may take, unless it is said."""
MAX_WAIT: Final = 1e6
_WRONG: Final = frozenset({"CommandRejected", "UnknownCommand", "CallCycle", "ConfigurationError"})


class NoReplyError(Exception):
    """It was said, and nobody has replied."""


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
    except NoReplyError as error:
        output.error({"type": "NoReply", "message": str(error)})
        return FAILED
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
    if invocation.words and invocation.words[0] in HERE:
        output.usage([], "")
        return
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
    # Looked at before anything is said that could not be unsaid.
    wait = _seconds(parameters.pop("wait", 0))
    with Client(invocation.root) as client:
        if wait:
            client.subscribe(MESSAGES)
        message = client.execute("chat/send", parameters, timeout=invocation.timeout)
        output.message(message)
        if wait:
            output.message(_reply(client, output, message["id"], wait))


def _reply(client: Client, output: Output, id: str, wait: float) -> dict[str, Any]:
    try:
        return next(record for record in _messages(client, output, wait) if id in _answered_by(record))
    except TimeoutError:
        raise NoReplyError(
            f"chat/send: it was said, and nobody replied within {wait:g} s; allow more with --wait=SECONDS"
        ) from None


def _answered_by(record: dict[str, Any]) -> tuple[str, ...]:
    return (record["reply_to"], *record.get("covers", ()))


def _messages(client: Client, output: Output, timeout: float = math.inf) -> Iterator[dict[str, Any]]:
    for event in client.events(timeout=timeout):
        # A note that a message was answered together with a later one was said by nobody.
        if not event["payload"]["record"].get("answered_in"):
            yield event["payload"]["record"]
        if event["lost"]:
            output.warning(f"{event['lost']} messages came too fast to be told; `rtos chat/history` has them")


def _seconds(value: Any) -> float:
    if value is True:
        return REPLY_TIMEOUT
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = -1.0
    # No number at all compares as false.
    if not 0 <= seconds < MAX_WAIT:
        raise UsageError(f"--wait is {value!r}; use a number of seconds, or nothing")
    return seconds


def _history(invocation: Invocation, output: Output) -> None:
    parameters = _parameters(invocation)
    follow = parameters.pop("follow", False)
    with Client(invocation.root) as client:
        if follow:
            # Before the history, so that nothing falls in between; what is in
            # both is shown once.
            client.subscribe(MESSAGES)
        history = client.execute("chat/history", parameters, timeout=invocation.timeout)
        if not follow:
            output.result("chat/history", history)
            return
        shown = {record["id"] for record in history["items"]}
        for record in history["items"]:
            output.message(record)
        for record in _messages(client, output):
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
