"""Events: published to all subscribers without waiting for any of them.

``emit`` never blocks and never fails because of a subscriber. A slow subscriber loses
the newest events and learns how many: ``lost`` of the next event that it receives
has the number, or ``lost`` of the last event before the gap if none follows.
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
"""Default number of events that may wait for one subscriber."""


@attrs.frozen
class Event:
    """An event: a name and a payload.

    Attributes:
      name: segments separated by ``:``.
      payload: JSON values. All receivers share it, so do not change it.
      lost: number of events that this subscriber lost just before this one, or just after
        it if none has followed yet.
    """

    name: str
    payload: Any
    lost: int = 0


class Subscription:
    """Receives events; iterate over it. Made by ``Events.subscribe``.

    Attributes:
      lost: number of events lost since the last one that was received.
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
        """Wait for the next event.

        Raises:
          trio.EndOfChannel: the subscription has ended and no event waits.

        Always a checkpoint; a cancellation loses no event.
        """
        event = await self._receive.receive()
        # If no event has followed a gap, the last event before it reports the gap.
        if self.lost and not self._receive.statistics().current_buffer_used:
            event = self._mark(event)
        return event

    def deliver(self, event: Event) -> None:
        """Add an event to the backlog, or count it as lost. Does nothing once the subscription has ended."""
        lost = self.lost
        try:
            self._send.send_nowait(self._mark(event) if lost else event)
        except trio.WouldBlock:
            self.lost = lost + 1
        except (trio.ClosedResourceError, trio.BrokenResourceError):
            # Not an error of the emitter.
            return

    def close(self) -> None:
        """Accept no more events. Waiting events can still be received; then iteration ends."""
        self._send.close()

    def _mark(self, event: Event) -> Event:
        lost, self.lost = self.lost, 0
        return attrs.evolve(event, lost=event.lost + lost)


class Events:
    """The events of a bus: delivers each event to the subscriptions that match its name."""

    def __init__(self) -> None:
        self._index: PatternIndex[Subscription] = PatternIndex()

    def emit(self, name: str, payload: Any = None) -> int:
        """Deliver an event to every subscription with a matching pattern. Not a checkpoint.

        Returns:
          The number of subscriptions that matched.
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
          patterns: segments separated by ``:``; ``*`` matches exactly one segment.
          backlog: number of events that may wait; when it is full, new events are lost.

        Raises:
          ValueError: a pattern can never match.
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
