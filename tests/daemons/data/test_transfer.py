"""Records go out to a file and come back in: all of them, in bounded memory, and to one folder only."""

from __future__ import annotations

import json
import os
import tracemalloc
from contextlib import asynccontextmanager
from functools import partial

import attrs
import pytest
import trio
from running import running

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.lines import MAX_LINE, Lines, counted
from rtos.daemons.data.transfer import PAGE
from rtos.errors import CommandRejected, Conflict, StoreError


@attrs.frozen(kw_only=True)
class Task:
    title: str
    done: bool = False


COLLECTIONS = (Collection("notes", search=("text",)), Collection("tasks", entity=Task))


@asynccontextmanager
async def opened(folder, backend="sqlite", **settings):
    def path(user_id):
        return folder / (user_id or "shared") / "x.db"

    open_backend = (
        open_memory_backend if backend == "memory" else partial(open_sqlite_backend, path, **settings)
    )
    async with running(COLLECTIONS, open_backend, exports=folder / "exports") as bus:
        yield bus, bus.commands.execute


async def records(execute, collection, user_id=None):
    found = await execute("data/list", collection=collection, user_id=user_id, limit=500, sort=["id"])
    return [{k: v for k, v in record.items() if not k.endswith("_at")} for record in found["items"]]


async def fill(execute, count, user_id=None, **data) -> None:
    for first in range(0, count, 5000):
        operations = [
            {"op": "create", "collection": "notes", "id": f"n{n:06}", "data": {"n": n, **data}}
            for n in range(first, min(first + 5000, count))
        ]
        await execute("data/batch", operations=operations, user_id=user_id)


def written(folder, *lines, name="in") -> str:
    (folder / "exports").mkdir(exist_ok=True)
    text = "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    (folder / "exports" / name).write_text(text)
    return name


def note(id, **data):
    return {"collection": "notes", "record": {"id": id, **data}}


@pytest.mark.parametrize("backend", ["sqlite", "memory"])
async def test_what_went_out_comes_back_in_somewhere_else(tmp_path, backend) -> None:
    async with opened(tmp_path, backend) as (bus, execute):
        await fill(execute, PAGE + 3, text="ships 50% ä\0 \u2028")
        await execute("data/create", collection="tasks", id="t", data={"title": "one"})
        await execute("data/store", key="k", value=[1, None, {"a": 2.5}])
        with bus.events.subscribe("data:export:*", "data:import:*") as events:
            done = await execute("data/export", to="all.jsonl")
            told = [(await events.receive()).payload for _ in range(4)]
            total = PAGE + 5
            assert done["records"] == total
            assert [each["done"] for each in told] == [1, 1 + PAGE, total - 1, total]
            assert {each["total"] for each in told} == {total}
            back = await execute("data/import", from_path="all.jsonl", user_id="joel")
            assert (back["records"], back["stored"], back["skipped"]) == (total, total, 0)
            assert (await events.receive()).payload == {"user_id": "joel", "done": PAGE, "total": total}
        for collection in ("notes", "tasks", "kv"):
            assert await records(execute, collection, "joel") == await records(execute, collection)
        one = await execute("data/export", to="one.jsonl", collection="tasks")
        (line,) = (tmp_path / "exports" / "one.jsonl").read_text().splitlines()
        assert json.loads(line)["record"]["title"] == "one"
        assert one["bytes"] == len(line) + 1


@pytest.mark.parametrize("backend", ["sqlite", "memory"])
async def test_what_is_there_already_fails_is_skipped_or_replaced(tmp_path, backend) -> None:
    async with opened(tmp_path, backend) as (_, execute):
        await execute("data/create", collection="notes", id="b", data={"old": 1})
        name = written(tmp_path, note("a", n=1), "", note("b", n=2), note("a", n=3))
        with pytest.raises(Conflict, match="line 3: .*'notes/b' already; nothing was changed; .*skip"):
            await execute("data/import", from_path=name)
        assert [each["id"] for each in await records(execute, "notes")] == ["b"]
        done = await execute("data/import", from_path=name, on_conflict="skip")
        assert (done["stored"], done["skipped"]) == (1, 2)
        assert await records(execute, "notes") == [
            {"id": "a", "version": 1, "n": 1},
            {"id": "b", "version": 1, "old": 1},
        ]
        await execute("data/import", from_path=name, on_conflict="replace")
        assert [(each["id"], each["n"]) for each in await records(execute, "notes")] == [("a", 3), ("b", 2)]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("{", "line 2: .*mend the line"),
        ('{"collection": "notes"}', "line 2: .*record"),
        ('{"collection": "notes", "record": {"id": "x"}, "more": 1}', "line 2: .*more"),
        ('{"collection": "cats", "record": {"id": "x"}}', "line 2: there is no collection 'cats'"),
        ('{"collection": "tasks", "record": {"id": "x"}}', "line 2: .*title"),
        ('{"collection": "tasks", "record": {"id": "x", "title": "a", "x": 1}}', "line 2: .*no field 'x'"),
        ('{"collection": "notes", "record": {"text": "a"}}', "line 2: id is None"),
        ('{"collection": "notes", "record": {"id": 7}}', "line 2: id is 7"),
        ('{"collection": "notes", "record": {"id": "x", "n": 36893488147419103232}}', "line 2: .*64 bits"),
    ],
)
async def test_a_wrong_line_is_named_and_its_batch_left_out(tmp_path, wrong, said) -> None:
    async with opened(tmp_path) as (_, execute):
        name = written(tmp_path, note("a"), wrong, note("b"))
        with pytest.raises(CommandRejected, match=said):
            await execute("data/import", from_path=name)
        assert await records(execute, "notes") == []


async def test_the_batches_before_a_wrong_line_are_in(tmp_path) -> None:
    async with opened(tmp_path) as (_, execute):
        name = written(tmp_path, *(note(f"n{n:04}") for n in range(PAGE + 1)), "{")
        with pytest.raises(CommandRejected, match=f"line {PAGE + 2}: .*the {PAGE} records before"):
            await execute("data/import", from_path=name)
        assert len(await records(execute, "notes")) == PAGE


async def test_names_that_lead_elsewhere_are_refused(tmp_path) -> None:
    secret = tmp_path / "secret"
    secret.write_text(json.dumps(note("a")))
    async with opened(tmp_path) as (_, execute):
        written(tmp_path, note("a"))
        (tmp_path / "exports" / "link").symlink_to(secret)
        (tmp_path / "exports" / "folder").mkdir()
        os.mkfifo(tmp_path / "exports" / "pipe")
        for name in ("../secret", str(secret), "", ".", "..", "a/b", "~", "link"):
            with pytest.raises(CommandRejected, match="no plain name|symbolic link"):
                await execute("data/import", from_path=name)
            with pytest.raises(CommandRejected, match="no plain name|symbolic link"):
                await execute("data/export", to=name)
        for name in ("folder", "pipe"):
            with pytest.raises((CommandRejected, StoreError), match="is no file"):
                await execute("data/import", from_path=name)
        with pytest.raises(CommandRejected, match="there is no file 'nothing'.*look at the name"):
            await execute("data/import", from_path="nothing")
        with pytest.raises(CommandRejected, match="'in' already; choose another"):
            await execute("data/export", to="in")
        assert await records(execute, "notes") == []


async def test_without_a_folder_nothing_goes_out(tmp_path) -> None:
    async with running(COLLECTIONS, open_memory_backend) as bus:
        with pytest.raises(CommandRejected, match="no folder for files"):
            await bus.commands.execute("data/export", to="x")


async def test_a_cancelled_export_leaves_no_file(tmp_path) -> None:
    async with opened(tmp_path) as (bus, execute):
        await fill(execute, 5000)
        with bus.events.subscribe("data:export:*") as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(execute, "data/export", to="x"))
                await events.receive()
                nursery.cancel_scope.cancel()
        # The daemon lets go of it when it comes to it.
        while list((tmp_path / "exports").iterdir()):
            await trio.lowlevel.checkpoint()
        await execute("data/export", to="x")
        assert [each.name for each in (tmp_path / "exports").iterdir()] == ["x"]
        assert (tmp_path / "exports" / "x").stat().st_mode & 0o077 == 0


async def test_records_that_come_and_go_meanwhile_do_not_disturb_the_others(tmp_path) -> None:
    async with opened(tmp_path) as (bus, execute):
        await fill(execute, 3000)
        with bus.events.subscribe("data:export:*") as events:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(partial(execute, "data/export", to="x"))
                await events.receive()
                for n in range(0, 3000, 10):
                    await execute("data/delete", collection="notes", id=f"n{n:06}")
                    await execute("data/create", collection="notes", id=f"a{n}", data={})
        lines = (tmp_path / "exports" / "x").read_text().splitlines()
    ids = [json.loads(line)["record"]["id"] for line in lines]
    assert len(ids) == len(set(ids))
    assert {f"n{n:06}" for n in range(3000) if n % 10} <= set(ids)


async def test_memory_does_not_grow_with_the_size(tmp_path) -> None:
    peaks = []
    # What is kept of records for reading has a bound of its own.
    async with opened(tmp_path, hot_bytes=0) as (_, execute):
        for count in (1000, 4000):
            await fill(execute, count, user_id=f"u{count}", text="x" * 1000)
            tracemalloc.start()
            try:
                await execute("data/export", to=f"x{count}", user_id=f"u{count}")
                await execute("data/import", from_path=f"x{count}", user_id=f"v{count}")
                peaks.append(tracemalloc.get_traced_memory()[1])
            finally:
                tracemalloc.stop()
    small, large = peaks
    assert large < 2 * small


def test_lines_are_counted_and_a_long_one_is_refused(tmp_path) -> None:
    path = tmp_path / "x"
    for content, count in ((b"", 0), (b"a", 1), (b"a\n", 1), (b"a\n\nb", 3)):
        path.write_bytes(content)
        assert counted(path) == count
    with Lines(path) as lines:
        assert [(line.number, line.text) for line in lines.take(5)] == [(1, b"a\n"), (3, b"b")]
    with path.open("wb") as file:
        file.truncate(MAX_LINE + 2)
    with Lines(path) as lines, pytest.raises(CommandRejected, match="line 1 has more than"):
        lines.take(5)
