"""Open queries: settled when they are opened, read page by page, closed by themselves."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
import trio
import trio.testing

from rtos.daemons.data import Collection, open_memory_backend, open_queries, open_sqlite_backend, paging
from rtos.errors import CommandRejected, NotFound

sys.path.insert(0, str(Path(__file__).parent))
from running import running

COLLECTIONS = (Collection("notes"),)


@pytest.fixture(params=["memory", "sqlite"])
async def execute(request, tmp_path):
    opens = {
        "memory": open_memory_backend,
        "sqlite": partial(open_sqlite_backend, lambda user_id: tmp_path / f"{user_id}.db"),
    }
    async with running(COLLECTIONS, opens[request.param]) as bus:
        for id in "abcdefg":
            await bus.commands.execute("data/create", collection="notes", id=id, data={"n": "same"})
        yield bus.commands.execute


async def pages(execute, query_id) -> list[str]:
    """What is left of a query, page by page."""
    found = []
    while True:
        reply = await execute("data/query-next", query_id=query_id)
        found.append("".join(record["id"] for record in reply["items"]))
        if not reply["has_more"]:
            return found


async def test_an_answer_is_read_in_pages_in_its_order(execute) -> None:
    opened = await execute("data/query-open", collection="notes", sort=["-n"], page=3)
    assert opened == {"query_id": opened["query_id"], "total": 7, "page": 3, "has_more": True}
    first = await execute("data/query-next", query_id=opened["query_id"])
    assert [record["id"] for record in first["items"]] == ["g", "f", "e"]
    assert (first["page_number"], first["has_more"], first["gone"]) == (1, True, 0)
    assert first["items"][0] == await execute("data/read", collection="notes", id="g")
    assert await pages(execute, opened["query_id"]) == ["dcb", "a"]
    # Behind the last page there is nothing, and it stays the last one.
    behind = await execute("data/query-next", query_id=opened["query_id"])
    assert behind == {"items": [], "page_number": 3, "has_more": False, "gone": 0}


async def test_what_is_written_meanwhile_moves_no_page(execute) -> None:
    opened = await execute("data/query-open", collection="notes", filter={"n": "same"}, page=2)
    await execute("data/query-next", query_id=opened["query_id"])
    await execute("data/create", collection="notes", id="aa", data={"n": "same"})
    await execute("data/update", collection="notes", id="e", data={"n": "other"})
    await execute("data/delete", collection="notes", id="a")
    await execute("data/delete", collection="notes", id="d")
    second = await execute("data/query-next", query_id=opened["query_id"])
    assert [record["id"] for record in second["items"]] == ["c"]
    assert second["gone"] == 1
    third = await execute("data/query-next", query_id=opened["query_id"])
    # A record comes as it is by now, even if it would match no more.
    assert [(record["id"], record["n"]) for record in third["items"]] == [("e", "other"), ("f", "same")]
    assert await pages(execute, opened["query_id"]) == ["g"]


async def test_nothing_found_is_a_query_without_pages(execute) -> None:
    for user_id, filter in ((None, {"n": 7}), ("nobody", {})):
        opened = await execute("data/query-open", collection="notes", filter=filter, user_id=user_id)
        assert (opened["total"], opened["has_more"]) == (0, False)
        reply = await execute("data/query-next", query_id=opened["query_id"])
        assert reply == {"items": [], "page_number": 0, "has_more": False, "gone": 0}


async def test_only_the_fields_that_are_wanted_come(execute) -> None:
    opened = await execute("data/query-open", collection="notes", fields=["n"], page=1)
    reply = await execute("data/query-next", query_id=opened["query_id"])
    assert reply["items"] == [{"id": "a", "version": 1, "n": "same"}]


async def test_two_readers_of_one_query_get_two_pages(execute) -> None:
    opened = await execute("data/query-open", collection="notes", page=2)
    seen = []

    async def read() -> None:
        reply = await execute("data/query-next", query_id=opened["query_id"])
        seen.extend(record["id"] for record in reply["items"])

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(read)
    assert sorted(seen) == list("abcdefg")


async def test_a_page_that_was_cancelled_is_read_again(execute) -> None:
    opened = await execute("data/query-open", collection="notes", page=4)
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(execute, "data/query-next", query_id=opened["query_id"]))
            scope.cancel()
    assert scope.cancelled_caught
    assert await pages(execute, opened["query_id"]) == ["abcd", "efg"]


async def test_they_are_listed_and_closed(execute) -> None:
    assert await execute("data/query-list") == {"items": [], "count": 0}
    first, second = [await execute("data/query-open", collection="notes", page=5) for _ in "12"]
    await execute("data/query-next", query_id=first["query_id"])
    listed = await execute("data/query-list")
    assert [item["query_id"] for item in listed["items"]] == [second["query_id"], first["query_id"]]
    assert {key: listed["items"][1][key] for key in ("total", "page_number", "has_more", "user_id")} == {
        "total": 7,
        "page_number": 1,
        "has_more": True,
        "user_id": None,
    }
    assert await execute("data/query-close", query_id=first["query_id"]) is True
    assert await execute("data/query-close", query_id=first["query_id"]) is False
    with pytest.raises(NotFound, match="no open query .*; open it again"):
        await execute("data/query-next", query_id=first["query_id"])
    assert (await execute("data/query-list"))["count"] == 1


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"collection": "nots"}, "there are kv, notes"),
        ({"collection": "notes", "page": 0}, "page is 0; use 1 to 500"),
        ({"collection": "notes", "page": 501}, "page is 501"),
        ({"collection": "notes", "filter": {"$x": 1}}, "no field"),
        ({"collection": "notes", "sort": ["a b"]}, "no field"),
        ({"collection": "notes", "fields": ["a b"]}, "no field"),
    ],
)
async def test_what_is_wrong_opens_nothing(execute, given, match) -> None:
    with pytest.raises(CommandRejected, match=match):
        await execute("data/query-open", **given)
    assert (await execute("data/query-list"))["count"] == 0


async def test_an_answer_that_is_too_long_is_refused(execute, monkeypatch) -> None:
    monkeypatch.setattr(paging, "MOST_IDS", 6)
    with pytest.raises(CommandRejected, match="more than 6 records satisfy the filter; narrow it"):
        await execute("data/query-open", collection="notes")
    filter = {"id": {"$ne": "a"}}
    assert (await execute("data/query-open", collection="notes", filter=filter))["total"] == 6


async def test_beyond_the_most_the_one_that_was_used_longest_ago_is_closed(execute) -> None:
    first = (await execute("data/query-open", collection="notes", page=1))["query_id"]
    second = (await execute("data/query-open", collection="notes", page=1))["query_id"]
    for _ in range(open_queries.MOST_OPEN - 2):
        await execute("data/query-open", collection="notes", filter={"n": 7})
    await execute("data/query-next", query_id=first)
    await execute("data/query-open", collection="notes")
    assert (await execute("data/query-list"))["count"] == open_queries.MOST_OPEN
    await execute("data/query-next", query_id=first)
    with pytest.raises(NotFound, match="no open query"):
        await execute("data/query-next", query_id=second)


async def test_together_they_hold_only_so_many_ids(execute, monkeypatch) -> None:
    monkeypatch.setattr(open_queries, "MOST_IDS_TOGETHER", 20)
    ids = [(await execute("data/query-open", collection="notes"))["query_id"] for _ in range(3)]
    listed = [item["query_id"] for item in (await execute("data/query-list"))["items"]]
    assert listed == ids[1:]  # 21 would be one too many


async def test_what_nobody_reads_is_closed_by_one_timer(autojump_clock) -> None:
    async with running(COLLECTIONS, open_memory_backend) as bus:
        execute, scheduler = bus.commands.execute, bus.scheduler
        before = scheduler.statistics().timers
        first = (await execute("data/query-open", collection="notes"))["query_id"]
        await trio.sleep(open_queries.IDLE - 1)
        second = (await execute("data/query-open", collection="notes"))["query_id"]
        assert scheduler.statistics().timers == before + 1
        await execute("data/query-next", query_id=first)
        await trio.sleep(2)
        # The first would have been closed by now, had it not been read.
        assert (await execute("data/query-list"))["count"] == 2
        await trio.sleep(open_queries.IDLE - 4)
        await execute("data/query-next", query_id=second)
        await trio.sleep(3)
        listed = (await execute("data/query-list"))["items"]
        assert [item["query_id"] for item in listed] == [second]
        await trio.sleep(open_queries.IDLE)
        assert (await execute("data/query-list"))["count"] == 0
        assert scheduler.statistics().timers == before


async def test_at_the_end_of_the_daemon_no_timer_is_left() -> None:
    timers = []

    class Timer:
        def cancel(self) -> None:
            timers.remove(self)

    def add_timer(_at, _action):
        timers.append(Timer())
        return timers[-1]

    class Scheduler:
        pass

    scheduler = Scheduler()
    scheduler.add_timer = add_timer
    with open_queries.open_queries(scheduler) as queries:
        query = open_queries.OpenQuery(
            id="q", user_id=None, collection="notes", ids=("a",), page=1, paths=None
        )
        queries.add(query)
        assert len(timers) == 1
    assert timers == []
    assert len(queries) == 0
