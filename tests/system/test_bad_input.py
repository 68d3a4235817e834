"""Bad input gets one clear error with what to do, an exit code, and changes nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from process import ask, booted, rtos

from rtos.cli.main import main

pytestmark = pytest.mark.process

WRONG = [
    # words, part of the error
    (["nonsense"], "nonsense: no daemon serves this command; `rtos help` lists"),
    (["data/lst"], "did you mean data/list"),
    (["data/list"], "parameter 'collection': lacks the parameter"),
    (["data/list", "--collection=users", "--limit=many"], "parameter 'limit': expected `int`"),
    (["data/list", "--collection=users", "--limit=0"], "limit is 0; use 1 to 500"),
    (["data/list", "--collection=users", "--colour=red"], "does not take a parameter `colour`"),
    (
        ["data/list", "--collection=cats"],
        "there is no collection 'cats'; there are archived_memories, chat_messages",
    ),
    (["data/list", "--collection=users", '--filter={"type":{"$like":"p"}}'], "there is no operator '$like'"),
    (["data/list", "--collection=users", '--filter={"a b":1}'], "'a b' is no field"),
    (["data/list", "--collection=users", "--filter={type"], "--filter is no JSON"),
    (["data/list", "--collection=users", '--sort=["; DROP TABLE"]'], "is no field"),
    (["user/create", "--type=persona", "--name=X", "--id=../x"], "'../x' is not a user id"),
    (["data/read", "--key=a", "--user_id=../x"], "'../x' is not a user id"),
    (["data/store", "--key=a", "--value=b", "--user_id=../../etc/x"], "is not a user id"),
    (["user/create", "--type=robot", "--name=X"], "parameter 'type'"),
    (["user/create", "--type=persona", "--name=Helper AI"], "there is a user 'helper-ai' already"),
    (["user/get", "nobody"], "there is no user 'nobody'; `rtos user/list` shows"),
    (["chat/send", "--room=cellar", "hello"], "there is no 'cellar'; `rtos room/list` shows"),
    (["chat/send", "--sender=nobody", "hello"], "there is no 'nobody'"),
    (["chat/send", ""], "the text has 0 bytes"),
    (["chat/send", "one", "two"], "what is 'two'"),
    (["chat/send", "x" * 16385], "the text has 16385 bytes; 1 to 16384 are allowed"),
    (["data/create", "--collection=users", '--data={"type":"human"}'], "display_name"),
    (
        ["data/create", "--collection=users", '--data={"type":"human","display_name":"A","x":1}'],
        "no field 'x'",
    ),
    (["data/create", "--collection=users", '--data={"id":"a"}'], "field 'id' is the store's own"),
    (["memory/learn", "--user=helper-ai", "no-such-file"], "'no-such-file' cannot be read"),
    (["memory/learn", "--user=helper-ai"], "takes a user and files"),
    (["memory/learn", "--user=nobody", __file__], "there is no user 'nobody'"),
    (["ping", "--timeout=soon"], "--timeout is 'soon'"),
    (["daemon/suspend", "health"], "health could not be asked to resume"),
    (["daemon/park", "control"], "control could not be asked to unpark"),
    (["daemon/unpark", "chat"], "'chat' is not parked"),
    (["migrate", "user-directories"], "a system is running on"),
    (["boot"], "a system is running on"),
    (["boot", "--colour=red"], "boot does not take '--colour'"),
]


def test_each_mistake_gets_one_clear_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with booted(tmp_path) as system:
        before = ask(tmp_path, "data/list", "--collection=users"), ask(tmp_path, "chat/history")
        for words, expected in WRONG:
            # In this process: one for each of them would take longer than all the rest.
            assert main([*words, f"--root={tmp_path}"]) == 2, words
            said, error = capsys.readouterr()
            assert said == "", words
            assert error.count("\n") == 1, (words, error)
            assert error.startswith("error: "), words
            assert expected in error, (words, error)
            assert "; " in error, words
        assert before == (ask(tmp_path, "data/list", "--collection=users"), ask(tmp_path, "chat/history"))
        assert system.stop() == 0
        assert system.errors == ""


def test_a_second_boot_names_the_process_of_the_first(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        done = rtos(tmp_path, "boot")
        assert f"as process {system.process.pid};" in done.stderr
        assert ask(tmp_path, "ping")["pid"] == system.process.pid


def test_without_a_running_system_the_command_line_says_how_to_start_one(tmp_path: Path) -> None:
    done = rtos(tmp_path, "ping")
    assert done.returncode == 3
    assert done.stderr == (
        f"error: no system is running on {str(tmp_path)!r};"
        f" start one with `python -m rtos boot --root {tmp_path}`\n"
    )


def test_binary_files_are_not_learned_and_neither_are_those_beside_them(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.txt", tmp_path / "bad.bin"
    good.write_text("the cellar key hangs behind the clock")
    bad.write_bytes(os.urandom(64) + b"\xff\xfe")
    root = tmp_path / "root"
    with booted(root):
        done = rtos(root, "memory/learn", "--user=helper-ai", str(good), str(bad))
        assert done.returncode == 2
        assert "is no text in UTF-8" in done.stderr
        assert ask(root, "memory/recall", "--user=helper-ai", "cellar key")["count"] == 0


def test_a_shared_database_that_is_none_is_reported_with_the_newest_backup(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        backup = ask(tmp_path, "data/backup")["path"]
        assert system.stop() == 0
    database = tmp_path / "data" / "shared.db"
    garbage = b"this is not a database " * 100
    database.write_bytes(garbage)
    for _ in range(2):
        done = rtos(tmp_path, "boot")
        assert done.returncode == 1
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: ")
        assert f"cp '{backup}' '{database}'" in last
    (aside,) = database.parent.glob("shared.db.corrupt-*")
    assert aside.read_bytes() == garbage
    # What the error says to do is enough.
    shutil.copy(backup, database)
    with booted(tmp_path):
        assert ask(tmp_path, "user/list")["count"] == 2


def test_a_root_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    done = rtos(file, "boot")
    assert done.returncode == 2
    assert "cannot be used" in done.stderr
    deep = tmp_path / ("x" * 100)
    done = rtos(deep, "boot")
    assert done.returncode != 0
    assert "boot on a folder with a shorter path" in done.stderr
