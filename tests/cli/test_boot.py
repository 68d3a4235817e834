"""``boot`` as a real process: what signals, bad places and bad outputs do to it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from process import RTOS, ask, booted, rtos, started

from rtos.cli.client import AnswerError, Client, NotRunningError

pytestmark = pytest.mark.process


def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        ask(tmp_path, "daemon/suspend", "chat")
        asked, answered = threading.Event(), []

        def wait() -> None:
            with suppress(NotRunningError, AnswerError), Client(tmp_path) as client:
                asked.set()
                client.execute("chat/send", {"room": "general", "text": "never said"}, timeout=60)
                answered.append(True)

        thread = threading.Thread(target=wait)
        thread.start()
        asked.wait()
        # Accepted, and never answered while chat is suspended: stopping has to wait for it.
        with Client(tmp_path) as client:
            while client.execute("system/state", {}, timeout=30)["daemons"][1]["mailbox"]["queued"] == 0:
                pass
        system.process.send_signal(signal.SIGTERM)
        assert system.wait_for("stopping") == {"stopping": "SIGTERM"}
        assert system.stop(signal.SIGTERM) == -signal.SIGTERM
        thread.join(timeout=60)
        assert not answered
    with booted(tmp_path):
        assert ask(tmp_path, "chat/history")["count"] == 0


def test_a_root_whose_socket_would_have_too_long_a_name_is_refused_before_it_is_made(tmp_path: Path) -> None:
    deep = tmp_path / ("x" * 100)
    done = rtos(deep, "boot")
    assert done.returncode == 2
    assert done.stderr.startswith("error: the control socket ")
    assert done.stderr.endswith("; boot on a folder with a shorter path\n")
    assert done.stderr.count("\n") == 1
    assert not deep.exists()


def test_errors_come_as_json_when_that_is_asked_for(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        done = rtos(tmp_path, "boot", "--json")
        assert done.returncode == 2
        error = json.loads(done.stderr)["error"]
        assert error["type"] == "ConfigurationError"
        assert f"as process {system.process.pid}" in error["message"]


def test_what_it_says_to_type_can_be_typed(tmp_path: Path) -> None:
    root = tmp_path / "my root"
    with started("boot", f"--root={root}", stderr=None) as process:
        assert process.stdout is not None
        lines = []
        while not lines or "Ctrl-C" not in lines[-1]:
            lines.append(process.stdout.readline())
        hint = next(line for line in lines if "chat/send" in line)
        done = subprocess.run(hint, shell=True, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert rest.splitlines() == [
            "SIGINT: finishing what was accepted; once more to stop at once",
            "stopped",
        ]


@pytest.fixture(scope="module")
def running_root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The root of a running system that nobody changes."""
    root = tmp_path_factory.mktemp("running")
    with booted(root):
        yield root


@pytest.mark.xdist_group("running_root")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
@pytest.mark.parametrize("words", [["boot"], ["--version"], ["help"], ["ping"]], ids=" ".join)
def test_an_output_that_is_full_is_one_clear_error(
    words: list[str], tmp_path: Path, running_root: Path
) -> None:
    root = tmp_path if words == ["boot"] else running_root
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*RTOS, *words, f"--root={root}"],
            stdout=full,
            stderr=subprocess.PIPE,
            env=_buffered(),
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: No space left on device; make sure that the output can be written\n"


@pytest.mark.xdist_group("running_root")
@pytest.mark.parametrize("words", ["--version", "help", "ping", "user/list", "check examples/system.toml"])
def test_a_reader_that_has_seen_enough_is_no_error(words: str, running_root: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*RTOS, *words.split(), f"--root={running_root}"],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
            env=_buffered(),
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.xdist_group("running_root")
def test_a_closed_output_is_no_error(running_root: Path) -> None:
    command = f"{' '.join(RTOS)} ping --root={running_root} >&-"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def _buffered() -> dict[str, str]:
    """An environment in which output is written when the buffer is full, as it is by default."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
