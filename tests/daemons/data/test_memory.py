"""What is the memory backend's own; what every backend does is checked by ``rtos.testing.store``."""

from __future__ import annotations

import pytest

from rtos.daemons.data import Collection, RecordClock, open_memory_backend
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.query import Query
from rtos.errors import CommandRejected

NOTES = (Collection("notes", search=("text", "tags")),)


def write(op, id, check=None, **data) -> Operation:
    return Operation(op=op, collection="notes", id=id, data=data, check=check)


async def test_the_score_is_the_share_of_the_words_and_the_id_decides_between_equals() -> None:
    async with open_memory_backend(NOTES, RecordClock(), lambda *_: None) as backend:
        texts = {"c": "quay", "b": "the quay", "a": "the QUAY at night", "d": "hills", "e": None}
        await backend.apply(None, [write("create", id, text=text) for id, text in texts.items()])
        await backend.apply(None, [write("create", "f", tags=["night", 7])])
        found = await backend.search(None, "notes", "quay, Night quay", 3)
    assert [(record["id"], record["score"]) for record in found] == [("a", 1.0), ("b", 0.5), ("c", 0.5)]


async def test_a_refusal_in_the_middle_tells_nothing_and_changes_nothing() -> None:
    def refuse(_data):
        raise CommandRejected("data/update", "too long", parameter="data")

    told = []
    async with open_memory_backend(NOTES, RecordClock(), lambda *change: told.append(change)) as backend:
        with pytest.raises(CommandRejected, match="too long"):
            await backend.apply(None, [write("create", "a"), write("update", "a", refuse, text="x")])
        assert await backend.find(None, "notes", Query()) == []
    assert told == []


async def test_what_is_stored_ends_with_the_backend() -> None:
    async with open_memory_backend(NOTES, RecordClock(), lambda *_: None) as backend:
        await backend.apply(None, [write("create", "a")])
    async with open_memory_backend(NOTES, RecordClock(), lambda *_: None) as backend:
        assert await backend.get(None, "notes", "a") is None
