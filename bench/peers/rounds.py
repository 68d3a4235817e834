"""Runs the programs of the peers in turn, and holds what they said.

Interleaved, so that what the machine does to one it does to all: within a round every
scenario goes once through all peers. Ratios are taken within a round, then their median.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from attrs import fields_dict, frozen

from bench.peers.catalogue import BASE, PEERS
from bench.peers.environments import Skipped, command, surroundings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.peers.catalogue import Peer

START_UP: Final = 60.0
"""Seconds that a program may need beside three times what it was told to run."""


@frozen
class Measurement:
    """One line of one program. Waits are in microseconds, None where nothing was answered.

    Attributes:
      missed: the part of the tick's instants without an answer within 5 ms; None elsewhere.
    """

    peer: str
    scenario: str
    operations: int
    cpu_seconds: float
    wall_seconds: float
    p50_us: float | None
    p99_us: float | None
    missed: float | None = None

    @property
    def rate(self) -> float:
        """Operations per second of the wall's clock."""
        return self.operations / self.wall_seconds

    @property
    def rate_per_cpu(self) -> float | None:
        """Operations per second of CPU; None if too little was used to be seen."""
        return self.operations / self.cpu_seconds if self.cpu_seconds else None


def measure(peer: Peer, scenario: str, seconds: float, *, install: bool = False) -> Measurement:
    """Run one scenario of one peer in a process of its own.

    Raises:
      Skipped: it cannot be made, or it is ``slow``, or it ``failed`` or said something else than one line.
    """
    words = [*command(peer, install=install), scenario, str(seconds)]
    try:
        said = json.loads(_output(words, 3 * seconds + START_UP))
        return Measurement(**{name: said[name] for name in fields_dict(Measurement) if name in said})
    except subprocess.TimeoutExpired as error:
        raise Skipped("slow", f"still running after {error.timeout:.0f} s") from error
    except (OSError, ValueError, TypeError, subprocess.CalledProcessError) as error:
        raise Skipped("failed", str(getattr(error, "stderr", None) or error).strip()[-300:]) from error


def _output(words: list[str], limit: float) -> str:
    """What the program prints; whatever processes it started end with it."""
    program = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=surroundings(),
        start_new_session=True,
    )
    try:
        said, complained = program.communicate(timeout=limit)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()
        for pipe in filter(None, (program.stdout, program.stderr)):
            pipe.close()
    if program.returncode:
        raise subprocess.CalledProcessError(program.returncode, words, said, complained)
    return said


@frozen
class Found:
    """All that a run measured, and why something was not.

    Attributes:
      rounds: by scenario, then peer, one measurement for each round.
      skipped: by peer, or by peer and scenario (``peer/scenario``): one word of reason and the detail.
    """

    rounds: dict[str, dict[str, list[Measurement]]]
    skipped: dict[str, tuple[str, str]]

    def median(self, scenario: str, peer: str, of: Callable[[Measurement], float | None]) -> float | None:
        """The median over the rounds; None if no round has a value."""
        return _median([of(one) for one in self.rounds[scenario][peer]])

    def ratio(self, scenario: str, peer: str, of: Callable[[Measurement], float | None]) -> float | None:
        """The median over the rounds of the ratio to plain Trio within each."""
        both = zip(self.rounds[scenario][peer], self.rounds[scenario].get(BASE, []), strict=False)
        return _median([_over(of(one), of(base)) for one, base in both])


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.median(known) if known else None


def _over(one: float | None, base: float | None) -> float | None:
    return one / base if one is not None and base else None


def run(
    peers: Sequence[str], scenarios: Sequence[str], *, seconds: float, rounds: int, install: bool = False
) -> Found:
    """Measure the peers in turn. A peer that fails once in a scenario is not asked for it again.

    What was skipped has no measurement at all, so that a round's ratio is one round's.
    """
    ready, skipped = _ready(peers, install=install)
    found: dict[str, dict[str, list[Measurement]]] = {scenario: {} for scenario in scenarios}
    for _ in range(rounds):
        for scenario in scenarios:
            for peer in ready:
                if f"{peer.name}/{scenario}" in skipped:
                    continue
                try:
                    found[scenario].setdefault(peer.name, []).append(measure(peer, scenario, seconds))
                except Skipped as why:
                    skipped[f"{peer.name}/{scenario}"] = (why.reason, why.detail)
                    found[scenario].pop(peer.name, None)
    return Found(found, skipped)


def _ready(peers: Sequence[str], *, install: bool) -> tuple[list[Peer], dict[str, tuple[str, str]]]:
    ready, skipped = [], {}
    for name in peers:
        try:
            command(PEERS[name], install=install)
        except Skipped as why:
            skipped[name] = (why.reason, why.detail)
        else:
            ready.append(PEERS[name])
    return ready, skipped
