"""A booted system under hostile requests, and whether it is well.

Law: after every so many requests it answers a ping, has shown no traceback to anyone,
and holds no more memory and no more files than it may; in the end it does what it is
for, stops when it is told to, and boots again.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from grammar import Grammar

from rtos.cli.client import AnswerError, Client

MEMORY = 600 * 2**20
"""The most that the process may hold, bytes."""
FILES = 400
"""64 databases with three files each, 128 connections, and what a process has anyway."""
PATIENCE = 60.0
"""Seconds for an answer that is owed; far more than it takes, for the machine is shared."""
ROUND = 40
"""Requests between two looks."""
ASKABLE = """
import faulthandler, signal, sys
from rtos.cli.main import main
faulthandler.register(signal.SIGUSR1)
sys.exit(main())
"""
"""As `python -m rtos`, and it can be asked where it is."""
BOOT = (sys.executable, "-c", ASKABLE, "boot")


class Target:
    """A system as a process whose words are all kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._errors = root.with_name(f"{root.name}-errors")
        with self._errors.open("ab") as errors:
            self.process = subprocess.Popen(
                [*BOOT, "--json", f"--root={root}"], stdout=subprocess.PIPE, stderr=errors
            )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if b'"running"' in line:
                break
        # Nobody reads what it says from here on, and a full pipe would stop it.
        self._reader = threading.Thread(target=self.process.stdout.read, daemon=True)
        self._reader.start()

    def look(self) -> None:
        """See that it is well.

        Raises:
          AssertionError: it is not.
        """
        assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.said()}"
        with Client(self.root) as client:
            client.execute("ping", {}, timeout=PATIENCE)
        check_said(self.said())
        assert self.memory() < MEMORY, f"it holds {self.memory() / 2**20:.0f} MiB"
        assert self.files() < FILES, f"it holds {self.files()} files"

    def where(self) -> str:
        """What its threads are at, by its own word; for a report of one that does not answer."""
        before = len(self.said())
        self.process.send_signal(signal.SIGUSR1)
        with suppress(subprocess.TimeoutExpired):
            # Written by the signal's own code, at once, whatever the program is at.
            self.process.wait(timeout=1)
        return self.said()[before:]

    def said(self) -> str:
        """All of its standard error."""
        return self._errors.read_text(errors="replace")

    def memory(self) -> int:
        """Bytes that are resident."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def files(self) -> int:
        """Open descriptors."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def stop(self) -> int:
        """Tell it to stop; its exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            code = self.process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired as error:
            error.add_note(self.said()[-3000:] + self.where())
            raise
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code

    def end(self) -> None:
        """Whatever became of it, nothing is left."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def check_said(said: str) -> None:
    """See that it logged no failure of its own.

    Raises:
      AssertionError: it did.
    """
    ends = re.findall(r"^Traceback .*\n(?:[ +|].*\n|\n)*(.*)", said, flags=re.MULTILINE)
    groups = re.findall(r"^  \+ Exception Group Traceback .*\n(?:  [+|].*\n)*", said, flags=re.MULTILINE)
    assert not ends, f"{ends} in {said}"
    assert not groups, f"{groups} in {said}"


def fuzz(folder: Path, *, seed: int, seconds: float) -> int:
    """Ask for so long, of a system somewhere in a folder that is to be made; how many requests there were.

    Raises:
      AssertionError: the system is not well; the text has the seed.
    """
    # Two below, so that a name which leads out of the system's root is seen.
    root = folder / "a" / "b"
    root.parent.mkdir(parents=True)
    target = Target(root)
    try:
        asked = _ask(target, seed, seconds)
        _restore(target)
        target.look()
        _use(root)
        assert target.stop() == 0
        check_said(target.said())
        # What it was left with, it can begin with.
        again = Target(root)
        try:
            again.look()
            assert again.stop() == 0
        finally:
            again.end()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        target.end()
    out = {each.name for each in (*folder.iterdir(), *root.parent.iterdir())} - {"a", "b", "b-errors"}
    assert not out, f"seed {seed}: it made {out} outside of its root"
    return asked


def _ask(target: Target, seed: int, seconds: float) -> int:
    with Client(target.root) as client:
        commands = client.execute("system/commands", {}, timeout=PATIENCE)["items"]
    grammar, chance = Grammar(commands, seed), Random(seed)
    until, asked = monotonic() + seconds, 0
    while monotonic() < until:
        lines = [grammar.line() for _ in range(ROUND)]
        try:
            _exchange(target.root, lines, reads=chance.random() < 0.8)
            _restore(target)
            target.look()
        except (AssertionError, AnswerError, OSError) as error:
            error.add_note("after " + "\n".join(repr(line[:300]) for line in lines))
            error.add_note(target.where())
            raise
        asked += len(lines)
    return asked


def _exchange(root: Path, lines: list[bytes], *, reads: bool) -> None:
    """Send all, and read what comes until the other side has no more to say; or go away at once."""
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.connect(str(root / "control.sock"))
        # Who does not read what he is told is not listened to for long either, and goes away.
        connection.settimeout(PATIENCE if reads else 0.5)
        heard = bytearray()
        reader = threading.Thread(target=_hear, args=(connection, heard))
        if reads:
            reader.start()
        with suppress(ConnectionError) if reads else suppress(ConnectionError, TimeoutError):
            for line in lines:
                connection.sendall(line)
            connection.shutdown(socket.SHUT_WR)
        if reads:
            reader.join()
            assert b"Traceback" not in heard, bytes(heard)
            assert b'File "' not in heard, bytes(heard)


def _hear(connection: socket.socket, heard: bytearray) -> None:
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            heard += chunk


def _restore(target: Target) -> None:
    """Undo what was asked for and is well: daemons that were told to hold on."""
    with Client(target.root) as client:
        for daemon in client.execute("system/state", {}, timeout=PATIENCE)["daemons"]:
            with suppress(AnswerError):
                client.execute("daemon/resume", {"daemon": _name(daemon)}, timeout=PATIENCE)


def _name(daemon: Any) -> str:
    return str(daemon["name"] if isinstance(daemon, dict) else daemon)


def _use(root: Path) -> None:
    """What it is for."""
    with Client(root) as client:
        client.execute("data/store", {"key": "after", "value": "all"}, timeout=PATIENCE)
        stored = client.execute("data/read", {"key": "after"}, timeout=PATIENCE)
        assert stored["value"] == "all"
        # The operator may have been deleted, as was asked.
        user = client.execute("user/create", {"type": "human", "name": "After All"}, timeout=PATIENCE)
        client.execute("room/create", {"name": "after-all"}, timeout=PATIENCE)
        client.execute("room/join", {"room": "after-all", "user": user["id"]}, timeout=PATIENCE)
        message = {"room": "after-all", "text": "still there?", "sender": user["id"]}
        client.execute("chat/send", message, timeout=PATIENCE)
        said = client.execute("chat/history", {"room": "after-all"}, timeout=PATIENCE)["items"]
        assert said[0]["text"] == "still there?"
