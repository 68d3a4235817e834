"""What a command line means. Pure: words in, an invocation out.

``rtos [options] COMMAND [--name=value | --name value | --flag] [words]``. A value
that begins with ``{`` or ``[`` is JSON; everything else is text, and the daemon
that takes it decides what it is.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE: Final = "`python -m rtos help` shows how"
FLAGS: Final = frozenset({"json", "follow", "dry-run", "wait", "version", "help", "strict", "unordered"})
"""Options that may stand without a value."""
LOCAL: Final = frozenset({"root", "json", "timeout"})
"""Options of the command line itself; all others are the command's parameters."""


class UsageError(Exception):
    """The words make no command line."""


@attrs.frozen
class Invocation:
    """One command line.

    Attributes:
      command: its name.
      words: what stands beside the options.
      options: the command's parameters by name.
      root: of the system that is meant.
      json: whether output is for machines, when that was said.
      timeout: seconds that an answer may take.
    """

    command: str
    words: tuple[str, ...] = ()
    options: dict[str, Any] = attrs.field(factory=dict)
    root: Path = Path(".continuum")
    json: bool = False
    timeout: float = 30.0


def parse(argv: Sequence[str]) -> Invocation:
    """The invocation that the words stand for.

    Raises:
      UsageError: they stand for none.
    """
    words: list[str] = []
    options: dict[str, Any] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if word == "--":
            words += rest
            break
        if word.startswith("--") and len(word) > 2:
            _take_option(word[2:], rest, options)
        else:
            words.append({"-h": "help", "-V": "version"}.get(word, word))
    for flag in ("version", "help"):
        if options.pop(flag, False):
            words = [flag, *words]
    command = words.pop(0) if words else "help"
    return Invocation(
        command,
        tuple(words),
        {name.replace("-", "_"): value for name, value in options.items() if name not in LOCAL},
        root=Path(options.get("root") or os.environ.get("RTOS_ROOT") or ".continuum"),
        json=bool(options.get("json", False)),
        timeout=_seconds(options.get("timeout", "30")),
    )


def _take_option(text: str, rest: list[str], options: dict[str, Any]) -> None:
    name, equals, value = text.partition("=")
    if name in options:
        raise UsageError(f"--{name} is given twice; {USAGE}")
    if equals:
        options[name] = _value(name, value)
    elif name in FLAGS:
        options[name] = True
    elif not rest or rest[0].startswith("--"):
        raise UsageError(f"--{name} lacks a value; write --{name}=VALUE")
    else:
        options[name] = _value(name, rest.pop(0))


def _value(name: str, text: str) -> Any:
    if text[:1] not in ("{", "["):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(
            f"--{name} is no JSON ({error}); quote it for the shell, as in '{{\"a\": 1}}'"
        ) from None


def _seconds(value: Any) -> float:
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise UsageError(f"--timeout is {value!r}; use a number of seconds above 0")
    return seconds
