"""The mailbox's order and its overload policies.

Pure: no Trio, no clock. Time is handed in, and what a policy throws out is
handed back, so that whoever calls can answer the sender.

Order: level, deadline, arrival, as in the ready order, and for the same reason.

Law, at every instant:
``accepted = handled + failed + expired + shed + cancelled + waiting``
where ``waiting`` counts what is queued and what is being served.
"""

from __future__ import annotations

import enum
import math
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_SWEEP: Final = 32


class OverloadPolicy(enum.Enum):
    """What happens to a message for which there is no room."""

    BLOCK = "block"
    """The sender waits, until its deadline."""
    REJECT = "reject"
    """The sender is refused at once."""
    DROP_OLDEST = "drop oldest"
    """What has waited longest is shed."""
    DROP_LEAST_URGENT = "drop least urgent"
    """What would be served last is shed, the newcomer included."""
    COALESCE = "coalesce"
    """Of waiting messages with one key only the newest is kept, full or not; else as REJECT."""
    KEEP_LATEST = "keep latest"
    """Only the newest messages are kept: as DROP_OLDEST, for states rather than requests."""


class State(enum.IntEnum):
    """Where a message is; every state but the first two is final."""

    WAITING = 0
    SERVED = 1
    HANDLED = 2
    FAILED = 3
    EXPIRED = 4
    SHED = 5
    CANCELLED = 6


class Message:
    """An envelope: what is sent, how urgent it is, and where it stands."""

    __slots__ = ("arrival", "deadline", "entry", "key", "level", "state", "value")

    def __init__(self, value: Any, *, level: int, deadline: float = math.inf, key: object = None) -> None:
        self.value = value
        self.level = level
        self.deadline = deadline
        self.key = key
        self.arrival = 0
        self.state = State.WAITING
        # Its one valid place in the queue's heap; the queue's own.
        self.entry: tuple[int, float, int, Message] | None = None


@attrs.define
class MailboxStatistics:
    """Counts since the mailbox was made. See the law at the top of the module.

    Attributes:
      refused: offers that were not accepted; not part of the law.
      high_water: the most that ever waited in the queue at once.
    """

    accepted: int = 0
    handled: int = 0
    failed: int = 0
    expired: int = 0
    shed: int = 0
    cancelled: int = 0
    queued: int = 0
    served: int = 0
    refused: int = 0
    high_water: int = 0

    @property
    def waiting(self) -> int:
        """Accepted and not settled: queued or being served."""
        return self.queued + self.served

    def conserved(self) -> bool:
        """Whether the law holds."""
        settled = self.handled + self.failed + self.expired + self.shed + self.cancelled
        return self.accepted == settled + self.waiting


_HANDLED: Final = State.HANDLED
_COUNTERS: Final = {
    State.HANDLED: "handled",
    State.FAILED: "failed",
    State.EXPIRED: "expired",
    State.SHED: "shed",
    State.CANCELLED: "cancelled",
}


class MailboxQueue:
    """Messages in order, bounded, with a policy for when the bound is reached.

    Args:
      capacity: most messages that may wait; ``math.inf`` for no bound.
      policy: what happens beyond that.
    """

    __slots__ = ("_arrivals", "_heap", "_keys", "_order", "_superseded", "capacity", "policy", "statistics")

    def __init__(self, capacity: float, policy: OverloadPolicy = OverloadPolicy.REJECT) -> None:
        self.capacity = capacity
        self.policy = policy
        self.statistics = MailboxStatistics()
        self._arrivals = 0
        self._heap: list[tuple[int, float, int, Message]] = []
        # Living messages in order of arrival; only kept where a policy asks for it.
        self._order: dict[int, Message] | None = (
            {} if policy in (OverloadPolicy.DROP_OLDEST, OverloadPolicy.KEEP_LATEST) else None
        )
        self._keys: dict[object, Message] | None = {} if policy is OverloadPolicy.COALESCE else None
        # Messages with a key that are being served, and whether a newer one of the key has been accepted.
        self._superseded: dict[Message, bool] = {}

    def __len__(self) -> int:
        return self.statistics.queued

    def __iter__(self) -> Iterator[Message]:
        """The waiting messages, in no particular order."""
        return (entry[3] for entry in self._heap if _is_living(entry))

    def offer(self, message: Message) -> tuple[bool, Message | None]:
        """Try to accept a message.

        Returns:
          Whether it was accepted, and a message that was shed to make room for
          it (its state is set). Under BLOCK, not accepted means: wait for room.
        """
        shed = None
        if self._keys is not None and message.key is not None:
            shed = self._keys.get(message.key)
            if shed is not None:
                self.withdraw(shed, State.SHED)
        # What replaces another takes its place, also where more wait than there is room for.
        if shed is None and self.statistics.queued >= self.capacity:
            shed = self._make_room(message)
            if shed is None:
                self.statistics.refused += 1
                return False, None
        self._insert(message)
        return True, shed

    def accept_served(self, message: Message) -> None:
        """Count a message that is handed over without ever being queued."""
        statistics = self.statistics
        statistics.accepted += 1
        if message.key is None:
            message.state = State.SERVED
            statistics.served += 1
            return
        if self._superseded:
            self._supersede(message)
        self._serve(message)

    def stamp(self, message: Message) -> None:
        """Give a message the next arrival, for the place it would go back to."""
        self._arrivals = message.arrival = self._arrivals + 1

    def head(self) -> Message | None:
        """The message that goes next, or ``None``."""
        heap = self._heap
        while heap:
            if _is_living(heap[0]):
                return heap[0][3]
            heappop(heap)
        return None

    def take(self) -> Message | None:
        """The message that goes next, now being served; ``None`` when nothing waits."""
        message = self.head()
        if message is not None:
            heappop(self._heap)
            self._forget(message)
            self._serve(message)
        return message

    def put_back(self, message: Message) -> bool:
        """Let a message that is being served wait again, in the place of its arrival.

        Makes no room and asks for none. Nothing else adds to what waits beyond the capacity.

        Returns:
          Whether it waits; else it was shed, for a newer one of its key was accepted.
        """
        assert message.state is State.SERVED
        if self._superseded.get(message, False):
            self.settle(message, State.SHED)
            return False
        self._superseded.pop(message, None)
        message.state = State.WAITING
        self.statistics.served -= 1
        self._queue(message)
        if self._order is not None:
            # Sorting what is nearly sorted; going back is rare.
            self._order = dict(sorted(self._order.items()))
        return True

    def withdraw(self, message: Message, state: State) -> None:
        """Take a waiting message out, for the reason given by its new state."""
        assert message.state is State.WAITING
        self._forget(message)
        message.state = state
        self._count(state)
        self._sweep()

    def settle(self, message: Message, state: State) -> None:
        """Give a message that is being served its final state."""
        assert message.state is State.SERVED
        message.state = state
        if self._superseded:
            self._superseded.pop(message, None)
        statistics = self.statistics
        statistics.served -= 1
        if state is _HANDLED:
            statistics.handled += 1
        else:
            self._count(state)

    def promote(self, message: Message, level: int, deadline: float) -> None:
        """Order a waiting message anew; its place among equals stays that of its arrival."""
        message.level, message.deadline = level, deadline
        if message.state is State.WAITING:
            self._enter(message)
            self._sweep()

    def _insert(self, message: Message) -> None:
        self._arrivals = message.arrival = self._arrivals + 1
        if self._superseded:
            self._supersede(message)
        self.statistics.accepted += 1
        self._queue(message)

    def _queue(self, message: Message) -> None:
        message.entry = entry = (message.level, message.deadline, message.arrival, message)
        heappush(self._heap, entry)
        statistics = self.statistics
        statistics.queued += 1
        if statistics.queued > statistics.high_water:
            statistics.high_water = statistics.queued
        if self._order is not None:
            self._order[message.arrival] = message
        if self._keys is not None and message.key is not None:
            self._keys[message.key] = message

    def _serve(self, message: Message) -> None:
        message.state = State.SERVED
        self.statistics.served += 1
        if self._keys is not None and message.key is not None:
            self._superseded[message] = False

    def _supersede(self, newcomer: Message) -> None:
        for served in self._superseded:
            if served.key == newcomer.key:
                self._superseded[served] = True

    def _enter(self, message: Message) -> None:
        message.entry = entry = (message.level, message.deadline, message.arrival, message)
        heappush(self._heap, entry)

    def _sweep(self) -> None:
        if len(self._heap) > _SWEEP and len(self._heap) > 2 * self.statistics.queued:
            self._heap = [entry for entry in self._heap if _is_living(entry)]
            heapify(self._heap)

    def _make_room(self, newcomer: Message) -> Message | None:
        victim = None
        if self._order:
            victim = next(iter(self._order.values()))
        elif self.policy is OverloadPolicy.DROP_LEAST_URGENT and self.statistics.queued:
            victim = max(self, key=_urgency)
            # An equal newcomer came later, and would be served later still.
            if (newcomer.level, newcomer.deadline) >= (victim.level, victim.deadline):
                return None
        if victim is not None:
            self.withdraw(victim, State.SHED)
        return victim

    def _forget(self, message: Message) -> None:
        message.entry = None
        self.statistics.queued -= 1
        if self._order is not None:
            del self._order[message.arrival]
        if self._keys is not None and message.key is not None:
            del self._keys[message.key]

    def _count(self, state: State) -> None:
        name = _COUNTERS[state]
        setattr(self.statistics, name, getattr(self.statistics, name) + 1)


def _is_living(entry: tuple[int, float, int, Message]) -> bool:
    # An entry is stale when its message has left, or has been promoted since.
    return entry[3].entry is entry


def _urgency(message: Message) -> tuple[int, float, int]:
    return message.level, message.deadline, message.arrival
