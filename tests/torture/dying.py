"""Lives of a program that is killed at the n-th step of its loop, one after the other on one folder.

The program is run as `python PROGRAM FOLDER AT [WAY]`. It lives on the folder, and kills itself with
`Death` when it begins its step AT of those that are counted; with 0 it only comes to rest. If it outlives
that, its last line is what is stored, as JSON, and has the `steps` it took. WAY names how it is broken, which
whoever checks must find.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import attrs
import trio

from rtos.user.records import Records

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


class Death(trio.abc.Instrument):
    """Counts the steps of the loop, and kills the process at one of them."""

    def __init__(self, at: int) -> None:
        self.at = at
        self.steps = 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """One more, or the end."""
        self.steps += 1
        if self.steps == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


@attrs.frozen
class Life:
    """One process, and what it has said."""

    killed: bool
    lines: list[str]

    @property
    def stored(self) -> dict[str, Any]:
        """What is stored at its end, as it says."""
        found: dict[str, Any] = json.loads(self.lines[-1])
        return found


def live(program: Path, place: Path, at: int, *ways: str) -> Life:
    """Live once."""
    words = [sys.executable, str(program), str(place), str(at), *ways]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    killed = done.returncode == -signal.SIGKILL
    assert killed or done.returncode == 0, done.stderr
    return Life(killed, done.stdout.splitlines())


def kill_at_each(
    program: Path,
    root: Path,
    points: int,
    check: Callable[[Sequence[Life]], int],
    *ways: str,
    lives: int,
) -> tuple[int, int]:
    """Kill at so many steps, evenly over all that are counted; 0 for each of them.

    Args:
      program: what is run.
      root: an empty folder.
      points: how many.
      check: holds what is stored against what must be, given all lives on one folder, of which the last
        came to rest; says how many things it has found right.
      ways: how the program is broken.
      lives: how many are ended on one folder.

    Returns:
      How many lives were ended, and how many things were found right.
    """
    whole = live(program, root / "whole", sys.maxsize, *ways)
    check([whole])
    counted = whole.stored["steps"]
    stride = max(1, counted // points) if points else 1
    steps = range(1, counted + 1, stride)
    ended = right = 0
    for first in range(0, len(steps), lives):
        some = (*steps[first : first + lives], 0)
        lived = [live(program, root / str(first), at, *ways) for at in some]
        assert not lived[-1].killed
        ended += sum(life.killed for life in lived)
        right += check(lived)
    return ended, right


async def records(bus: Any, collection: str, user_id: str | None = None) -> list[dict[str, Any]]:
    """All of a collection."""
    return [record async for record in Records(bus, collection, user_id=user_id)]
