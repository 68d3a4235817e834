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
