"""sqlite-anyio on Trio: writes or reads by some callers, as ``bench/stores.py`` has them.

Takes a file, what to do, by how many, how often in all, and the two statements; prints
one line of JSON. It has no way to switch the implicit transactions off, so a write is
two hops, under a lock; a read is two as well.
"""

from __future__ import annotations

import json
import random
import sys
from time import perf_counter_ns, process_time_ns

import msgspec
import sqlite_anyio
import trio

AT = "2026-01-01T00:00:00.000000Z"


async def connected(path: str) -> sqlite_anyio.Connection:
    connection = await sqlite_anyio.connect(path)
    for pragma in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"):
        await (await connection.execute(pragma)).fetchall()
    return connection


async def main(path: str, what: str, callers: int, calls: int, insert: str, select: str, body: str) -> None:
    writer, lock = await connected(path), trio.Lock()
    readers = [await connected(path) for _ in range(callers)] if what == "read" else []
    latencies: list[int] = []

    async def write(id: str) -> None:
        async with lock:
            await writer.execute(insert, (id, AT, AT, body))
            await writer.commit()

    async def read(caller: int, id: str) -> None:
        row = await (await readers[caller].execute(select, (id,))).fetchone()
        assert row[0] == id
        msgspec.json.decode(row[4])

    async def call(caller: int) -> None:
        choose = random.Random(caller).randrange
        for number in range(calls // callers):
            sent = perf_counter_ns()
            if what == "write":
                await write(f"{caller}-{number}")
            else:
                await read(caller, f"{choose(1000):06}")
            latencies.append(perf_counter_ns() - sent)

    await write("first")
    cpu, wall = process_time_ns(), perf_counter_ns()
    async with trio.open_nursery() as nursery:
        for caller in range(callers):
            nursery.start_soon(call, caller)
    wall, cpu = perf_counter_ns() - wall, process_time_ns() - cpu
    for connection in (writer, *readers):
        await connection.close()
    print(json.dumps({"latencies": latencies, "cpu_seconds": cpu / 1e9, "wall_seconds": wall / 1e9}))


if __name__ == "__main__":
    file, doing, by, times, *statements = sys.argv[1:]
    trio.run(main, file, doing, int(by), int(times), *statements)
