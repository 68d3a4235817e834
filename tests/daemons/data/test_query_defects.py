"""Eight ways in which queries went wrong in a real system of this kind. None of them here."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import attrs
import pytest

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend

sys.path.insert(0, str(Path(__file__).parent))
from running import running


@attrs.frozen(kw_only=True)
class Task:
    title: str
    due: str | None = None


COLLECTIONS = (Collection("tasks", entity=Task), Collection("free"))
TASKS = (("a", "1"), ("b", None), ("c", "2"), ("d", "2"), ("e", "2"))


@pytest.fixture(params=["memory", "sqlite"])
async def execute(request, tmp_path):
    opens = {
        "memory": open_memory_backend,
        "sqlite": partial(open_sqlite_backend, lambda user_id: tmp_path / f"{user_id}.db"),
    }
    async with running(COLLECTIONS, opens[request.param]) as bus:
        for collection in ("tasks", "free"):
            for id, due in TASKS:
                data = {"title": f"task {id}", "due": due}
                await bus.commands.execute("data/create", collection=collection, id=id, data=data)
        yield bus.commands.execute


async def ids(execute, collection="tasks", **query) -> str:
    found = await execute("data/list", collection=collection, **query)
    assert found["count"] == len(found["items"])
    return "".join(record["id"] for record in found["items"])


async def test_1_an_empty_in_matches_nothing_and_an_empty_nin_everything(execute) -> None:
    assert await ids(execute, filter={"due": {"$in": []}}) == ""
    assert await ids(execute, filter={"due": {"$nin": []}}) == "abcde"
    assert await ids(execute, filter={"id": {"$in": []}}) == ""


async def test_2_null_equals_null(execute) -> None:
    assert await ids(execute, filter={"due": None}) == "b"
    assert await ids(execute, filter={"due": {"$eq": None}}) == "b"
    assert await ids(execute, filter={"due": {"$ne": None}}) == "acde"
    assert await ids(execute, filter={"due": {"$in": [None, "1"]}}) == "ab"


async def test_3_a_span_of_time_goes_with_other_conditions(execute) -> None:
    second = (await execute("data/read", collection="tasks", id="b"))["created_at"]
    fourth = (await execute("data/read", collection="tasks", id="d"))["created_at"]
    span = {"created_at": {"$gte": second, "$lte": fourth}}
    assert await ids(execute, filter=span) == "bcd"
    assert await ids(execute, filter={**span, "due": "2"}) == "cd"


async def test_3_a_span_of_time_has_a_parameter_of_its_own(execute) -> None:
    second = (await execute("data/read", collection="tasks", id="b"))["created_at"]
    fourth = (await execute("data/read", collection="tasks", id="d"))["created_at"]
    span = {"start": second, "end": fourth}
    # From the start on, and before the end: spans that touch share no record.
    assert await ids(execute, time_range=span) == "bc"
    assert await ids(execute, time_range=span, filter={"due": "2"}) == "c"
    assert await ids(execute, time_range={"start": fourth}, filter={"title": {"$regex": "[ae]"}}) == "de"
    assert await ids(execute, time_range={"end": second}) == "a"
    assert await execute("data/count", collection="tasks", time_range=span) == {"count": 2}
    opened = await execute("data/query-open", collection="tasks", time_range=span, filter={"due": "2"})
    assert opened["total"] == 1


async def test_4_a_collection_without_a_schema_is_filtered_as_well(execute) -> None:
    for filter in (
        {"due": "2"},
        {"title": {"$contains": "TASK C"}},
        {"due": {"$exists": False}},
        {"due": {"$gt": "1"}},
    ):
        assert await ids(execute, "free", filter=filter) == await ids(execute, "tasks", filter=filter)
    assert await ids(execute, "free", filter={"due": "1"}) == "a"


async def test_5_paging_skips_nothing_that_ties(execute) -> None:
    """Three records tie; pages of two must show each of them once."""
    seen, after = "", None
    while True:
        beyond = (
            {"$or": [{"due": {"$gt": after[0]}}, {"due": after[0], "id": {"$gt": after[1]}}]} if after else {}
        )
        filter = {"$and": [{"due": {"$ne": None}}, beyond]}
        found = await execute("data/list", collection="tasks", filter=filter, sort=["due"], limit=2)
        seen += "".join(record["id"] for record in found["items"])
        if found["count"] < 2:
            break
        after = (found["items"][-1]["due"], found["items"][-1]["id"])
    assert seen == "acde"


@pytest.mark.parametrize("sort", [None, ["due"], ["-due"], ["-created_at"], ["title"], ["due", "-title"]])
@pytest.mark.parametrize("limit", [1, 2, 4])
async def test_5_a_cursor_skips_nothing_that_ties_and_shows_nothing_twice(execute, sort, limit) -> None:
    whole, seen, cursor = await ids(execute, sort=sort), "", None
    for _ in range(len(TASKS)):
        found = await execute("data/list", collection="tasks", sort=sort, limit=limit, cursor=cursor)
        seen += "".join(record["id"] for record in found["items"])
        cursor = found["next_cursor"]
        if cursor is None:
            break
    assert cursor is None
    assert seen == whole


async def test_5_a_page_goes_on_behind_a_record_that_has_gone_meanwhile(execute) -> None:
    first = await execute("data/list", collection="tasks", sort=["due"], limit=3)
    await execute("data/delete", collection="tasks", id="c")
    await execute("data/create", collection="tasks", id="cc", data={"title": "new", "due": "2"})
    assert await ids(execute, sort=["due"], cursor=first["next_cursor"]) == "ccde"


async def test_6_how_many_there_are_is_asked_apart_from_how_many_are_shown(execute) -> None:
    filter = {"due": {"$ne": None}}
    assert (await execute("data/list", collection="tasks", filter=filter, limit=2))["count"] == 2
    assert await execute("data/count", collection="tasks", filter=filter) == {"count": 4}
    assert await execute("data/count", collection="tasks", filter={"title": {"$regex": "[ab]$"}}) == {
        "count": 2
    }
    assert await execute("data/count", collection="tasks", user_id="nobody") == {"count": 0}


async def test_6_the_limit_holds_with_every_order_and_the_count_is_of_what_is_there(execute) -> None:
    for sort in (None, ["title"], ["-due"], ["due", "-title"]):
        found = await execute("data/list", collection="tasks", sort=sort, limit=2)
        assert (found["count"], len(found["items"])) == (2, 2)
    assert (await execute("data/list", collection="tasks", limit=500))["count"] == 5


async def test_7_patterns_work(execute) -> None:
    assert await ids(execute, filter={"title": {"$regex": "^task [ab]$"}}) == "ab"
    assert await ids(execute, filter={"title": {"$regex": "[c-e]"}}, sort=["-id"], limit=2) == "ed"


async def test_8_an_update_answers_with_the_whole_record(execute) -> None:
    before = await execute("data/read", collection="tasks", id="a")
    after = await execute("data/update", collection="tasks", id="a", data={"due": "9"})
    assert after == {**before, "due": "9", "version": 2, "updated_at": after["updated_at"]}
    assert after["created_at"] == before["created_at"] < after["updated_at"]
    assert after == await execute("data/read", collection="tasks", id="a")
