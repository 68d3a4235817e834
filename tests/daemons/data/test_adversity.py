"""What goes wrong around the files: it is told with what to do, nothing that was acknowledged
is lost, and the very next command after the cause has gone succeeds."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial

import apsw  # noqa: TID251 - its faults are made here
import pytest
import trio
import trio.testing
from running import running

from rtos.daemons.data import Collection, open_sqlite_backend
from rtos.errors import StoreBusy, StoreError, StoreFull

NOTES = (Collection("notes", search=("text",)),)


@asynccontextmanager
async def opened(folder, **options):
    def path(user_id):
        return folder / (user_id or "shared") / "x.db"

    async with running(NOTES, partial(open_sqlite_backend, path, **options)) as bus:
        yield bus.commands.execute


# ruff: noqa: N802 - the driver's names


class FaultyFile(apsw.VFSFile):
    """A file that fails where it is told to."""

    def __init__(self, faults, filename, flags):
        super().__init__(faults.base, filename, flags)
        self.faults = faults

    def xWrite(self, data, offset):
        self.faults.meet("write")
        super().xWrite(data, offset)

    def xSync(self, flags):
        self.faults.meet("sync")
        super().xSync(flags)

    def xRead(self, amount, offset):
        self.faults.meet("read")
        return super().xRead(amount, offset)


class Faults(apsw.VFS):
    """A file system that fails where it is told to, from the ``after``-th time on."""

    def __init__(self):
        self.base = apsw.vfs_names()[0]
        super().__init__("faulty", self.base, makedefault=True)
        self.where, self.error, self.after, self.met = "", None, 0, 0

    def xOpen(self, name, flags):
        self.meet("open")
        return FaultyFile(self, name, flags)

    def meet(self, where):
        if where == self.where:
            self.met += 1
            if self.met > self.after:
                raise self.error

    @contextmanager
    def failing(self, where, error, after=0):
        self.where, self.error, self.after, self.met = where, error, after, 0
        try:
            yield
        finally:
            self.where = ""


@pytest.fixture
def faults():
    before = apsw.vfs_names()[0]
    faulty = Faults()
    yield faulty
    faulty.unregister()
    assert apsw.vfs_names()[0] == before


@pytest.mark.parametrize(
    ("where", "error", "expected", "said"),
    [
        ("write", apsw.FullError("disk full"), StoreFull, "make room on the disk"),
        ("write", apsw.IOError("disk I/O error"), StoreError, "look at the disk and its log"),
        ("write", apsw.ReadOnlyError("read-only"), StoreError, "mend the permissions of the file"),
        ("sync", apsw.IOError("disk I/O error"), StoreError, "look at the disk and its log"),
    ],
)
async def test_a_write_that_fails_at_any_point_is_told_and_the_next_one_succeeds(
    tmp_path, faults, where, error, expected, said
) -> None:
    acknowledged = {"first"}
    async with opened(tmp_path) as execute:
        await execute("data/store", key="first", value="x" * 3000)
        failures = 0
        for after in range(12):
            key = f"k{after}"
            with faults.failing(where, error, after):
                try:
                    # One that fits into a page, and one that does not.
                    await execute("data/store", key=key, value="x" * 9000)
                    acknowledged.add(key)
                except StoreError as told:
                    failures += 1
                    assert isinstance(told, expected)
                    assert said in str(told)
                # The others are served by the same thread or the other one, where no disk is needed.
                assert await execute("data/read", key="none", user_id="nobody") is None
            await execute("data/store", key=f"after {after}", value=1)
            acknowledged.add(f"after {after}")
            assert (await execute("data/read", key="first"))["value"] == "x" * 3000
        assert failures > 0
    async with opened(tmp_path) as execute:
        there = {item["id"] for item in (await execute("data/list", collection="kv", limit=500))["items"]}
        assert acknowledged <= there
    with closing(apsw.Connection(str(tmp_path / "shared" / "x.db"))) as connection:
        assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]


async def test_what_cannot_be_opened_or_read_is_told_and_then_is_read(tmp_path, faults) -> None:
    async with opened(tmp_path) as execute:
        await execute("data/store", key="k", value=1, user_id="joel")
    async with opened(tmp_path) as execute:
        read = partial(execute, "data/read", key="k", user_id="joel")
        with (
            faults.failing("open", apsw.CantOpenError("unable to open")),
            pytest.raises(StoreError, match="open '.*joel/x.db'.*mend the permissions"),
        ):
            await read()
        assert (await read())["value"] == 1
    async with opened(tmp_path) as execute:
        read = partial(execute, "data/read", key="k", user_id="joel")
        with (
            faults.failing("read", apsw.IOError("disk I/O error")),
            pytest.raises(StoreError, match="look at the disk"),
        ):
            await read()
        assert (await read())["value"] == 1


async def test_a_folder_that_is_a_file_is_told(tmp_path) -> None:
    (tmp_path / "joel").write_text("")
    async with opened(tmp_path) as execute:
        with pytest.raises(StoreError, match="joel/x.db.*; "):
            await execute("data/store", key="k", value=1, user_id="joel")
        (tmp_path / "joel").unlink()
        await execute("data/store", key="k", value=1, user_id="joel")


async def test_a_disk_that_is_full_fails_a_backup_and_leaves_none(tmp_path, faults) -> None:
    async with opened(tmp_path) as execute:
        await execute("data/store", key="k", value="x" * 100_000)
        with faults.failing("write", apsw.FullError("full"), 5), pytest.raises(StoreFull, match="make room"):
            await execute("data/backup")
        assert list((tmp_path / "shared" / "backups").iterdir()) == []
        await execute("data/backup")
        assert (await execute("data/backups"))["count"] == 1
        assert (await execute("data/read", key="k"))["value"] == "x" * 100_000


async def test_nobody_waits_for_another_programs_lock_but_who_wants_that_database(tmp_path) -> None:
    """One thread. The others are served while a write waits; when the lock goes, so does the wait."""
    async with opened(tmp_path, threads=1) as execute:
        for user_id in ("held", "free"):
            await execute("data/store", key="k", value=0, user_id=user_id)
        ended = trio.Event()

        async def write() -> None:
            await execute("data/store", key="k", value=1, user_id="held")
            ended.set()

        with closing(apsw.Connection(str(tmp_path / "held" / "x.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(write)
                for number in range(50):
                    await execute("data/store", key="k", value=number, user_id="free")
                    assert (await execute("data/read", key="k", user_id="held"))["value"] == 0
                assert not ended.is_set()
                other.execute("ROLLBACK")
        assert (await execute("data/read", key="k", user_id="held"))["value"] == 1


async def test_a_database_that_is_held_when_it_is_opened_keeps_nobody_else_waiting(tmp_path) -> None:
    async with opened(tmp_path) as execute:
        await execute("data/store", key="k", value=0, user_id="held")
    async with opened(tmp_path, threads=1) as execute:
        with closing(apsw.Connection(str(tmp_path / "held" / "x.db"))) as other:
            # Out of the log's mode, so that not even a reader gets in.
            list(other.execute("PRAGMA journal_mode = DELETE"))
            other.execute("BEGIN EXCLUSIVE")
            read = []

            async def wait() -> None:
                read.append((await execute("data/read", key="k", user_id="held"))["value"])

            async with trio.open_nursery() as nursery:
                nursery.start_soon(wait)
                for number in range(20):
                    await execute("data/store", key="k", value=number, user_id="free")
                assert read == []
                other.execute("ROLLBACK")
        assert read == [0]


async def test_two_databases_that_are_held_wait_side_by_side_and_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rtos.daemons.data.sqlite.connection.BUSY_MS", 50)
    async with opened(tmp_path, threads=1) as execute:
        others = []
        for user_id in ("one", "two"):
            await execute("data/store", key="k", value=0, user_id=user_id)
            others.append(apsw.Connection(str(tmp_path / user_id / "x.db")))
            others[-1].execute("BEGIN EXCLUSIVE")

        async def refused(user_id) -> None:
            with pytest.raises(StoreBusy, match=f"write .*{user_id}/x.db.*or try again"):
                await execute("data/store", key="k", value=1, user_id=user_id)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(refused, "one")
            nursery.start_soon(refused, "two")
        for other in others:
            other.close()
        for user_id in ("one", "two"):
            await execute("data/store", key="k", value=1, user_id=user_id)


async def test_a_write_that_waits_for_a_lock_can_be_taken_back(tmp_path) -> None:
    async with opened(tmp_path, threads=1) as execute:
        await execute("data/store", key="k", value=0)
        with closing(apsw.Connection(str(tmp_path / "shared" / "x.db"))) as other:
            other.execute("BEGIN IMMEDIATE")
            with trio.move_on_after(0.05) as scope:
                await execute("data/store", key="k", value=1)
            assert scope.cancelled_caught
            other.execute("ROLLBACK")
        assert (await execute("data/read", key="k"))["value"] == 0


@pytest.mark.process
def test_too_many_open_files_are_told_and_forgotten(tmp_path) -> None:
    script = """
        import os, resource, sys, trio
        from pathlib import Path
        from rtos.daemons.data import *
        from rtos.daemons.data.operation import Operation
        from rtos.errors import StoreError
        def create(id):
            return Operation(op="create", collection="notes", id=id)
        async def main():
            path = lambda user: Path(sys.argv[1]) / user / "x.db"
            opened = open_sqlite_backend(path, [Collection("notes")], RecordClock(), lambda *_: None)
            async with opened as backend:
                await backend.apply("open", [create("a")])
                resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
                taken = []
                try:
                    while True:
                        taken.append(os.open(os.devnull, os.O_RDONLY))
                except OSError:
                    pass
                for call in (
                    lambda: backend.apply("new", [create("a")]),
                    lambda: backend.backup("open", None),
                ):
                    try:
                        await call()
                    except StoreError as error:
                        print("told:", "Too many open files" in str(error), "ulimit -n" in str(error))
                await backend.apply("open", [create("b")])
                for each in taken:
                    os.close(each)
                await backend.apply("new", [create("a")])
                await backend.backup("open", None)
                print(await backend.size("open", "notes"), await backend.size("new", "notes"))
        trio.run(main)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout.splitlines() == ["told: True True", "told: True True", "2 1"], done.stderr
