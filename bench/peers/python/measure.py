"""What every Python peer counts with: one window, its waits, its CPU, and the grid of the tick.

Needs the standard library only, for each peer runs in an environment of its own.
The window is opened when the peer's tasks stand, so nobody pays for his imports.
CPU is that of the process and, where Linux tells it, of its living children.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter_ns, process_time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SCENARIOS = ("round_trip", "round_trip_deadline", "round_trip_100", "fan_in", "tick")
CLIENTS = 100
SENDERS = 1000
BURST = 10
BUSY = 50
STEP_NS = 200_000
PERIOD_NS = 5_000_000
TIMEOUT = 1.0

clock = perf_counter_ns


class Window:
    """One measured stretch of time; waits are in nanoseconds."""

    def __init__(self, peer: str, scenario: str, seconds: float) -> None:
        self.peer = peer
        self.scenario = scenario
        self.seconds = seconds
        self.waits: list[int] = []
        self.operations = 0
        self.until = 0
        self.instants = 0
        self.in_time = 0
        self.extra: dict[str, object] = {}

    @property
    def is_over(self) -> bool:
        """Whether the time is up."""
        return clock() >= self.until

    @contextmanager
    def opened(self) -> Iterator[Window]:
        """Measure the body; what it does after the time is up still counts, as work and as time."""
        cpu, began = cpu_seconds(), clock()
        self.until = began + int(self.seconds * 1e9)
        yield self
        self.wall = (clock() - began) / 1e9
        self.cpu = cpu_seconds() - cpu

    def took(self, waits: list[int]) -> None:
        """Round trips of one client."""
        self.waits += waits
        self.operations += len(waits)

    def report(self) -> None:
        """The one line on standard output."""
        waits = sorted(self.waits)
        line: dict[str, object] = {
            "peer": self.peer,
            "scenario": self.scenario,
            "operations": self.operations,
            "cpu_seconds": round(self.cpu, 6),
            "wall_seconds": round(self.wall, 6),
            "p50_us": quantile_us(waits, 0.50),
            "p99_us": quantile_us(waits, 0.99),
        }
        if self.scenario == "tick":
            line["missed"] = round(1 - self.in_time / max(self.instants, 1), 6)
        print(json.dumps(line | self.extra), flush=True)


class Grid:
    """The absolute grid of the tick; an instant that passed while an answer was owed was missed."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._start = clock()
        self._index = 0

    def next_due(self) -> int | None:
        """The next instant to ask at, in nanoseconds of :data:`clock`; None when the time is up."""
        passed = (clock() - self._start) // PERIOD_NS
        self._index = max(self._index, passed) + 1
        due = self._start + self._index * PERIOD_NS
        if due >= self._window.until:
            return None
        self._window.instants = self._index
        return due

    def answered(self, due: int) -> None:
        """The answer to the question of that instant is here."""
        wait = clock() - due
        self._window.waits.append(wait)
        self._window.operations += 1
        self._window.in_time += wait <= PERIOD_NS


def burn() -> None:
    """One step of a busy task."""
    until = clock() + STEP_NS
    while clock() < until:
        pass


def stamped(sender: int, number: int) -> int:
    """The message of a fan-in: one in ten carries its time, each sender's at another place."""
    return clock() if number == sender % BURST else 0


def quantile_us(ordered: list[int], fraction: float) -> float | None:
    """A quantile in microseconds; None if nothing was answered."""
    if not ordered:
        return None
    return round(ordered[min(int(len(ordered) * fraction), len(ordered) - 1)] / 1e3, 3)


def cpu_seconds() -> float:
    """CPU used by this process and by its living descendants."""
    return process_time() + sum(_ticks(child) for child in _descendants(os.getpid())) / os.sysconf(
        "SC_CLK_TCK"
    )


def _descendants(process: int) -> Iterator[int]:
    for listed in Path(f"/proc/{process}/task").glob("*/children"):
        for child in map(int, listed.read_text().split()):
            yield child
            yield from _descendants(child)


def _ticks(process: int) -> int:
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def main(peer: str, run: Callable[[Window], None]) -> None:
    """Read the command line, run the scenario, print the line."""
    if len(sys.argv) != 3 or sys.argv[1] not in SCENARIOS:
        sys.exit(f"usage: {sys.argv[0]} {'|'.join(SCENARIOS)} SECONDS")
    window = Window(peer, sys.argv[1], float(sys.argv[2]))
    run(window)
    window.report()
