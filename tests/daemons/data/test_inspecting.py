"""What the store tells of itself: plans, shapes and figures."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import attrs
import pytest

from rtos.daemons.data import Collection, open_memory_backend, open_sqlite_backend
from rtos.daemons.data.sqlite.migrations import SCHEMA
from rtos.errors import CommandRejected

sys.path.insert(0, str(Path(__file__).parent))
from running import running


@attrs.frozen(kw_only=True)
class Note:
    title: str
    stars: int | None = None
    tags: tuple[str, ...] = ("new",)
    more: dict[str, int] = attrs.field(factory=dict)


COLLECTIONS = (Collection("notes", entity=Note, search=("title",), indexes=("stars",)), Collection("free"))


@pytest.fixture
async def execute(tmp_path):
    async with running(
        COLLECTIONS, partial(open_sqlite_backend, lambda user_id: tmp_path / f"{user_id}.db")
    ) as bus:
        await bus.commands.execute("data/create", collection="notes", id="a", data={"title": "t"})
        yield bus.commands.execute


@pytest.fixture
async def in_memory():
    async with running(COLLECTIONS, open_memory_backend) as bus:
        await bus.commands.execute("data/create", collection="notes", id="a", data={"title": "t"})
        yield bus.commands.execute


async def test_the_default_list_is_read_from_its_index(execute) -> None:
    told = await execute("data/explain", collection="notes")
    assert told == {
        "sql": "SELECT id, version, created_at, updated_at, body FROM c_notes"
        " ORDER BY created_at, id LIMIT ?",
        "plan": ["SCAN c_notes USING INDEX c_notes$created"],
        "exact": True,
        "left": [],
    }


async def test_a_declared_index_shows_in_the_plan_and_no_value_in_the_statement(execute) -> None:
    told = await execute("data/explain", collection="notes", filter={"stars": 4711})
    assert told["exact"]
    assert "4711" not in told["sql"]
    assert any("c_notes$by_stars" in line for line in told["plan"])


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"filter": {"title": {"$regex": "x"}}}, ["filter"]),
        ({"sort": ["tags.0"]}, ["sort"]),
        ({"filter": {"tags": ["x"]}, "sort": ["tags.0"]}, ["filter", "sort"]),
    ],
)
async def test_what_sql_cannot_say_is_told_to_be_left(execute, given, left) -> None:
    told = await execute("data/explain", collection="notes", **given)
    assert (told["exact"], told["left"]) == (False, left)
    assert told["plan"]


async def test_a_plan_with_parts_shows_which_belongs_to_which(execute) -> None:
    told = await execute("data/explain", collection="notes", filter={"id": {"$in": ["a", "b"]}})
    assert any(line.startswith("  ") for line in told["plan"])


async def test_a_database_that_is_not_there_has_no_plan_and_is_not_made(execute, tmp_path) -> None:
    told = await execute("data/explain", collection="notes", user_id="nobody")
    assert told["sql"].startswith("SELECT")
    assert told["plan"] == []
    assert not (tmp_path / "nobody.db").exists()


async def test_memory_says_that_it_looks_at_everything(in_memory) -> None:
    told = await in_memory("data/explain", collection="notes", sort=["-stars", "id"])
    assert told == {
        "sql": None,
        "plan": ["look at each of 1 records in memory", "sort what matches by stars descending, id"],
        "exact": False,
        "left": ["filter", "sort"],
    }


async def test_what_is_wrong_is_refused(execute) -> None:
    for given, match in (
        ({"collection": "nots"}, "data/explain.*there are free, kv, notes"),
        ({"collection": "notes", "filter": {"$x": 1}}, "data/explain.*no field"),
        ({"collection": "notes", "sort": ["a b"]}, "data/explain.*no field"),
    ):
        with pytest.raises(CommandRejected, match=match):
            await execute("data/explain", **given)
    with pytest.raises(CommandRejected, match="data/schema.*there are free, kv, notes"):
        await execute("data/schema", collection="nots")


async def test_the_shape_of_a_collection_is_its_entitys(execute) -> None:
    (shape,) = (await execute("data/schema", collection="notes"))["items"]
    assert shape == {
        "collection": "notes",
        "always": ["id", "version", "created_at", "updated_at"],
        "fields": [
            {"name": "title", "type": "str", "required": True},
            {"name": "stars", "type": "int | None", "required": False, "default": None},
            {"name": "tags", "type": "tuple[str, ...]", "required": False, "default": ["new"]},
            {"name": "more", "type": "dict[str, int]", "required": False, "default": {}},
        ],
        "search": ["title"],
        "indexes": ["stars"],
        "near": [],
    }


async def test_without_a_name_all_collections_are_described(execute) -> None:
    told = await execute("data/schema")
    assert [shape["collection"] for shape in told["items"]] == ["free", "kv", "notes"]
    assert told["count"] == 3
    # Any data may be stored there, so there is nothing to tell.
    assert told["items"][0]["fields"] is None


async def test_the_figures_of_a_database(execute, tmp_path) -> None:
    told = await execute("data/stats")
    record = await execute("data/read", collection="notes", id="a")
    assert told["collections"]["notes"]["count"] == 1
    assert told["collections"]["notes"]["updated_at"] == record["updated_at"]
    assert told["collections"]["kv"] == {"count": 0, "bytes": 0, "updated_at": None}
    assert told["schema"] == SCHEMA
    files = [file for file in tmp_path.iterdir() if file.name.startswith("None.db")]
    assert told["disk_bytes"] == sum(file.stat().st_size for file in files) > 0
    nothing = await execute("data/stats", user_id="nobody")
    assert (nothing["disk_bytes"], nothing["schema"]) == (0, None)
    assert not (tmp_path / "nobody.db").exists()
