"""Recall: what a persona remembers of 10 000 and of 100 000 memories, over the bus.

A question takes its words from one of the memories, rare and common ones as they come;
whether that memory is among the five best is counted. Beside it the same search as
anybody would write it, by SQLite alone: all the words, BM25, the fifty best. That is
the run's own measure, as the disk and the processor are the same for both.

How long recall holds the loop is measured apart, by the CPU time of each step of the loop's
thread, since what others take of the processor is nobody's step.
"""

from __future__ import annotations

import atexit
import itertools
import random
import shutil
import sys
import tempfile
import time
from contextlib import closing
from functools import cache, partial
from pathlib import Path
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import apsw  # noqa: TID251 - it is what ours is compared with
import attrs
import msgspec
import trio

from bench.harness import Benchmark, Sample, Size, Stopwatch
from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Operation
from rtos.runtime import Configuration, open_runtime
from rtos.user.directory import UserDirectoryManager
from rtos.user.entities import MemoryEntity
from rtos.user.memory import DAY, dated, timestamp_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rtos.bus import Commands

WHO: Final = "helper-ai"
VOCABULARY: Final = 20_000
LENGTH: Final = 60
"""Words of a memory."""
ASKED: Final = (3, 6, 12)
"""Words of a question; of each length as many."""
BEST: Final = 5
DAYS: Final = 1
"""How far back the memories go: nearly as strong as each other, so that both ways should find the same."""
SEARCH: Final = (
    "SELECT t.id, t.body, bm25(c_memories$text) AS rank FROM c_memories$text"
    " JOIN c_memories AS t ON t.row = c_memories$text.rowid"
    " WHERE c_memories$text MATCH ? ORDER BY rank, t.id LIMIT 50"
)


@attrs.frozen
class Known:
    """A system on disk, and the questions that it is to be asked, each with the memory it is about."""

    root: Path
    questions: Sequence[tuple[str, str]]

    @property
    def path(self) -> Path:
        """The database of who remembers."""
        return UserDirectoryManager(self.root).get_database_path(WHO)


@cache
def known(count: int) -> Known:
    """A system whose persona remembers so much; made once in a process and removed at its end."""
    folder = tempfile.mkdtemp(prefix="rtos-bench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    chance = random.Random(count)
    made = Known(Path(folder), [])
    texts = [_words(chance) for _ in range(count)]
    questions = [_question(chance, texts, length) for length in ASKED * 100]
    trio.run(_fill, made, texts)
    return attrs.evolve(made, questions=questions)


@cache
def _weights() -> list[float]:
    return list(itertools.accumulate(1 / (rank + 10) for rank in range(VOCABULARY)))


def _words(chance: random.Random) -> list[str]:
    found = chance.choices(range(VOCABULARY), cum_weights=_weights(), k=LENGTH)
    return [f"word{rank}" for rank in found]


def _question(chance: random.Random, texts: Sequence[Sequence[str]], length: int) -> tuple[str, str]:
    number = chance.randrange(len(texts))
    return " ".join(chance.sample(texts[number], length)), _id(number)


def _id(number: int) -> str:
    return f"m{number:06}"


async def _fill(made: Known, texts: Sequence[Sequence[str]]) -> None:
    # By a system of its own first, which makes the persona and its folders.
    async with open_runtime(Configuration(root=made.root, socket=False)):
        pass
    name, now = MemoryEntity.collection, time.time()
    collections = (Collection(name, entity=MemoryEntity, search=MemoryEntity.search_fields),)
    opened = open_sqlite_backend(lambda _: made.path, collections, RecordClock(), lambda *_: None)
    async with opened as backend:
        for numbers in _pages(len(texts)):
            operations = [
                Operation(
                    op="create", collection=name, id=_id(number), data=_memory(number, texts[number], now)
                )
                for number in numbers
            ]
            await backend.apply(None, operations)


def _pages(count: int) -> Iterator[range]:
    return (range(first, min(first + 1000, count)) for first in range(0, count, 1000))


def _memory(number: int, words: Sequence[str], now: float) -> dict[str, Any]:
    at = timestamp_of(now - DAY * DAYS * (number % 97) / 97)
    entity = MemoryEntity(kind="exchange", body=" ".join(words), source="somebody in general")
    found: dict[str, Any] = msgspec.to_builtins(dated(entity, at))
    return found


def _ours(count: int, samples: int, steps: int) -> Sample:
    return trio.run(_recall, known(count), samples, steps)


async def _recall(made: Known, samples: int, steps: int) -> Sample:
    asked = made.questions[:samples]
    waits: list[int] = []
    cpu: list[int] = []
    hits = 0
    async with open_runtime(Configuration(root=made.root, socket=False, owns_process=True)) as runtime:
        await _ask(runtime.commands, made.questions[-1][0])
        with Stopwatch() as watch:
            for text, about in asked:
                sent, spent = perf_counter_ns(), time.process_time_ns()
                ids = await _ask(runtime.commands, text)
                waits.append(perf_counter_ns() - sent)
                cpu.append(time.process_time_ns() - spent)
                hits += about in ids
        longest = await _longest(runtime.commands, [text for text, _ in made.questions[-steps:]])
    return watch.sample(
        len(waits),
        latencies=waits,
        p95_ms=_p95(waits) / 1e6,
        cpu_p95_ms=_p95(cpu) / 1e6,
        cpu_longest_step_ms=longest / 1e6,
        share_found=hits / len(waits),
    )


async def _ask(commands: Commands, text: str) -> list[str]:
    found = await commands.execute("memory/recall", user=WHO, query=text, limit=BEST)
    return [item["id"] for item in found["items"]]


class _Steps(trio.abc.Instrument):
    """The longest step, in CPU time of the loop's thread."""

    def __init__(self) -> None:
        self.longest = 0
        self._began: dict[trio.lowlevel.Task, int] = {}

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._began[task] = time.thread_time_ns()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        # Of the step in which this was put in place, nobody has seen the beginning.
        if (began := self._began.pop(task, None)) is not None:
            self.longest = max(self.longest, time.thread_time_ns() - began)


async def _longest(commands: Commands, texts: Sequence[str]) -> int:
    steps = _Steps()
    trio.lowlevel.add_instrument(steps)
    try:
        for text in texts:
            await _ask(commands, text)
    finally:
        trio.lowlevel.remove_instrument(steps)
    return steps.longest


def _alone(count: int, samples: int) -> Sample:
    made = known(count)
    waits: list[int] = []
    hits = 0
    with closing(apsw.Connection(str(made.path), flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        expressions = [" OR ".join(f'"{word}"' for word in text.split()) for text, _ in made.questions]
        list(connection.execute(SEARCH, (expressions[-1],)))
        with Stopwatch() as watch:
            for expression, (_, about) in zip(expressions[:samples], made.questions, strict=False):
                sent = perf_counter_ns()
                found = list(connection.execute(SEARCH, (expression,)))
                waits.append(perf_counter_ns() - sent)
                hits += about in [id for id, *_ in found[:BEST]]
    share = hits / len(waits)
    return watch.sample(len(waits), latencies=waits, p95_ms=_p95(waits) / 1e6, share_found=share)


def _p95(waits: Sequence[int]) -> int:
    return sorted(waits)[(len(waits) * 95 + 99) // 100 - 1]


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """Ours, and SQLite alone, on the same file."""
    found: dict[str, Callable[[], Sample]] = {}
    samples, steps = size.of(6, 60, 150), size.of(3, 12, 30)
    for name, count in (
        ("10 000", size.of(200, 10_000, 10_000)),
        ("100 000", size.of(400, 100_000, 100_000)),
    ):
        found[f"recall, {name}"] = partial(_ours, count, samples, steps)
        found[f"sqlite alone, {name}"] = partial(_alone, count, samples)
    return found


BENCHMARK = Benchmark(
    name="recall",
    summary="the five memories that fit a question best, of 10 000 and of 100 000",
    unit="recall",
    variants=variants,
    rounds=3,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["recall", *sys.argv[1:]]))
