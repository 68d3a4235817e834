"""The commands that remember and forget, over the bus."""

from __future__ import annotations

import itertools
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import msgspec
import pytest
import trio
from remembering import World

from rtos.daemons.memory import FADING, LOOKED_AT, consolidate
from rtos.errors import CommandRejected, NotFound
from rtos.user.entities import MemoryEntity
from rtos.user.memory import Memory, correction, creation, dated, seconds_of, timestamp_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

NOTES = "# Harbour\n\nThe quay is long.\n\nThe crane is red.\n"
DAY = 86400.0


@pytest.fixture(params=["memory", "sqlite"])
async def world(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, request.param)
    async with made.running():
        yield made


async def test_what_was_learned_is_recalled_and_not_learned_twice(world: World) -> None:
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 2, "known": 0}
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 0, "known": 2}
    assert await world.bodies("red crane", 1) == ["The crane is red."]


async def test_a_forgotten_memory_is_gone_from_recall(world: World) -> None:
    await world.do("learn", name="notes.md", text=NOTES)
    found = (await world.do("recall", query="crane", limit=1))["items"][0]
    assert await world.do("forget", id=found["id"]) == {"forgotten": 1}
    assert await world.bodies("crane") == []
    assert await world.bodies("quay") == ["The quay is long."]
    assert await world.do("forget", id=found["id"]) == {"forgotten": 0}


async def test_a_source_is_forgotten_and_no_other_of_a_similar_name(world: World) -> None:
    for name in ("notes.md", "my-notes.md", "notes.md.old", "Notes.md"):
        await world.do("learn", name=name, text=NOTES)
    assert await world.do("forget", source="notes.md") == {"forgotten": 2}
    found = (await world.do("recall", query="crane", limit=10))["items"]
    assert sorted(item["source"] for item in found) == [
        "Notes.md, line 5",
        "my-notes.md, line 5",
        "notes.md.old, line 5",
    ]
    assert await world.do("forget", source="notes.md") == {"forgotten": 0}


async def test_more_than_a_page_is_forgotten(world: World) -> None:
    text = "\n\n".join(f"word{number} alone" for number in range(1100))
    assert (await world.do("learn", name="long.md", text=text))["learned"] == 1100
    assert await world.do("forget", source="long.md") == {"forgotten": 1100}
    assert await world.bodies("alone") == []


@pytest.mark.parametrize("given", [{}, {"id": "a", "source": "b"}, {"source": ""}])
async def test_forgetting_takes_an_id_or_a_source(given: dict[str, str], world: World) -> None:
    with pytest.raises(CommandRejected, match="either an id or a source; give one of the two"):
        await world.do("forget", **given)


async def test_who_is_unknown_has_no_memory(world: World) -> None:
    for name, given in (("recall", {"query": "x"}), ("forget", {"id": "x"})):
        with pytest.raises(CommandRejected, match="there is no user 'nobody'"):
            await world.bus.commands.execute(f"memory/{name}", user="nobody", **given)


async def _remember(world: World, id: str, body: str, **fields: Any) -> None:
    at = timestamp_of(world.wall)
    entity = dated(msgspec.convert({"kind": "exchange", "body": body, **fields}, type=MemoryEntity), at)
    await _batch(world, [creation(id, attrs.evolve(entity, at=at))])


async def _batch(world: World, operations: list[dict[str, Any]]) -> None:
    await world.bus.commands.execute("data/batch", operations=operations, user_id="helper-ai")


async def _stored(world: World, collection: str) -> dict[str, dict[str, Any]]:
    found = await world.bus.commands.execute(
        "data/list", collection=collection, limit=500, user_id="helper-ai"
    )
    return {item["id"]: item for item in found["items"]}


async def test_what_has_faded_is_recalled_no_more_though_nothing_ran(world: World) -> None:
    await _remember(world, "m1", "the crane is red")
    await world.do("learn", name="notes.md", text=NOTES)
    world.wall += 80 * DAY
    assert sorted(await world.bodies("crane")) == ["The crane is red.", "the crane is red"]
    world.wall += 2 * DAY
    assert await world.bodies("crane") == ["The crane is red."]


async def test_the_stronger_of_two_that_fit_alike_comes_first(world: World) -> None:
    await _remember(world, "m1", "the crane is red")
    world.wall += 30 * DAY
    await _remember(world, "m2", "the crane is blue")
    assert await world.bodies("crane") == ["the crane is blue", "the crane is red"]
    await world.do("use", ids=["m1"])
    world.wall += 30 * DAY
    # The one that was of use fades more slowly from then on.
    assert await world.bodies("crane") == ["the crane is red", "the crane is blue"]


async def test_access_is_written_back(world: World) -> None:
    """The reference system counted no access, so that what was of use was forgotten like the rest."""
    await _remember(world, "m1", "the crane is red")
    world.wall += 9 * DAY
    assert await world.do("use", ids=["m1", "m1", "none"]) == {"used": 1}
    record = (await _stored(world, "memories"))["m1"]
    assert (record["uses"], record["last_used"]) == (1, timestamp_of(world.wall))
    assert record["stability"] == pytest.approx(2.0)
    assert seconds_of(record["fades_at"]) == pytest.approx(world.wall + 2 * 81 * DAY)
    assert await world.do("use", ids=[]) == {"used": 0}
    with pytest.raises(CommandRejected, match="501 ids are too many; use at most 500"):
        await world.do("use", ids=["x"] * 501)


async def test_uses_at_the_same_time_are_all_counted(world: World) -> None:
    await _remember(world, "m1", "the crane is red")
    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(partial(world.do, "use", ids=["m1"]))
    assert (await _stored(world, "memories"))["m1"]["uses"] == 10


async def test_a_correction_takes_the_place_of_what_it_keeps(world: World) -> None:
    await world.do("learn", name="notes.md", text=NOTES)
    old = (await world.do("recall", query="crane", limit=1))["items"][0]
    new = await world.do(
        "correct", id=old["id"], text="The crane is blue.", said_by="operator", message_id="c1"
    )
    found = (await world.do("recall", query="crane"))["items"]
    assert [(one["body"], one["said_by"], one["message_id"]) for one in found] == [
        ("The crane is blue.", "operator", "c1")
    ]
    kept = (await _stored(world, "archived_memories"))[old["id"]]
    assert kept["memory"]["body"] == "The crane is red."
    assert kept["memory"]["source"] == "notes.md, line 5"
    assert (kept["reason"], kept["superseded_by"]) == ("corrected", new["id"])
    # To learn the document again does not bring back what was wrong in it.
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 0, "known": 2}
    assert await world.bodies("crane") == ["The crane is blue."]
    # To forget the document forgets that as well, and then it is news.
    assert await world.do("forget", source="notes.md") == {"forgotten": 2}
    assert await _stored(world, "archived_memories") == {}
    await world.do("forget", id=new["id"])
    assert await world.do("learn", name="notes.md", text=NOTES) == {"learned": 2, "known": 0}


async def test_what_is_not_there_cannot_be_corrected(world: World) -> None:
    with pytest.raises(CommandRejected, match="there is no memory 'm9'; recall it to see its id"):
        await world.do("correct", id="m9", text="x")
    assert await _stored(world, "memories") == {}


async def test_what_is_forgotten_while_it_is_archived_does_not_come_back(world: World) -> None:
    await _remember(world, "m1", "the crane is red")
    memory = Memory.of((await _stored(world, "memories"))["m1"])
    await world.do("forget", id="m1")
    with pytest.raises(NotFound, match="memories/m1"):
        await _batch(world, correction(memory, "the crane is blue", world.wall))
    assert await _stored(world, "memories") == await _stored(world, "archived_memories") == {}


@pytest.mark.parametrize("limit", [0, -1, 501])
async def test_a_recall_has_bounds(limit: int, world: World) -> None:
    with pytest.raises(CommandRejected, match=f"limit is {limit}"):
        await world.do("recall", query="x", limit=limit)


def _about(topic: str, number: int) -> str:
    words = {"crane": "the red crane lifts heavy cargo", "tide": "high tide floods northern meadows"}
    return f"{words[topic]} {number}"


async def _exchanges(world: World, count: int = 3) -> None:
    """So many exchanges about each of two things, and one about neither; all of them over."""
    for number in range(count):
        for topic in ("crane", "tide"):
            body = _about(topic, number)
            await _remember(world, f"{topic}{number}", body, room_id="general", said_by="operator")
            world.wall += 60
    await _remember(world, "alone", "lunch was late today", room_id="general")
    world.wall += 2 * 3600


async def test_exchanges_about_one_thing_become_one_memory(world: World) -> None:
    await _exchanges(world)
    done = await world.do("consolidate")
    assert (done["faded"], done["merged"], done["summaries"]) == (0, 6, 2)
    found = (await world.do("recall", query="crane"))["items"]
    assert [one["kind"] for one in found] == ["summary"]
    assert found[0]["body"].split("\n") == [_about("crane", number) for number in range(3)]
    assert found[0]["supersedes"] == ["crane0", "crane1", "crane2"]
    assert (found[0]["room_id"], found[0]["said_by"]) == ("general", "operator")
    kept = await _stored(world, "archived_memories")
    assert kept["crane1"]["memory"]["body"] == _about("crane", 1)
    assert (kept["crane1"]["reason"], kept["crane1"]["superseded_by"]) == ("merged", found[0]["id"])
    assert set(await _stored(world, "memories")) >= {"alone", found[0]["id"]}
    # What there is no more to merge of is left alone.
    assert (await world.do("consolidate"))["summaries"] == 0


async def test_of_many_exchanges_the_last_are_looked_at(world: World) -> None:
    await _exchanges(world)
    at = timestamp_of(world.wall)
    entity = dated(MemoryEntity(kind="exchange", body="x"), at)
    others = [attrs.evolve(entity, body=f"unlike{number} any{number}") for number in range(LOOKED_AT - 4)]
    await _batch(world, [creation(f"n{number}", one) for number, one in enumerate(others)])
    world.wall += DAY
    # Of the crane one and of the tide two are among the last, and that is no topic.
    assert (await world.do("consolidate"))["merged"] == 0
    await world.do("forget", id="n0")
    await world.do("forget", id="n1")
    await world.do("forget", id="n2")
    assert (await world.do("consolidate"))["merged"] == 6


async def test_what_has_faded_is_set_aside_and_the_next_instant_is_told(world: World) -> None:
    await _remember(world, "old", "the crane is red")
    world.wall += DAY
    await _remember(world, "new", "the tide is high")
    await world.do("learn", name="notes.md", text=NOTES)
    world.wall += 80.5 * DAY
    done = await world.do("consolidate")
    assert done["faded"] == 1
    assert seconds_of(done["next_fading_at"]) == pytest.approx(world.wall + 0.5 * DAY)
    kept = await _stored(world, "archived_memories")
    assert [(id, one["reason"], one["memory"]["body"]) for id, one in kept.items()] == [
        ("old", "faded", "the crane is red")
    ]
    world.wall += 0.5 * DAY + 1
    assert await world.do("consolidate") == {
        "faded": 1,
        "embedded": 0,
        "merged": 0,
        "summaries": 0,
        # What was learned stays.
        "next_fading_at": None,
    }
    assert len(await _stored(world, "memories")) == 2


async def test_more_than_a_page_fades(world: World) -> None:
    at = timestamp_of(world.wall)
    entity = dated(MemoryEntity(kind="exchange", body="it rained"), at)
    await _batch(world, [creation(f"m{number}", entity) for number in range(2 * FADING + 1)])
    world.wall += 82 * DAY
    assert (await world.do("consolidate"))["faded"] == 2 * FADING + 1
    assert await _stored(world, "memories") == {}


class _CancelledAt(trio.abc.Instrument):
    """Cancels a scope before one of the steps of a task."""

    def __init__(self, step: int) -> None:
        self.left = step
        self.scope = trio.CancelScope()
        self.task = trio.lowlevel.current_task()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self.task:
            self.left -= 1
            if self.left == 0:
                self.scope.cancel()


async def _all_lines(world: World) -> set[str]:
    """Every line that is remembered or archived; each memory is in one of the two."""
    kept, archived = await _stored(world, "memories"), await _stored(world, "archived_memories")
    assert not set(kept) & set(archived)
    bodies = [one["body"] for one in kept.values()] + [one["memory"]["body"] for one in archived.values()]
    return {line for body in bodies for line in body.split("\n")}


async def test_a_consolidation_that_is_cancelled_anywhere_loses_nothing_and_leaves_no_half(
    world: World,
) -> None:
    await _exchanges(world)
    lines = await _all_lines(world)
    for step in itertools.count(1):
        instrument = _CancelledAt(step)
        trio.lowlevel.add_instrument(instrument)
        with instrument.scope:
            await consolidate(world.bus, "helper-ai", world.wall)
        trio.lowlevel.remove_instrument(instrument)
        assert await _all_lines(world) == lines
        kept = sorted(one["kind"] for one in (await _stored(world, "memories")).values())
        assert kept in (["exchange"] * 7, ["exchange", "summary", "summary"])
        if not instrument.scope.cancelled_caught:
            break
    assert step > 5
    assert kept == ["exchange", "summary", "summary"]


async def test_what_is_said_meanwhile_is_neither_lost_nor_merged(world: World) -> None:
    await _exchanges(world)
    await _remember(world, "now", _about("crane", 9), room_id="general")
    await world.do("consolidate")
    # It is still being talked about.
    assert "now" in await _stored(world, "memories")


async def test_a_consolidation_gives_way_to_whoever_forgets_meanwhile(world: World) -> None:
    """Otherwise a summary would bring back what somebody wanted to be forgotten."""
    await _exchanges(world)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(world.do, "forget", id="crane1"))
        nursery.start_soon(consolidate, world.bus, "helper-ai", world.wall)
    await world.do("forget", id="crane1")
    assert "crane1" not in await _stored(world, "memories")
    assert "crane1" not in await _stored(world, "archived_memories")
    assert _about("crane", 1) not in await _all_lines(world)


async def test_time_counts_and_not_how_often_somebody_looked(world: World) -> None:
    """The reference system took its last ten looks for ten minutes; they were five seconds."""
    await _remember(world, "m1", "the crane is red")
    world.wall += 9 * DAY
    seen = [(await world.do("recall", query="crane"))["items"][0]["strength"] for _ in range(20)]
    assert seen == [pytest.approx(0.5)] * 20
    assert (await _stored(world, "memories"))["m1"]["version"] == 1


async def test_what_went_into_a_summary_can_be_forgotten(world: World) -> None:
    await _exchanges(world, 4)
    await world.do("consolidate")
    assert await world.do("forget", id="crane1") == {"forgotten": 1}
    # Those that are left are as they were, and may be merged anew.
    assert await world.bodies("crane") == [_about("crane", number) for number in (3, 2, 0)]
    assert "crane1" not in await _stored(world, "archived_memories")
    assert (await world.do("consolidate"))["merged"] == 3
    assert await world.bodies("crane") == ["\n".join(_about("crane", number) for number in (0, 2, 3))]


async def test_a_summary_is_forgotten_with_all_that_it_was_made_of(world: World) -> None:
    await _exchanges(world)
    await world.do("consolidate")
    summary = (await world.do("recall", query="crane"))["items"][0]
    new = await world.do("correct", id=summary["id"], text="there is no crane")
    assert await world.do("forget", id=new["id"]) == {"forgotten": 1}
    kept = [one["memory"]["body"] for one in (await _stored(world, "archived_memories")).values()]
    assert sorted(kept) == [_about("tide", number) for number in range(3)]
    assert await world.bodies("crane") == []


@pytest.mark.parametrize(
    ("text", "error"), [(" ", "body is blank; give some text"), ("x" * 20_000, "shorten it")]
)
async def test_a_correction_that_cannot_be_kept_is_rejected(text: str, error: str, world: World) -> None:
    await _remember(world, "m1", "the crane is red")
    with pytest.raises(CommandRejected, match=error):
        await world.do("correct", id="m1", text=text)
    assert await world.bodies("crane") == ["the crane is red"]


async def test_a_document_whose_name_cannot_be_cited_is_rejected(world: World) -> None:
    with pytest.raises(CommandRejected, match=r"memory/learn: parameter 'name': .*shorten it"):
        await world.do("learn", name="n" * 600, text=NOTES)
