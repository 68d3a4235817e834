"""Events: told to whoever subscribed, never waiting for anybody.

Law: ``emit`` never blocks and never fails because of a subscriber. A subscriber
that lags loses the newest events, not its place, and is told how many: the next
event that it gets after the gap carries the number in ``lost``, or the last one
before it when none has followed.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.bus.pattern import PatternIndex, check_pattern

if TYPE_CHECKING:
    from collections.abc import Iterator

BACKLOG: Final = 1024
"""How many events may wait for one subscriber, by default."""


@attrs.frozen
class Event:
    """Something that has happened.

    Attributes:
      name: segments parted by ``:``.
      payload: plain JSON-able data; shared by all receivers, so not to be changed.
      lost: how many events this subscriber has missed next to this one.
    """

    name: str
    payload: Any
    lost: int = 0


class Subscription:
    """Receives events; made by ``Events.subscribe``. Iterate over it.

    Attributes:
      lost: how many events have been lost since the last one that was received.
    """

    def __init__(self, backlog: int) -> None:
        self._send, self._receive = trio.open_memory_channel[Event](backlog)
        self.lost = 0

    def __aiter__(self) -> Subscription:
        return self

    async def __anext__(self) -> Event:
        try:
            return await self.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    async def receive(self) -> Event:
        """The next event.

        Raises:
          trio.EndOfChannel: the subscription has ended, and nothing waits any more.

        Always a checkpoint; a cancellation loses nothing.
        """
        event = await self._receive.receive()
        # A gap with nothing after it yet must not stay untold.
        if self.lost and not self._receive.statistics().current_buffer_used:
            event = self._mark(event)
        return event

    def deliver(self, event: Event) -> None:
        """Put an event in the backlog, or count it as lost; nothing when it has ended."""
        lost = self.lost
        try:
            self._send.send_nowait(self._mark(event) if lost else event)
        except trio.WouldBlock:
            self.lost = lost + 1
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            # Whoever emits is not told of it: it is no failure of theirs.
            return

    def close(self) -> None:
        """No more events; what waits can still be received, then iteration ends."""
        self._send.close()

    def _mark(self, event: Event) -> Event:
        lost, self.lost = self.lost, 0
        return attrs.evolve(event, lost=event.lost + lost)


class Events:
    """The event side of a bus."""

    def __init__(self) -> None:
        self._index: PatternIndex[Subscription] = PatternIndex()

    def emit(self, name: str, payload: Any = None) -> int:
        """Tell all whose pattern matches ``name``. Not a checkpoint.

        Returns:
          How many subscriptions matched.
        """
        receivers = self._index.match(name)
        if receivers:
            event = Event(name, payload)
            for subscription in receivers:
                subscription.deliver(event)
        return len(receivers)

    @contextmanager
    def subscribe(self, *patterns: str, backlog: int = BACKLOG) -> Iterator[Subscription]:
        """Receive the events that match any of ``patterns``, each once, while the block runs.

        Args:
          patterns: segments parted by ``:``, ``*`` for exactly one of them.
          backlog: how many events may wait before the newest are lost.

        Raises:
          ValueError: a pattern can match nothing.
        """
        for pattern in patterns:
            check_pattern(pattern)
        subscription = Subscription(backlog)
        for pattern in patterns:
            self._index.add(pattern, subscription)
        try:
            yield subscription
        finally:
            for pattern in patterns:
                self._index.remove(pattern, subscription)
            subscription.close()
