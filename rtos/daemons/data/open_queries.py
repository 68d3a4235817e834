"""Open queries: which records matched when each was opened, and how far it was read.

Law: an open query holds ids, and no record, no transaction and no cursor of a
database, so it holds up nobody. There is a bound on how many there are and on how
many ids they hold together; beyond it the one that was used longest ago is closed.
What nobody uses for ``IDLE`` is closed by one timer for all; nothing polls.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import attrs
import trio

from rtos.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rtos.scheduler import Scheduler
    from rtos.scheduler.policy.timer_heap import Timer

MOST_OPEN: Final = 256
MOST_IDS: Final = 100_000
"""The most records of one query."""
MOST_IDS_TOGETHER: Final = 1_000_000
"""Of all open ones: some 100 MB."""
IDLE: Final = 600.0
"""Seconds after which a query that nobody uses is closed."""


@attrs.define(eq=False, kw_only=True)
class OpenQuery:
    """One query that was opened.

    Attributes:
      id: its name.
      user_id, collection: what it reads from.
      ids: of the records that matched, in order.
      page: how many are read at once.
      paths: the fields that are wanted; ``None`` for all.
      used_at: when it was opened or read, absolute, in seconds.
      place: how many of the ids have been read.
      page_number: of the page that was read last; 0 for none yet.
      turning: held while a page is read, so that two readers get two pages.
    """

    id: str
    user_id: str | None
    collection: str
    ids: tuple[str, ...]
    page: int
    paths: tuple[str, ...] | None
    used_at: float = 0.0
    place: int = 0
    page_number: int = 0
    turning: trio.Lock = attrs.field(factory=trio.Lock, repr=False)

    @property
    def next_ids(self) -> tuple[str, ...]:
        """Of the next page."""
        return self.ids[self.place : self.place + self.page]

    @property
    def has_more(self) -> bool:
        """Whether a page is left."""
        return self.place < len(self.ids)

    def turn(self) -> None:
        """The next page has been read; behind the last one there is none to turn."""
        if self.has_more:
            self.place += len(self.next_ids)
            self.page_number += 1


class OpenQueries:
    """All of them, the one that was used longest ago first.

    Args:
      now: the present, absolute, in seconds.
      add_timer: as ``Scheduler.add_timer``.
    """

    def __init__(
        self, now: Callable[[], float], add_timer: Callable[[float, Callable[[], None]], Timer]
    ) -> None:
        self._now = now
        self._add_timer = add_timer
        self._timer: Timer | None = None
        self._open: OrderedDict[str, OpenQuery] = OrderedDict()
        self._ids = 0

    def __iter__(self) -> Iterator[OpenQuery]:
        return iter(self._open.values())

    def __len__(self) -> int:
        return len(self._open)

    def add(self, query: OpenQuery) -> None:
        """Keep a query, and close those used longest ago that there is no room for beside it."""
        query.used_at = self._now()
        self._open[query.id] = query
        self._ids += len(query.ids)
        while len(self._open) > MOST_OPEN or self._ids > MOST_IDS_TOGETHER:
            self.close(next(iter(self._open)))
        self._arm()

    def used(self, command: str, id: str) -> OpenQuery:
        """An open query, which is used now.

        Raises:
          NotFound: it was closed, or never opened.
        """
        query = self._open.get(id)
        if query is None:
            raise NotFound(
                command,
                f"there is no open query {id!r}",
                f"open it again; one is closed when nobody reads it for {IDLE:.0f} s, or too many are open",
            )
        query.used_at = self._now()
        self._open.move_to_end(id)
        return query

    def close(self, id: str) -> bool:
        """Forget a query; says whether there was one."""
        query = self._open.pop(id, None)
        if query is not None:
            self._ids -= len(query.ids)
        return query is not None

    def clear(self) -> None:
        """Forget all of them."""
        self._open.clear()
        self._ids = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        # It is not moved whenever a query is used: it looks again when it fires.
        if self._open and self._timer is None:
            first = next(iter(self._open.values()))
            self._timer = self._add_timer(first.used_at + IDLE, self._close_idle)

    def _close_idle(self) -> None:
        self._timer = None
        now = self._now()
        for id in [query.id for query in self if query.used_at + IDLE <= now]:
            self.close(id)
        self._arm()


@contextmanager
def open_queries(scheduler: Scheduler) -> Iterator[OpenQueries]:
    """Room for open queries, which are all closed at the end."""
    queries = OpenQueries(trio.current_time, scheduler.add_timer)
    try:
        yield queries
    finally:
        queries.clear()
