from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from rtos.cli.main import main
from rtos.runtime import RootLock


def _old(root: Path) -> Path:
    folder = root / "personas" / "old-one"
    folder.mkdir(parents=True)
    return folder


def test_it_refuses_while_a_system_runs_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = _old(tmp_path)
    with RootLock(tmp_path).hold():
        assert main(["migrate", "user-directories", f"--root={tmp_path}"]) == 2
    assert f"a system is running on {str(tmp_path)!r} already, as process {os.getpid()};" in (
        capsys.readouterr().err
    )
    assert old.exists()
    assert main(["migrate", "user-directories", f"--root={tmp_path}"]) == 0
    assert not old.exists()


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["everything"],
        ["user-directories", "now"],
        ["user-directories", "--dry-run", "--colour=red"],
    ],
)
def test_what_it_does_not_take_is_refused(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old = _old(tmp_path)
    assert main(["migrate", *words, f"--root={tmp_path}"]) == 2
    assert "; write migrate user-directories [--dry-run]" in capsys.readouterr().err
    assert old.exists()


def test_a_root_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "none"
    assert main(["migrate", "user-directories", "--json", f"--root={root}"]) == 2
    assert "there is no folder" in json.loads(capsys.readouterr().err)["error"]["message"]
    assert not root.exists()
