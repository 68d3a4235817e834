"""The commands of storage, through a real bus, on both backends."""

from __future__ import annotations

import math
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import apsw  # noqa: TID251 - makes a file that is wrong in just one way
import attrs
import pytest
import trio

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.sqlite import records
from rtos.errors import (
    CommandRejected,
    Conflict,
    DeadlineMissed,
    NotFound,
    SchemaTooNew,
    StoreCorrupt,
    UnknownCommand,
)

sys.path.insert(0, str(Path(__file__).parent))
from running import running


@attrs.frozen(kw_only=True)
class Note:
    title: str = attrs.field(validator=attrs.validators.min_len(1))
    text: str = ""
    tags: tuple[str, ...] = ()
    stars: int = 0


COLLECTIONS = (
    Collection("notes", entity=Note, search=("title", "text"), indexes=("stars",)),
    Collection("free"),
)


@pytest.fixture(params=["memory", "sqlite"])
async def bus(request, tmp_path):
    def path(user_id):
        if user_id == "../x":
            raise CommandRejected("data", "no such user", parameter="user_id")
        return tmp_path / (user_id or "shared") / "x.db"

    opens = {"memory": open_memory_backend, "sqlite": partial(open_sqlite_backend, path)}
    async with running(COLLECTIONS, opens[request.param]) as bus:
        yield bus


@pytest.fixture
def execute(bus):
    return bus.commands.execute


async def refused(call, error=CommandRejected, *, match, parameter=None) -> None:
    with pytest.raises(error, match=match) as caught:
        await call
    if parameter is not None:
        assert caught.value.parameter == parameter


async def test_keys_and_values(execute) -> None:
    assert await execute("data/read", key="k") is None
    stored = await execute("data/store", key="k", value={"a": [1, None]})
    assert (stored["id"], stored["value"], stored["version"]) == ("k", {"a": [1, None]}, 1)
    assert await execute("data/read", key="k") == stored
    assert (await execute("data/store", key="k", value=None))["version"] == 2
    assert (await execute("data/read", key="k"))["value"] is None
    assert await execute("data/read", key="k", user_id="joel") is None


async def test_the_life_of_a_record(execute) -> None:
    created = await execute("data/create", collection="notes", data={"title": "t", "tags": ["x"]})
    assert len(created["id"]) == 32
    assert (created["text"], created["tags"], created["version"]) == ("", ["x"], 1)
    at = {"collection": "notes", "id": created["id"]}
    updated = await execute("data/update", **at, data={"stars": 3}, expected_version=1)
    assert updated == {**created, "stars": 3, "version": 2, "updated_at": updated["updated_at"]}
    assert await execute("data/read", **at) == updated
    assert await execute("data/delete", **at) is True
    assert await execute("data/delete", **at) is False
    assert await execute("data/read", **at) is None


async def test_what_is_wrong_is_refused_before_anything_changes(execute) -> None:
    await execute("data/create", collection="notes", id="a", data={"title": "t"})
    at = {"collection": "notes", "id": "a"}
    refusals = [
        ("data/create", {"collection": "nots", "data": {}}, "there are free, kv, notes", "collection"),
        ("data/create", {"collection": "notes", "data": {}}, "title", "data"),
        ("data/create", {"collection": "notes", "data": {"title": ""}}, "title", "data"),
        ("data/create", {"collection": "notes", "data": {"title": "t", "x": 1}}, "no field 'x'", "data"),
        ("data/create", {"collection": "notes", "data": {"title": "t", "version": 9}}, "store's own", "data"),
        ("data/create", {"collection": "free", "data": {"x": math.nan}}, "data.x is nan", "data"),
        ("data/create", {"collection": "free", "data": {}, "id": ""}, "id is ''", "id"),
        ("data/create", {"collection": "free", "data": {}, "id": "x" * 201}, "id is", "id"),
        ("data/create", {"collection": "free", "data": {}, "id": "a\0b"}, "id is", "id"),
        ("data/create", {"collection": "free", "data": {}, "id": "\ud800"}, "id is", "id"),
        ("data/update", {**at, "data": {"stars": "many"}}, "stars", "data"),
        ("data/update", {**at, "data": {"title": None}}, "title", "data"),
        ("data/update", {**at, "data": {"x": 1}}, "no field 'x'", "data"),
        ("data/update", {**at, "data": {"id": "b"}}, "store's own", "data"),
        ("data/store", {"key": "k", "value": 2**64}, "value is 18446744073709551616", "value"),
        ("data/store", {"key": "k", "value": ["\ud800"]}, "value\\[0\\]", "value"),
        ("data/read", {}, "either a key, or", None),
        ("data/read", {"key": "k", "collection": "notes"}, "either a key, or", None),
        ("data/read", {"collection": "notes"}, "either a key, or", None),
        ("data/list", {"collection": "notes", "limit": 0}, "limit is 0", "limit"),
        ("data/list", {"collection": "notes", "limit": 501}, "limit is 501", "limit"),
        ("data/list", {"collection": "notes", "filter": {"x": {"$foo": 1}}}, "\\$foo", "filter"),
        ("data/list", {"collection": "notes", "sort": ["a b"]}, "'a b'", "sort"),
        ("data/search", {"collection": "free", "query": "x"}, "no text index", "collection"),
        ("data/batch", {"operations": []}, "0 operations", "operations"),
        ("data/batch", {"operations": [{}] * 10_001}, "10001 operations", "operations"),
        # What every command refuses, before anything reaches the daemon.
        ("data/list", {"collection": "notes", "limit": "ten"}, "limit", "limit"),
        ("data/list", {"collection": "notes", "filter": []}, "filter", "filter"),
        ("data/list", {"collection": "notes", "sort": "title"}, "sort", "sort"),
        ("data/list", {"collection": 7}, "collection", "collection"),
        ("data/list", {}, "collection", "collection"),
        ("data/list", {"collection": "notes", "order": "title"}, "order", "order"),
        ("data/create", {"collection": "free", "data": []}, "data", "data"),
        ("data/update", {**at, "data": {}, "expected_version": True}, "expected_version", "expected_version"),
        ("data/store", {"key": "k"}, "value", "value"),
        ("data/store", {"key": "", "value": 1}, "key is ''", "key"),
        ("data/delete", {"collection": "notes", "id": ""}, "id is ''", "id"),
        ("data/delete", {"collection": "nots", "id": "a"}, "there are free, kv, notes", "collection"),
        ("data/read", {"collection": "nots", "id": "a"}, "there are free, kv, notes", "collection"),
        ("data/search", {"collection": "nots", "query": "x"}, "there are free, kv, notes", "collection"),
        ("data/search", {"collection": "notes", "query": "x", "limit": 501}, "limit is 501", "limit"),
        ("data/list", {"collection": "notes", "filter": {"x": {1, 2}}}, "which no record holds", "filter"),
        ("data/list", {"collection": "notes", "sort": ["a"] * 17}, "17 keys", "sort"),
        ("data/list", {"collection": "notes", "filter": {"x": {"$regex": "a?" * 30}}}, "never end", "filter"),
    ]
    before = [await execute("data/list", collection=name) for name in ("notes", "free", "kv")]
    for name, parameters, match, parameter in refusals:
        await refused(execute(name, **parameters), match=match, parameter=parameter)
    await refused(
        execute("data/create", collection="notes", id="a", data={"title": "t"}), Conflict, match="exists"
    )
    await refused(
        execute("data/update", **at, data={}, expected_version=2), Conflict, match="at version 1, not 2"
    )
    await refused(
        execute("data/update", collection="notes", id="b", data={}), NotFound, match="there is no 'notes/b'"
    )
    assert before == [await execute("data/list", collection=name) for name in ("notes", "free", "kv")]


@pytest.mark.parametrize(
    ("operation", "match"),
    [
        ({}, "no operation None"),
        ({"op": []}, "no operation"),
        ({"op": "drop"}, "no operation 'drop'"),
        ({"op": "create", "collection": "nots", "data": {}}, "no collection"),
        ({"op": "create", "collection": "free", "data": 1}, "data is 1"),
        ({"op": "update", "collection": "free", "data": {}}, "id is None"),
        ({"op": "store", "value": 1}, "key is None"),
        (
            {"op": "update", "collection": "free", "id": "a", "data": {}, "expectd_version": 1},
            "does not take 'expectd_version'",
        ),
        (
            {"op": "update", "collection": "free", "id": "a", "data": {}, "expected_version": "1"},
            "expected_version is '1'",
        ),
        (
            {"op": "create", "collection": "free", "data": {}, "expected_version": 1},
            "does not take 'expected_version'",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
async def test_a_batch_is_checked_as_a_whole_before_it_begins(execute, operation, match) -> None:
    good = {"op": "create", "collection": "free", "id": "g", "data": {}}
    await refused(execute("data/batch", operations=[good, operation]), match=match)
    assert await execute("data/read", collection="free", id="g") is None


async def test_a_batch_is_atomic(execute) -> None:
    await execute("data/create", collection="free", id="a", data={"n": 1})
    operations = [
        {"op": "update", "collection": "free", "id": "a", "data": {"n": 2}},
        {"op": "create", "collection": "notes", "id": "b", "data": {"title": "t"}},
        {"op": "store", "key": "k", "value": 1},
        {"op": "delete", "collection": "free", "id": "a", "expected_version": 2},
    ]
    await refused(execute("data/batch", operations=[*operations, *operations]), NotFound, match="free/a")
    assert (await execute("data/read", collection="free", id="a"))["n"] == 1
    done = await execute("data/batch", operations=operations)
    assert [record["version"] for record in done] == [2, 1, 1, 2]
    assert await execute("data/read", collection="free", id="a") is None


async def test_listing(execute) -> None:
    for number in range(10):
        await execute(
            "data/create", collection="notes", id=f"n{number}", data={"title": "t", "stars": number % 3}
        )
    assert (await execute("data/list", collection="free")) == {"items": [], "count": 0, "next_cursor": None}
    found = await execute(
        "data/list", collection="notes", filter={"stars": {"$gte": 1}}, sort=["-stars"], limit=4
    )
    # The id decides between equals, in the direction of the last key.
    assert [record["id"] for record in found["items"]] == ["n8", "n5", "n2", "n7"]
    assert found["count"] == 4
    newest = await execute("data/list", collection="notes", sort=["-created_at"], limit=1)
    assert newest["items"][0]["id"] == "n9"
    default = await execute("data/list", collection="notes")
    assert [record["id"] for record in default["items"]] == [f"n{number}" for number in range(10)]
    members = await execute("data/list", collection="notes", filter={"tags": []})
    assert members["count"] == 10


async def test_listing_page_by_page_with_only_some_fields(execute) -> None:
    for number in range(5):
        data = {"title": f"t{number}", "stars": number // 2, "tags": ["x", "y"]}
        await execute("data/create", collection="notes", id=f"n{number}", data=data)
    asked = {"collection": "notes", "sort": ["-stars"], "limit": 2, "fields": ["tags.0", "title"]}
    first = await execute("data/list", **asked)
    # What is sorted by need not be among them.
    assert first["items"] == [
        {"id": id, "version": 1, "title": f"t{id[1]}", "tags": {"0": "x"}} for id in ("n4", "n3")
    ]
    second = await execute("data/list", **asked, cursor=first["next_cursor"])
    third = await execute("data/list", **asked, cursor=second["next_cursor"])
    assert [record["id"] for record in second["items"] + third["items"]] == ["n2", "n1", "n0"]
    assert third["next_cursor"] is None
    await refused(
        execute("data/list", collection="notes", cursor=first["next_cursor"]),
        match="belongs to the sort \\['-stars'\\]",
        parameter="cursor",
    )


async def test_searching(execute) -> None:
    await execute("data/create", collection="notes", id="a", data={"title": "the harbour", "tags": ["sea"]})
    await execute("data/create", collection="notes", id="b", data={"title": "the hills"})
    found = await execute("data/search", collection="notes", query='the "harbour" OR')
    assert found["items"][0]["id"] == "a"
    assert found["items"][0]["score"] > 0
    assert found["count"] == len(found["items"])


async def test_collections(execute) -> None:
    assert await execute("data/collections") == {"items": ["free", "kv", "notes"], "count": 3}


async def test_changes_are_events_in_the_order_of_their_commits(bus, execute) -> None:
    with bus.events.subscribe("data:*:*") as events:
        created = await execute(
            "data/create", collection="notes", id="a", data={"title": "t"}, user_id="joel"
        )
        updated = await execute("data/update", collection="notes", id="a", data={"stars": 1}, user_id="joel")
        await execute("data/delete", collection="notes", id="a", user_id="joel")
        await execute("data/delete", collection="notes", id="a", user_id="joel")
        await execute("data/store", key="k", value=1)
        await refused(execute("data/create", collection="notes", data={}), match="title")
        await execute("data/batch", operations=[{"op": "store", "key": "k", "value": 2}])
        got = [await events.receive() for _ in range(5)]
    assert [(event.name, event.payload["user_id"]) for event in got] == [
        ("data:notes:created", "joel"),
        ("data:notes:updated", "joel"),
        ("data:notes:deleted", "joel"),  # once, although it was asked for twice
        ("data:kv:created", None),
        ("data:kv:updated", None),  # a batch tells as well
    ]
    assert [event.payload["record"] for event in got[:3]] == [created, updated, updated]


async def test_what_a_writer_does_with_its_reply_does_not_reach_others(bus, execute) -> None:
    given = {"tags": ["x"]}
    with bus.events.subscribe("data:free:*") as events:
        reply = await execute("data/create", collection="free", id="a", data=given)
        reply["tags"].append("spoilt")
        given["tags"].append("spoilt too")
        assert (await events.receive()).payload["record"]["tags"] == ["x"]
    assert (await execute("data/read", collection="free", id="a"))["tags"] == ["x"]


async def test_concurrent_updates_by_version_lose_nothing(execute) -> None:
    await execute("data/create", collection="free", id="a", data={"n": 0})

    async def add_one() -> None:
        while True:
            record = await execute("data/read", collection="free", id="a")
            new = {"n": record["n"] + 1}
            try:
                await execute(
                    "data/update", collection="free", id="a", data=new, expected_version=record["version"]
                )
            except Conflict:
                continue
            return

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(add_one)
    assert (await execute("data/read", collection="free", id="a"))["n"] == 50


async def test_a_command_that_is_not_there_is_refused_with_what_is_near(execute) -> None:
    await refused(execute("data/lsit", collection="notes"), UnknownCommand, match="did you mean data/list")


@pytest.mark.parametrize("wrong", [b"no database at all " * 50, None], ids=["no database", "newer"])
async def test_one_bad_database_is_told_untouched_and_the_others_go_on(tmp_path, wrong) -> None:
    def path(user_id):
        return tmp_path / (user_id or "shared") / "x.db"

    path("bad").parent.mkdir()
    if wrong is None:
        with closing(apsw.Connection(str(path("bad")))) as connection:
            connection.pragma("user_version", 99)
    else:
        path("bad").write_bytes(wrong)
    content, error = path("bad").read_bytes(), SchemaTooNew if wrong is None else StoreCorrupt
    async with running(COLLECTIONS, partial(open_sqlite_backend, path)) as bus:
        execute = bus.commands.execute
        with bus.events.subscribe("data:*:*") as events:
            for call in (
                execute("data/store", key="k", value=1, user_id="bad"),
                execute("data/read", key="k", user_id="bad"),
                execute("data/list", collection="notes", user_id="bad"),
                execute("data/search", collection="notes", query="x", user_id="bad"),
                execute("data/batch", operations=[{"op": "store", "key": "k", "value": 1}], user_id="bad"),
            ):
                await refused(call, error, match="bad/x.db.*(untouched|set aside)")
            await execute("data/store", key="k", value=1, user_id="good")
            # Nothing was told of what was not written.
            assert (await events.receive()).payload["user_id"] == "good"
    # Untouched, or under another name where nobody would take it for a database.
    (kept,) = path("bad").parent.iterdir()
    assert kept.read_bytes() == content
    assert kept.name.startswith("x.db" if wrong is None else "x.db.corrupt-")


async def test_a_list_ends_at_its_deadline_and_the_next_one_is_served(tmp_path, monkeypatch) -> None:
    endless = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    find = records.find
    async with running(
        COLLECTIONS, partial(open_sqlite_backend, lambda _: tmp_path / "x.db", threads=1)
    ) as bus:
        execute = bus.commands.execute
        await execute("data/create", collection="free", id="a", data={})
        monkeypatch.setattr(records, "find", lambda connection, **_: list(connection.execute(endless)))
        with pytest.raises(DeadlineMissed, match="data/list missed its deadline"):
            await execute("data/list", collection="free", deadline=trio.current_time() + 0.05)
        with trio.move_on_after(0.05) as scope:
            await execute("data/list", collection="free")
        assert scope.cancelled_caught
        monkeypatch.setattr(records, "find", find)
        # There is one thread: it could not answer if either of the two still ran.
        assert (await execute("data/list", collection="free"))["count"] == 1
        # A write has no deadline once it runs, and one before it does nothing.
        with pytest.raises(DeadlineMissed, match="before it started; nothing happened"):
            await execute("data/create", collection="free", id="b", data={}, deadline=trio.current_time() - 1)
        assert await execute("data/read", collection="free", id="b") is None


@pytest.mark.parametrize(
    "asked",
    [
        {"filter": {"text": {"$contains": "whale"}}},
        {"filter": {"text": {"$regex": "whale$"}}},
        {"sort": ["-text", "n"], "limit": 1},
    ],
    ids=["compared here", "pattern", "sorted here"],
)
async def test_a_query_over_a_large_table_ends_at_its_deadline(tmp_path, asked) -> None:
    text, path = "the harbour, the tide and the quay " * 4, tmp_path / "x.db"
    open_backend = partial(open_sqlite_backend, lambda _: path, threads=1)
    async with running(COLLECTIONS, open_backend) as bus:
        await bus.commands.execute("data/create", collection="free", id="0", data={"text": text, "n": 0})
    with closing(apsw.Connection(str(path))) as connection:
        # By itself, since 40,000 commands would take most of the time.
        connection.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 39999)"
            " INSERT INTO c_free (id, version, created_at, updated_at, body)"
            " SELECT n, version, created_at, updated_at, json_set(body, '$.n', n) FROM c_free, numbers"
        )
    async with running(COLLECTIONS, open_backend) as bus:
        execute = bus.commands.execute
        began = trio.current_time()
        await execute("data/list", collection="free", **asked)
        whole, taken = trio.current_time() - began, []
        for _ in range(3):
            began = trio.current_time()
            with pytest.raises(DeadlineMissed, match="data/list missed its deadline"):
                await execute("data/list", collection="free", deadline=began + whole / 10, **asked)
            # What waits is next, and finds a database that can be used.
            assert (await execute("data/list", collection="free", filter={"id": "7"}))["items"][0]["n"] == 7
            taken.append(trio.current_time() - began)
        # By the length of the same query, since a machine may be slow; and have its pauses.
        assert min(taken) < whole / 2


async def test_a_user_that_leads_elsewhere_is_refused(tmp_path) -> None:
    def path(user_id):
        if user_id == "../x":
            raise CommandRejected("data", "no such user", parameter="user_id")
        return tmp_path / (user_id or "shared") / "x.db"

    async with running(COLLECTIONS, partial(open_sqlite_backend, path)) as bus:
        await refused(
            bus.commands.execute("data/store", key="k", value=1, user_id="../x"), match="no such user"
        )
        await refused(bus.commands.execute("data/read", key="k", user_id="../x"), match="no such user")
    assert list(tmp_path.iterdir()) == []
