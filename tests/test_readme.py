"""The README is true: its programs run, and its commands answer what it shows."""

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
PROGRAMS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
CONSOLES = re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)
EXAMPLES = sorted((HERE / "examples").glob("*.py"))


def _commands() -> list[tuple[str, str]]:
    """The commands of the tour with the output that is shown for each, in order."""
    found = []
    for console in CONSOLES:
        for part in re.split(r"^\$ ", console, flags=re.MULTILINE)[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def _as_pattern(shown: str) -> str:
    """What is shown, with ``...`` for anything and any number for a number."""
    text = re.escape(" ".join(shown.split()))
    return re.sub(r"\d+", r"\\d+", text.replace(re.escape("..."), ".*"))


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_of_the_readme_runs(number: int, tmp_path: Path) -> None:
    # Nothing ends the first one but the end of its tasks.
    done = subprocess.run(
        [sys.executable, "-c", PROGRAMS[number]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "print" in PROGRAMS[number]:
        assert done.stdout == "Hello?\n"


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs(path: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, path], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_the_embedding_takes_ten_lines() -> None:
    for program in PROGRAMS:
        body = [
            line for line in program.splitlines() if line.strip() and not line.startswith(("import", "from"))
        ]
        assert len(body) <= 10


@pytest.mark.process
def test_the_tour_of_the_readme(tmp_path: Path) -> None:
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
                # For a person it is laid out on the terminal; here it comes as JSON.
                for line in shown.splitlines():
                    if line.startswith("> "):
                        assert line in done.stdout, command
    assert len(asked) > 6
