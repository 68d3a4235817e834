"""What a person sees on a terminal, and what a program reads from a pipe."""

from __future__ import annotations

import json
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.console import Console

USAGE: Final = """\
usage: python -m rtos COMMAND [--name=value ...] [--root=DIR] [--json] [--timeout=SECONDS]

  boot                                    start a system, and keep it running
  check system.toml                       prove that deadlines hold, or say whose do not
  migrate user-directories [--dry-run]    move personas/ to users/
  help [COMMAND]                          show this, or what a command takes
  trace --out=FILE                        write what has just happened, for Perfetto
  memory/learn --user=ID FILE...          let a persona learn text files
  chat/send --wait[=SECONDS] TEXT         say something, and wait for the reply
  chat/history --follow                   show messages as they come
  ping, data/list, chat/send, ...         ask the running system\
"""
LATER: Final = (
    "capabilities",
    "version",
    "created_at",
    "updated_at",
    "last_active_at",
    "sources",
    "expertise",
)
"""Columns that a table leaves out; `--json` shows everything."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
"""What moves a terminal instead of being shown by it; all but tab and the ends of lines."""


def print_error(error: dict[str, Any], *, json: bool) -> None:
    """Say on the error stream what went wrong: one line, or one JSON object."""
    text = _as_json({"error": error}) if json else f"error: {error['message']}"
    print(text, file=sys.stderr, flush=True)


class Output:
    """Shows answers: tables on a terminal, one JSON value a line otherwise."""

    def __init__(self, *, json: bool) -> None:
        self._asked = json
        # Nobody looks at a stream that is closed either.
        self._json = json or sys.stdout is None or not sys.stdout.isatty()

    def result(self, command: str, result: Any) -> None:
        """Show what a command has answered."""
        if self._json:
            print(_as_json(result), flush=True)
        elif isinstance(result, dict) and isinstance(result.get("items"), list):
            self._table(command, result["items"])
            if cursor := result.get("next_cursor"):
                _console().print(f"there are more: add --cursor={_shown(str(cursor))}", markup=False)
        elif isinstance(result, dict):
            self._fields(result)
        else:
            _console().print(_cell(result))

    def message(self, record: dict[str, Any]) -> None:
        """Show one chat message."""
        if self._json:
            print(_as_json(record), flush=True)
            return
        time, name, text = record["created_at"][11:19], _shown(record["sender_name"]), _shown(record["text"])
        _console().print(f"[dim]{time}[/dim] [bold]{name}[/bold]: {text}")

    def error(self, error: dict[str, Any]) -> None:
        """Show what went wrong, on the error stream."""
        print_error(error, json=self._asked)

    def warning(self, text: str) -> None:
        """Say something on the error stream that ends nothing."""
        print(_as_json({"warning": text}) if self._asked else f"warning: {text}", file=sys.stderr, flush=True)

    def usage(self, commands: list[dict[str, Any]], note: str) -> None:
        """Show how the command line is used, and what the running system serves."""
        print(USAGE)
        if commands:
            width = max(len(command["name"]) for command in commands)
            print()
            for command in commands:
                print(f"  {command['name']:{width}}  {command['summary']}")
                if note:
                    for parameter in command["parameters"]:
                        needed = "" if parameter["required"] else ", optional"
                        print(f"  {'':{width}}  --{parameter['name']}  {parameter['type']}{needed}")
        elif note:
            print(f"\n{note}")

    @contextmanager
    def progress(self, what: str, total: int) -> Iterator[Callable[[str], None]]:
        """Show how far something is; call what it gives with each step's name."""
        if self._json:
            yield lambda _: None
            return
        from rich.progress import Progress

        with Progress(transient=True) as bar:
            task = bar.add_task(what, total=total)
            yield lambda name: bar.update(task, advance=1, description=f"{what} {_shown(name)}")

    def _table(self, command: str, items: list[dict[str, Any]]) -> None:
        if command == "chat/history":
            for record in items:
                self.message(record)
            return
        from rich.table import Table

        names = [name for name in dict.fromkeys(name for item in items for name in item) if name not in LATER]
        table = Table(*names, title=None, caption=f"{len(items)} found", caption_justify="left")
        for item in items:
            table.add_row(*(_cell(item.get(name)) for name in names))
        _console().print(table)

    def _fields(self, result: dict[str, Any]) -> None:
        from rich.table import Table

        table = Table(show_header=False)
        for name, value in result.items():
            table.add_row(_shown(name), _cell(value))
        _console().print(table)


def _as_json(value: Any) -> str:
    # A terminal that knows few characters would fail on the others; JSON can spell them.
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return json.dumps(value, ensure_ascii=encoding not in ("utf-8", "utf8"))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return _shown(text if len(text) <= 400 else text[:399] + "…")


def _shown(text: str) -> str:
    """What others have written, without power over the terminal or the layout."""
    from rich.markup import escape

    return escape(_CONTROL.sub("�", text))


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)
