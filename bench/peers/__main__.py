"""Measures the peers in turn and prints a table for each scenario, with ratios to plain Trio.

python -m bench.peers --peers asyncio,erlang --scenarios tick --seconds 2 --rounds 3
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from bench.peers.catalogue import BASE, PEERS, SCENARIOS
from bench.peers.rounds import Found, Measurement, run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLUMNS: dict[str, Callable[[Measurement], float | None]] = {
    "per s": lambda one: one.rate,
    "per CPU s": lambda one: one.rate_per_cpu,
    "p50 us": lambda one: one.p50_us,
    "p99 us": lambda one: one.p99_us,
}


def names(known: Sequence[str]) -> Callable[[str], list[str]]:
    """A reader of a comma-separated list of known names."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        if unknown := [name for name in chosen if name not in known]:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; there are {', '.join(known)}")
        return chosen

    return read


def arguments() -> argparse.Namespace:
    """What was asked for; plain Trio is always measured, for the ratios."""
    parser = argparse.ArgumentParser(prog="bench.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=names(list(PEERS)), default=list(PEERS), help="a,b; all if not said")
    parser.add_argument("--scenarios", type=names(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every measurement there")
    parser.add_argument("--install", action="store_true", help="as root: install Go and Erlang if missing")
    return parser.parse_args()


def configuration(asked: argparse.Namespace) -> dict[str, Any]:
    """What the figures depend on, as far as it is known."""
    return {
        "python": platform.python_version(),
        "trio": version("trio"),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": os.cpu_count(),
        "seconds": asked.seconds,
        "rounds": asked.rounds,
    }


def table(found: Found, scenario: str) -> str:
    """The medians of one scenario, each beside its ratio to plain Trio."""
    lines = [f"{scenario:20}" + "".join(f"{name:>12}{'x trio':>9}" for name in COLUMNS)]
    for peer in found.rounds[scenario]:
        cells = [
            figure(found.median(scenario, peer, of), 12) + figure(found.ratio(scenario, peer, of), 9)
            for of in COLUMNS.values()
        ]
        missed = found.median(scenario, peer, lambda one: one.missed)
        lines.append(f"{peer:20}" + "".join(cells) + ("" if missed is None else f"  missed {missed:.1%}"))
    return "\n".join(lines)


def figure(value: float | None, width: int) -> str:
    """Three digits that count."""
    if value is None:
        return f"{'-':>{width}}"
    return f"{value:>{width},.0f}" if value >= 100 else f"{value:>{width}.3g}"


def main() -> None:
    """Measure, show, and write down."""
    asked = arguments()
    peers = [BASE, *(name for name in asked.peers if name != BASE)]
    found = run(peers, asked.scenarios, seconds=asked.seconds, rounds=asked.rounds, install=asked.install)
    print(", ".join(f"{name} {value}" for name, value in configuration(asked).items()), end="\n\n")
    print("\n\n".join(table(found, scenario) for scenario in asked.scenarios), end="\n\n")
    for name, (reason, detail) in found.skipped.items():
        print(f"{name}: skipped, {reason} ({detail})")
    if asked.json:
        asked.json.write_text(
            json.dumps(
                {
                    "configuration": configuration(asked),
                    "measurements": attrs.asdict(found)["rounds"],
                    "skipped": {name: list(why) for name, why in found.skipped.items()},
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
