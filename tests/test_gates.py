"""The gates hold: what the house forbids fails its check. Each is tried once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[1]
TOOLS = Path(sys.executable).parent

FORBIDDEN = {
    "time.sleep": ("import time\n\n\ndef wait() -> None:\n    time.sleep(1)\n", "TID251"),
    "blocking call in a coroutine": (
        "import time\n\n\nasync def wait() -> None:\n    time.sleep(1)\n",
        "ASYNC251",
    ),
    "poll loop": (
        (
            "import trio\n\n\nasync def wait(box: list[int]) -> None:\n"
            "    while not box:\n        await trio.sleep(1)\n"
        ),
        "ASYNC110",
    ),
    "SQLite outside the store": ("import sqlite3\n\nDB = sqlite3\n", "TID251"),
    "the driver outside the store": ("import apsw\n\nDB = apsw\n", "TID251"),
    "the internals of Trio": ("from trio._core import _run\n\nRUN = _run\n", "TID251"),
    "another loop": ("import asyncio\n\nLOOP = asyncio\n", "TID251"),
}


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the package with its settings, to do damage to."""
    shutil.copytree(HERE / "rtos", tmp_path / "rtos", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HERE / "pyproject.toml", tmp_path)
    return tmp_path


def _lint(house: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ruff", "check", "--no-cache", "--output-format=concise", "rtos"],
        cwd=house,
        capture_output=True,
        text=True,
        check=False,
    )


def _layers(house: Path) -> subprocess.CompletedProcess[str]:
    # The copy must be found before the package that is installed.
    return subprocess.run(
        [TOOLS / "lint-imports", "--no-cache"],
        cwd=house,
        env={"PYTHONPATH": str(house), "PATH": str(TOOLS), "HOME": str(house)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("what", FORBIDDEN)
def test_lint_refuses(what: str, house: Path) -> None:
    source, rule = FORBIDDEN[what]
    (house / "rtos" / "user" / "smuggled.py").write_text(f'"""Something."""\n\n{source}')
    done = _lint(house)
    assert done.returncode == 1
    assert "smuggled.py" in done.stdout
    assert rule in done.stdout


def test_the_layers_hold_as_they_are(house: Path) -> None:
    done = _layers(house)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("scheduler/smuggled.py", "import rtos.bus", "imports go down only"),
        ("user/smuggled.py", "import rtos.daemons.data", "imports go down only"),
        ("smuggled.py", "", "imports go down only"),  # a new room must be placed in the house
        ("daemons/chat.py", "import rtos.daemons.users", "never import each other"),
        ("daemons/chat.py", "import apsw", "Only the SQLite backend knows the driver"),
        ("scheduler/dispatch/ready_queue.py", "import trio", "Policy is pure"),
        ("scheduler/policy/levels.py", "import rtos.scheduler.calls.port", "The kernel: each package"),
    ],
)
def test_the_layers_refuse(file: str, line: str, contract: str, house: Path) -> None:
    path = house / "rtos" / file
    before = path.read_text() if path.exists() else '"""Something."""\n'
    path.write_text(f"{before}\n{line}\n")
    done = _layers(house)
    assert done.returncode == 1
    broken = [text for text in done.stdout.splitlines() if "BROKEN" in text or "not listed" in text]
    assert any(contract in text for text in broken) or (not line and "smuggled" in done.stdout), done.stdout
