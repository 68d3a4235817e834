from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import others
from bench.on_asyncio import WAYS
from bench.peers.catalogue import PEERS, Peer
from bench.peers.environments import Skipped

RUN = """
import asyncio, runpy, sys, types
sys.modules["uvloop"] = types.SimpleNamespace(run=asyncio.run)
runpy.run_path({program!r}, run_name="__main__")
"""


@pytest.mark.parametrize("way", WAYS)
def test_all_that_was_asked_for_is_done_and_timed(way: str) -> None:
    sample = others.on_asyncio(way, 4, 20)()
    # Clients share their calls; senders each have a number of their own.
    assert sample.operations == (80 if way.startswith("fan_in") else 20)
    assert len(sample.latencies) == sample.operations
    assert min(sample.latencies) > 0
    assert sample.cpu_seconds > 0
    assert sample.wall_seconds > 0


@pytest.mark.process
@pytest.mark.parametrize("way", WAYS)
def test_the_program_needs_nothing_but_the_standard_library_and_its_loop(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starter = tmp_path / "start.py"
    starter.write_text(RUN.format(program=str(others.PROGRAM)))
    asked: list[Path] = []

    def command(peer: Peer) -> list[str]:
        asked.append(peer.program)
        return [sys.executable, "-S", "-E", str(starter)]

    monkeypatch.setattr(others, "command", command)
    sample = others.on_uvloop(way, 2, 10)()
    assert asked == [others.PROGRAM]
    assert sample.operations == len(sample.latencies) == (20 if way.startswith("fan_in") else 10)


@pytest.mark.process
def test_a_program_that_fails_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "command", lambda _: [sys.executable, "-c", "raise SystemExit('no loop')"])
    with pytest.raises(Skipped, match="failed: uvloop said 'no loop'"):
        others.on_uvloop("round_trips", 1, 1)()


@pytest.mark.process
def test_a_program_that_does_not_end_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(others, "command", lambda _: [sys.executable, "-c", "import signal; signal.pause()"])
    monkeypatch.setattr(others, "PATIENCE", 0.2)
    with pytest.raises(Skipped, match="slow: uvloop still running after 0 s"):
        others.on_uvloop("round_trips", 1, 1)()


def test_those_that_can_be_had_are_told_apart_from_the_rest(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(peer: Peer) -> list[str]:
        if peer is PEERS["go"]:
            raise Skipped("missing", "no compiler")
        return ["true"]

    monkeypatch.setattr(others, "command", command)
    assert others.available("tick", ["uvloop", "go", "trio"]) == ["uvloop", "trio"]
    assert capsys.readouterr().err == "tick: go is left out: missing\n"
