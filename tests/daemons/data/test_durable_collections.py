"""A transaction is synced before it is acknowledged, unless a power cut may take all that it touches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading

import apsw  # noqa: TID251 - counts what is synced
import pytest
import trio
import trio.testing

from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Operation
from rtos.errors import StoreFull

COLLECTIONS = (Collection("ledger"), Collection("views", durable=False, search=("text",)))


class CountingVFS(apsw.VFS):
    """The usual files, with a count of the syncs of those that are ours; full if told so."""

    def __init__(self) -> None:
        self.syncs = 0
        self.full = False
        super().__init__("counting", "unix", makedefault=True)

    def xOpen(self, name, flags):  # noqa: N802 - the driver's name
        return CountingFile(self, name, flags)


class CountingFile(apsw.VFSFile):
    def __init__(self, counting, name, flags) -> None:
        self.counting = counting
        super().__init__("unix", name, flags)

    def xWrite(self, data, offset) -> None:  # noqa: N802 - the driver's name
        if self.counting.full:
            raise apsw.FullError("no room")
        super().xWrite(data, offset)

    def xSync(self, flags) -> None:  # noqa: N802 - the driver's name
        self.counting.syncs += 1
        super().xSync(flags)


@pytest.fixture
def vfs():
    vfs = CountingVFS()
    yield vfs
    apsw.set_default_vfs("unix")
    vfs.unregister()


def write(id, *collections) -> list[Operation]:
    return [Operation(op="store", collection=name, id=id, data={"text": "x"}) for name in collections]


def open_backend(tmp_path):
    return open_sqlite_backend(lambda _: tmp_path / "x.db", COLLECTIONS, RecordClock(), lambda *_: None)


async def test_only_a_transaction_with_something_durable_in_it_is_synced(tmp_path, vfs) -> None:
    async with open_backend(tmp_path) as backend:
        await backend.apply(None, write("first", "ledger"))

        async def syncs(*collections) -> list[int]:
            counts = []
            for number in range(5):
                before = vfs.syncs
                await backend.apply(None, write(f"{number}", *collections))
                counts.append(vfs.syncs - before)
            return counts

        assert await syncs("views") == [0] * 5
        assert await syncs("ledger") == [1] * 5
        assert await syncs("views", "ledger") == [1] * 5
        assert await syncs("views", "views") == [0] * 5


async def test_a_shared_commit_with_one_durable_write_is_synced(tmp_path, vfs) -> None:
    token, runs, gate = trio.lowlevel.current_trio_token(), trio.Event(), threading.Event()

    def hold(data):
        token.run_sync_soon(runs.set)
        assert gate.wait(10)
        return data

    async with open_backend(tmp_path) as backend:
        await backend.apply(None, write("held", "views"))
        for rest, syncs in (("ledger", 1), ("views", 0)):
            before, runs = vfs.syncs, trio.Event()
            gate.clear()
            async with trio.open_nursery() as nursery:
                held = Operation(op="update", collection="views", id="held", check=hold)
                nursery.start_soon(backend.apply, None, [held])
                await runs.wait()
                # These come while the thread is busy, and share the next commit.
                for number, name in enumerate(("views", "views", rest, rest, "views")):
                    nursery.start_soon(backend.apply, None, write(f"{number}", name))
                await trio.testing.wait_all_tasks_blocked()
                gate.set()
            assert vfs.syncs - before == syncs


async def test_after_a_failure_the_next_commit_is_synced_again(tmp_path, vfs) -> None:
    async with open_backend(tmp_path) as backend:
        await backend.apply(None, write("first", "ledger"))
        await backend.apply(None, write("a", "views"))
        vfs.full = True
        with pytest.raises(StoreFull, match="no room"):
            await backend.apply(None, write("a", "views"))
        vfs.full = False
        before = vfs.syncs
        await backend.apply(None, write("b", "ledger"))
        assert vfs.syncs == before + 1
        await backend.apply(None, write("b", "views"))
        assert vfs.syncs == before + 1


WRITER = """
    import os, sys, trio
    from pathlib import Path
    from rtos.daemons.data import *
    from rtos.daemons.data.operation import Operation

    async def main():
        path, views = Path(sys.argv[1]), [Collection("views", durable=False)]
        async with open_sqlite_backend(lambda _: path, views, RecordClock(), lambda *_: None) as backend:
            for number in range(1_000_000):
                await backend.apply(None, [Operation(op="create", collection="views", id=str(number))])
                os.write(1, f"{number}\\n".encode())
    trio.run(main)
"""


def write_until_killed(path) -> int:
    """Kill a writer; how many acknowledgements it gave."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        given = [process.stdout.readline() for _ in range(100)]
        os.kill(process.pid, signal.SIGKILL)
        given += process.stdout.readlines()
    return len([line for line in given if line.endswith("\n")])


@pytest.mark.process
async def test_a_crash_of_the_process_loses_nothing_that_was_acknowledged(tmp_path) -> None:
    path, views = tmp_path / "x.db", [Collection("views", durable=False)]
    given = write_until_killed(path)
    assert given >= 100
    async with open_sqlite_backend(lambda _: path, views, RecordClock(), lambda *_: None) as backend:
        # The record that is not acknowledged may have been committed, and has a number then.
        assert (await backend.changes(None, None, 1)).last >= given
        for number in range(given):
            assert await backend.get(None, "views", str(number)) is not None
