from __future__ import annotations

import importlib
import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
from attrs import evolve

from bench.peers import environments
from bench.peers.__main__ import table
from bench.peers.catalogue import PEERS, SCENARIOS
from bench.peers.environments import Skipped, command
from bench.peers.rounds import Found, Measurement, measure, run

SECONDS = 0.2
HERE = Path(__file__).parents[2]


@pytest.mark.process
@pytest.mark.parametrize("scenario", SCENARIOS)
@pytest.mark.parametrize("peer", ["trio", "asyncio", "reference"])
def test_a_program_says_one_line_of_plausible_figures(peer: str, scenario: str) -> None:
    said = subprocess.run(
        [*command(PEERS[peer]), scenario, str(SECONDS)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout
    assert said.count("\n") == 1
    line = json.loads(said)
    named = {"peer", "scenario", "operations", "cpu_seconds", "wall_seconds", "p50_us", "p99_us"}
    assert set(line) - {"dropped"} == named | ({"missed"} if scenario == "tick" else set())
    assert (line["peer"], line["scenario"]) == (peer, scenario)
    assert line["operations"] > 0
    assert line["wall_seconds"] > 0
    assert line["cpu_seconds"] > 0
    assert 0 < line["p50_us"] <= line["p99_us"] <= line["wall_seconds"] * 1e6
    assert 0 <= line.get("missed", 0) <= 1


@pytest.mark.process
def test_the_reference_waits_for_its_poll_where_others_are_woken() -> None:
    woken, polled = (measure(PEERS[peer], "round_trip", SECONDS) for peer in ("trio", "reference"))
    assert woken.p50_us is not None
    assert polled.p50_us is not None
    assert polled.p50_us > 20 * woken.p50_us


@pytest.mark.process
def test_a_full_inbox_of_the_reference_drops_and_says_so() -> None:
    words = [*command(PEERS["reference"]), "fan_in", str(SECONDS)]
    line = json.loads(subprocess.run(words, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert line["dropped"] > 0
    assert (line["operations"] + line["dropped"]) % 10_000 == 0


@pytest.fixture
def counting() -> ModuleType:
    """What the Python programs count with; it stands beside them, outside of any package."""
    file = HERE / "bench" / "peers" / "python" / "measure.py"
    specification = importlib.util.spec_from_file_location("measure_of_the_peers", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_programs_know_the_scenarios_that_are_asked_for(counting: ModuleType) -> None:
    assert counting.SCENARIOS == SCENARIOS


def test_an_instant_that_passes_while_an_answer_is_owed_was_missed(
    counting: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ms, now = 1_000_000, [0]
    monkeypatch.setattr(counting, "clock", lambda: now[0])
    window = counting.Window("any", "tick", 0.05)
    with window.opened():
        grid = counting.Grid(window)
        for took in (1, 12, 5):
            due = grid.next_due()
            now[0] = due + took * ms
            grid.answered(due)
        now[0] = 45 * ms
        assert grid.next_due() is None, "50 ms is the window's end"
    # Asked at 5, at 10, and at 25 ms; the instants of 15 and 20 ms passed during the second answer.
    assert window.waits == [1 * ms, 12 * ms, 5 * ms]
    assert (window.instants, window.in_time) == (5, 2)
    window.report()
    assert json.loads(capsys.readouterr().out)["missed"] == 0.6


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiler that notes each build, and copies the source; alone on the path."""
    tools, notes = tmp_path / "tools", tmp_path / "notes"
    tools.mkdir()
    go = tools / "go"
    go.write_text(f'#!/bin/sh\necho built >> {notes}\n[ -z "$BROKEN" ] || exit 3\n/bin/cp $4 $3\n')
    go.chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(environments, "ROOT", tmp_path / ".bench")
    return notes


def test_a_build_is_made_once_and_anew_when_its_source_changes(tmp_path: Path, fake_go: Path) -> None:
    source = tmp_path / "main.go"
    source.write_text("one")
    peer = evolve(PEERS["go"], program=source)
    assert Path(command(peer)[0]).read_text() == "one"
    command(peer)
    assert fake_go.read_text().count("built") == 1
    source.write_text("two")
    assert Path(command(peer)[0]).read_text() == "two"
    assert (tmp_path / ".bench" / ".gitignore").read_text() == "*\n"


def test_a_build_that_failed_is_skipped_and_tried_again(
    fake_go: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKEN", "yes")
    with pytest.raises(Skipped, match=r"unbuildable: go exited with 3"):
        command(PEERS["go"])
    monkeypatch.delenv("BROKEN")
    command(PEERS["go"])
    assert fake_go.read_text().count("built") == 2


@pytest.mark.process
def test_packages_that_cannot_be_had_are_uninstallable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path / ".bench")
    lock = tmp_path / "broken.txt"
    lock.write_text("== is no name of a package\n")
    with pytest.raises(Skipped) as caught:
        command(evolve(PEERS["uvloop"], requirements=lock))
    assert caught.value.reason == "uninstallable"


@pytest.mark.parametrize(
    "lock", sorted((HERE / "bench" / "peers" / "requirements").glob("*.txt")), ids=lambda f: f.stem
)
def test_every_package_is_pinned_by_hash_and_no_address_is_named(lock: Path) -> None:
    text = lock.read_text()
    wanted = [line for line in text.splitlines() if not line.startswith(" ")]
    assert wanted
    assert all("==" in line and line.endswith("\\") for line in wanted)
    assert text.count("\n    --hash=sha256:") >= len(wanted)
    assert "://" not in text


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(HERE / "bench" / "peers" / "python")
    yield importlib.import_module("reference_model")
    for name in ("reference_model", "measure"):
        del sys.modules[name]


def test_the_model_lets_a_worse_newcomer_evict_a_better_item(model: ModuleType) -> None:
    inbox = model.Inbox()
    for _ in range(model.CAPACITY):
        assert inbox.enqueue(model.Message("any", "", "", 0.0, priority=0.5))
    assert inbox.enqueue(model.Message("newcomer", "", "", 0.0, priority=0.1)), "yes is all it says"
    assert inbox.dropped == 1
    assert inbox.items[-1].sender == "newcomer"


def test_the_model_serves_the_better_first_and_equals_as_they_came(model: ModuleType) -> None:
    inbox = model.Inbox()
    for sender, priority in [("a", 0.5), ("b", 0.9), ("c", 0.5)]:
        inbox.enqueue(model.Message(sender, "", "", 0.0, priority=priority))
    assert [one.sender for one in inbox.items] == ["b", "a", "c"]


@pytest.mark.parametrize(
    ("waiting", "energy", "responses", "budget", "beat"),
    [
        pytest.param(0, 1.0, 0, 1.0, 1.0, id="idle"),
        pytest.param(0, 1.0, 1, 1.0, 0.5, id="active"),
        pytest.param(0, 0.4, 1, 1.0, 1.0, id="worked, and half tired: counted as idle"),
        pytest.param(0, 0.2, 1, 1.0, 2.0, id="tired"),
        pytest.param(51, 0.2, 1, 1.0, 3.0, id="overwhelmed before tired"),
        pytest.param(0, 1.0, 0, 0.4, 2.0, id="idle with little compute left"),
    ],
)
def test_the_model_beats_by_its_mood(
    model: ModuleType, waiting: int, energy: float, responses: int, budget: float, beat: float
) -> None:
    persona = model.Persona(model.Events(), has_cadence=True)
    persona.inbox.items += [model.Message("any", "", "", 0.0)] * waiting
    persona.energy, persona.responses, persona.budget = energy, responses, budget
    assert persona.beat() == beat


def test_the_model_asks_every_subscription_at_each_event(model: ModuleType) -> None:
    events, heard = model.Events(), []
    events.subscribe("data:a:created", "one", lambda _: heard.append("replaced"))
    events.subscribe("data:a:created", "one", lambda _: heard.append("exact"))
    events.subscribe("data:b:created", "one", lambda _: heard.append("another name"))
    events.patterns.append((model.re.compile("data:.*$"), lambda _: heard.append("pattern")))
    events.filtered.append(("data:a:created", {"room": "here"}, lambda _: heard.append("filtered")))
    events.filtered.append(("data:a:created", {"room": "there"}, lambda _: heard.append("another room")))
    events.emit("data:a:created", model.Message("any", "", "here", 0.0))
    assert heard == ["exact", "pattern", "filtered"]


def test_a_tool_that_is_not_there_is_missing() -> None:
    with pytest.raises(Skipped, match=r"missing: no 'no-such-program' on this machine; try --install"):
        command(evolve(PEERS["go"], tool="no-such-program"))


def test_nothing_is_installed_but_by_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(Skipped, match=r"missing: 'golang-go' can be installed by root only"):
        command(evolve(PEERS["go"], tool="no-such-program"), install=True)


def test_a_program_that_is_not_there_is_missing(tmp_path: Path) -> None:
    with pytest.raises(Skipped, match=r"missing: no program '.*absent\.py'"):
        command(evolve(PEERS["asyncio"], program=tmp_path / "absent.py"))


@pytest.mark.process
@pytest.mark.parametrize(
    "text",
    ["raise SystemExit('no such thing here')", "print('no such thing here')", "print('[]')"],
    ids=["it ends badly", "it says no JSON", "it says something else"],
)
def test_a_program_that_does_not_do_it_has_failed(tmp_path: Path, text: str) -> None:
    program = tmp_path / "broken.py"
    program.write_text(text)
    with pytest.raises(Skipped) as caught:
        measure(evolve(PEERS["asyncio"], program=program), "tick", SECONDS)
    assert caught.value.reason == "failed"


@pytest.mark.process
def test_a_run_goes_on_without_the_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PEERS, "go", evolve(PEERS["go"], tool="no-such-program"))
    found = run(["trio", "go"], ["round_trip"], seconds=SECONDS, rounds=2)
    assert found.skipped["go"][0] == "missing"
    assert list(found.rounds["round_trip"]) == ["trio"]
    assert len(found.rounds["round_trip"]["trio"]) == 2
    assert found.ratio("round_trip", "trio", lambda one: one.rate) == 1


def test_a_ratio_is_the_median_of_those_within_each_round() -> None:
    def one(peer: str, operations: int) -> Measurement:
        return Measurement(peer, "tick", operations, 1.0, 2.0, None, None, 0.25)

    rounds = {
        "trio": [one("trio", count) for count in (10, 1000, 100)],
        "go": [one("go", count) for count in (20, 5000, 300)],
    }
    found = Found({"tick": rounds}, {})
    assert found.median("tick", "go", lambda one: one.rate) == 150
    assert found.ratio("tick", "go", lambda one: one.rate_per_cpu) == 3
    assert found.ratio("tick", "go", lambda one: one.p50_us) is None
    assert "missed 25.0%" in table(found, "tick").splitlines()[2]


@pytest.mark.process
def test_the_command_line_writes_every_measurement(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    words = ["--peers=asyncio", "--scenarios=tick", f"--seconds={SECONDS}", "--rounds=2", f"--json={file}"]
    said = subprocess.run(
        [sys.executable, "-m", "bench.peers", *words],
        cwd=HERE,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert "asyncio" in said
    found = json.loads(file.read_text())
    assert {peer: len(each) for peer, each in found["measurements"]["tick"].items()} == {
        "trio": 2,
        "asyncio": 2,
    }
    assert math.isclose(found["configuration"]["seconds"], SECONDS)


def test_a_name_that_is_not_known_is_refused() -> None:
    words = [sys.executable, "-m", "bench.peers", "--peers=trio,nobody"]
    done = subprocess.run(words, cwd=HERE, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "no nobody; there are trio, asyncio" in done.stderr
