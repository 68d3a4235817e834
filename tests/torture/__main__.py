"""The long torture, about a quarter of an hour and more: ``make torture``.

python tests/torture [--kills 500] [--answers 200] [--servicing 0] [--performing 150]
    [--minutes 10] [--databases 10000] [--seed N]

Kills, faults at every step of the way to the disk, power cuts, fuzzing, many databases.
`--answers N` kills who answers at N points, between statements and commands; `--servicing N` at N steps
of the loop, 0 for every one of them, and `--performing N` who performs tasks in the same way.
Ends with an error at the first that is not as it must be; 0 leaves a part out, and -1 those two.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from random import Random

# Run as a folder, it has itself on the path, and nothing else of the tests.
sys.path.insert(0, str(Path(__file__).parents[1] / "system"))
sys.path.insert(0, str(Path(__file__).parents[2]))

import performing
import points
import servicing
import trio
from crash import Lives, faithful
from fuzz import fuzz
from many import OPEN, touch_all
from test_answering_kill import kill_while_answering

from tests.support.signals import restore_default_signals

LIVES = 20
"""Of one database, before the next begins afresh."""
DEEPEST = 400
"""A step of the way to the disk that a process always comes to."""


def kills(folder: Path, number: int, seed: int) -> None:
    """So many ends: every second by a signal at any moment, the others amid a write or a sync."""
    chance = Random(seed)
    for first in range(0, number, LIVES):
        lives = Lives(folder / f"{first}.db", seed=seed + first)
        some = min(LIVES, number - first)
        for each in range(some):
            lives.live(at=chance.randrange(1, DEEPEST) if each % 2 else 0)
        say(f"{first + some} kills, {lives.acknowledged} acknowledged by the last {some}")


def faults(folder: Path, seed: int) -> None:
    """Every step of the scenario refused, for want of room or of a disk, once and for good; power cuts."""
    for act in ("refuse", "fill_up"):
        for lasting in (False, True):
            place = folder / f"{act}-{lasting}"
            steps, refused = points.fail_at_each(place, act, faithful, lasting=lasting)
            say(f"{act}{', lasting' if lasting else ''}: {steps} steps, {refused} writes refused")
    for each in range(10):
        found = points.cuts(folder / f"cut{each}" / "x.db", faithful, seed=seed + each)
        points.check_cuts(found, folder / f"cuts{each}")
        say(f"{len(found)} power cuts")


def databases(folder: Path, number: int) -> None:
    """Many, and what is held meanwhile."""
    before, most = trio.run(touch_all, folder, number)
    assert most.files <= before.files + 3 * OPEN, (before, most)
    assert most.memory <= before.memory + 64 * 2**20, (before, most)
    say(
        f"{number} databases: {most.files} descriptors, {most.memory >> 20} MiB, {before.memory >> 20} before"
    )


def say(text: str) -> None:
    """One line, at once."""
    print(text, flush=True)  # noqa: T201 - somebody waits for it


def main() -> None:
    """All of it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--no-faults", action="store_true")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--databases", type=int, default=10_000)
    parser.add_argument("--answers", type=int, default=200)
    parser.add_argument("--servicing", type=int, default=0)
    parser.add_argument("--performing", type=int, default=150)
    parser.add_argument("--seed", type=int, default=Random().randrange(10**6))
    options = parser.parse_args()
    restore_default_signals()
    say(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        kills(place, options.kills, options.seed)
        if not options.no_faults:
            faults(place, options.seed)
        if options.databases:
            databases(place / "many", options.databases)
        if options.answers:
            asked = kill_while_answering(place / "answers", options.answers, options.seed)
            say(f"{options.answers} kills of who answers: {asked} questions, each with one answer")
        if options.servicing >= 0:
            ended, asked, together = servicing.kill_at_each(place / "servicing", options.servicing)
            say(f"{ended} kills amid the servicing, {asked} messages answered once each")
            say(f"{together} of them by the reply to a later one")
        if options.performing >= 0:
            ended, performed = performing.kill_at_each(place / "performing", options.performing)
            say(f"{ended} kills amid the performing, {performed} tasks performed once each")
        if options.minutes:
            asked = fuzz(place / "fuzz", seed=options.seed, seconds=60 * options.minutes)
            say(f"{asked} hostile requests")


if __name__ == "__main__":
    main()
