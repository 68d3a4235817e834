"""Backups: consistent while the database is written to, kept in number, checked before they are put back."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import apsw  # noqa: TID251 - what is in a backup is read without the store
import pytest
import trio
from running import running

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.files import KEPT
from rtos.errors import CommandRejected, NotFound, StoreCorrupt, StoreError

NOTES = (Collection("notes", search=("text",)),)


@asynccontextmanager
async def opened(folder, backend="sqlite"):
    def path(user_id):
        return folder / (user_id or "shared") / "x.db"

    open_backend = open_memory_backend if backend == "memory" else partial(open_sqlite_backend, path)
    async with running(NOTES, open_backend) as bus:
        yield bus, bus.commands.execute


async def ids(execute, user_id=None):
    found = await execute("data/list", collection="notes", user_id=user_id, limit=500)
    return sorted(record["id"] for record in found["items"])


def create(execute, id, user_id=None, **data):
    return execute("data/create", collection="notes", id=id, data=data, user_id=user_id)


def numbers_in(path) -> set[int]:
    with closing(apsw.Connection(f"{path.as_uri()}?immutable=1", flags=0x41)) as connection:
        assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)]
        rows = connection.execute("SELECT CAST(body ->> '$.n' AS INTEGER) FROM c_notes")
        return {n for (n,) in rows if n is not None}


@pytest.mark.parametrize("backend", ["sqlite", "memory"])
async def test_what_was_backed_up_comes_back_and_what_came_after_is_gone(tmp_path, backend) -> None:
    async with opened(tmp_path, backend) as (bus, execute):
        await create(execute, "a", "joel", text="ships")
        first = await execute("data/backup", user_id="joel", to="first")
        await create(execute, "b", "joel")
        await execute("data/backup", user_id="joel", to="second")
        await create(execute, "c", "joel")
        listed = await execute("data/backups", user_id="joel")
        assert [item["name"] for item in listed["items"]] == ["second", "first"]
        assert (await execute("data/backups"))["items"] == []
        with bus.events.subscribe("data:restored") as events:
            await execute("data/restore", user_id="joel")
            assert await ids(execute, "joel") == ["a", "b"]
            restored = await execute("data/restore", user_id="joel", name="first")
            assert (restored["name"], restored["path"]) == ("first", first["path"])
            assert await ids(execute, "joel") == ["a"]
            told = [(await events.receive()).payload for _ in range(2)]
            assert told == [{"user_id": "joel", "name": name} for name in ("second", "first")]
        found = await execute("data/search", collection="notes", query="ships", user_id="joel")
        assert found["count"] == 1
        await create(execute, "b", "joel")
        await execute("data/reset", user_id="joel")
        assert await ids(execute, "joel") == []
        await create(execute, "a", "joel")


async def test_a_backup_while_it_is_written_to_is_of_one_moment(tmp_path) -> None:
    """Twenty pairs of writes a commit, so a torn copy would hold half of one."""
    async with opened(tmp_path) as (_, execute), trio.open_nursery() as nursery:
        text = "x" * 2000

        def pair(n):
            return [
                {"op": "create", "collection": "notes", "id": f"{n}{half}", "data": {"n": n, "text": text}}
                for half in "ab"
            ]

        for first in range(0, 2000, 100):
            operations = [each for n in range(first, first + 100) for each in pair(n)]
            await execute("data/batch", operations=operations)
        written, during = 2000, []

        async def write() -> None:
            nonlocal written
            while True:
                await execute("data/batch", operations=pair(written))
                written += 1

        nursery.start_soon(write)
        before = written
        done = await execute("data/backup")
        during.append(written - before)
        nursery.cancel_scope.cancel()
    path = tmp_path / "shared" / "backups"
    (file,) = path.iterdir()
    assert (str(file), file.stat().st_size) == (done["path"], done["bytes"])
    numbers = numbers_in(file)
    assert during[0] >= 3, "nothing was written while the copy was made"
    # All that was acknowledged before it began, and a prefix of what came during it.
    assert numbers == set(range(len(numbers)))
    assert before <= len(numbers) <= written + 1
    with closing(apsw.Connection(f"{file.as_uri()}?immutable=1", flags=0x41)) as connection:
        halves = list(connection.execute("SELECT count(*) FROM c_notes"))
    assert halves == [(2 * len(numbers),)]


async def test_the_newest_few_are_kept(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute):
        await create(execute, "a")
        for number in range(KEPT + 3):
            await execute("data/backup", to=f"b{number}")
        names = [item["name"] for item in (await execute("data/backups"))["items"]]
    assert names == [f"b{number}" for number in reversed(range(3, KEPT + 3))]
    assert len(list((tmp_path / "shared" / "backups").iterdir())) == KEPT


async def test_a_damaged_backup_is_not_put_in_place(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute):
        for number in range(100):
            await create(execute, f"r{number:03}", text="x" * 500)
        backup = await execute("data/backup", to="bad")
        path = Path(backup["path"])
        content = path.read_bytes()
        path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
        before = sorted(each.name for each in (tmp_path / "shared").iterdir())
        with pytest.raises(StoreCorrupt, match="restore .*bad.db.*; "):
            await execute("data/restore")
        assert len(await ids(execute)) == 100
        assert sorted(each.name for each in (tmp_path / "shared").iterdir()) == before


async def test_what_was_there_is_set_aside_and_never_deleted(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute):
        await create(execute, "a")
        await execute("data/backup")
        await create(execute, "later")
        replaced = (await execute("data/restore"))["replaced"]
    kept = tmp_path / "shared" / replaced
    assert replaced.startswith("x.db.replaced-")
    with closing(apsw.Connection(str(kept))) as connection:
        assert sorted(connection.execute("SELECT id FROM c_notes")) == [("a",), ("later",)]


async def test_who_waits_while_a_backup_is_put_back_is_served_after_it(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute), trio.open_nursery() as nursery:
        await create(execute, "a")
        await execute("data/backup")
        await create(execute, "gone")

        async def write(number) -> None:
            await create(execute, f"w{number}")

        nursery.start_soon(partial(execute, "data/restore"))
        for number in range(20):
            nursery.start_soon(write, number)
    async with opened(tmp_path) as (_, execute):
        there = await ids(execute)
        assert "gone" not in there
        # Each was written to the file that was there then; the last of them after it was replaced.
        assert there[0] == "a"
        aside = next((tmp_path / "shared").glob("x.db.replaced-*"))
        with closing(apsw.Connection(str(aside))) as connection:
            before = {id for (id,) in connection.execute("SELECT id FROM c_notes")}
        assert set(there) | before == {"a", "gone", *(f"w{number}" for number in range(20))}


@pytest.mark.parametrize("backend", ["sqlite", "memory"])
async def test_what_is_not_there_is_told(tmp_path, backend) -> None:
    async with opened(tmp_path, backend) as (_, execute):
        with pytest.raises(NotFound, match="store something first"):
            await execute("data/backup", user_id="nobody")
        with pytest.raises(NotFound, match="make one with data/backup"):
            await execute("data/restore", user_id="nobody")
        await create(execute, "a", "joel")
        await execute("data/backup", user_id="joel", to="one")
        with pytest.raises(NotFound, match="two"):
            await execute("data/restore", user_id="joel", name="two")
        for name in ("../one", "/etc/x", ".hidden", "", "a/b", "a\0", "x" * 101):
            with pytest.raises(CommandRejected, match="no plain name.*no folder"):
                await execute("data/backup", user_id="joel", to=name)
            with pytest.raises(CommandRejected, match="no plain name"):
                await execute("data/restore", user_id="joel", name=name)


async def test_a_backup_that_is_cancelled_leaves_nothing_and_the_next_one_succeeds(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute):
        operations = [
            {"op": "create", "collection": "notes", "id": f"r{n}", "data": {"text": "x" * 5000}}
            for n in range(2000)
        ]
        await execute("data/batch", operations=operations)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(execute, "data/backup"))
            folder = tmp_path / "shared" / "backups"
            while not (folder.exists() and list(folder.iterdir())):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        # Whoever is answered after it comes after its end.
        await execute("data/backup", to="next")
        assert [each.name for each in folder.iterdir()] == ["next.db"]


async def test_everything_is_its_owners_only_whatever_the_umask(tmp_path) -> None:
    before = os.umask(0)
    try:
        async with opened(tmp_path) as (_, execute):
            await create(execute, "a", "joel")
            await execute("data/backup", user_id="joel")
            modes = {each.relative_to(tmp_path): each.stat().st_mode & 0o777 for each in tmp_path.rglob("*")}
            await execute("data/restore", user_id="joel")
            await execute("data/reset", user_id="joel")
            await create(execute, "b", "joel")
            later = [each for each in tmp_path.rglob("*") if each.is_file() and each.stat().st_mode & 0o077]
    finally:
        os.umask(before)
    assert {name.name for name in modes} >= {"joel", "backups", "x.db", "x.db-wal", "x.db-shm"}
    for name, mode in modes.items():
        assert mode == (0o700 if (tmp_path / name).is_dir() else 0o600), name
    assert later == []


async def test_what_a_killed_process_has_left_behind_is_swept_up(tmp_path) -> None:
    for name in ("shared/backups/.x.db.1a2b3c4d.partial", "shared/.x.db.1a2b3c4d.partial-journal"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    async with opened(tmp_path) as (_, execute):
        await create(execute, "a")
        await execute("data/backup", to="one")
        assert (await execute("data/backups"))["count"] == 1
        await execute("data/restore")
    assert list(tmp_path.rglob("*.partial*")) == []


async def test_a_folder_of_backups_that_is_a_link_is_refused(tmp_path) -> None:
    (tmp_path / "elsewhere").mkdir()
    async with opened(tmp_path) as (_, execute):
        await create(execute, "a")
        (tmp_path / "shared" / "backups").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(StoreError, match="symbolic link; replace the link"):
            await execute("data/backup")
    assert list((tmp_path / "elsewhere").iterdir()) == []
