"""Walking through the records of a collection, page by page.

An iterator and not a generator: who is cancelled in the midst of a walk leaves
nothing behind that would have to be closed.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rtos.bus import Bus

PAGE: Final = 500
"""Records that are asked for at once."""


class Records:
    """All records, by creation; each page begins where the last one ended. Iterate over it.

    Args:
      bus: where to ask.
      collection: which records.
      wanted: a filter; all by default.
      user_id: whose; the shared ones by default.
    """

    def __init__(
        self, bus: Bus, collection: str, wanted: dict[str, Any] | None = None, *, user_id: str | None = None
    ) -> None:
        self._bus = bus
        self._collection = collection
        self._wanted = wanted
        self._user_id = user_id
        self._page: deque[dict[str, Any]] = deque()
        self._cursor: str | None = None
        self._ended = False

    def __aiter__(self) -> Records:
        return self

    async def __anext__(self) -> dict[str, Any]:
        while not self._page:
            if self._ended:
                raise StopAsyncIteration
            found = await self._bus.commands.execute(
                "data/list",
                collection=self._collection,
                filter=self._wanted,
                limit=PAGE,
                cursor=self._cursor,
                user_id=self._user_id,
            )
            self._page.extend(found["items"])
            self._cursor = found["next_cursor"]
            self._ended = self._cursor is None
        return self._page.popleft()
