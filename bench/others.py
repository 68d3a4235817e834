"""Other systems that take turns with ours: asyncio in this process, the rest in processes of their own.

Law: who cannot be had on this machine is left out of a run, with a word, and never fails it.
Who begins and does not finish takes its benchmark along (``Skipped``), and no other one.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - it is what is measured
import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import attrs

from bench.harness import Sample
from bench.on_asyncio import WAYS
from bench.peers.catalogue import PEERS
from bench.peers.environments import Skipped, command, surroundings
from bench.peers.rounds import measure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

PROGRAM: Final = Path(__file__).with_name("on_asyncio.py")
PATIENCE: Final = 300.0
"""Seconds that one program may take."""


def available(benchmark: str, names: Iterable[str]) -> list[str]:
    """Those peers that can be made to run here; the others are told of on standard error."""
    found = []
    for name in names:
        try:
            command(PEERS[name])
        except Skipped as why:
            print(f"{benchmark}: {name} is left out: {why.reason}", file=sys.stderr)
        else:
            found.append(name)
    return found


def tick(name: str, seconds: float) -> Sample:
    """The tick of a peer's own program; it tells two percentiles, which are kept as figures."""
    found = measure(PEERS[name], "tick", seconds)
    return Sample(
        operations=found.operations,
        cpu_seconds=found.cpu_seconds,
        wall_seconds=found.wall_seconds,
        extra={
            "median_us": found.p50_us or 0.0,
            "tail_us": found.p99_us or 0.0,
            "share_missed": found.missed or 0.0,
        },
    )


def on_asyncio(way: str, *numbers: int) -> Callable[[], Sample]:
    """What runs one of ``bench.on_asyncio`` on the standard library's loop."""
    return lambda: Sample(**asyncio.run(WAYS[way](*numbers)))


def on_uvloop(way: str, *numbers: int) -> Callable[[], Sample]:
    """The same text on uvloop, in a process and an environment of its own; ``Skipped`` if that fails."""
    return partial(_on_uvloop, way, *numbers)


def _on_uvloop(way: str, *numbers: int) -> Sample:
    words = [*command(attrs.evolve(PEERS["uvloop"], program=PROGRAM)), way, *map(str, numbers)]
    try:
        done = subprocess.run(
            words, check=True, capture_output=True, text=True, timeout=PATIENCE, env=surroundings()
        )
    except subprocess.TimeoutExpired as error:
        raise Skipped("slow", f"uvloop still running after {error.timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        raise Skipped("failed", f"uvloop said {error.stderr.strip()[-300:]!r}") from error
    return Sample(**json.loads(done.stdout))
