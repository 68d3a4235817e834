from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.cli.arguments import Invocation, UsageError, parse


@pytest.fixture(autouse=True)
def _no_root_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTOS_ROOT", raising=False)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ([], Invocation("help")),
        (["-h"], Invocation("help")),
        (["--help"], Invocation("help")),
        (["--version"], Invocation("version")),
        (["ping", "--help"], Invocation("help", ("ping",))),
        (["data/list", "--collection=users"], Invocation("data/list", (), {"collection": "users"})),
        (["data/list", "--collection", "users"], Invocation("data/list", (), {"collection": "users"})),
        (["data/list", '--filter={"a":[1]}'], Invocation("data/list", (), {"filter": {"a": [1]}})),
        (["room/create", '--members=["a","b"]'], Invocation("room/create", (), {"members": ["a", "b"]})),
        (["user/create", "--name=A=B"], Invocation("user/create", (), {"name": "A=B"})),
        (["user/create", "--name="], Invocation("user/create", (), {"name": ""})),
        (["chat/send", "hello world"], Invocation("chat/send", ("hello world",))),
        (["chat/send", "--", "--json"], Invocation("chat/send", ("--json",))),
        (["chat/history", "--follow"], Invocation("chat/history", (), {"follow": True})),
        (["chat/send", "--wait", "hi"], Invocation("chat/send", ("hi",), {"wait": True})),
        (["chat/send", "--wait=5", "hi"], Invocation("chat/send", ("hi",), {"wait": "5"})),
        (["chat/send", "--reply-to=x"], Invocation("chat/send", (), {"reply_to": "x"})),
        (["ping", "--root=/a", "--json"], Invocation("ping", root=Path("/a"), json=True)),
        (["ping", "--timeout=2.5"], Invocation("ping", timeout=2.5)),
        (
            ["migrate", "user-directories", "--dry-run"],
            Invocation("migrate", ("user-directories",), {"dry_run": True}),
        ),
    ],
)
def test_a_line_means(line: list[str], expected: Invocation) -> None:
    assert parse(line) == expected


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (["data/list", "--collection"], "--collection lacks a value; write --collection=VALUE"),
        (["data/list", "--collection", "--json"], "--collection lacks a value"),
        (["a", "--x=1", "--x=2"], "--x is given twice"),
        (["a", "--x={"], "--x is no JSON"),
        (["a", "--timeout=-1"], "--timeout is '-1'"),
        (["a", "--timeout=nan"], "--timeout is 'nan'"),
    ],
)
def test_a_line_that_means_nothing_is_refused(line: list[str], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        parse(line)


def test_the_root_comes_from_the_option_the_environment_or_the_default(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parse(["ping"]).root == Path(".continuum")
    monkeypatch.setenv("RTOS_ROOT", "/b")
    assert parse(["ping"]).root == Path("/b")
    assert parse(["ping", "--root=/a"]).root == Path("/a")


@given(st.lists(st.text()))
def test_any_words_are_parsed_or_refused(words: list[str]) -> None:
    try:
        assert parse(words).command is not None
    except UsageError as error:
        assert "; " in str(error)
