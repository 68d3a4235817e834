"""Recall by words and by vectors together, over a real database and in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from remembering import World

from rtos.errors import CommandRejected
from rtos.user.embedding import LetterEmbedder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

DOCUMENT = """# Knots

A bowline makes a loop that does not slip.

# Harbours

The harbour master keeps a ledger of all the ships.

# Bread

Knead the dough for ten minutes and let it rest.
"""


class Counting:
    """Letters, and how often they were asked for."""

    def __init__(self, name: str = "letters-1") -> None:
        self.name = name
        self.asked: list[str] = []

    def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked += texts
        return LetterEmbedder().embed(texts)


@pytest.fixture(params=["memory", "sqlite"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, str]:
    return tmp_path, request.param


@pytest.fixture
async def world(root: tuple[Path, str]) -> AsyncIterator[World]:
    made = World(*root)
    made.embedder = Counting()
    async with made.running():
        yield made


async def test_what_is_spelt_otherwise_is_recalled_with_an_embedder_only(
    world: World, tmp_path: Path
) -> None:
    await world.do("learn", name="book", text=DOCUMENT)
    assert (await world.bodies("harbor masters leger"))[0].startswith("The harbour master")
    plain = World(tmp_path / "plain", world.kind)
    async with plain.running():
        await plain.do("learn", name="book", text=DOCUMENT)
        assert await plain.bodies("harbor leger") == []


async def test_what_has_the_words_and_is_near_comes_first(world: World) -> None:
    await world.do("learn", name="book", text=DOCUMENT)
    [first, *_] = (await world.do("recall", query="the dough for bread", limit=3))["items"]
    assert first["heading"] == "Bread"
    # First in both rankings; its vector is nobody's business.
    assert first["relevance"] == 1.0
    assert "vector" not in first
    assert "signature" not in first


async def test_memories_of_another_embedder_are_made_comparable_by_a_consolidation(tmp_path: Path) -> None:
    world = World(tmp_path, "sqlite")
    async with world.running():
        learned = (await world.do("learn", name="book", text=DOCUMENT))["learned"]
        assert (await world.do("consolidate"))["embedded"] == 0
    for name in ("letters-1", "letters-2"):
        world.embedder = Counting(name)
        async with world.running():
            assert await world.bodies("harbor leger") == []
            assert (await world.do("consolidate"))["embedded"] == learned
            assert (await world.do("consolidate"))["embedded"] == 0
            assert (await world.bodies("harbor leger"))[0].startswith("The harbour master")


async def test_a_correction_is_not_near_to_what_was_wrong(world: World) -> None:
    await world.do("learn", name="book", text=DOCUMENT)
    wrong = (await world.do("recall", query="harbour master ledger", limit=1))["items"][0]
    right = await world.do("correct", id=wrong["id"], text="Nobody counts anything.")
    record = await world.bus.commands.execute(
        "data/read", collection="memories", id=right["id"], user_id="helper-ai"
    )
    assert (record["signature"], record["vector"]) == (None, None)
    assert await world.bodies("leger") != ["Nobody counts anything."]


async def test_a_text_is_looked_at_once(world: World) -> None:
    await world.do("learn", name="book", text=DOCUMENT)
    asked = len(world.embedder.asked)
    assert asked == 3
    await world.do("learn", name="book", text=DOCUMENT)
    assert len(world.embedder.asked) == asked


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"collection": "users"}, "'users' has no vectors; use data/search"),
        ({"signature": "x"}, "parameter 'signature': signature is 'x'; give a model, a colon and hex"),
        ({"vector": "0"}, "parameter 'vector': vector is '0'; give hex"),
        ({"limit": 0}, "limit is 0; use 1 to 500"),
    ],
)
async def test_what_cannot_be_near_is_refused(world: World, given: dict[str, Any], match: str) -> None:
    fine = {"collection": "memories", "signature": "m:00", "vector": "0" * 16, "user_id": "helper-ai"}
    with pytest.raises(CommandRejected, match=match):
        await world.bus.commands.execute("data/nearest", **{**fine, **given})
