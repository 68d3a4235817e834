"""Recall: what of a user's memory fits a text, and is still strong enough to come to mind.

Owns no record and keeps nothing: it asks the store for candidates and weighs them.
To recall is not to use: that a memory was of use is noted by who used it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import trio

from rtos.user.embedding import embeddings
from rtos.user.entities import MemoryEntity
from rtos.user.memory import best_first, fused, weighed
from rtos.user.words import terms

if TYPE_CHECKING:
    from rtos.bus import Bus
    from rtos.user.embedding import Embedder

CANDIDATES: Final = 50
"""How many memories that fit are weighed, where fewer are wanted."""
STEP: Final = 10
"""How many are weighed between two checkpoints, at about 10 us each."""


async def recall(
    bus: Bus, user_id: str, text: str, *, limit: int, now: float, embedder: Embedder | None = None
) -> list[dict[str, Any]]:
    """The memories that fit a text, by relevance times strength; none that has faded.

    Relevance is the search's score; with an embedder it is how high a memory ranks among those
    that share words with the text, and among those that are near to it (`fused`).

    Args:
      bus: where storage is reached.
      user_id: whose memories.
      text: what they are to fit; the words that say nothing are left out of it.
      limit: the most of them, 1 to 500.
      now: seconds since the epoch.
      embedder: who makes vectors, in a thread; ``None`` to go by words alone.

    Raises:
      CommandRejected: the limit is out of bounds.

    A checkpoint. Cancelling it leaves nothing behind.
    """
    wanted = max(limit, CANDIDATES) if limit > 0 else limit
    found = await bus.commands.execute(
        "data/search",
        collection=MemoryEntity.collection,
        query=" ".join(terms(text)) or text,
        limit=wanted,
        user_id=user_id,
    )
    items = found["items"]
    if embedder is not None and terms(text):
        [embedding] = await trio.to_thread.run_sync(embeddings, embedder, [text], abandon_on_cancel=True)
        near = await bus.commands.execute(
            "data/nearest",
            collection=MemoryEntity.collection,
            signature=embedding.signature,
            vector=embedding.vector,
            limit=wanted,
            user_id=user_id,
        )
        items = fused(items, near["items"])
    kept: list[dict[str, Any]] = []
    for number, record in enumerate(items):
        # All together would hold up everything else for half a millisecond.
        if number % STEP == 0:
            await trio.lowlevel.checkpoint()
        if (one := weighed(record, now)) is not None:
            kept.append(one)
    return best_first(kept)[:limit]
