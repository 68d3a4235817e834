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
from typing import TYPE_CHECKING, Final

import attrs

from rtos.scheduler.policy.message_queue import HANDLED, SERVED, WAITING, Line, Message, State

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["MailboxQueue", "MailboxStatistics", "Message", "OverloadPolicy", "State"]


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

    __slots__ = ("_arrivals", "_indexed", "_keys", "_line", "_order", "_superseded", "capacity", "policy",
                 "statistics")  # fmt: skip

    def __init__(self, capacity: float, policy: OverloadPolicy = OverloadPolicy.REJECT) -> None:
        self.capacity = capacity
        self.policy = policy
        self.statistics = MailboxStatistics()
        self._arrivals = 0
        self._line = Line(knows_last=policy is OverloadPolicy.DROP_LEAST_URGENT)
        # Living messages in order of arrival; only kept where a policy asks for it.
        self._order: dict[int, Message] | None = (
            {} if policy in (OverloadPolicy.DROP_OLDEST, OverloadPolicy.KEEP_LATEST) else None
        )
        self._keys: dict[object, Message] | None = {} if policy is OverloadPolicy.COALESCE else None
        self._indexed = self._order is not None or self._keys is not None
        # Messages with a key that are being served, and whether a newer one of the key has been accepted.
        self._superseded: dict[Message, bool] = {}

    def __len__(self) -> int:
        return self.statistics.queued

    def __iter__(self) -> Iterator[Message]:
        """The waiting messages, in no particular order."""
        return iter(self._line)

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
        statistics = self.statistics
        # What replaces another takes its place, also where more wait than there is room for.
        if shed is None and statistics.queued >= self.capacity:
            shed = self._make_room(message)
            if shed is None:
                statistics.refused += 1
                return False, None
        self._arrivals = message.arrival = self._arrivals + 1
        if self._superseded:
            self._supersede(message)
        statistics.accepted += 1
        self._queue(message)
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
        return self._line.head()

    def take(self) -> Message | None:
        """The message that goes next, now being served; ``None`` when nothing waits."""
        message = self._line.pop()
        if message is not None:
            self.statistics.queued -= 1
            if self._indexed:
                self._drop_index(message)
            self._serve(message)
        return message

    def hand_over(self) -> Message | None:
        """``take``, and count it as handled at once: nobody holds it. Half the price of the two."""
        message = self._line.pop()
        if message is not None:
            message.state = HANDLED
            statistics = self.statistics
            statistics.queued -= 1
            statistics.handled += 1
            if self._indexed:
                self._drop_index(message)
        return message

    def put_back(self, message: Message) -> bool:
        """Let a message that is being served wait again, in the place of its arrival.

        Makes no room and asks for none. Nothing else adds to what waits beyond the capacity.

        Returns:
          Whether it waits; else it was shed, for a newer one of its key was accepted.
        """
        assert message.state is SERVED
        if self._superseded.get(message, False):
            self.settle(message, State.SHED)
            return False
        self._superseded.pop(message, None)
        message.state = WAITING
        self.statistics.served -= 1
        self._queue(message)
        if self._order is not None:
            # Sorting what is nearly sorted; going back is rare.
            self._order = dict(sorted(self._order.items()))
        return True

    def withdraw(self, message: Message, state: State) -> None:
        """Take a waiting message out, for the reason given by its new state."""
        assert message.state is WAITING
        message.entry = None
        self.statistics.queued -= 1
        if self._indexed:
            self._drop_index(message)
        message.state = state
        self._count(state)
        self._line.sweep(self.statistics.queued)

    def settle(self, message: Message, state: State) -> None:
        """Give a message that is being served its final state."""
        assert message.state is SERVED
        message.state = state
        if self._superseded:
            self._superseded.pop(message, None)
        statistics = self.statistics
        statistics.served -= 1
        if state is HANDLED:
            statistics.handled += 1
        else:
            self._count(state)

    def promote(self, message: Message, level: int, deadline: float) -> None:
        """Order a waiting message anew; its place among equals stays that of its arrival."""
        message.level, message.deadline = level, deadline
        if message.state is WAITING:
            self._line.push(message)
            self._line.sweep(self.statistics.queued)

    def _queue(self, message: Message) -> None:
        self._line.push(message)
        statistics = self.statistics
        statistics.queued = queued = statistics.queued + 1
        if queued > statistics.high_water:
            statistics.high_water = queued
        if self._order is not None:
            self._order[message.arrival] = message
        elif self._keys is not None and message.key is not None:
            self._keys[message.key] = message

    def _serve(self, message: Message) -> None:
        message.state = SERVED
        self.statistics.served += 1
        if self._keys is not None and message.key is not None:
            self._superseded[message] = False

    def _supersede(self, newcomer: Message) -> None:
        for served in self._superseded:
            if served.key == newcomer.key:
                self._superseded[served] = True

    def _make_room(self, newcomer: Message) -> Message | None:
        victim = None
        if self._order:
            victim = next(iter(self._order.values()))
        elif self.policy is OverloadPolicy.DROP_LEAST_URGENT:
            victim = self._line.last()
            # An equal newcomer came later, and would be served later still.
            if victim is None or (newcomer.level, newcomer.deadline) >= (victim.level, victim.deadline):
                return None
        if victim is not None:
            self.withdraw(victim, State.SHED)
        return victim

    def _drop_index(self, message: Message) -> None:
        if self._order is not None:
            del self._order[message.arrival]
        elif self._keys is not None and message.key is not None:
            del self._keys[message.key]

    def _count(self, state: State) -> None:
        name = _COUNTERS[state]
        setattr(self.statistics, name, getattr(self.statistics, name) + 1)
