"""Consolidation: which exchanges are about one thing, and what is kept of them.

Pure: memories come in, the writes of one batch go out. What is merged goes to the
archive as it was; the summary holds every line of it once, so nothing that could be
recalled is recalled no more.

Laws: one pass over the same memories gives the same summaries, under the same ids;
a memory is in one summary at most; exchanges of two rooms never meet in one.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from rtos.user.entities import MAX_LINE, MAX_TEXT, ArchivedMemoryEntity, MemoryEntity
from rtos.user.memory import MAX_STABILITY, archival, creation, dated, is_faded, timestamp_of, unchanged
from rtos.user.words import stem, terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rtos.user.memory import Memory

LEAST: Final = 3
"""How many exchanges about one thing are worth a summary."""
MOST: Final = 10
"""How many go into one."""
ALIKE: Final = 0.5
"""The share of the shorter one's words that the longer one has, of two exchanges about one thing."""
SETTLED: Final = 3600.0
"""Seconds after which an exchange is over: what is still being talked about is left alone."""
_SUMMARIES: Final = uuid.UUID("0c0b5d4e-6f1e-4d0b-9c0d-4f2b4a8f7a55")


@attrs.frozen
class _Topic:
    """Exchanges about one thing; the first one says what."""

    room_id: str | None
    words: frozenset[str]
    members: list[Memory]

    def takes(self, memory: Memory, words: frozenset[str]) -> bool:
        if memory.entity.room_id != self.room_id or len(self.members) == MOST:
            return False
        if len(words & self.words) < ALIKE * min(len(words), len(self.words)) or not words:
            return False
        return sum(len(one.entity.body.encode()) + 1 for one in (*self.members, memory)) <= MAX_TEXT


class Topics:
    """Sorts exchanges by what they are about, one at a time, oldest first.

    Args:
      now: seconds since the epoch.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._topics: list[_Topic] = []

    def add(self, memory: Memory) -> None:
        """Put an exchange to those that it belongs to; what is none, not over or faded is passed over."""
        entity = memory.entity
        over = memory.since <= self._now - SETTLED
        if entity.kind != "exchange" or not over or is_faded(memory, self._now):
            return
        words = frozenset(map(stem, terms(f"{entity.heading} {entity.body}")))
        for topic in self._topics:
            if topic.takes(memory, words):
                topic.members.append(memory)
                return
        self._topics.append(_Topic(entity.room_id, words, [memory]))

    def groups(self) -> list[list[Memory]]:
        """Those that are worth a summary, each in the order of the exchanges."""
        return [topic.members for topic in self._topics if len(topic.members) >= LEAST]


def merger(members: Sequence[Memory], now: float) -> list[dict[str, Any]]:
    """The writes by which a summary takes the place of exchanges; the summary comes first.

    Args:
      members: at least one; the oldest first.
      now: seconds since the epoch.
    """
    ids = tuple(memory.id for memory in members)
    id = uuid.uuid5(_SUMMARIES, "/".join(ids)).hex
    moves = [move for one in members for move in archival(one, "merged", now, superseded_by=id)]
    return [creation(id, _summary(members, ids, now)), *moves]


def dissolution(summary: Memory, kept: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The writes that put what a summary was made of in its place again.

    Args:
      summary: what is to go.
      kept: the records in the archive of what is to come back; what is left out stays there.
    """
    operations: list[dict[str, Any]] = [
        unchanged(summary),
        {"op": "delete", "collection": MemoryEntity.collection, "id": summary.id},
    ]
    for record in kept:
        entity = msgspec.convert(record["memory"], type=MemoryEntity)
        operations.append({"op": "delete", "collection": ArchivedMemoryEntity.collection, "id": record["id"]})
        operations.append(creation(record["id"], entity))
    return operations


def _summary(members: Sequence[Memory], ids: tuple[str, ...], now: float) -> MemoryEntity:
    entities = [memory.entity for memory in members]
    first, last = members[0], members[-1]
    speakers = {entity.said_by for entity in entities}
    summary = MemoryEntity(
        kind="summary",
        body="\n".join(_lines(entities)),
        heading=next((entity.heading for entity in entities if entity.heading), ""),
        source=f"{len(ids)} exchanges, {_day(first)} to {_day(last)}"[:MAX_LINE],
        at=timestamp_of(max(memory.since for memory in members)),
        importance=max(entity.importance for entity in entities),
        # What came up again and again is as lasting as all of it together.
        stability=min(sum(entity.stability for entity in entities), MAX_STABILITY),
        uses=sum(entity.uses for entity in entities),
        said_by=speakers.pop() if len(speakers) == 1 else None,
        room_id=first.entity.room_id,
        supersedes=ids,
    )
    return dated(summary, timestamp_of(now))


def _lines(entities: Sequence[MemoryEntity]) -> list[str]:
    """Every line once, however it is spelt, where it came first."""
    found: dict[str, str] = {}
    for entity in entities:
        for line in filter(str.strip, entity.body.split("\n")):
            found.setdefault(" ".join(line.casefold().split()), line)
    return list(found.values())


def _day(memory: Memory) -> str:
    return timestamp_of(memory.since)[:10]
