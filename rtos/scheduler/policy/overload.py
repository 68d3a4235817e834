"""Bounded message queues with overload policies, and statistics that account for every message.

Pure: no Trio, no clock. The caller passes the time in, and gets back each message that a
policy dropped, so that it can notify the sender.

Order: level, deadline, arrival, as in the ready queue and for the same reason.

Law, at every instant:
``accepted = handled + failed + expired + shed + cancelled + waiting``
where ``waiting`` counts the messages that are queued and those that are being served.
``CHECKS`` turns on a check of this law around each operation.
"""

from __future__ import annotations

import enum
import functools
import os
import sys
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import attrs

from rtos.errors import KernelBug
from rtos.scheduler.policy.message_queue import HANDLED, SERVED, WAITING, Message, MessageQueue, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CHECKS", "MailboxQueue", "MailboxStatistics", "Message", "OverloadPolicy", "State"]

CHECKS: Final = sys.flags.dev_mode or os.environ.get("RTOS_CHECKS") == "1"
"""Whether each operation of a ``MailboxQueue`` checks the law before and after it.

True under ``python -X dev`` and with ``RTOS_CHECKS=1`` in the environment. It is read once,
on import; when it is false the checks cost nothing.
"""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class OverloadPolicy(enum.Enum):
    """What happens to a message that arrives when the mailbox is full."""

    BLOCK = "block"
    """The sender waits for room, at most until the deadline of the message."""
    REJECT = "reject"
    """The send raises ``MailboxFull`` at once."""
    DROP_OLDEST = "drop oldest"
    """The message that has waited longest is shed."""
    DROP_LEAST_URGENT = "drop least urgent"
    """The message that would be served last is shed; this may be the new one."""
    COALESCE = "coalesce"
    """A new message replaces a waiting one with the same key, full or not; otherwise as REJECT."""


@attrs.define
class MailboxStatistics:
    """Counts since the mailbox was created. See the law at the top of the module.

    Attributes:
      accepted: messages that were taken into the mailbox.
      handled: messages that were received, or whose handling ended without an error.
      failed: messages whose handling failed for good.
      expired: messages dropped because their deadline passed, or could no longer be met.
      shed: messages dropped by the overload policy.
      cancelled: messages that were withdrawn, or dropped when the last receiver closed.
      queued: messages in the queue now.
      served: messages being handled now.
      refused: messages that were not accepted; not part of the law.
      high_water: the largest ``queued`` so far.
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
        """Messages that were accepted and are not settled: queued or being served."""
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


def _conserving(
    operation: Callable[Concatenate[MailboxQueue, _P], _T],
) -> Callable[Concatenate[MailboxQueue, _P], _T]:
    """Check the law before and after an operation; without ``CHECKS`` return the operation itself."""
    if not CHECKS:
        return operation

    @functools.wraps(operation)
    def checked(queue: MailboxQueue, /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        _check(queue, f"before {operation.__name__}()")
        result = operation(queue, *args, **kwargs)
        _check(queue, f"after {operation.__name__}()")
        return result

    return checked


def _check(queue: MailboxQueue, when: str) -> None:
    if not queue.statistics.conserved():
        msg = f"a message was lost or counted twice, seen {when}: {queue.statistics}"
        raise KernelBug(msg)


class MailboxQueue:
    """A bounded priority queue of messages with an overload policy.

    Args:
      capacity: most messages that may be queued; ``math.inf`` for no bound.
      policy: what happens to a message that arrives when the queue is full.
    """

    __slots__ = ("_arrivals", "_indexed", "_keys", "_messages", "_oldest", "_superseded", "capacity",
                 "policy", "statistics")  # fmt: skip

    def __init__(self, capacity: float, policy: OverloadPolicy = OverloadPolicy.REJECT) -> None:
        self.capacity = capacity
        self.policy = policy
        self.statistics = MailboxStatistics()
        self._arrivals = 0
        self._messages = MessageQueue(knows_last=policy is OverloadPolicy.DROP_LEAST_URGENT)
        # The queued messages in order of arrival; kept only for DROP_OLDEST.
        self._oldest: dict[int, Message] | None = {} if policy is OverloadPolicy.DROP_OLDEST else None
        # The queued message of each key; kept only for COALESCE.
        self._keys: dict[object, Message] | None = {} if policy is OverloadPolicy.COALESCE else None
        self._indexed = self._oldest is not None or self._keys is not None
        # Messages with a key that are being served, and whether a newer one of the key was accepted.
        self._superseded: dict[Message, bool] = {}

    def __len__(self) -> int:
        return self.statistics.queued

    def __iter__(self) -> Iterator[Message]:
        """The queued messages, in no particular order."""
        return iter(self._messages)

    @_conserving
    def offer(self, message: Message) -> tuple[bool, Message | None]:
        """Queue a message if the capacity and the policy allow it.

        Returns:
          Whether it was accepted, and the message that was shed for it, if any (its
          state is set). Under BLOCK, not accepted means that the sender has to wait.
        """
        shed = None
        if self._keys is not None and message.key is not None:
            shed = self._keys.get(message.key)
            if shed is not None:
                self.withdraw(shed, State.SHED)
        statistics = self.statistics
        # A replacement takes the room of what it replaces, even if the queue is over-full.
        if shed is None and statistics.queued >= self.capacity:
            shed = self._make_room(message)
            if shed is None:
                statistics.refused += 1
                return False, None
        self._arrivals = message.arrival = self._arrivals + 1
        if self._superseded:
            self._supersede(message)
        self._queue(message)
        # Last, so that an exception on the way, for example RecursionError, leaves the law in force.
        statistics.accepted += 1
        return True, shed

    @_conserving
    def accept_served(self, message: Message) -> None:
        """Accept a message that goes to a receiver without being queued."""
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
        """Give a message the next arrival number, which decides its position if it is put back."""
        self._arrivals = message.arrival = self._arrivals + 1

    def head(self) -> Message | None:
        """The next message, or ``None`` if the queue is empty."""
        return self._messages.head()

    @_conserving
    def take(self) -> Message | None:
        """Remove the next message, which is being served from now on; ``None`` if the queue is empty."""
        message = self._messages.pop()
        if message is not None:
            self.statistics.queued -= 1
            if self._indexed:
                self._drop_index(message)
            self._serve(message)
        return message

    @_conserving
    def hand_over(self) -> Message | None:
        """Remove the next message and count it as handled: ``take`` and ``settle`` at half the cost."""
        message = self._messages.pop()
        if message is not None:
            message.state = HANDLED
            statistics = self.statistics
            statistics.queued -= 1
            statistics.handled += 1
            if self._indexed:
                self._drop_index(message)
        return message

    @_conserving
    def put_back(self, message: Message) -> bool:
        """Queue a message again that was being served, at the position of its arrival.

        This needs no room and sheds nothing. No other operation exceeds the capacity.

        Returns:
          Whether it is queued; otherwise it was shed, since a newer one of its key was accepted.
        """
        assert message.state is SERVED
        if self._superseded.get(message, False):
            self.settle(message, State.SHED)
            return False
        self._superseded.pop(message, None)
        message.state = WAITING
        self.statistics.served -= 1
        self._queue(message)
        if self._oldest is not None:
            # It is nearly sorted already, and messages are seldom put back.
            self._oldest = dict(sorted(self._oldest.items()))
        return True

    @_conserving
    def withdraw(self, message: Message, state: State) -> None:
        """Remove a queued message; ``state`` is its final state, which says why."""
        assert message.state is WAITING
        self.statistics.queued -= 1
        if self._indexed:
            self._drop_index(message)
        message.state = state
        self._count(state)
        self._messages.remove(message, self.statistics.queued)

    @_conserving
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

    def reprioritise(self, message: Message, level: int, deadline: float) -> None:
        """Give a message another level and deadline; among equals its arrival still decides."""
        message.level, message.deadline = level, deadline
        if message.state is WAITING:
            self._messages.push(message)
            self._messages.sweep(self.statistics.queued)

    def _queue(self, message: Message) -> None:
        self._messages.push(message)
        statistics = self.statistics
        statistics.queued = queued = statistics.queued + 1
        if queued > statistics.high_water:
            statistics.high_water = queued
        if self._oldest is not None:
            self._oldest[message.arrival] = message
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
        if self._oldest:
            victim = next(iter(self._oldest.values()))
        elif self.policy is OverloadPolicy.DROP_LEAST_URGENT:
            victim = self._messages.last()
            # A newcomer of equal urgency arrived later, so it would be served later still.
            if victim is None or (newcomer.level, newcomer.deadline) >= (victim.level, victim.deadline):
                return None
        if victim is not None:
            self.withdraw(victim, State.SHED)
        return victim

    def _drop_index(self, message: Message) -> None:
        if self._oldest is not None:
            del self._oldest[message.arrival]
        elif self._keys is not None and message.key is not None:
            del self._keys[message.key]

    def _count(self, state: State) -> None:
        name = _COUNTERS[state]
        setattr(self.statistics, name, getattr(self.statistics, name) + 1)
