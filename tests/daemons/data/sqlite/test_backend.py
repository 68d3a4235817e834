"""The threads behind the store: order, shared commits, cancellation, deadlines, and their end.

A job's body is ours here, so that what runs when is decided by the test and not
by how fast the machine is: a body that waits for a gate holds its thread.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
import threading
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import apsw  # noqa: TID251 - faults of the driver are made here
import pytest
import trio
import trio.testing

from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.query import Query, parse_filter, parse_sort
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.worker import Job, Worker
from rtos.errors import Conflict, DaemonDown, NotFound, StoreBusy, StoreCorrupt, StoreError, StoreFull

NOTES = (Collection("notes", search=("text",)),)


def create(id, **data):
    return Operation(op="create", collection="notes", id=id, data=data)


@pytest.fixture(autouse=True)
def no_thread_and_no_file_is_left():
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("rtos-store")] == []
    assert apsw.connections() == []


@asynccontextmanager
async def one_worker(capacity=4):
    worker = Worker(
        0,
        lambda path, create: open_connection(path, NOTES, create=create),
        capacity=capacity,
        now=trio.lowlevel.current_clock().current_time,
    )
    worker.start()
    try:
        yield worker
    finally:
        worker.close()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(worker.join)


class Gate:
    """A body that says that it runs, and then holds its thread until it is opened."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.runs = trio.Event()
        self.open = threading.Event()

    def __call__(self, _connection):
        self.token.run_sync_soon(self.runs.set)
        assert self.open.wait(10)
        return "gate"


def job(path, body, *, level=4, deadline=float("inf"), done=None):
    return Job(path, body, level=level, deadline=deadline, done=done)


async def queued(nursery, call) -> None:
    """Start a call, and go on when it waits for its worker."""
    nursery.start_soon(call)
    await trio.testing.wait_all_tasks_blocked()


async def run(worker, *args, **kwargs):
    return await worker.run(job(*args, **kwargs))


async def test_order_is_level_then_deadline_then_arrival(tmp_path) -> None:
    path, order = tmp_path / "x.db", []
    async with one_worker() as worker, trio.open_nursery() as nursery:
        await run(worker, path, lambda _: None, done=lambda _: None)
        gate = Gate()
        nursery.start_soon(partial(run, worker, path, gate))
        await gate.runs.wait()
        for name, level, deadline in (
            ("least urgent", 6, 1e9),
            ("no deadline", 2, float("inf")),
            ("late deadline", 2, 3e9),
            ("near deadline", 2, 2e9),
            ("near deadline, later", 2, 2e9),
            ("most urgent", 0, float("inf")),
        ):
            body = partial(lambda name, _: order.append(name), name)
            await queued(nursery, partial(run, worker, path, body, level=level, deadline=deadline))
        gate.open.set()
    assert order == [
        "most urgent",  # a level goes before any deadline
        "near deadline",  # inside a level, the nearer deadline
        "near deadline, later",  # between equals, who came first
        "late deadline",
        "no deadline",
        "least urgent",  # although it was there first
    ]


async def test_writes_that_wait_share_one_commit_and_keep_their_own_failures(tmp_path) -> None:
    path, commits, told = tmp_path / "x.db", [], []

    def insert(id, connection):
        sql = "INSERT INTO c_notes (id, version, created_at, updated_at, body) VALUES (?, 1, '', '', '{}')"
        connection.execute(sql, (id,))
        if id == "bad":
            raise NotFound("write", "mine alone", "none")
        return id

    outcomes = {}

    async def write(id):
        try:
            outcomes[id] = await run(worker, path, partial(insert, id), done=told.append)
        except NotFound as error:
            outcomes[id] = error.reason

    async with one_worker() as worker, trio.open_nursery() as nursery:
        await run(
            worker, path, lambda c: c.set_wal_hook(lambda *_: commits.append(1) or 0), done=lambda _: None
        )
        gate = Gate()
        nursery.start_soon(partial(run, worker, path, gate))
        await gate.runs.wait()
        commits.clear()
        for id in ("a", "bad", "b", "c"):
            await queued(nursery, partial(write, id))
        gate.open.set()
    assert outcomes == {"a": "a", "bad": "mine alone", "b": "b", "c": "c"}
    assert told == ["a", "b", "c"]
    assert len(commits) == 1
    with closing(open_connection(path, NOTES, create=False)) as connection:
        assert [row[0] for row in connection.execute("SELECT id FROM c_notes ORDER BY id")] == ["a", "b", "c"]


@pytest.mark.parametrize("error", [apsw.FullError("no room"), apsw.IOError("input/output")])
async def test_a_fault_of_the_file_undoes_the_whole_commit_and_the_worker_goes_on(tmp_path, error) -> None:
    path, told, outcomes = tmp_path / "x.db", [], []

    def insert(id, connection):
        sql = "INSERT INTO c_notes (id, version, created_at, updated_at, body) VALUES (?, 1, '', '', '{}')"
        connection.execute(sql, (id,))
        if id == "bad":
            raise error
        return id

    async def write(id):
        try:
            await run(worker, path, partial(insert, id), done=told.append)
        except StoreError as caught:
            outcomes.append(caught)

    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(partial(run, worker, path, gate))
            await gate.runs.wait()
            for id in ("a", "bad", "b"):
                await queued(nursery, partial(write, id))
            gate.open.set()
        assert told == []
        # Each has an error of its own, so that no traceback grows into another's.
        assert len(set(map(repr_of_identity, outcomes))) == 3
        await write("later")
        assert told == ["later"]


async def test_a_transaction_that_sqlite_gave_up_commits_nothing_of_it(tmp_path) -> None:
    path, told, failed = tmp_path / "x.db", [], []

    def insert(id, connection):
        sql = "INSERT INTO c_notes (id, version, created_at, updated_at, body) VALUES (?, 1, '', '', '{}')"
        connection.execute(sql, (id,))
        if id == "bad":
            # What SQLite does by itself on some faults.
            connection.execute("ROLLBACK")
            raise apsw.SQLError("given up")
        return id

    async def write(id):
        try:
            await run(worker, path, partial(insert, id), done=told.append)
        except Exception:  # noqa: BLE001 - which one it is, is the driver's
            failed.append(id)

    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(partial(run, worker, path, gate))
            await gate.runs.wait()
            for id in ("a", "bad", "b"):
                await queued(nursery, partial(write, id))
            gate.open.set()
        assert sorted(failed) == ["a", "b", "bad"]
        assert await run(worker, path, lambda c: list(c.execute("SELECT id FROM c_notes"))) == []


async def test_a_queued_job_that_is_cancelled_never_runs_and_harms_nobody(tmp_path) -> None:
    path, ran = tmp_path / "x.db", []
    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        async with trio.open_nursery() as nursery:
            gate = Gate()
            nursery.start_soon(partial(run, worker, path, gate))
            await gate.runs.wait()
            for done in (None, ran.append):
                with trio.CancelScope() as scope:
                    async with trio.open_nursery() as inner:
                        await queued(inner, partial(run, worker, path, lambda _: ran.append(1), done=done))
                        scope.cancel()
                assert scope.cancelled_caught
            gate.open.set()
        # All that had been queued is cancelled: the thread must go on waiting, not end.
        with trio.fail_after(5):
            assert await run(worker, path, lambda _: "alive") == "alive"
    assert ran == []


ENDLESS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"


async def test_a_running_read_is_interrupted_and_its_caller_need_not_wait(tmp_path) -> None:
    path = tmp_path / "x.db"
    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        token, runs = trio.lowlevel.current_trio_token(), trio.Event()

        def endless(connection):
            token.run_sync_soon(runs.set)
            return list(connection.execute(ENDLESS))

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run, worker, path, endless))
                await runs.wait()
                scope.cancel()
        assert scope.cancelled_caught
        # It could not be served if the endless one still ran.
        with trio.fail_after(10):
            assert await run(worker, path, lambda _: "alive") == "alive"


async def test_a_read_beyond_its_deadline_is_interrupted(tmp_path) -> None:
    path = tmp_path / "x.db"
    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        with pytest.raises(StoreError, match="deadline"), trio.fail_after(10):
            await run(worker, path, lambda c: list(c.execute(ENDLESS)), deadline=trio.current_time())
        assert await run(worker, path, lambda _: "alive") == "alive"


ROWS = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n LIMIT 100) SELECT x FROM n"


async def test_a_read_that_is_cancelled_looks_at_no_further_row(tmp_path) -> None:
    """What is done with a row takes no step of SQLite's, and so must not be waited for."""
    path, seen, go_on = tmp_path / "x.db", [], threading.Event()
    async with one_worker() as worker:
        await run(worker, path, lambda _: None, done=lambda _: None)
        token, runs = trio.lowlevel.current_trio_token(), trio.Event()

        def slow(connection):
            for row in connection.execute(ROWS):
                seen.append(row)
                token.run_sync_soon(runs.set)
                assert go_on.wait(10)

        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run, worker, path, slow))
                await runs.wait()
                scope.cancel()
        go_on.set()
        assert await run(worker, path, lambda c: len(list(c.execute(ROWS)))) == 100
    assert len(seen) == 1


async def test_a_read_beyond_its_deadline_looks_at_no_further_row(tmp_path) -> None:
    path, seen, now = tmp_path / "x.db", [], [0.0]
    worker = Worker(
        0, lambda path, create: open_connection(path, NOTES, create=create), capacity=1, now=lambda: now[0]
    )
    worker.start()

    def slow(connection):
        for row in connection.execute(ROWS):
            seen.append(row)
            now[0] += 1

    try:
        await run(worker, path, lambda _: None, done=lambda _: None)
        with pytest.raises(StoreError, match="deadline has passed"):
            await run(worker, path, slow, deadline=2.5)
        assert await run(worker, path, lambda _: "alive", deadline=1e9) == "alive"
    finally:
        worker.close()
        await trio.to_thread.run_sync(worker.join)
    assert len(seen) == 3


async def test_a_write_that_runs_is_finished_and_told_although_its_caller_was_cancelled(tmp_path) -> None:
    path, told = tmp_path / "x.db", []
    async with one_worker() as worker:
        gate = Gate()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(run, worker, path, gate, done=told.append))
                await gate.runs.wait()
                scope.cancel()
                gate.open.set()
    assert told == ["gate"]


class HeldClock:
    """A wall clock that holds the writer that reads it, until it is let go."""

    def __init__(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        self.runs = trio.Event()
        self.go_on = threading.Event()

    def __call__(self) -> int:
        self.token.run_sync_soon(self.runs.set)
        assert self.go_on.wait(10)
        return 10**18


async def test_a_hundred_writers_share_two_commits_and_one_conflict_is_its_own(tmp_path, monkeypatch) -> None:
    commits, told, refused, wall = [], [], [], HeldClock()

    def count_commits(connection) -> None:
        connection.set_wal_hook(lambda *_: commits.append(1) or 0)

    monkeypatch.setattr(apsw, "connection_hooks", [count_commits])

    def tell(_user, changes):
        told.extend((change.record["id"], change.record["created_at"]) for change in changes)

    async def write(number):
        # Two want the same id: whoever comes second is refused, and alone.
        try:
            await backend.apply(None, [create(f"other{number}"), create(f"r{number % 99}")])
        except Conflict:
            refused.append(number)

    path = tmp_path / "x.db"
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(wall), tell) as backend:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write, 0)
            await wall.runs.wait()
            commits.clear()
            for number in range(1, 100):
                nursery.start_soon(write, number)
            await trio.testing.wait_all_tasks_blocked()
            wall.go_on.set()
        assert len(commits) == 2
        assert refused == [99]
        assert [stamp for _, stamp in told] == sorted(stamp for _, stamp in told)
        there = {record["id"] for record in await backend.find(None, "notes", Query(limit=500))}
    assert there == {id for id, _ in told} == {f"{name}{n}" for name in ("r", "other") for n in range(99)}


async def test_a_cancelled_writer_whose_write_runs_is_told_of_and_stays_written(tmp_path) -> None:
    told, wall = [], HeldClock()

    def tell(_user, changes):
        told.extend(change.record["id"] for change in changes)

    async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(wall), tell) as backend:
        with trio.CancelScope() as running:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backend.apply, None, [create("runs")])
                await wall.runs.wait()
                with trio.CancelScope() as waiting:
                    async with trio.open_nursery() as inner:
                        await queued(inner, partial(backend.apply, None, [create("waits")]))
                        waiting.cancel()
                running.cancel()
                wall.go_on.set()
        assert waiting.cancelled_caught
        # It was told before its writer went on, and the one that waited never ran.
        assert told == ["runs"]
        assert [r["id"] for r in await backend.find(None, "notes", Query())] == ["runs"]


async def test_a_listener_that_fails_is_its_writers_to_see_and_ends_nothing_else(tmp_path) -> None:
    def tell(_user, changes):
        if changes[0].record["id"] == "bad":
            raise LookupError("a listener's own fault")

    async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(), tell) as backend:
        with pytest.raises(LookupError, match="a listener's own fault"):
            await backend.apply(None, [create("bad")])
        await backend.apply(None, [create("good")])
        assert len(await backend.find(None, "notes", Query())) == 2


async def test_a_file_that_was_deleted_or_replaced_is_never_written_to(tmp_path) -> None:
    """What was acknowledged into a file that nobody can open any more would be lost."""

    def path(user_id):
        return tmp_path / user_id / "x.db"

    async with open_sqlite_backend(path, NOTES, RecordClock(), _ignore) as backend:
        await backend.apply("joel", [create("old")])
        shutil.rmtree(tmp_path / "joel")
        assert await backend.get("joel", "notes", "old") is None
        assert list(tmp_path.iterdir()) == []
        await backend.apply("joel", [create("new")])
        assert [r["id"] for r in await backend.find("joel", "notes", Query())] == ["new"]
        await backend.apply("ann", [create("ann's")])
        shutil.rmtree(tmp_path / "joel")
        (tmp_path / "ann").rename(tmp_path / "joel")
        await backend.apply("joel", [create("more")])
    async with open_sqlite_backend(path, NOTES, RecordClock(), _ignore) as backend:
        assert [r["id"] for r in await backend.find("joel", "notes", Query())] == ["ann's", "more"]


async def test_a_database_that_another_program_holds_is_told_and_free_again_later(
    tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("rtos.daemons.data.sqlite.connection.BUSY_MS", 1)
    path = tmp_path / "x.db"
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend:
        await backend.apply(None, [create("a")])
        with closing(apsw.Connection(str(path))) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StoreBusy, match="write .*x.db.*try again"):
                await backend.apply(None, [create("b")])
            # Reading waits for no writer.
            assert await backend.get(None, "notes", "a") is not None
            other.execute("ROLLBACK")
        await backend.apply(None, [create("b")])


async def test_a_timestamp_that_is_none_is_told_and_no_file_stays_open(tmp_path) -> None:
    path = tmp_path / "x.db"
    with closing(open_connection(path, NOTES, create=True)) as connection:
        connection.execute("UPDATE newest SET updated_at = 'yesterday'")
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend:
        with pytest.raises(StoreCorrupt, match="yesterday.*set aside as 'x.db.corrupt-"):
            await backend.get(None, "notes", "a")
        assert apsw.connections() == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")
async def test_two_hundred_databases_need_the_files_of_eight(tmp_path) -> None:
    def path(user_id):
        return tmp_path / f"{user_id}.db"

    def open_files() -> int:
        return sum(str(tmp_path) in str(each.readlink()) for each in _descriptors())

    async with open_sqlite_backend(path, NOTES, RecordClock(), _ignore, open_databases=8) as backend:
        most = 0
        for number in range(200):
            await backend.apply(f"u{number}", [create("a", n=number)])
            most = max(most, open_files())
        # Each has its file, its log, and the log's index.
        assert most <= 8 * 3
        async with trio.open_nursery() as nursery:
            for number in range(0, 200, 7):
                nursery.start_soon(backend.get, f"u{number}", "notes", "a")
        assert open_files() <= 8 * 3
    assert open_files() == 0


def _descriptors():
    return [each for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]


@pytest.mark.parametrize("when", ["idle", "while a read runs", "while writes wait"])
async def test_an_error_inside_leaves_no_thread(tmp_path, when) -> None:
    """The fixture of this file counts threads and files afterwards."""

    async def fail() -> None:
        raise LookupError("ours")

    path = tmp_path / "x.db"

    async def inside() -> None:
        async with (
            open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend,
            trio.open_nursery() as nursery,
        ):
            await backend.apply(None, [create("a")])
            if when == "while a read runs":
                read = partial(backend._read, None, lambda c: list(c.execute(ENDLESS)))
                await queued(nursery, read)
            if when == "while writes wait":
                for number in range(20):
                    nursery.start_soon(backend.apply, None, [create(f"r{number}")])
            nursery.start_soon(fail)

    with pytest.raises(ExceptionGroup, match="Exceptions from Trio nursery") as caught:
        await inside()
    assert caught.group_contains(LookupError, match="ours")


async def test_files_beyond_the_bound_are_closed_and_opened_again(tmp_path) -> None:
    def path(user_id):
        return tmp_path / f"{user_id}.db"

    async with open_sqlite_backend(
        path, NOTES, RecordClock(), _ignore, threads=2, open_databases=4
    ) as backend:
        for number in range(12):
            await backend.apply(f"u{number}", [create("a", n=number)])
        assert len(apsw.connections()) <= 4
        for number in range(12):
            assert (await backend.get(f"u{number}", "notes", "a"))["n"] == number
        assert len(apsw.connections()) <= 4


async def test_reading_who_has_no_database_finds_nothing_and_makes_nothing(tmp_path) -> None:
    def path(user_id):
        return tmp_path / user_id / "x.db"

    async with open_sqlite_backend(path, NOTES, RecordClock(), _ignore) as backend:
        assert await backend.get("nobody", "notes", "a") is None
        assert await backend.find("nobody", "notes", Query()) == []
        assert await backend.search("nobody", "notes", "x", 5) == []
        assert list(tmp_path.iterdir()) == []
        await backend.apply("somebody", [create("a")])
        assert [each.name for each in tmp_path.iterdir()] == ["somebody"]


async def test_a_damaged_file_is_told_set_aside_and_read_again_when_it_is_mended(tmp_path) -> None:
    def path(user_id):
        return tmp_path / f"{user_id}.db"

    path("bad").write_bytes(b"no database " * 50)
    async with open_sqlite_backend(path, NOTES, RecordClock(), _ignore, threads=1) as backend:
        for call in (
            lambda: backend.apply("bad", [create("a")]),
            lambda: backend.get("bad", "notes", "a"),
            lambda: backend.find("bad", "notes", Query()),
        ):
            with pytest.raises(StoreCorrupt, match="bad.db.*set aside as 'bad.db.corrupt-.*data/reset"):
                await call()
        await backend.apply("good", [create("a")])
        (aside,) = tmp_path.glob("bad.db*")
        assert aside.read_bytes() == b"no database " * 50
        await backend.reset("bad")
        await backend.apply("bad", [create("a")])
        assert await backend.get("bad", "notes", "a") is not None
        assert aside.exists()


async def test_damage_inside_a_file_is_told_and_a_backup_that_is_put_back_is_found(tmp_path) -> None:
    path = tmp_path / "x.db"
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend:
        await backend.apply(None, [create(f"r{number}", text="x" * 500) for number in range(200)])
    good = path.read_bytes()
    path.write_bytes(good[:8192] + b"\xff" * (len(good) - 8192))
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend:
        with pytest.raises(StoreCorrupt, match="malformed.*set aside"):
            await backend.find(None, "notes", Query(sort=parse_sort("x", ["text"]), limit=500))
        path.write_bytes(good)
        assert len(await backend.find(None, "notes", Query(limit=500))) == 200


@pytest.mark.process
def test_a_full_disk_is_told_and_nothing_is_half_written(tmp_path) -> None:
    # A limit on the size of files stands for the disk: SQLite sees a short write.
    script = """
        import resource, sys, trio
        from pathlib import Path
        from rtos.daemons.data import *
        from rtos.daemons.data.operation import Operation
        from rtos.daemons.data.query import Query
        from rtos.errors import StoreError
        def create(id, size):
            return Operation(op="create", collection="notes", id=id, data={"text": "x" * size})
        async def main():
            told = []
            tell = lambda user, changes: told.extend(changes)
            path = Path(sys.argv[1])
            opened = open_sqlite_backend(lambda _: path, [Collection("notes")], RecordClock(), tell)
            async with opened as backend:
                await backend.apply(None, [create("small", 10)])
                resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
                try:
                    await backend.apply(None, [create("before", 10), create("big", 2_000_000)])
                except StoreError as error:
                    print("told:", type(error).__name__)
                found = await backend.find(None, "notes", Query())
                print([record["id"] for record in found], len(told))
                resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                await backend.apply(None, [create("after", 10)])
                print([record["id"] for record in await backend.find(None, "notes", Query())], len(told))
        trio.run(main)
    """
    done = _python(script, tmp_path / "x.db")
    assert done.stdout.splitlines()[1:] == ["['small'] 1", "['after', 'small'] 2"], done.stderr
    assert done.stdout.startswith("told: Store")


@pytest.mark.process
def test_a_backend_that_is_never_closed_does_not_hold_up_the_end(tmp_path) -> None:
    script = """
        import sys, trio
        from pathlib import Path
        from rtos.daemons.data import *
        from rtos.daemons.data.operation import Operation
        async def main():
            path, notes = Path(sys.argv[1]), [Collection("notes")]
            opened = open_sqlite_backend(lambda _: path, notes, RecordClock(), lambda *_: None)
            backend = await opened.__aenter__()
            await backend.apply(None, [Operation(op="create", collection="notes", id="a")])
            keep.append(opened)
        keep = []
        trio.run(main)
        print("done")
    """
    done = _python(script, tmp_path / "x.db")
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def _python(script, *arguments):
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_closing_inside_a_cancelled_scope_closes_all_the_same(tmp_path) -> None:
    with trio.CancelScope() as scope:
        async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(), _ignore) as backend:
            await backend.apply(None, [create("a")])
            scope.cancel()
            await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught
    assert apsw.connections() == []


async def test_after_its_end_it_refuses(tmp_path) -> None:
    async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(), _ignore) as backend:
        pass
    with pytest.raises(DaemonDown, match="closed"):
        await backend.get(None, "notes", "a")


async def test_timestamps_go_on_where_the_database_ends(tmp_path) -> None:
    path = tmp_path / "x.db"
    later = RecordClock(lambda: 4 * 10**18)
    async with open_sqlite_backend(lambda _: path, NOTES, later, _ignore) as backend:
        (first,) = await backend.apply(None, [create("a")])
    async with open_sqlite_backend(lambda _: path, NOTES, RecordClock(), _ignore) as backend:
        (second,) = await backend.apply(None, [create("b")])
    assert second.record["created_at"] > first.record["created_at"]


async def test_stemming_finds_other_forms_of_a_word(tmp_path) -> None:
    async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(), _ignore) as backend:
        await backend.apply(None, [create("a", text="she was running home"), create("b", text="a walk")])
        found = await backend.search(None, "notes", "runs", 5)
    assert [record["id"] for record in found] == ["a"]
    assert found[0]["score"] > 0


async def test_conflicts_of_one_batch_leave_the_database_as_it_was(tmp_path) -> None:
    async with open_sqlite_backend(lambda _: tmp_path / "x.db", NOTES, RecordClock(), _ignore) as backend:
        await backend.apply(None, [create("a", text="first")])
        with pytest.raises(Conflict, match="exists already"):
            await backend.apply(None, [create("b", text="second"), create("a", text="again")])
        assert await backend.search(None, "notes", "second", 5) == []
        where = parse_filter("x", {"id": {"$in": ["a", "b"]}})
        assert [r["text"] for r in await backend.find(None, "notes", Query(where=where))] == ["first"]


def test_a_disk_that_is_full_has_an_error_of_its_own() -> None:
    assert issubclass(StoreFull, StoreError)


def _ignore(_user, _changes) -> None:
    return None


def repr_of_identity(value) -> str:
    return object.__repr__(value)
