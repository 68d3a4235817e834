from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from attrs import evolve

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


def test_a_tool_that_is_not_there_is_missing() -> None:
    with pytest.raises(Skipped, match=r"missing: no 'no-such-program' on this machine; try --install"):
        command(evolve(PEERS["go"], tool="no-such-program"))


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
