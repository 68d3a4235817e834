"""A message under way, and what is told of it and of its mailbox.

What happens to an envelope happens in the exchange.
"""

from __future__ import annotations

import enum
import math
from typing import TYPE_CHECKING, Any

import attrs
from trio.lowlevel import Abort

from rtos.scheduler.policy.message_queue import WAITING, Message

if TYPE_CHECKING:
    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.mailbox.state import MailboxState
    from rtos.scheduler.policy.overload import MailboxQueue, MailboxStatistics
    from rtos.scheduler.policy.timer_heap import Timer


class DropReason(enum.Enum):
    """Why an accepted message was not delivered."""

    EXPIRED = "expired"
    """Its deadline passed, or could no longer be met."""
    SHED = "shed"
    """Something else needed the room, or a newer message replaced it."""
    CLOSED = "closed"
    """The last receiver was closed while it waited."""


@attrs.frozen
class ChannelStatistics:
    """A snapshot of one mailbox; the first seven are those of a Trio memory channel.

    Attributes:
      current_buffer_used: messages that wait, without the control lane.
      max_buffer_size: most that may.
      open_send_channels, open_receive_channels: ends that are open.
      tasks_waiting_send, tasks_waiting_receive: tasks that are blocked on it.
      peak_buffer_used: the most messages that ever waited at once.
      peak_tasks_waiting_send: the most senders that were ever blocked at once.
      messages: the account of the messages; see the law.
      control: the account of the control lane; the same law.
      quarantined: messages that wait in quarantine for an operator.
    """

    current_buffer_used: int
    max_buffer_size: float
    open_send_channels: int
    open_receive_channels: int
    tasks_waiting_send: int
    tasks_waiting_receive: int
    peak_buffer_used: int
    peak_tasks_waiting_send: int
    messages: MailboxStatistics
    control: MailboxStatistics
    quarantined: int = 0


class Envelope(Message):
    """A message under way. ``due`` is its own deadline; ``deadline`` only orders it.

    Every message is one: made by position it costs 0.24 µs, by keyword 0.39.
    """

    __slots__ = ("blocked", "due", "exchange", "failure", "lane", "sender", "timer")

    def __init__(
        self,
        exchange: MailboxState,
        value: Any,
        level: int,
        due: float = math.inf,
        key: object = None,
        lane: MailboxQueue | None = None,
    ) -> None:
        # As in ``Message``: a call of its initialiser would cost a quarter of this one.
        self.value = value
        self.level = level
        self.deadline = self.due = due
        self.key = key
        self.arrival = 0
        self.state = WAITING
        self.entry = None
        self.exchange = exchange
        self.lane = exchange.queue if lane is None else lane
        # What its first receiver failed with.
        self.failure: str | None = None
        self.timer: Timer | None = None
        # Both are set while its sender is blocked: who that is, and what the
        # end that it called knows of its blocked senders.
        self.sender: Task | None = None
        self.blocked: dict[Envelope, None] | None = None

    def reprioritise(self, level: int, deadline: float) -> None:
        """Order the message by its blocked sender's new level and deadline."""
        if self.sender is not None:
            self.exchange.porch.promote(self, level, min(deadline, self.due))

    def abort(self, _: RaiseCancelT) -> Abort:
        """The blocked sender has been cancelled."""
        self.exchange.unblock(self)
        return Abort.SUCCEEDED

    def disarm(self) -> None:
        """It has left, so it cannot expire any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
