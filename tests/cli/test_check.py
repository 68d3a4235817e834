from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
import pytest

from rtos.cli import check as check_module
from rtos.cli.check import WIDTH, as_data, as_text
from rtos.cli.main import main
from rtos.scheduler.analysis import Job, SetReport, analyse
from rtos.scheduler.analysis.system_file import fields
from rtos.scheduler.diagnosis.perfetto import chrome_trace
from rtos.scheduler.policy.levels import LEVELS
from rtos.scheduler.tracing.records import Sent, Settled, Sleep, Started, Step

if TYPE_CHECKING:
    from rtos.scheduler.tracing.records import Record

EXAMPLE = Path(__file__).parents[2] / "examples" / "system.toml"


def test_a_feasible_system_is_reported_and_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["job", "level", "response", "deadline", "slack", "step", "limit", "verdict"]
    # Up to two steps of the writer are in the way, one of them from the reserve, and 5 % of the time used.
    assert lines[1].split() == ["motor/set", "0", "4.421ms", "5ms", "578.9us", "300us", "any", "holds"]
    assert "The jobs use 21.0% of the CPU; the reserve is 5.0%." in lines[6]
    assert lines[-1] == "Every deadline holds."


def test_without_a_reserve_the_bounds_are_lower(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE), "--reserve=0"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["motor/set", "0", "2.3ms", "5ms", "2.7ms", "300us", "any", "holds"]


def test_the_option_overrides_the_reserve_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "system.toml"
    path.write_text("reserve = 0.5\n" + EXAMPLE.read_text())
    assert main(["check", str(path), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["reserve"] == 0.5
    assert main(["check", str(path), "--reserve=0"]) == 0


@pytest.mark.parametrize("wrong", ["1", "-0.1", "much", "nan"])
def test_a_wrong_reserve_is_refused(wrong: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(EXAMPLE), f"--reserve={wrong}"]) == 2
    assert "use a number from 0 (no reserve) to less than 1, as in reserve = 0.05" in capsys.readouterr().err


def test_the_job_whose_step_is_too_long_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
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
    assert main(["check", str(path), "--reserve=0"]) == 1
    assert "'motor/set' may miss its deadline, mostly because of 'log/write'." in capsys.readouterr().out


INVERTED = """
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


def test_levels_that_help_are_suggested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text(INVERTED)
    assert main(["check", str(path), "--reserve=0"]) == 1
    out = capsys.readouterr().out
    assert "Every deadline would hold with these levels: fast/work 0, slow/work 1." in out
    assert main(["check", str(path), "--reserve=0", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["suggested_levels"] == {"fast/work": 0, "slow/work": 1}


def _ladder(count: int, *, fits: int) -> list[Job]:
    """Jobs of which ``fits`` at a time can share a level, all at level 0, where they miss deadlines."""
    return [
        Job(
            name=f"job {index}",
            level=0,
            cost=1000 * 10 ** (index // fits),
            longest_step=1,
            period=10_000_000 * 10 ** (index // fits),
            deadline=(index % fits + 2) * 1000 * 10 ** (index // fits) * 2,
            in_bursts=True,
        )
        for index in range(count)
    ]


def test_suggested_levels_stay_within_the_levels_of_the_kernel() -> None:
    report = analyse(_ladder(24, fits=3))
    assert not report.feasible
    suggested = as_data(report, reserve=0)["suggested_levels"]
    assert sorted(set(suggested.values())) == list(range(LEVELS))
    better = [attrs.evolve(one.job, level=suggested[one.job.name]) for one in report.jobs]
    assert analyse(better).feasible


def test_more_levels_than_there_are_are_not_suggested() -> None:
    report = analyse(_ladder(27, fits=3))
    assert as_data(report, reserve=0)["suggested_levels"] is None
    assert " ".join(as_text(report, reserve=0)[-2:]) == (
        "Other levels would help, but 9 different ones, and there are only 8: shorten steps or costs."
    )


def test_report_says_that_no_levels_help() -> None:
    report = analyse([Job(name=name, level=0, cost=3, period=4) for name in "ab"])
    assert as_text(report, reserve=0)[-1] == "No other levels would help: shorten steps or costs."


def test_an_idle_trace_misses_no_deadline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records: list[Record] = [Step(22_950, 45, 1, "client", 4, 1, 22_950), Sleep(10**6, 10**6, None)]
    for number in range(1, 23):
        at = number * 1000
        records += [
            Step(at - 50, 45, 1, "client", 4, 1, at - 50),
            Step(at, 900, 2, "server", 2, 1, at),
            Sent(at - 10, number, f"server/{number}", 1, "", "server", 4, 0),
            Started(at + 1, number, 2, "server"),
            Settled(at + 800, number, "handled"),
        ]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(chrome_trace(records)))
    assert main(["check", f"--from-trace={path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines[1:23]]
    assert {(row[1], row[3]) for row in rows} == {("2", "none")}
    assert not [
        line for line in lines if "miss " in line or ("level" in line.split()[1:] and line is not lines[0])
    ]
    assert "No job has a deadline, so none can be missed." in "\n".join(lines)
    assert main(["check", f"--from-trace={path}", "--json"]) == 0
    data = json.loads(capsys.readouterr().out)
    assert {(job["deadline"], job["slack"], job["feasible"]) for job in data["jobs"]} == {(None, None, True)}
    assert data["suggested_levels"] is None


def _saturated() -> SetReport:
    jobs = [
        Job(name=f"job {index}", level=0, cost=int(period * 0.3333333), period=period, deadline=4 * period)
        for index, period in enumerate((1_000_003, 10_000_019, 100_000_007))
    ]
    return analyse([*jobs, Job(name="late", level=1, cost=1, period=1, deadline=5)], effort=20_000)


def test_report_says_what_to_change_if_a_set_is_too_complex() -> None:
    report = _saturated()
    text = " ".join(as_text(report, reserve=0))
    assert (
        "Too complex to analyse: 'job 0', 'job 1', 'job 2'. The jobs of level 0 use 99.99996% of the CPU"
        in text
    )
    assert "Lower costs or lengthen periods there, or use periods that are multiples of each other." in text
    assert "No levels are suggested while a job is too complex to analyse." in text
    rows = {line[:5].strip(): line.split() for line in as_text(report, reserve=0)[1:5]}
    assert rows["job 0"][-1] == "unknown"
    assert rows["late"][-2:] == ["may", "miss"]
    data = as_data(report, reserve=0)
    assert [job["too_complex"] for job in data["jobs"]] == [True, True, True, False]
    assert data["suggested_levels"] is None


def test_the_report_fits_80_columns() -> None:
    names = ["a", "short", "a name of fifteen"[:15], "a name that is longer than its column", "x" * 200]
    for cost, deadline in ((1, 10**15), (999_999_999, 10**9), (10**9, 1)):
        jobs = [
            Job(name=f"{name}{level}", level=level, cost=cost, period=10**10, deadline=deadline)
            for level, name in enumerate(names)
        ]
        lines = as_text(analyse(jobs), reserve=0.05)
        assert max(map(len, lines)) <= WIDTH
    assert max(map(len, as_text(_saturated(), reserve=0))) <= WIDTH


def test_ctrl_c_ends_the_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **options: object) -> SetReport:
        signal.raise_signal(signal.SIGINT)
        return analyse(*args, **options)

    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        monkeypatch.setattr(check_module, "analyse", interrupted)
        assert main(["check", str(EXAMPLE)]) == 130
    finally:
        signal.signal(signal.SIGINT, previous)


DAEMON = '[[daemon]]\nname = "a"\nlevel = 1\n'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "the description: daemon is missing; use [[daemon]] tables"),
        (DAEMON, "the description has no job; add"),
        ("[[daemon]\n", "is not TOML"),
        ("[motor]\n", "the description: unknown field 'motor'; use one of reserve, daemon"),
        ("daemon = 1\n", "the description: daemon is 1; use [[daemon]] tables"),
        ("reserve = 1.0\n", "reserve is 1.0; use a number from 0"),
        ("reserve = true\n", "reserve is True; use a number from 0"),
        ('[[daemon]]\nname = "a"\nlevel = 9\n', "daemon 'a': level is 9; use a whole number from 0"),
        ('[[daemon]]\nname = "a"\nlevel = true\n', "level is True; use a whole number from 0"),
        (
            '[[daemon]]\nname = "a"\nlevle = 9\n',
            "daemon 'a': unknown field 'levle'; use one of name, level, job",
        ),
        ("[[daemon]]\nlevel = 1\n", "a daemon: name is missing; use a text"),
        (f'{DAEMON}job = [{{name = ""}}]\n', "job '': name is ''; use a text"),
        (f'{DAEMON}job = [{{name = "j"}}]\n', "job 'j': cost is missing; use a number and ns, us, ms or s"),
        (
            f'{DAEMON}job = [{{name = "j", cost = 1, period = "1s"}}]\n',
            "job 'j': cost is 1; use a number and ns",
        ),
        (f'{DAEMON}job = [{{name = "j", cost = "1", period = "1s"}}]\n', "cost is '1'; use a number and ns"),
        (f'{DAEMON}job = [{{name = "j", cost = "0ms", period = "1s"}}]\n', "cost is '0ms'; use"),
        (f'{DAEMON}job = [{{name = "j", cost = "-1ms", period = "1s"}}]\n', "cost is '-1ms'; use"),
        (f'{DAEMON}job = [{{name = "j", cost = "1ms", period = "{"9" * 400}s"}}]\n', "; use a number and ns"),
        (f'{DAEMON}job = [{{name = "j", cost = "1ms", period = "101d"}}]\n', "period is '101d'; use"),
        (f'{DAEMON}job = [{{name = "j", cost = "1ms", period = "8640001s"}}]\n', "to 100 days"),
        (
            f'{DAEMON}job = [{{name = "j", cost = "1ms", period = "1s", longest_step = "2ms"}}]\n',
            "use last_step <= longest_step <= cost",
        ),
        (
            (
                f'{DAEMON}job = [{{name = "j", cost = "1s", period = "2s"}}, '
                '{name = "j", cost = "1s", period = "2s"}]\n'
            ),
            "two jobs are named 'j'",
        ),
    ],
)
def test_a_wrong_description_is_refused_with_one_line(
    text: str, error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "system.toml"
    path.write_text(text)
    assert main(["check", str(path)]) == 2
    shown = capsys.readouterr().err
    assert shown.startswith(f"error: {str(path)!r}")
    assert error in shown
    assert shown.count("\n") == 1


def test_the_example_of_every_field_is_accepted(tmp_path: Path) -> None:
    lines = [
        field.example if field.type == "tables" else f"{field.name} = {field.example}" for field in fields()
    ]
    path = tmp_path / "system.toml"
    path.write_text("\n".join(lines))
    assert main(["check", str(path)]) == 0


def test_a_job_may_have_no_deadline(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "system.toml"
    path.write_text(INVERTED.replace('deadline = "3ms"', 'deadline = "none"'))
    assert main(["check", str(path), "--json", "--reserve=0"]) == 0
    by_name = {job["name"]: job for job in json.loads(capsys.readouterr().out)["jobs"]}
    assert by_name["fast/work"]["deadline"] is None


def test_a_missing_file_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "no-such-file"]) == 2
    assert "'no-such-file' cannot be read" in capsys.readouterr().err
    assert main(["check"]) == 2
    assert "check takes one file" in capsys.readouterr().err


def test_a_strict_boot_refuses_a_system_that_may_be_late(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "system.toml"
    path.write_text(EXAMPLE.read_text().replace('longest_step = "2ms"', 'longest_step = "9ms"'))
    root = tmp_path / "root"
    assert main(["boot", "--strict", f"--system={path}", f"--root={root}"]) == 2
    error = capsys.readouterr().err
    assert "'motor/set' (mostly because of 'log/write')" in error
    assert not root.exists()


def test_a_strict_boot_in_trios_own_order_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "root"
    assert main(["boot", "--strict", "--unordered", f"--root={root}"]) == 2
    assert "--strict proves nothing of Trio's own order; leave out --unordered" in capsys.readouterr().err
    assert not root.exists()
