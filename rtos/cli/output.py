"""What a person sees on a terminal, and what a program reads from a pipe."""

from __future__ import annotations

import json
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


class Output:
    """Shows answers: tables on a terminal, one JSON value a line otherwise."""

    def __init__(self, *, json: bool) -> None:
        self._json = json or not sys.stdout.isatty()

    def result(self, command: str, result: Any) -> None:
        """Show what a command has answered."""
        if self._json:
            print(json.dumps(result, ensure_ascii=False), flush=True)
        elif isinstance(result, dict) and isinstance(result.get("items"), list):
            self._table(command, result["items"])
        elif isinstance(result, dict):
            self._fields(result)
        else:
            _console().print(result)

    def message(self, record: dict[str, Any]) -> None:
        """Show one chat message."""
        if self._json:
            print(json.dumps(record, ensure_ascii=False), flush=True)
            return
        from rich.markup import escape

        time = record["created_at"][11:19]
        _console().print(
            f"[dim]{time}[/dim] [bold]{escape(record['sender_name'])}[/bold]: {escape(record['text'])}"
        )

    def error(self, error: dict[str, Any]) -> None:
        """Show what went wrong, on the error stream."""
        text = (
            json.dumps({"error": error})
            if self._json and "--json" in sys.argv
            else f"error: {error['message']}"
        )
        print(text, file=sys.stderr, flush=True)

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
            yield lambda name: bar.update(task, advance=1, description=f"{what} {name}")

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
            table.add_row(name, _cell(value))
        _console().print(table)


def _cell(value: Any) -> str:
    from rich.markup import escape

    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return escape(text if len(text) <= 400 else text[:399] + "…")


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)
