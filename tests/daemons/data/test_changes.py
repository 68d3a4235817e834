"""The log of changes, and who follows it: everything at least once, in order, over crashes."""

import random
import sqlite3  # noqa: TID251 - looks at the file from outside
from contextlib import closing, suppress
from functools import partial

import pytest
import trio
from running import running

from rtos.bus import follow_changes
from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.sqlite import log
from rtos.errors import CommandRejected, Conflict

COLLECTIONS = (Collection("notes"), Collection("things"))


@pytest.fixture(params=["memory", "sqlite"])
def open_backend(request, tmp_path):
    if request.param == "memory":
        return open_memory_backend
    return partial(open_sqlite_backend, lambda user: tmp_path / f"{user}.db")


async def test_changes_are_listed_from_a_number_on(open_backend):
    async with running(COLLECTIONS, open_backend) as bus:
        ask = bus.commands.execute
        await ask("data/create", collection="notes", id="a", data={"n": 1})
        await ask("data/create", collection="things", id="b", data={})
        await ask("data/update", collection="notes", id="a", data={"n": 2})
        await ask("data/delete", collection="notes", id="a")
        found = await ask("data/changes", after=1, limit=2)
        assert [(one["sequence"], one["collection"], one["verb"]) for one in found["items"]] == [
            (2, "things", "created"),
            (3, "notes", "updated"),
        ]
        assert (found["next"], found["last"], found["more"]) == (3, 4, True)
        found = await ask("data/changes", collections=["notes"])
        assert [one["record"]["n"] for one in found["items"]] == [1, 2, 2]
        assert (found["next"], found["more"]) == (4, False)
        with pytest.raises(
            CommandRejected, match="there are 4 changes, and not 5: this is the number of another"
        ):
            await ask("data/changes", after=5)
        for after in (-1, 1 << 63, 10**30):
            with pytest.raises(CommandRejected, match=f"after is {after}; use 0 to"):
                await ask("data/changes", after=after)
        with pytest.raises(CommandRejected, match="no collection 'x'"):
            await ask("data/changes", collections=["x"])


async def test_events_carry_the_number(open_backend):
    async with running(COLLECTIONS, open_backend) as bus:
        with bus.events.subscribe("data:notes:*") as events:
            create = {"op": "create", "collection": "notes", "data": {}}
            await bus.commands.execute("data/batch", operations=[create, create, create], user_id="u")
            assert [(await events.receive()).payload["sequence"] for _ in range(3)] == [1, 2, 3]


async def told(bus, after):
    """The verbs of all changes after a number, or what is said instead."""
    try:
        return [one["verb"] for one in (await bus.commands.execute("data/changes", after=after))["items"]]
    except CommandRejected as error:
        return error.remedy


@pytest.mark.parametrize("how", ["restore", "reset"])
async def test_no_bookmark_goes_on_over_another_database(open_backend, how):
    async with running(COLLECTIONS, open_backend) as bus:
        ask = bus.commands.execute
        for number in range(3):
            await ask("data/store", key="k", value=number)
        await ask("data/backup")
        for number in range(4):
            await ask("data/store", key="k", value=number)
        await ask(f"data/{how}")
        told_of = [await told(bus, after) for after in range(8)]
        assert all("restored" in one or "read the records anew" in one for one in told_of)
        # Though as many are written as there were before, and more.
        for number in range(9):
            await ask("data/store", key="k", value=number)
        told_of = [await told(bus, after) for after in range(12)]
        assert all("restored" in one or "read the records anew" in one for one in told_of)
        # A second time, at once: another number yet.
        last = await last_number(bus)
        await ask(f"data/{how}")
        told_of = [await told(bus, after) for after in (last - 1, last)]
        assert all("restored" in one or "read the records anew" in one for one in told_of)


async def last_number(bus):
    with bus.events.subscribe("data:kv:*") as events:
        await bus.commands.execute("data/store", key="k", value=0)
        return (await events.receive()).payload["sequence"]


async def test_who_follows_is_told_that_another_database_is_in_place(open_backend):
    async with running(COLLECTIONS, open_backend) as bus:
        ask = bus.commands.execute
        await ask("data/store", key="k", value=1)
        await ask("data/backup")
        with follow_changes(bus) as changes, trio.fail_after(10):
            assert (await anext(changes))["verb"] == "created"
            await ask("data/store", key="k", value=2)
            assert (await anext(changes))["record"]["value"] == 2
            await ask("data/restore")
            assert (await anext(changes))["verb"] == "restored"
            await ask("data/store", key="k", value=3)
            assert (await anext(changes))["record"] | {"version": 2, "value": 3} == (
                await ask("data/read", key="k")
            )


async def test_what_is_forgotten_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "CHANGES_KEPT", 5)
    async with running(
        COLLECTIONS, partial(open_sqlite_backend, lambda user: tmp_path / f"{user}.db")
    ) as bus:
        for number in range(12):
            await bus.commands.execute("data/store", key="k", value=number)
        with pytest.raises(CommandRejected, match="changes up to 7 are forgotten") as error:
            await bus.commands.execute("data/changes", after=3)
        assert error.value.remedy == "read the records anew, and go on from 12"
        found = await bus.commands.execute("data/changes", after=7)
        assert [one["sequence"] for one in found["items"]] == [8, 9, 10, 11, 12]
        with pytest.raises(Conflict):
            await bus.commands.execute("data/update", collection="kv", id="k", data={}, expected_version=1)
        await bus.commands.execute("data/store", key="k", value=0)
        assert (await bus.commands.execute("data/changes", after=12))["last"] == 13


async def test_a_database_without_a_log_gets_one(tmp_path):
    open_backend = partial(open_sqlite_backend, lambda user: tmp_path / f"{user}.db")
    async with running(COLLECTIONS, open_backend) as bus:
        await bus.commands.execute("data/store", key="old", value=1)
    with closing(sqlite3.connect(tmp_path / "None.db")) as connection:
        connection.execute("DROP TABLE changes")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    async with running(COLLECTIONS, open_backend) as bus:
        assert (await bus.commands.execute("data/read", key="old"))["value"] == 1
        assert (await bus.commands.execute("data/changes"))["last"] == 0
        await bus.commands.execute("data/store", key="new", value=1)
        assert (await bus.commands.execute("data/changes"))["last"] == 1
    with closing(sqlite3.connect(tmp_path / "None.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (2,)


@pytest.mark.parametrize("seed", range(6))
async def test_a_follower_that_is_stopped_again_and_again_sees_everything_in_order(open_backend, seed):
    dice = random.Random(seed)
    seen = []
    total = 0
    ended, complete = False, trio.Event()

    async with running(COLLECTIONS, open_backend) as bus:

        async def write(number):
            nonlocal total
            for turn in range(15):
                size = dice.choice([1, 1, 3, 40])
                creates = [
                    {"op": "create", "collection": "notes", "data": {"n": [number, turn, place]}}
                    for place in range(size)
                ]
                total += size
                await bus.commands.execute("data/batch", operations=creates, user_id="u")
                if dice.random() < 0.3:
                    await trio.sleep(0.001)

        async def follow():
            after = 0
            while True:
                with (
                    trio.move_on_after(dice.random() / 100),
                    follow_changes(bus, user_id="u", after=after) as changes,
                ):
                    async for change in changes:
                        seen.append(change)
                        # Dealt with: what was given out before is a bookmark.
                        after = change["sequence"]
                        if ended and after == total:
                            complete.set()
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            async with trio.open_nursery() as writers:
                for number in range(3):
                    writers.start_soon(write, number)
            ended = True
            if not seen or seen[-1]["sequence"] < total:
                with trio.fail_after(20):
                    await complete.wait()
            nursery.cancel_scope.cancel()
        assert [change["sequence"] for change in seen] == list(range(1, total + 1))
        places = [tuple(change["record"]["n"]) for change in seen]
        assert len(set(places)) == total


async def test_a_follower_that_lags_reads_what_it_has_lost(open_backend):
    async with running(COLLECTIONS, open_backend) as bus:
        with follow_changes(bus) as changes:
            first = {"op": "create", "collection": "notes", "data": {}}
            await bus.commands.execute("data/batch", operations=[first])
            assert (await anext(changes))["sequence"] == 1
            for _ in range(3):
                await bus.commands.execute("data/batch", operations=[first] * 700)
            got = [(await anext(changes))["sequence"] for _ in range(2100)]
            assert got == list(range(2, 2102))
            with suppress(trio.TooSlowError), trio.fail_after(0.05):
                raise AssertionError(await anext(changes))
