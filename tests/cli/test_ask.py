from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest
import trio
from talking import Chat, scripted, system

from rtos.cli.main import main


async def _main(root: Path, *words: str) -> int:
    return await trio.to_thread.run_sync(main, [*words, f"--root={root}"])


@pytest.mark.parametrize("wait", ["soon", "-1", "nan", "inf", "1e300", "[1]"])
async def test_a_wait_that_is_no_time_is_refused_before_anything_is_said(
    wait: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat()
    async with system(tmp_path, chat):
        assert await _main(tmp_path, "chat/send", f"--wait={wait}", "hello") == 2
    assert chat.said == []
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: --wait is ")
    assert shown.err.endswith("; use a number of seconds, or nothing\n")


@pytest.mark.parametrize("flag", ["--wait", "--wait=30"])
async def test_waiting_shows_the_reply_to_this_message_and_no_other(
    flag: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with system(tmp_path, Chat()):
        assert await _main(tmp_path, "chat/send", flag, "hello") == 0
    shown = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["hello", "re: hello"]


async def test_no_reply_is_told_apart_from_not_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat(replies=False)
    async with system(tmp_path, chat):
        assert await _main(tmp_path, "chat/send", "--wait=0.01", "hello") == 1
    assert len(chat.said) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out)["text"] == "hello"
    assert "it was said, and nobody replied within 0.01 s; allow more with --wait=SECONDS" in shown.err


async def test_following_shows_what_is_in_the_history_and_in_the_events_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = Chat()
    stop = trio.Event()

    async def follow() -> None:
        # Ends when the system does.
        assert await _main(tmp_path, "chat/history", "--room=a", "--follow") == 3
        stop.set()

    async with trio.open_nursery() as nursery:
        async with system(tmp_path, chat):
            nursery.start_soon(follow)
            while len(chat.said) < 2:  # noqa: ASYNC110 - until it has asked for the history
                await trio.sleep(0.001)
            await _main(tmp_path, "chat/send", "--room=a", "--wait", "more")
        await stop.wait()
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    ids = [record["id"] for record in shown if record["text"] == "in both"]
    assert len(ids) == 1
    assert {record["room_id"] for record in shown} == {"a"}
    assert "re: more" in {record["text"] for record in shown}


def test_messages_that_were_lost_are_told_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def lag(peer: socket.socket) -> None:
        peer.recv(1000)
        peer.sendall(b'{"id": 1, "ok": true, "result": {}}\n')
        peer.recv(1000)
        peer.sendall(b'{"id": 2, "ok": true, "result": {"items": [], "count": 0}}\n')
        record = {"id": "m", "room_id": "general", "text": "hello"}
        event = {"name": "data:chat_messages:created", "payload": {"record": record}, "lost": 3}
        peer.sendall(json.dumps({"id": 1, "event": event}).encode() + b"\n")

    with scripted(tmp_path, lag):
        assert main(["chat/history", "--follow", f"--root={tmp_path}"]) == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["text"] == "hello"
    assert "warning: 3 messages came too fast to be told; `rtos chat/history` has them\n" in shown.err


def test_a_reply_to_several_is_the_reply_to_each_and_a_note_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    note = {"id": "n", "room_id": "general", "text": "a note", "reply_to": "m", "answered_in": "r"}
    reply = {"id": "r", "room_id": "general", "text": "to both", "reply_to": "later", "covers": ["m"]}

    def answer(peer: socket.socket) -> None:
        for number, result in enumerate(({}, {"id": "m", "text": "hello"}), 1):
            peer.recv(1000)
            peer.sendall(json.dumps({"id": number, "ok": True, "result": result}).encode() + b"\n")
        for record in (note, reply):
            event = {"name": "data:chat_messages:created", "payload": {"record": record}, "lost": 0}
            peer.sendall(json.dumps({"id": 1, "event": event}).encode() + b"\n")

    with scripted(tmp_path, answer):
        assert main(["chat/send", "--room=general", "--wait", "hello", f"--root={tmp_path}"]) == 0
    shown = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert shown == ["hello", "to both"]


async def test_all_files_are_read_before_the_first_is_sent(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, binary = tmp_path / "good.txt", tmp_path / "bad.bin"
    good.write_text("text")
    binary.write_bytes(b"\xff")
    chat = Chat()
    async with system(tmp_path, chat):
        for bad, text in (
            (binary, "is no text in UTF-8"),
            (tmp_path / "none", "cannot be read"),
            (tmp_path, "cannot"),
        ):
            assert await _main(tmp_path, "memory/learn", "--user=a", str(good), str(bad)) == 2
            assert text in capsys.readouterr().err
        assert chat.learned == []
        assert await _main(tmp_path, "memory/learn", "--user=a", str(good), str(good)) == 0
    assert chat.learned == ["good.txt", "good.txt"]
    assert json.loads(capsys.readouterr().out) == {"documents": 2, "learned": 2, "known": 0}


async def test_a_document_that_is_too_large_is_refused_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rtos.daemons.control.daemon.MAX_LINE", 100_000)
    large = tmp_path / "large.txt"
    large.write_text("x" * 5_000_000)
    chat = Chat()
    async with system(tmp_path, chat):
        assert await _main(tmp_path, "memory/learn", "--user=a", str(large)) == 2
    assert "a line has more than 100000 bytes; send less at once" in capsys.readouterr().err
    assert chat.learned == []


@pytest.mark.parametrize("command", ["boot", "check", "help", "migrate", "trace"])
@pytest.mark.parametrize("form", ["help {}", "{} --help"])
async def test_help_knows_what_the_command_line_does_itself(
    form: str, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with system(tmp_path, Chat()):
        assert await _main(tmp_path, *form.format(command).split()) == 0
    shown = capsys.readouterr()
    assert command in shown.out
    assert shown.err == ""


async def test_errors_come_as_json_when_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with system(tmp_path, Chat()):
        assert await _main(tmp_path, "chat/send", "--json") == 2
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["type"], error["command"]) == ("CommandRejected", "chat/send")
    for words, type_ in (
        (["ping"], "NotRunning"),
        (["ping", "--timeout=x"], "UsageError"),
        (["boot", "--colour=red"], "UsageError"),
        (["migrate"], "UsageError"),
        (["check"], "ConfigurationError"),
    ):
        assert main([*words, "--json", f"--root={tmp_path / 'none'}"]) in (2, 3)
        assert json.loads(capsys.readouterr().err)["error"]["type"] == type_
