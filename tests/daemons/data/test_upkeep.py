"""Emptying collections and databases, and giving their room back."""

from functools import partial

import pytest
from running import running

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.errors import CommandRejected

COLLECTIONS = (Collection("notes", search=("text",)), Collection("things"))


def sqlite(folder):
    return partial(open_sqlite_backend, lambda user: folder / f"{user}.db")


async def fill(execute, collection, count, **data):
    creates = [{"op": "create", "collection": collection, "data": data} for _ in range(count)]
    await execute("data/batch", operations=creates, user_id="u")


@pytest.mark.parametrize("backend", ["memory", "sqlite"])
async def test_a_collection_is_emptied_and_the_others_stay(tmp_path, backend):
    async with running(COLLECTIONS, open_memory_backend if backend == "memory" else sqlite(tmp_path)) as bus:
        execute = bus.commands.execute
        await fill(execute, "notes", 1200, text="ships")
        await fill(execute, "things", 2)
        await execute("data/store", key="k", value=1, user_id="u")
        with bus.events.subscribe("data:*:truncated", "data:all:cleared") as events:
            assert await execute("data/truncate", collection="notes", user_id="u") == {"deleted": 1200}
            event = await events.receive()
            assert (event.name, event.payload["deleted"]) == ("data:notes:truncated", 1200)
            assert (await execute("data/count", collection="notes", user_id="u"))["count"] == 0
            assert (await execute("data/search", collection="notes", query="ships", user_id="u"))[
                "count"
            ] == 0
            assert (await execute("data/count", collection="things", user_id="u"))["count"] == 2
            # Each is in the log.
            assert (await execute("data/changes", user_id="u"))["last"] == 1203 + 1200
            assert await execute("data/truncate", collection="notes", user_id="u") == {"deleted": 0}
            found = await execute("data/clear", user_id="u")
            assert found == {"deleted": {"kv": 1, "notes": 0, "things": 2}}
            assert [(await events.receive()).name for _ in range(2)] == [
                "data:things:truncated",
                "data:all:cleared",
            ]
        assert await execute("data/read", key="k", user_id="u") is None
        with pytest.raises(CommandRejected, match="no collection 'x'"):
            await execute("data/truncate", collection="x")


async def test_what_is_free_goes_back_to_the_disk(tmp_path):
    async with running(COLLECTIONS, sqlite(tmp_path)) as bus:
        execute = bus.commands.execute
        assert await execute("data/vacuum", user_id="nobody") == {"before": 0, "after": 0}
        await fill(execute, "things", 2000, text="x" * 1000)
        await execute("data/truncate", collection="things", user_id="u")
        await fill(execute, "notes", 3, text="boats")
        found = await execute("data/vacuum", user_id="u")
        # What stays is the log of changes.
        assert found["after"] < found["before"]
        assert (tmp_path / "u.db").stat().st_size <= found["after"]
        assert (await execute("data/search", collection="notes", query="boats", user_id="u"))["count"] == 3
