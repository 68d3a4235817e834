"""What was acknowledged is there after the process was killed: a real process, at no chosen moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from contextlib import closing

import pytest

from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.query import Query, parse_filter
from rtos.daemons.data.sqlite.connection import open_connection

WRITER = """
    import os, sys, trio
    from pathlib import Path
    from rtos.daemons.data import *
    from rtos.daemons.data.operation import Operation

    async def main():
        path, notes = Path(sys.argv[1]), [Collection("notes", search=("text",))]
        async with open_sqlite_backend(lambda _: path, notes, RecordClock(), lambda *_: None) as backend:
            async def write(task):
                for number in range(1_000_000):
                    pair = [
                        Operation(op="create", collection="notes", id=f"{sys.argv[2]}-{task}-{number}-{half}",
                                  data={"text": "half of two"})
                        for half in (0, 1)
                    ]
                    await backend.apply(None, pair)
                    os.write(1, f"{sys.argv[2]}-{task}-{number}\\n".encode())
            async with trio.open_nursery() as nursery:
                for task in range(8):
                    nursery.start_soon(write, task)
    trio.run(main)
"""


def write_until_killed(path, life: int, acknowledgements: int) -> list[str]:
    """Kill a writer after so many acknowledgements; all that it gave."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), str(life)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        given = [process.stdout.readline() for _ in range(acknowledgements)]
        os.kill(process.pid, signal.SIGKILL)
        given += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    # The last line may have been cut; then it was not received.
    return [line.strip() for line in given if line.endswith("\n")]


@pytest.mark.process
async def test_no_acknowledged_write_is_lost_and_none_is_there_by_half(tmp_path) -> None:
    path, notes = tmp_path / "x.db", Collection("notes", search=("text",))
    acknowledged: set[str] = set()
    for life, acknowledgements in enumerate((1, 30, 200)):
        acknowledged |= set(write_until_killed(path, life, acknowledgements))
        there = set()
        async with open_sqlite_backend(lambda _: path, [notes], RecordClock(), lambda *_: None) as backend:
            last = ""
            while True:
                query = Query(where=parse_filter("x", {"id": {"$gt": last}}), limit=500)
                page = await backend.find(None, "notes", query)
                if not page:
                    break
                there |= {record["id"] for record in page}
                last = page[-1]["id"]
        pairs = {id.rpartition("-")[0] for id in there}
        assert there == {f"{pair}-{half}" for pair in pairs for half in (0, 1)}
        assert acknowledged <= pairs
        with closing(open_connection(path, [notes], create=False)) as connection:
            assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
            # The text index agrees with the records as well, or this raises.
            connection.execute("INSERT INTO c_notes$text (c_notes$text) VALUES ('integrity-check')")
            texts = list(connection.execute("SELECT count(*) FROM c_notes$text"))
            assert texts == [(len(there),)]
    assert len(acknowledged) >= 231
