"""What the ends of one mailbox share: who waits, what waits, what goes next.

Order: the control lane, which is unbounded, never shed, and in order of arrival;
then level, deadline, arrival. It holds over messages and blocked senders together,
so an urgent sender that found the mailbox full waits for one delivery at most.

Law, at every instant (``policy/overload.py``):
``accepted = handled + failed + expired + shed + cancelled + waiting``.
Here *handled* means handed to a receiver, or by ``handling()`` that its block has
ended, before which it is being served; *failed* that it was quarantined; *cancelled*
that the last receiver left. A blocked sender has not been accepted yet.

Invariant: while a receiver waits no message does; while a sender is blocked the
mailbox is full, or more than full by what was put back. Must not know: the ends
(they hand in what is theirs), calls, daemons.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any

import attrs
import outcome
import trio

from rtos.errors import DeadlineMissed, MailboxFull
from rtos.scheduler.mailbox.dead_letters import Poison, Quarantine, describe
from rtos.scheduler.mailbox.envelope import ChannelStatistics, DropReason, Envelope
from rtos.scheduler.mailbox.yielding import Pace
from rtos.scheduler.policy.message_queue import HANDLED, WAITING
from rtos.scheduler.policy.overload import MailboxQueue, Message, OverloadPolicy, State
from rtos.scheduler.policy.timer_heap import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import Task

log = logging.getLogger(__name__)


_REASONS = {
    State.EXPIRED: DropReason.EXPIRED,
    State.SHED: DropReason.SHED,
    State.CANCELLED: DropReason.CLOSED,
}


class MailboxState:
    """The messages and the waiting tasks of one mailbox.

    Attributes:
      queue: the messages.
      control: the control lane.
      porch: the messages of blocked senders, the most urgent first.
      receivers: the waiting tasks, each with the set that its end keeps.
      holders: those among them that are to hold what they get, and settle it.
      quarantine: messages on which receivers failed twice.
      pace: how long a task goes on that need not wait.
      open_senders, open_receivers: ends that are open.
    """

    def __init__(
        self,
        queue: MailboxQueue,
        name: str,
        on_drop: Callable[[Any, DropReason], None] | None,
        service_time: Callable[[], float] | None,
        on_poison: Callable[[Poison], None] | None = None,
    ) -> None:
        self.queue = queue
        self.name = name
        self.control = MailboxQueue(math.inf)
        self.porch = MailboxQueue(math.inf)
        self.receivers: dict[Task, set[Task]] = {}
        self.holders: set[Task] = set()
        self.quarantine = Quarantine()
        self.pace = Pace()
        self.open_senders = 0
        self.open_receivers = 0
        self._blocks = queue.policy is OverloadPolicy.BLOCK
        self._on_drop = on_drop
        self._on_poison = on_poison
        self._service_time = service_time
        self._dues = TimerHeap()
        # Whether any message ever had a deadline: most mailboxes need not look.
        self._has_dues = False
        self._expired: list[Envelope] = []

    # Sending.

    def submit(self, message: Envelope) -> bool:
        """Deliver, queue or refuse a message.

        Returns:
          Whether it was accepted; else there is no room, and the policy is to wait for it.

        Raises:
          MailboxFull: there is no room, and the policy is not to wait.
          DeadlineMissed: it could not be delivered in time any more.
        """
        queue = self.queue
        has_due = message.due != math.inf
        if has_due and message.due <= self._horizon():
            queue.statistics.refused += 1
            raise self.missed(message)
        if self.receivers:
            self._serve_at_once(message)
            self._deliver(message)
            return True
        if queue.statistics.queued >= queue.capacity:
            self._expire()
            if self._blocks and queue.statistics.queued >= queue.capacity:
                return False
        accepted, shed = queue.offer(message)
        if not accepted:
            raise MailboxFull(self.name, f"its mailbox holds {len(queue)} of {queue.capacity}")
        if has_due:
            self._arm(message)
        if shed is not None:
            assert isinstance(shed, Envelope)
            shed.disarm()
            self._tell(shed)
        return True

    def submit_nowait(self, message: Envelope) -> None:
        """``submit``, for who does not wait for room.

        Raises:
          trio.WouldBlock: there is no room, and the policy is to wait for it.
          MailboxFull, DeadlineMissed: as ``submit``.
        """
        if not self.submit(message):
            self.queue.statistics.refused += 1
            raise trio.WouldBlock

    def submit_control(self, value: Any) -> None:
        """Deliver or queue a value on the control lane."""
        message = Envelope(self, value, level=0, lane=self.control)
        if self.receivers:
            self._serve_at_once(message)
            self._deliver(message)
        else:
            self.control.offer(message)

    def block(self, message: Envelope, sender: Task, blocked: dict[Envelope, None]) -> None:
        """Let a message wait for room, and its sender with it."""
        message.sender, message.blocked = sender, blocked
        blocked[message] = None
        self.porch.offer(message)
        self._arm(message)

    def unblock(self, message: Envelope, reply: outcome.Outcome[None] | None = None) -> None:
        """Take a message off the porch; its sender goes on with ``reply``, or by itself if there is none."""
        self.porch.withdraw(message, State.CANCELLED)
        message.disarm()
        self._release(message, reply)

    def _release(self, message: Envelope, reply: outcome.Outcome[None] | None) -> None:
        sender, blocked = message.sender, message.blocked
        assert sender is not None
        assert blocked is not None
        message.sender = message.blocked = None
        del blocked[message]
        if reply is not None:
            trio.lowlevel.reschedule(sender, reply)

    def _admit(self) -> None:
        """Give free room to the most urgent of the blocked senders."""
        queue, porch = self.queue, self.porch
        while queue.statistics.queued < queue.capacity:
            message = porch.hand_over()
            if message is None:
                return
            assert isinstance(message, Envelope)
            # Its timer goes on: the deadline inside is that of the porch.
            self._release(message, outcome.Value(None))
            message.state = WAITING
            queue.offer(message)

    def _serve_at_once(self, message: Envelope) -> None:
        message.lane.stamp(message)
        message.lane.accept_served(message)

    def _deliver(self, message: Envelope) -> None:
        # First come, first served, as Trio's: receivers have no order of their own.
        task = next(iter(self.receivers))
        holds = task in self.holders
        self.leave(task)
        if not holds:
            message.lane.settle(message, HANDLED)
        trio.lowlevel.reschedule(task, outcome.Value(message))

    # Receiving.

    def enter(self, task: Task, waiting: set[Task], *, holds: bool) -> None:
        """Let a task wait for a message; ``waiting`` is the set that its end keeps."""
        self.receivers[task] = waiting
        waiting.add(task)
        if holds:
            self.holders.add(task)

    def leave(self, task: Task) -> None:
        """A task waits no longer."""
        self.receivers.pop(task).remove(task)
        self.holders.discard(task)

    def take(self, *, holds: bool) -> Envelope | None:
        """The message that goes next; ``None`` when nothing waits.

        Args:
          holds: it is being served from here on, and to be settled; else it is handled.
        """
        lane = self.control
        if not lane.statistics.queued:
            lane = self.queue
            if self._has_dues:
                self._expire()
            if self.porch.statistics.queued:
                return self._take_beside_porch(holds=holds)
        message: Any = lane.take() if holds else lane.hand_over()
        if message is not None and message.timer is not None:
            message.disarm()
        taken: Envelope | None = message
        return taken

    def _take_beside_porch(self, *, holds: bool) -> Envelope:
        queue = self.queue
        message: Any = queue.head()
        blocked: Any = self.porch.head()
        if message is None or _is_before(blocked, message):
            message = blocked
            self.unblock(message, outcome.Value(None))
            self._serve_at_once(message)
            if not holds:
                queue.settle(message, HANDLED)
        else:
            queue.take() if holds else queue.hand_over()
            message.disarm()
            self._admit()
        taken: Envelope = message
        return taken

    # What was held while it was worked on.

    def put_back(self, message: Envelope) -> None:
        """It was not done: it goes back to its place, if there is still one for it."""
        lane = message.lane
        if not self.open_receivers:
            lane.settle(message, State.CANCELLED)
        elif message.due != math.inf and message.due <= self._horizon():
            lane.settle(message, State.EXPIRED)
        elif lane.put_back(message):
            if self.receivers:
                lane.take()
                self._deliver(message)
            else:
                self._arm(message)
            return
        self._tell(message)

    def fail(self, message: Envelope, error: Exception, *, at: float) -> bool:
        """A receiver failed on it: put it back, or quarantine it the second time.

        Returns:
          Whether it was quarantined.
        """
        text = describe(error)
        if message.failure is None:
            message.failure = text
            self.put_back(message)
            return False
        message.lane.settle(message, State.FAILED)
        poison = Poison(
            value=message.value,
            level=message.level,
            key=message.key,
            is_control=message.lane is self.control,
            errors=(message.failure, text),
            at=at,
        )
        log.error("mailbox %s: a message failed twice and is in quarantine", self.name, exc_info=error)
        forgotten = self.quarantine.add(poison)
        if forgotten is not None:
            log.error("mailbox %s: the quarantine is full, and forgets %r", self.name, forgotten)
        if self._on_poison is not None:
            self._on_poison(poison)
        return True

    def release(self, poison: Poison, deadline: float) -> None:
        """Send a quarantined message again, as a new one; see the receiving end."""
        self.quarantine.check("release", poison)
        if poison.is_control:
            self.submit_control(poison.value)
        else:
            self.submit_nowait(Envelope(self, poison.value, level=poison.level, due=deadline, key=poison.key))
        self.quarantine.remove(poison)

    # What leaves without being delivered.

    def missed(self, message: Envelope) -> DeadlineMissed:
        """The error for the sender of a message that was not accepted in time."""
        late = max(trio.current_time() - message.due, 0.0)
        return DeadlineMissed(f"a message to {self.name}", started=False, late=late)

    def end_receivers(self) -> None:
        """Tell every waiting receiver that nothing will come any more."""
        for task in tuple(self.receivers):
            self.leave(task)
            trio.lowlevel.reschedule(task, outcome.Error(trio.EndOfChannel()))

    def discard(self) -> None:
        """Nobody will receive any more: break the blocked senders, and drop what waits."""
        for blocked in [*self.porch]:
            assert isinstance(blocked, Envelope)
            self.unblock(blocked, outcome.Error(trio.BrokenResourceError()))
        left = []
        for lane in (self.control, self.queue):
            for message in sorted(lane, key=_arrival):
                lane.withdraw(message, State.CANCELLED)
                if isinstance(message, Envelope):
                    message.disarm()
                left.append(message)
        for message in left:
            self._tell(message)

    def _arm(self, message: Envelope) -> None:
        if message.due != math.inf:
            self._has_dues = True

            def expire() -> None:
                self._expired.append(message)

            message.timer = self._dues.add(message.due, expire)

    def _expire(self) -> None:
        """Drop what can no longer be delivered in time, the earliest deadline first."""
        # The clock is only read when some message has a deadline.
        if not len(self._dues):
            return
        for expire in self._dues.due(self._horizon()):
            expire()
        expired, self._expired = self._expired, []
        dropped = [message for message in expired if message.sender is None]
        # Blocked senders first, so that none of them is let in to expire inside.
        for message in expired:
            message.timer = None
            if message.sender is not None:
                self.unblock(message, outcome.Error(self.missed(message)))
        for message in dropped:
            self.queue.withdraw(message, State.EXPIRED)
        self._admit()
        for message in dropped:
            self._tell(message)

    def _horizon(self) -> float:
        now = trio.current_time()
        return now if self._service_time is None else now + self._service_time()

    def _tell(self, message: Message) -> None:
        if self._on_drop is not None:
            self._on_drop(message.value, _REASONS[message.state])

    def statistics(self) -> ChannelStatistics:
        """A snapshot."""
        messages = self.queue.statistics
        return ChannelStatistics(
            current_buffer_used=messages.queued,
            max_buffer_size=self.queue.capacity,
            open_send_channels=self.open_senders,
            open_receive_channels=self.open_receivers,
            tasks_waiting_send=len(self.porch),
            tasks_waiting_receive=len(self.receivers),
            peak_buffer_used=messages.high_water,
            peak_tasks_waiting_send=self.porch.statistics.high_water,
            messages=attrs.evolve(messages),
            control=attrs.evolve(self.control.statistics),
            quarantined=len(self.quarantine),
        )


def _is_before(blocked: Message, head: Message) -> bool:
    # Of equals the one that has been accepted goes first.
    return (blocked.level, blocked.deadline) < (head.level, head.deadline)


def _arrival(message: Message) -> int:
    return message.arrival
