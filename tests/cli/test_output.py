from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from typing import Any

import pytest

from rtos.cli.output import Output

MESSAGE = {"created_at": "2026-11-23T10:00:00.000000Z", "sender_name": "A [b]", "text": "hello"}


class Terminal(io.StringIO):
    """A stream that people look at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def open_terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Terminal]:
    for name in ("FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "dumb")

    def put_in_place() -> Terminal:
        # While the test runs: what a fixture puts there is replaced again before it begins.
        stream = Terminal()
        monkeypatch.setattr(sys, "stdout", stream)
        return stream

    return put_in_place


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hello", "hello"),
        ("[bold]not bold[/bold] [/nothing]", "[bold]not bold[/bold] [/nothing]"),
        ("one\ntwo\tthree", "one\ntwo\tthree"),
        ("one\r\ntwo", "one\ntwo"),
        (
            "\x1b]0;title\x07\x1b[2J",
            "\N{REPLACEMENT CHARACTER}]0;title" + "\N{REPLACEMENT CHARACTER}" * 2 + "[2J",
        ),
        ("\x9b2J", "\N{REPLACEMENT CHARACTER}2J"),
        ("h\xe9 \U0001f6a8", "h\xe9 \U0001f6a8"),
    ],
)
def test_what_others_have_written_has_no_power_over_the_terminal(
    text: str, shown: str, open_terminal: Callable[[], Terminal]
) -> None:
    terminal = open_terminal()
    Output(json=False).message(MESSAGE | {"text": text})
    expected = f"10:00:00 A [b]: {shown}\n".replace("\t", " ")
    assert " ".join(terminal.getvalue().split()) == " ".join(expected.split())
    for value in ({"a": text, "[/b]": [text]}, {"items": [{"a": text}]}, text):
        terminal.seek(0)
        Output(json=False).result("x/y", value)
    for sign in "\x1b\x07\x9b":
        assert sign not in terminal.getvalue()


def test_progress_takes_any_file_name(open_terminal: Callable[[], Terminal]) -> None:
    open_terminal()
    with Output(json=False).progress("learning", 1) as advance:
        advance("[/x].txt")


@pytest.mark.parametrize("value", [None, True, 5, "text", [], {}, {"items": []}, {"items": [{"a": None}]}])
def test_any_answer_can_be_shown(value: Any, open_terminal: Callable[[], Terminal]) -> None:
    terminal = open_terminal()
    Output(json=False).result("x/y", value)
    Output(json=True).result("x/y", value)
    assert json.loads(terminal.getvalue().splitlines()[-1]) == value


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_json_can_be_read_back_whatever_the_terminal_knows(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding))
    Output(json=False).result("x/y", {"text": "\xe9\u2026\U0001f6a8"})
    assert json.loads(raw.getvalue().decode(encoding)) == {"text": "\xe9\u2026\U0001f6a8"}


def test_a_closed_output_is_nobody_who_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    Output(json=False).result("x/y", {"a": 1})


def test_that_there_are_more_is_said_with_where_to_go_on(open_terminal: Callable[[], Terminal]) -> None:
    terminal = open_terminal()
    Output(json=False).result("data/list", {"items": [{"id": "a"}], "count": 1, "next_cursor": "W[1]_-"})
    assert terminal.getvalue().endswith("1 found\nthere are more: add --cursor=W[1]_-\n")
    terminal = open_terminal()
    Output(json=False).result("data/list", {"items": [{"id": "a"}], "count": 1, "next_cursor": None})
    assert "more" not in terminal.getvalue()
