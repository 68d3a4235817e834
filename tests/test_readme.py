"""The commands of the README answer what it shows, and the examples run.

Its programs are run by ``tests/docs/test_examples.py``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from process import booted

README = Path(__file__).parents[1] / "README.md"
HERE = README.parent
CONSOLES = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
EXAMPLES = sorted((HERE / "examples").glob("*.py"))


def _commands() -> list[tuple[str, str]]:
    """The commands of the tour, each with the output that the README shows, in order."""
    found = []
    for console in CONSOLES:
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def _as_pattern(shown: str) -> str:
    """A pattern for the shown output: ``...`` matches any text, and a number any number."""
    text = re.escape(" ".join(shown.split()))
    return re.sub(r"\d+", r"\\d+", text.replace(re.escape("..."), ".*"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_and_prints(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


@pytest.mark.process
def test_commands_of_the_tour_answer_what_the_readme_shows(tmp_path: Path) -> None:
    environment = os.environ | {
        "RTOS_ROOT": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    asked = []
    with booted(tmp_path):
        for command, shown in _commands():
            if not command.startswith("rtos "):
                continue
            done = subprocess.run(
                command,
                shell=True,
                cwd=HERE,
                env=environment,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, (command, done.stderr)
            asked.append(command)
            if "--json" in command or command == "rtos help":
                assert re.match(_as_pattern(shown), " ".join(done.stdout.split())), (command, done.stdout)
            else:
                # The README shows the layout for a terminal; a pipe gets JSON.
                for line in shown.splitlines():
                    if line.startswith("> "):
                        assert line in done.stdout, command
    assert len(asked) > 6
