"""Following the changes of a database from a bookmark on: what was, and then what comes.

Law: each change is seen at least once, and in the order of the commits, also by one who
was stopped anywhere and goes on from the last number that it has dealt with. Nothing is
polled: the log is read when events say that there is more than was seen.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtos.bus.bus import Bus
    from rtos.bus.events import Subscription

_PAGE: Final = 100
_CHANGES: Final = ("data:*:created", "data:*:updated", "data:*:deleted", "data:restored")


class Followed:
    """The changes of one database; made by ``follow_changes``. Iterate over it.

    Attributes:
      after: the number of the last change that was given out; a bookmark.
    """

    def __init__(self, bus: Bus, events: Subscription, *, user_id: str | None, after: int) -> None:
        self._bus = bus
        self._events = events
        self._user_id = user_id
        self.after = after
        self._page: list[dict[str, Any]] = []
        # Whether the log may hold what was not read.
        self._behind = True

    def __aiter__(self) -> Followed:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """The next change: ``sequence``, ``collection``, ``verb`` and ``record``.

        The verb ``restored``, of no collection, says that a backup or an empty database was
        put in place: what was read before may be gone, so the records are to be read anew.

        Raises:
          CommandRejected: the bookmark is too old, or is that of another database; read
            the records anew.

        A cancellation loses nothing.
        """
        while not self._page:
            if self._behind:
                await self._read()
            else:
                await self._wait()
        change = self._page.pop(0)
        self.after = change["sequence"]
        return change

    async def _read(self) -> None:
        found = await self._bus.commands.execute(
            "data/changes", after=self.after, limit=_PAGE, user_id=self._user_id
        )
        self._page, self._behind = found["items"], found["more"]

    async def _wait(self) -> None:
        event = await self._events.receive()
        payload = event.payload
        if event.lost or self._events.lost or event.name == "data:restored":
            self._behind = True
        elif payload.get("user_id") == self._user_id and payload.get("sequence", 0) > self.after:
            if payload["sequence"] == self.after + 1:
                _, collection, verb = event.name.split(":")
                fact = {name: payload[name] for name in ("sequence", "record")}
                self._page = [{"collection": collection, "verb": verb, **fact}]
            else:
                self._behind = True


@contextmanager
def follow_changes(bus: Bus, *, user_id: str | None = None, after: int = 0) -> Iterator[Followed]:
    """Follow the changes of one database while the block runs.

    Args:
      bus: where a DataDaemon is.
      user_id: whose database; ``None`` for the shared one.
      after: the number of the last change that has been dealt with; 0 for all that the log holds.
    """
    # Subscribed before the log is read, so that nothing falls between the two.
    with bus.events.subscribe(*_CHANGES) as events:
        yield Followed(bus, events, user_id=user_id, after=after)
