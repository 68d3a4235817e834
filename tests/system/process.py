"""A booted system as a real process, for tests that need one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

RTOS = (sys.executable, "-m", "rtos")


def rtos(root: Path, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """One command line, to its end."""
    return subprocess.run(
        [*RTOS, *words, f"--root={root}"], capture_output=True, text=True, timeout=timeout, check=False
    )


def ask(root: Path, *words: str) -> Any:
    """The result of a command that must succeed."""
    done = rtos(root, *words, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()][-1]


def start(*words: str, **options: Any) -> subprocess.Popen[str]:
    """Start a command line; its output is piped unless ``options`` say otherwise."""
    piped = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*RTOS, *words], text=True, **piped | options)


@contextmanager
def started(*words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a command line, and kill it at the end of the block if it still runs."""
    with start(*words, **options) as process:
        try:
            yield process
        finally:
            process.kill()


class System:
    """A process that boots a system; its standard output is read line by line."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.process = start("boot", "--json", f"--root={root}")
        self.lines: list[dict[str, Any]] = []
        self.wait_for("running")

    def wait_for(self, what: str) -> dict[str, Any]:
        """Read on until a line that has this key."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(json.loads(line))
            if what in self.lines[-1]:
                return self.lines[-1]
        raise AssertionError(f"it ended: {self.process.communicate()[1]}")

    def kill(self) -> None:
        """SIGKILL, and nothing else."""
        self.process.kill()
        self.process.communicate()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it with a signal; its exit code."""
        self.process.send_signal(number)
        self.errors = self.process.communicate(timeout=60)[1]
        return self.process.returncode

    def cpu_seconds(self) -> float:
        """Processor time that the process has used."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def booted(root: Path) -> Iterator[System]:
    """A system that is stopped, or at least killed, when the block ends."""
    system = System(root)
    try:
        yield system
    finally:
        if system.process.poll() is None:
            system.kill()
