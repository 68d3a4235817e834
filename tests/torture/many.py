"""Thousands of databases, one for each user, behind a store that keeps 64 of them open.

Touches all of them twice, in an order by chance, and watches what the process holds.
"""

from __future__ import annotations

import os
from pathlib import Path
from random import Random

import attrs
import trio

from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Operation

OPEN = 64
CALLERS = 16


@attrs.frozen
class Held:
    """What a process holds: memory in bytes, and open descriptors."""

    memory: int
    files: int

    @classmethod
    def now(cls) -> Held:
        """By this process."""
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return cls(pages * os.sysconf("SC_PAGE_SIZE"), len(list(Path("/proc/self/fd").iterdir())))


async def touch_all(folder: Path, number: int, *, open_databases: int = OPEN) -> tuple[Held, Held]:
    """Write to so many databases, then read from each what was written.

    Returns:
      What was held when as many had been touched as are kept open, and the most after that.

    Raises:
      AssertionError: a record is not there.
    """
    users = [f"user{each:06}" for each in range(number)]
    collections = [Collection("notes")]

    def path(user: str | None) -> Path:
        return folder / str(user)[-2:] / f"{user}.db"

    opened = open_sqlite_backend(
        path, collections, RecordClock(), lambda *_: None, open_databases=open_databases
    )
    async with opened as backend:

        async def write(user: str) -> None:
            await backend.apply(
                user, [Operation(op="create", collection="notes", id="one", data={"of": user})]
            )

        async def read(user: str) -> None:
            record = await backend.get(user, "notes", "one")
            assert record is not None
            assert record["of"] == user

        for user in users[:OPEN]:
            await write(user)
        before = most = Held.now()
        for what, whom in ((write, users[OPEN:]), (read, users)):
            Random(number).shuffle(whom)
            for first in range(0, len(whom), CALLERS):
                async with trio.open_nursery() as nursery:
                    for user in whom[first : first + CALLERS]:
                        nursery.start_soon(what, user)
                now = Held.now()
                most = Held(max(most.memory, now.memory), max(most.files, now.files))
    return before, most
