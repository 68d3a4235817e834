"""Records in memory beside the file: never older than what was acknowledged, bounded, of that very file."""

import random
import shutil

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from rtos.daemons.data import Collection, RecordClock, open_sqlite_backend
from rtos.daemons.data.operation import Change, Operation
from rtos.daemons.data.query import Query
from rtos.daemons.data.sqlite.hot import UNKNOWN, HotRecords
from rtos.daemons.data.sqlite.worker import Worker
from rtos.errors import NotFound

NOTES = (Collection("notes"),)


def store(id, **data):
    return Operation(op="store", collection="notes", id=id, data=data)


def delete(id):
    return Operation(op="delete", collection="notes", id=id)


def opened(folder, on_change=lambda *_: None, **settings):
    return open_sqlite_backend(
        lambda user: folder / f"{user}.db", NOTES, RecordClock(), on_change, **settings
    )


@pytest.fixture
def hops(monkeypatch):
    """How many jobs have gone to a thread."""
    seen = []
    run = Worker.run

    async def counted(self, job):
        seen.append(job)
        return await run(self, job)

    monkeypatch.setattr(Worker, "run", counted)
    return seen


def record(id, version=1, **data):
    return {"id": id, "version": version, **data}


def test_what_was_read_before_a_change_is_not_kept_after_it():
    hot = HotRecords()
    at = hot.generation("u")
    hot.changed("u", [Change("notes", "updated", record("a", 2))])
    hot.found("u", "notes", "a", record("a", 1), at=at)
    assert hot.get("u", "notes", "a") == record("a", 2)
    hot.found("u", "notes", "b", record("b"), at=at)
    assert hot.get("u", "notes", "b") is UNKNOWN  # somebody else's record may be as old
    hot.found("v", "notes", "b", None, at=hot.generation("v"))
    assert hot.get("v", "notes", "b") is None  # known not to be there


def test_memory_is_bounded_and_the_least_recently_used_goes_first():
    hot = HotRecords(10_000)
    for number in range(100):
        hot.changed(None, [Change("notes", "created", record(f"r{number}", text="x" * 100))])
        hot.get(None, "notes", "r0")
        assert hot.bytes <= 10_000
    assert hot.get(None, "notes", "r0") is not UNKNOWN
    assert hot.get(None, "notes", "r1") is UNKNOWN
    assert 10 < len(hot) < 100
    hot.changed(None, [Change("notes", "updated", record("r0", 2, text="x" * 10_000))])
    assert hot.get(None, "notes", "r0") is UNKNOWN  # it would have driven out all others
    hot.forget(None)
    assert (len(hot), hot.bytes) == (0, 0)


async def test_what_was_written_or_read_is_read_again_without_a_thread(tmp_path, hops):
    async with opened(tmp_path) as backend:
        await backend.apply(None, [store("a", n=[1])])
        before = len(hops)
        first = await backend.get(None, "notes", "a")
        first["n"].append(2)
        assert (await backend.get(None, "notes", "a"))["n"] == [1]  # each gets a copy
        assert len(hops) == before
        assert await backend.get(None, "notes", "none") is None
        assert await backend.get(None, "notes", "none") is None
        assert len(hops) == before + 1
        await backend.apply(None, [delete("a")])
        assert await backend.get(None, "notes", "a") is None
    async with opened(tmp_path, hot_bytes=0) as backend:
        await backend.apply(None, [store("a")])
        before = len(hops)
        await backend.get(None, "notes", "a")
        assert len(hops) == before + 1


async def test_a_listener_that_fails_and_a_batch_that_fails_leave_the_truth(tmp_path):
    def refuse(user, changes):
        if changes[0].record.get("bad"):
            raise RuntimeError("no")

    async with opened(tmp_path, refuse) as backend:
        await backend.apply(None, [store("a", n=1)])
        with pytest.raises(RuntimeError):
            await backend.apply(None, [store("a", n=2, bad=True)])
        assert (await backend.get(None, "notes", "a"))["n"] == 2  # it is durable, whoever failed
        with pytest.raises(NotFound):
            await backend.apply(
                None, [store("a", n=3), Operation(op="update", collection="notes", id="none", data={})]
            )
        assert (await backend.get(None, "notes", "a"))["n"] == 2


async def test_another_file_in_its_place_is_noticed(tmp_path):
    async with opened(tmp_path) as backend:
        await backend.apply(None, [store("a", n="old")])
    shutil.copy(tmp_path / "None.db", tmp_path / "backup.db")
    async with opened(tmp_path) as backend:
        await backend.apply(None, [store("a", n="new")])
        assert (await backend.get(None, "notes", "a"))["n"] == "new"
        for suffix in ("-wal", "-shm"):
            (tmp_path / f"None.db{suffix}").unlink(missing_ok=True)
        (tmp_path / "backup.db").replace(tmp_path / "None.db")
        assert (await backend.get(None, "notes", "a"))["n"] == "old"


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**9), hot_bytes=st.sampled_from([400, 1200, 10**6]))
def test_nobody_reads_what_is_older_than_what_was_acknowledged(tmp_path_factory, seed, hot_bytes):
    dice = random.Random(seed)
    acknowledged = dict.fromkeys("abc", 0)

    async def write(backend):
        for _ in range(12):
            id = dice.choice("abc")
            operation = delete(id) if dice.random() < 0.2 else store(id, n=dice.random())
            with trio.move_on_after(dice.choice([10, 10, 0])):
                (change,) = await backend.apply("u", [operation])
                # The order of the commits is that of the stamps; a deletion's is not told.
                if change.verb != "deleted":
                    stamp = change.record["updated_at"]
                    acknowledged[id] = max(acknowledged[id] or "", stamp)
            await trio.lowlevel.checkpoint()

    async def read(backend):
        for _ in range(30):
            id = dice.choice("abc")
            known = acknowledged[id]
            record = await backend.get("u", "notes", id)
            if record is not None and known:
                assert record["updated_at"] >= known
            if dice.random() < 0.5:
                await trio.lowlevel.checkpoint()

    async def main(folder):
        async with opened(folder, hot_bytes=hot_bytes) as backend:
            async with trio.open_nursery() as nursery:
                for _ in range(4):
                    nursery.start_soon(write, backend)
                    nursery.start_soon(read, backend)
            there = {one["id"]: one for one in await backend.find("u", "notes", Query())}
            for id in "abc":
                assert await backend.get("u", "notes", id) == there.get(id)

    trio.run(main, tmp_path_factory.mktemp("hot"))
