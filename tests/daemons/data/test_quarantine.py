"""A damaged database is found, set aside whole, and never taken for one that is empty."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path

import apsw  # noqa: TID251 - databases are damaged here
import pytest
from running import running

from rtos.daemons.data import Collection, open_sqlite_backend
from rtos.daemons.data.sqlite import quarantine
from rtos.errors import StoreCorrupt

NOTES = (Collection("notes", search=("text",)),)


def path_in(folder):
    return lambda user_id: folder / (user_id or "shared") / "x.db"


@asynccontextmanager
async def opened(folder):
    async with running(NOTES, partial(open_sqlite_backend, path_in(folder))) as bus:
        yield bus, bus.commands.execute


async def filled(folder, count=200) -> Path:
    async with opened(folder) as (_, execute):
        operations = [
            {"op": "create", "collection": "notes", "id": f"r{n:04}", "data": {"text": "x" * 500}}
            for n in range(count)
        ]
        await execute("data/batch", operations=operations, user_id="joel")
    return path_in(folder)("joel")


def unclean(path) -> None:
    """As a process that was killed leaves it: its log is still there, and has something in it."""
    aside = path.with_name("copy")
    with closing(apsw.Connection(str(path))) as connection:
        list(connection.execute("PRAGMA journal_mode = WAL"))
        connection.execute("CREATE TABLE made_before_the_end (x)")
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{aside}{suffix}")
    for suffix in ("", "-wal"):
        Path(f"{aside}{suffix}").rename(f"{path}{suffix}")


async def test_after_an_unclean_end_what_is_sound_is_opened_and_nothing_lost(tmp_path) -> None:
    path = await filled(tmp_path)
    unclean(path)
    assert quarantine.ended_uncleanly(path)
    async with opened(tmp_path) as (_, execute):
        assert (await execute("data/list", collection="notes", user_id="joel", limit=500))["count"] == 200
    assert not quarantine.ended_uncleanly(path)


@pytest.mark.parametrize("end", ["clean", "unclean"])
async def test_hidden_damage_is_looked_for_after_an_unclean_end_only(tmp_path, end) -> None:
    path = await filled(tmp_path)
    with closing(apsw.Connection(str(path))) as connection:
        sql = "SELECT rootpage FROM sqlite_schema WHERE name = 'c_notes$created'"
        begin = (next(connection.execute(sql))[0] - 1) * 4096
    if end == "unclean":
        unclean(path)
    # The number of cells of an index's page, which a read by id never looks at.
    content = path.read_bytes()
    path.write_bytes(content[: begin + 3] + b"\xff\xff" + content[begin + 5 :])
    async with opened(tmp_path) as (_, execute):
        read = partial(execute, "data/read", collection="notes", id="r0000", user_id="joel")
        if end == "clean":
            assert await read() is not None
        else:
            with pytest.raises(StoreCorrupt, match="set aside as 'x.db.corrupt-"):
                await read()


async def test_the_check_is_bounded(tmp_path, monkeypatch) -> None:
    path = await filled(tmp_path, 2000)
    with closing(apsw.Connection(str(path))) as connection:
        monkeypatch.setattr(quarantine, "CHECK_STEPS", 10)
        monkeypatch.setattr(quarantine, "MOST_CHECKS", 3)
        looks = []
        quarantine.check(connection, path)
        connection.set_progress_handler(lambda: bool(looks.append(1)), 10)
        list(connection.execute("PRAGMA quick_check(1)"))
    assert len(looks) > 30, "the whole of it takes ten times as long"


async def test_all_its_files_are_set_aside_and_it_stays_so_until_somebody_decides(tmp_path) -> None:
    path = await filled(tmp_path)
    unclean(path)
    content = path.read_bytes()
    log = Path(f"{path}-wal").read_bytes()
    broken = b"\xff" * 4096 + content[4096:]
    path.write_bytes(broken)
    Path(f"{path}-wal").write_bytes(log[:40])
    for _ in range(2):
        async with opened(tmp_path) as (bus, execute):
            with bus.events.subscribe("data:degraded") as events:
                for name in ("data/read", "data/store", "data/read"):
                    given = {"value": 1} if name == "data/store" else {}
                    with pytest.raises(StoreCorrupt, match="set aside as 'x.db.corrupt-.*to start empty"):
                        await execute(name, key="k", user_id="joel", **given)
                told = (await events.receive()).payload
            assert told["user_id"] == "joel"
            assert "corrupt-" in told["reason"]
            await execute("data/store", key="k", value=1, user_id="ann")
    assert not path.exists()
    aside = [each for each in path.parent.iterdir() if not each.name.endswith(("-wal", "-shm"))]
    assert [each.read_bytes() for each in aside] == [broken]
    async with opened(tmp_path) as (bus, execute):
        with bus.events.subscribe("data:restored") as events:
            await execute("data/reset", user_id="joel")
            assert (await events.receive()).payload == {"user_id": "joel", "name": None}
        assert await execute("data/read", key="k", user_id="joel") is None
        await execute("data/store", key="k", value=1, user_id="joel")
    assert aside[0].exists()


async def test_damage_that_is_met_later_sets_it_aside_and_a_backup_brings_it_back(tmp_path) -> None:
    path = await filled(tmp_path)
    async with opened(tmp_path) as (_, execute):
        await execute("data/backup", user_id="joel", to="good")
    content = path.read_bytes()
    path.write_bytes(content[:8192] + b"\xff" * (len(content) - 8192))
    async with opened(tmp_path) as (_, execute):
        with pytest.raises(StoreCorrupt, match="rtos data/restore --user_id=joel` takes .*'good.db'"):
            await execute("data/list", collection="notes", user_id="joel", sort=["text"])
        with pytest.raises(StoreCorrupt, match="set aside"):
            await execute("data/backup", user_id="joel")
        await execute("data/restore", user_id="joel")
        assert (await execute("data/list", collection="notes", user_id="joel", limit=500))["count"] == 200


@pytest.mark.parametrize("end", ["clean", "unclean"])
async def test_an_index_of_words_that_is_damaged_is_made_anew(tmp_path, end) -> None:
    path = await filled(tmp_path)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE c_notes$text_data SET block = x'ffffffffffff' WHERE id > 10")
    if end == "unclean":
        unclean(path)
    async with opened(tmp_path) as (_, execute):
        search = partial(execute, "data/search", collection="notes", query="x" * 500, user_id="joel")
        if end == "clean":
            with pytest.raises(StoreCorrupt, match="try again; the index of words is made anew"):
                await search()
        assert (await search())["count"] == 10
        assert (await execute("data/list", collection="notes", user_id="joel", limit=500))["count"] == 200
    assert [each.name for each in path.parent.iterdir()] == ["x.db"]


async def test_a_log_that_was_left_alone_is_not_played_into_what_is_put_there(tmp_path) -> None:
    path = await filled(tmp_path)
    async with opened(tmp_path) as (_, execute):
        await execute("data/backup", user_id="joel", to="good")
    unclean(path)
    # As it is when a process ends between two renames.
    path.rename(path.with_name("x.db.corrupt-20260101T000000.000000Z"))
    assert Path(f"{path}-wal").stat().st_size > 0
    async with opened(tmp_path) as (_, execute):
        assert (await execute("data/restore", user_id="joel"))["replaced"] is None
        assert (await execute("data/list", collection="notes", user_id="joel", limit=500))["count"] == 200
    with closing(apsw.Connection(str(path))) as connection:
        names = list(connection.execute("SELECT name FROM sqlite_schema WHERE name = 'made_before_the_end'"))
    assert names == []
