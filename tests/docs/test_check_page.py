"""The page on ``rtos check`` shows the real output."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rtos.cli.main import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "how-to" / "check.md").read_text()


def test_check_prints_the_table_of_the_page(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (shown,) = re.findall(r"\$ rtos check (examples/system\.toml)\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.chdir(ROOT)
    assert main(["check", shown[0]]) == 0
    assert capsys.readouterr().out == shown[1]
