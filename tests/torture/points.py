"""Every step of a short scenario's way to the disk: it fails, or the power goes there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw  # noqa: TID251 - its errors must not come through
import attrs
import oracle
import trio
from crash import opened
from faults import ACTS, Faulty, PowerCut, installed, survivors

from rtos.daemons.data.query import Query
from rtos.errors import StoreError

STEPS = 7
TASK = "t"


@attrs.define
class Told:
    """What the writer was told of each step.

    Attributes:
      foreign: the driver's own errors among what was refused; there must be none.
    """

    acknowledged: list[int] = attrs.field(factory=list)
    refused: list[int] = attrs.field(factory=list)
    foreign: list[BaseException] = attrs.field(factory=list)


async def _write(path: Path, told: Told, way: Any) -> oracle.State:
    """The scenario; returns what could be read at its end, while the store was still open."""
    async with opened(path) as backend:
        for number in range(STEPS):
            try:
                await way(
                    backend, oracle.step(TASK, number), lambda number=number: told.acknowledged.append(number)
                )
            except StoreError:
                told.refused.append(number)
            except apsw.Error as error:
                # As good as refused; but a host knows no driver, and could not act on it.
                told.refused.append(number)
                told.foreign.append(error)
        try:
            records = await backend.find(None, "notes", Query(limit=1000))
            for record in records:
                assert await backend.get(None, "notes", record["id"]) == record
        except (StoreError, apsw.Error):
            return {}
    return {each["id"]: {key: each[key] for key in ("text", "number") if key in each} for each in records}


def count(path: Path, way: Any) -> int:
    """How many steps the scenario has where nothing goes wrong."""
    with installed(Faulty()) as vfs:
        trio.run(_write, path, Told(), way)
    return len(vfs.steps)


def fail(path: Path, at: int, act: str, way: Any, *, lasting: bool) -> Told:
    """Let the n-th step fail, and see that what is there is what was said.

    Raises:
      AssertionError: it is not.
    """
    told = Told()
    with installed(Faulty(at, ACTS[act], lasting=lasting)):
        live = trio.run(_write, path, told, way)
    if not lasting:
        # The next writer finds a store that works: the cause has gone.
        assert len(told.refused) <= 1, f"one fault, and {told.refused} were refused"
        oracle.check(live, TASK, told.acknowledged)
    oracle.check(oracle.examined(path), TASK, told.acknowledged, told.refused)
    return told


def fail_at_each(
    folder: Path, act: str, way: Any, *, lasting: bool = False, stride: int = 1
) -> tuple[int, int]:
    """Let each step, or every ``stride``-th, fail in its turn, as ``fail`` does.

    Returns:
      How many steps failed, and how many transactions were refused.
    """
    steps = range(1, count(folder / "whole" / "x.db", way) + 1, stride)
    told = [fail(folder / f"{at}" / "x.db", at, act, way, lasting=lasting) for at in steps]
    return len(steps), sum(len(each.refused) for each in told)


@attrs.frozen
class Cut:
    """A moment, and what a disk may hold if the power goes then."""

    acknowledged: tuple[int, ...]
    images: dict[str, dict[str, bytes]]


def cuts(path: Path, way: Any, *, seed: int) -> list[Cut]:
    """The scenario once, and all its moments; also the one after its last word."""
    told, found = Told(), []
    survives = survivors(seed)

    def look(vfs: PowerCut) -> None:
        found.append(
            Cut(tuple(told.acknowledged), {name: vfs.image(each) for name, each in survives.items()})
        )

    with installed(PowerCut(look)):
        trio.run(_write, path, told, way)
    return found


def check_cuts(found: list[Cut], folder: Path) -> None:
    """Put back what the disk held at each, and hold it against what had been acknowledged.

    Raises:
      AssertionError: something acknowledged is missing, or the file is not well.
    """
    for number, cut in enumerate(found):
        for name, image in cut.images.items():
            place = folder / f"{number}-{name}"
            place.mkdir(parents=True)
            for file, content in image.items():
                (place / file).write_bytes(content)
            left = oracle.examined(place / "x.db")
            oracle.check(left, TASK, cut.acknowledged, [len(cut.acknowledged)])
