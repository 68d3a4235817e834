"""A process that writes until it is killed, and what must be true afterwards.

As a program it writes to a database with several tasks at once and says each
acknowledged step on its standard output. As a module it runs that program, kills it
at a moment by chance, or lets it end at the n-th step of its way to the disk, and
holds what is left against what was acknowledged.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from pathlib import Path
from random import Random
from typing import Any

import oracle
import trio
from faults import ACTS, Faulty, installed

from rtos.daemons.data import RecordClock, open_sqlite_backend

TASKS = 8
HERE = Path(__file__)


def opened(path: Path) -> Any:
    """The backend on one file."""
    return open_sqlite_backend(lambda _: path, oracle.NOTES, RecordClock(), lambda *_: None)


async def faithful(backend: Any, operations: Any, acknowledge: Callable[[], None]) -> None:
    """First the transaction, then the word."""
    await backend.apply(None, operations)
    acknowledge()


async def hasty(backend: Any, operations: Any, acknowledge: Callable[[], None]) -> None:
    """The word before the transaction: a broken store, which the oracle must find."""
    acknowledge()
    await backend.apply(None, operations)


async def piecemeal(backend: Any, operations: Any, acknowledge: Callable[[], None]) -> None:
    """A transaction in pieces: a broken store, which the oracle must find."""
    for operation in operations:
        await backend.apply(None, [operation])
    acknowledge()


WAYS: dict[str, Callable[..., Awaitable[None]]] = {way.__name__: way for way in (faithful, hasty, piecemeal)}


async def _write(path: Path, life: str, way: Callable[..., Awaitable[None]]) -> None:
    async def task(backend: Any, name: str) -> None:
        for number in range(1_000_000):
            word = f"{name} {number}\n".encode()
            await way(backend, oracle.step(name, number), lambda word=word: os.write(1, word))

    async with opened(path) as backend, trio.open_nursery() as nursery:
        for number in range(TASKS):
            nursery.start_soon(task, backend, f"{life}t{number}")


def program(path: str, life: str, way: str, at: str = "0") -> None:
    """Write for ever, or until the n-th step of the way to the disk."""
    fault: Any = installed(Faulty(int(at), ACTS["die"])) if int(at) else nullcontext()
    with fault:
        trio.run(_write, Path(path), life, WAYS[way])


class Lives:
    """A database, and the processes that wrote to it one after the other.

    Attributes:
      acknowledged: how many steps, of all lives.
    """

    def __init__(self, path: Path, *, seed: int, way: str = "faithful") -> None:
        self._path, self._way = path, way
        self._chance = Random(seed)
        self._before: oracle.State = {}
        self._number = 0
        self.acknowledged = 0

    def all(self, number: int) -> None:
        """So many lives, each ended by chance. See ``live``."""
        for _ in range(number):
            self.live()

    def live(self, *, at: int = 0) -> None:
        """One more life and its end; by chance, or at a step of the way to the disk.

        Raises:
          AssertionError: what is left is not what it must be.
        """
        self._number += 1
        life = f"l{self._number}"
        words = [sys.executable, str(HERE), str(self._path), life, self._way, str(at)]
        given = self._kill(words) if not at else self._end(words)
        done = [line.split() for line in given if line.endswith("\n")]
        self._examine(life, [(name, int(number)) for name, number in done])

    def _kill(self, words: list[str]) -> list[str]:
        # A number of acknowledgements, and not of milliseconds: on a slow machine it is as far.
        wanted = int(self._chance.paretovariate(0.6)) % 400
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            given = [process.stdout.readline() for _ in range(wanted)]
            process.send_signal(signal.SIGKILL)
            given += process.stdout.readlines()
        assert process.returncode == -signal.SIGKILL, "it had ended by itself"
        return given

    def _end(self, words: list[str]) -> list[str]:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
        assert done.returncode == -signal.SIGKILL, "it had ended by itself"
        return done.stdout.splitlines(keepends=True)

    def _examine(self, life: str, done: list[tuple[str, int]]) -> None:
        found = oracle.examined(self._path)
        old = {id: data for id, data in found.items() if not id.startswith(f"{life}t")}
        assert old == self._before, "an earlier life's records are not as they were"
        for each in range(TASKS):
            name = f"{life}t{each}"
            own = {id: data for id, data in found.items() if id.startswith(f"{name}-")}
            acknowledged = [number for task, number in done if task == name]
            assert acknowledged == list(range(len(acknowledged))), "not told in its order"
            # The one under way may have been done, and its word not have been said.
            oracle.check(own, name, acknowledged, [len(acknowledged)])
        self._before = found
        self.acknowledged += len(done)


if __name__ == "__main__":
    program(*sys.argv[1:])
