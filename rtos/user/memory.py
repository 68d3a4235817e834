"""Memory: how strong a memory is, when it fades, and what takes its place.

Pure: records and the time come in; numbers, entities and writes for a batch go out.

Strength is a closed form of time, ``1 / (1 + t / 9S)``, where ``t`` is how long ago
it was last of use (or happened) and ``S`` its stability in days, more where it is
important. So nothing runs while nobody remembers, and when a memory will have faded
is known at once. What was learned from a document does not fade.

Laws: nothing is overwritten: what is corrected, merged or faded goes to the archive as
it was, in the batch that puts something in its place. A memory that somebody forgets
or changes meanwhile makes that batch fail as a whole.
"""

from __future__ import annotations

import math
import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from rtos.user.entities import ArchivedMemoryEntity, MemoryEntity

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rtos.user.entities import ArchiveReason

DAY: Final = 86400.0
HALVING: Final = 9.0
"""Stabilities after which a memory of middling importance is half as strong."""
FADED: Final = 0.1
"""From this strength on a memory is recalled no more."""
LASTING: Final = frozenset({"passage"})
"""The kinds that do not fade: a document was taught, and is forgotten when somebody says so."""
GROWTH: Final = 2.0
"""By how many times itself a stability grows at most when something is of use; at once again, by none."""
MAX_STABILITY: Final = 3650.0
"""Days."""
_FUSED: Final = 60
_END_OF_TIME: Final = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
_CORRECTIONS: Final = uuid.UUID("f3d0a1d2-8a5e-4c53-9a39-0f3f0f6f2c11")
_FORM: Final = "%Y-%m-%dT%H:%M:%S.%fZ"


@attrs.frozen
class Memory:
    """A memory as it is stored."""

    id: str
    version: int
    created_at: str
    entity: MemoryEntity

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Memory:
        """The memory of a record of the collection."""
        entity = msgspec.convert(record, type=MemoryEntity)
        return cls(record["id"], record["version"], record["created_at"], entity)

    @property
    def since(self) -> float:
        """Seconds since the epoch at which it was as strong as can be: its last use, or when it happened."""
        stated = (self.entity.last_used, self.entity.at, self.created_at)
        return next((at for text in stated if (at := seconds_of(text)) is not None), 0.0)


# Strength.


def strength(memory: Memory, now: float) -> float:
    """How strong a memory is, from 1 down towards 0.

    Args:
      memory: what is asked about.
      now: seconds since the epoch; a memory of the future is as strong as can be.
    """
    elapsed = max(0.0, now - memory.since)
    return 1.0 / (1.0 + elapsed / _scale(memory.entity))


def is_faded(memory: Memory, now: float) -> bool:
    """Whether it is too weak to be recalled."""
    return now >= fading_at(memory)


def fading_at(memory: Memory) -> float:
    """From when on a memory has faded, in seconds since the epoch; ``math.inf`` if it does not."""
    return memory.since + _scale(memory.entity) * (1.0 / FADED - 1.0)


def next_fading_at(memories: Iterable[Memory]) -> float:
    """The first instant at which one of them will have faded: where the one timer goes."""
    return min(map(fading_at, memories), default=math.inf)


def used(memory: Memory, now: float) -> MemoryEntity:
    """The memory after it was of use: as strong as can be, and fading more slowly.

    The weaker it had become, the more its stability grows; to repeat something at
    once adds nothing.
    """
    entity = memory.entity
    grown = entity.stability * (1.0 + GROWTH * (1.0 - strength(memory, now)))
    changed = attrs.evolve(
        entity,
        uses=entity.uses + 1,
        last_used=timestamp_of(max(now, memory.since)),
        stability=max(entity.stability, min(grown, MAX_STABILITY)),
    )
    return dated(changed, memory.created_at)


def dated(entity: MemoryEntity, created_at: str) -> MemoryEntity:
    """The memory with the instant at which it fades; to be asked before it is stored.

    Args:
      entity: what is to be remembered.
      created_at: the present, or when it was stored first.
    """
    entity = attrs.evolve(entity, at=entity.at or created_at)
    at = fading_at(Memory("", 0, created_at, entity))
    return attrs.evolve(entity, fades_at=timestamp_of(at) if at < math.inf else None)


def _scale(entity: MemoryEntity) -> float:
    """Seconds until it is half as strong."""
    if entity.kind in LASTING:
        return math.inf
    return HALVING * entity.stability * (0.5 + entity.importance) * DAY


# Recall.


def weighed(record: Mapping[str, Any], now: float) -> dict[str, Any] | None:
    """What a search found, by relevance times strength.

    Args:
      record: of the collection, with the search's ``score``; more is better.
      now: seconds since the epoch.

    Returns:
      The record without its vector, with ``relevance`` (the search's), ``strength`` and ``score`` (their
      product); ``None`` if it has faded.
    """
    memory = Memory.of(record)
    if is_faded(memory, now):
        return None
    relevance, strong = record["score"], strength(memory, now)
    shown = {key: value for key, value in record.items() if key not in ("signature", "vector")}
    return {**shown, "relevance": relevance, "strength": strong, "score": relevance * strong}


def fused(*rankings: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Several rankings in one, by the sum of ``1 / (60 + rank)``, scaled to 0..1.

    Reciprocal rank fusion (Cormack et al., SIGIR 2009). Ranks and not scores, for those of a
    text index and of vectors are of no common measure.

    Args:
      rankings: records, best first; one may be in several.

    Returns:
      Each record once, with ``score``; 1 for what is first in all of them.
    """
    scores: dict[str, float] = {}
    records: dict[str, Mapping[str, Any]] = {}
    for ranking in rankings:
        for rank, record in enumerate(ranking, start=1):
            scores[record["id"]] = scores.get(record["id"], 0.0) + 1.0 / (_FUSED + rank)
            records.setdefault(record["id"], record)
    most = len(rankings) / (_FUSED + 1)
    order = sorted(scores, key=lambda id: (-scores[id], id))
    return [{**records[id], "score": scores[id] / most} for id in order]


def best_first(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """In order of their product; equals stay as they came."""
    return sorted(found, key=lambda record: -record["score"])


# Writes.


def creation(id: str, entity: MemoryEntity) -> dict[str, Any]:
    """The write that stores a new memory."""
    return {
        "op": "create",
        "collection": MemoryEntity.collection,
        "id": id,
        "data": msgspec.to_builtins(entity),
    }


def reinforcement(memory: Memory, now: float) -> dict[str, Any]:
    """The write that notes that a memory was of use; fails if it has changed since it was read."""
    return {
        "op": "update",
        "collection": MemoryEntity.collection,
        "id": memory.id,
        "data": msgspec.to_builtins(used(memory, now)),
        "expected_version": memory.version,
    }


def unchanged(memory: Memory) -> dict[str, Any]:
    """A write that fails, and its batch with it, unless a memory is as it was read.

    A deletion of what is gone succeeds, so without this what was forgotten could come back.
    """
    return {
        "op": "update",
        "collection": MemoryEntity.collection,
        "id": memory.id,
        "data": {},
        "expected_version": memory.version,
    }


def archival(
    memory: Memory, reason: ArchiveReason, now: float, *, superseded_by: str | None = None
) -> list[dict[str, Any]]:
    """The writes that move a memory to the archive, as it was."""
    entity = attrs.evolve(memory.entity, at=memory.entity.at or memory.created_at)
    kept = ArchivedMemoryEntity(
        memory=entity, reason=reason, superseded_by=superseded_by, at=timestamp_of(now)
    )
    memories, archive = MemoryEntity.collection, ArchivedMemoryEntity.collection
    return [
        unchanged(memory),
        {"op": "delete", "collection": memories, "id": memory.id},
        {"op": "delete", "collection": archive, "id": memory.id},
        {"op": "create", "collection": archive, "id": memory.id, "data": msgspec.to_builtins(kept)},
    ]


def correction(memory: Memory, text: str, now: float, **said: str | None) -> list[dict[str, Any]]:
    """The writes by which a new text takes a memory's place; the new one comes first.

    Args:
      memory: what was wrong.
      text: what is right.
      now: seconds since the epoch.
      said: where that is from: ``said_by``, ``message_id`` and ``room_id``, where they are known.
    """
    at = timestamp_of(now)
    provenance: dict[str, Any] = {"said_by": None, "message_id": None, "room_id": None, **said}
    told = provenance["said_by"]
    entity = attrs.evolve(
        memory.entity,
        body=text,
        at=at,
        last_used=None,
        signature=None,
        vector=None,
        # It is in no document: to cite one would make it say what it does not.
        source=f"correction by {told}" if told else "correction",
        supersedes=(memory.id,),
        **provenance,
    )
    id = uuid.uuid5(_CORRECTIONS, f"{memory.id}/{text}").hex
    return [creation(id, dated(entity, at)), *archival(memory, "corrected", now, superseded_by=id)]


# Time.


def seconds_of(text: str | None) -> float | None:
    """Seconds since the epoch of a time in ISO 8601, UTC unless it says otherwise; ``None`` if it is none."""
    try:
        moment = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def timestamp_of(seconds: float) -> str:
    """Seconds since the epoch in the form of the records' timestamps, which sort as text."""
    return datetime.fromtimestamp(min(seconds, _END_OF_TIME), UTC).strftime(_FORM)
