from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtos.cli.main import main

EXAMPLE = Path(__file__).parents[2] / "examples" / "system.toml"


def test_a_system_that_holds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        "job", "level", "response", "deadline", "slack", "own", "step", "step", "may", "be",
    ]  # fmt: skip
    # Up to two steps of the writer are in the way, one of them lent to, and 5 % of what is used.
    assert lines[1].split() == ["motor/set", "0", "4.421ms", "5ms", "578.946us", "300us", "any", "holds"]
    assert lines[-2:] == ["utilisation 21.0%, reserve 5.0%", "every deadline holds"]


def test_without_a_reserve_more_can_be_proved(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE), "--reserve=0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["motor/set", "0", "2.3ms", "5ms", "2.7ms", "300us", "any", "holds"]


def test_a_description_has_its_own_reserve(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text("reserve = 0.5\n" + EXAMPLE.read_text())
    assert main(["check", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reserve"] == 0.5
    assert main(["check", str(path), "--reserve=0"]) == 0


@pytest.mark.parametrize("wrong", ["1", "-0.1", "much", "nan"])
def test_what_is_no_share_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE), f"--reserve={wrong}"]) == 2
    assert "use 0 for none, or a share such as 0.05" in capsys.readouterr().err


def test_a_step_that_is_too_long_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text(EXAMPLE.read_text().replace('longest_step = "2ms"', 'longest_step = "9ms"'))
    assert main(["check", str(path), "--json", "--reserve=0"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["feasible"] is False
    by_name = {job["name"]: job for job in report["jobs"]}
    assert by_name["motor/set"]["offender"] == "log/write"
    assert by_name["motor/set"]["slack"] < 0
    # A step of the writer may be this long, and no longer.
    assert by_name["log/write"]["longest_step_allowed"] == 4_700_001


def test_levels_that_would_do_are_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text(
        """
        [[daemon]]
        name = "slow"
        level = 0
        [[daemon.job]]
        name = "slow/work"
        cost = "4ms"
        longest_step = "1ms"
        period = "20ms"
        [[daemon]]
        name = "fast"
        level = 1
        [[daemon.job]]
        name = "fast/work"
        cost = "1ms"
        period = "5ms"
        deadline = "3ms"
        """
    )
    assert main(["check", str(path), "--reserve=0"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == (
        "not every deadline holds; it would with the levels: fast/work 0, slow/work 1"
    )


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the description has no job"),
        ("[[daemon]\n", "is no TOML"),
        ("[motor]\n", "has the unknown 'motor'"),
        ("daemon = 1\n", "daemon is 1"),
        ('[[daemon]]\nname = "a"\nlevel = 9\n', "level is 9; use 0"),
        ('[[daemon]]\nname = "a"\nlevel = 1\njob = [{name = "j"}]\n', "job 'j' lacks cost"),
        (
            '[[daemon]]\nname = "a"\nlevel = 1\njob = [{name = "j", cost = 1, period = "1s"}]\n',
            "cost is 1; write",
        ),
        (
            '[[daemon]]\nname = "a"\nlevel = 1\njob = [{name = "j", cost = "0ms", period = "1s"}]\n',
            "cost is 0",
        ),
        (
            (
                '[[daemon]]\nname = "a"\nlevel = 1\n'
                'job = [{name = "j", cost = "1ms", period = "1s", longest_step = "2ms"}]\n'
            ),
            "do not fit a cost",
        ),
        (
            (
                '[[daemon]]\nname = "a"\nlevel = 1\n'
                'job = [{name = "j", cost = "1s", period = "2s"}, {name = "j", cost = "1s", period = "2s"}]\n'
            ),
            "two jobs are named 'j'",
        ),
    ],
)
def test_a_description_that_is_no_good_is_refused(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "system.toml"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith("error: ")
    assert error in shown
    assert shown.count("\n") == 1


def test_a_file_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no-such-file"]) == 2
    assert "'no-such-file' cannot be read" in capsys.readouterr().err
    assert main(["check"]) == 2
    assert "check takes one file" in capsys.readouterr().err


def test_a_strict_boot_refuses_what_cannot_be_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text(EXAMPLE.read_text().replace('longest_step = "2ms"', 'longest_step = "9ms"'))
    root = tmp_path / "root"
    assert main(["boot", "--strict", f"--system={path}", f"--root={root}"]) == 2
    error = capsys.readouterr().err
    assert "'motor/set' (look at 'log/write')" in error
    assert not root.exists()


def test_nothing_is_proved_of_trios_own_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "root"
    assert main(["boot", "--strict", "--unordered", f"--root={root}"]) == 2
    assert "--strict proves nothing of Trio's own order; leave out --unordered" in capsys.readouterr().err
    assert not root.exists()
