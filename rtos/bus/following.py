"""Follow the change log of a database: first the changes since a sequence number, then new ones.

A consumer sees each change at least once and in commit order, also if it is stopped at any point and
continues from the last sequence number that it processed. It does not poll: it reads the
log only when an event shows that there are unread changes.
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
    """The changes of one database; iterate over it. Made by ``follow_changes``.

    Attributes:
      after: sequence number of the last change that was returned; store it to continue later.
    """

    def __init__(self, bus: Bus, events: Subscription, *, user_id: str | None, after: int) -> None:
        self._bus = bus
        self._events = events
        self._user_id = user_id
        self.after = after
        self._page: list[dict[str, Any]] = []
        # Whether the log may contain unread changes.
        self._behind = True

    def __aiter__(self) -> Followed:
        return self

    async def __anext__(self) -> dict[str, Any]:
        """Wait for the next change: a mapping with ``sequence``, ``collection``, ``verb`` and ``record``.

        The verb ``restored``, without a collection, says that a backup or an empty database
        has replaced the database. Earlier records may be gone: read them again.

        Raises:
          CommandRejected: the log no longer reaches back to ``after``, or ``after`` belongs to
            another database; read the records again.

        A checkpoint unless a change has been read already. A cancellation loses no change.
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
      bus: a bus with a DataDaemon.
      user_id: the user whose database to follow; ``None`` for the shared database.
      after: sequence number of the last change that was processed; 0 for the whole log.
    """
    # Subscribed before the log is read, so that no change is missed in between.
    with bus.events.subscribe(*_CHANGES) as events:
        yield Followed(bus, events, user_id=user_id, after=after)
