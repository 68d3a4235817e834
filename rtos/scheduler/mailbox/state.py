"""The state that the ends of one mailbox share: messages, blocked senders, waiting receivers.

Order: first the control lane, which is unbounded, never sheds, and is ordered by arrival;
then level, deadline, arrival. This order holds over queued messages and blocked senders
together, so an urgent sender that finds the mailbox full waits for one delivery at most.

Law, at every instant (``policy/overload.py``):
``accepted = handled + failed + expired + shed + cancelled + waiting``.
A message is *handled* when a receiver gets it, or with ``handling()`` when the block has
ended; until then it is being served. *Failed* means quarantined, and *cancelled* means
dropped because the last receiving end was closed. The message of a blocked sender is not
accepted yet.

Invariant: while a receiver waits, no message does. While a sender is blocked, the mailbox is
full, or more than full because messages were put back.

Priority inheritance: the contexts of bound receivers inherit the level and deadline of the
message that is next, which may be that of a blocked sender. All of them inherit, since any of
them may take it. The receiver that takes a message goes on to inherit from it until it runs,
and with ``handling()`` until the block ends.

Must not know: the ends (they pass in what is theirs), calls, daemons.
"""

from __future__ import annotations

import logging
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import outcome
import trio

from rtos.errors import DeadlineMissed, MailboxFull
from rtos.scheduler.mailbox.dead_letters import Poison, Quarantine, describe
from rtos.scheduler.mailbox.envelope import ChannelStatistics, DropReason, Envelope, check_deadline
from rtos.scheduler.mailbox.yielding import YieldPolicy
from rtos.scheduler.policy.message_queue import HANDLED, WAITING, more_urgent
from rtos.scheduler.policy.overload import MailboxQueue, Message, OverloadPolicy, State
from rtos.scheduler.policy.timer_heap import TimerHeap

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trio.lowlevel import Task

    from rtos.scheduler.policy.context import SchedulingContext

log = logging.getLogger(__name__)


_REASONS = {
    State.EXPIRED: DropReason.EXPIRED,
    State.SHED: DropReason.SHED,
    State.CANCELLED: DropReason.CLOSED,
}


class BlockedSender:
    """A sender that waits for room. Its scheduling context passes priority changes to it."""

    __slots__ = ("message", "state")

    def __init__(self, state: MailboxState, message: Envelope) -> None:
        self.state = state
        self.message = message

    def reprioritise(self, level: int, deadline: float) -> None:
        """Order the message by the sender's new level and deadline."""
        message, state = self.message, self.state
        if message.sender is not None:
            state.blocked.reprioritise(message, level, min(deadline, message.due))
            state.donate()


class MailboxState:
    """The messages and the waiting tasks of one mailbox.

    Attributes:
      queue: the messages.
      control: the control lane.
      blocked: the messages of blocked senders, in the order of the mailbox.
      receivers: the waiting tasks, each with the set of waiting tasks of its receiving end.
      holders: the waiting tasks that hold their message while they work on it, and settle it.
      bound: the tasks that are bound to the mailbox, and the context of each.
      quarantine: messages on which receivers failed twice.
      yielding: decides when a task that need not wait gives way.
      open_senders, open_receivers: the number of open ends.
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
        self.blocked = MailboxQueue(math.inf)
        self.receivers: dict[Task, set[Task]] = {}
        self.holders: set[Task] = set()
        self.bound: dict[Task, SchedulingContext] = {}
        self.quarantine = Quarantine()
        self.yielding = YieldPolicy()
        self.open_senders = 0
        self.open_receivers = 0
        self._waits_for_room = queue.policy is OverloadPolicy.BLOCK
        self._on_drop = on_drop
        self._on_poison = on_poison
        self._service_time = service_time
        self._timers = TimerHeap()
        # Whether any message ever had a deadline: most mailboxes need not look.
        self._has_deadlines = False
        self._expired: list[Envelope] = []

    # Sending.

    def submit(self, message: Envelope) -> bool:
        """Deliver, queue or refuse a message.

        Returns:
          Whether it was accepted; otherwise the mailbox is full, and the policy is to wait.

        Raises:
          MailboxFull: the mailbox is full, and the policy is not to wait.
          DeadlineMissed: the message can no longer be delivered in time.
          BaseExceptionGroup: ``on_drop`` raised; see ``open_mailbox``.
        """
        queue = self.queue
        has_deadline = message.due != math.inf
        if has_deadline and message.due <= self._horizon():
            queue.statistics.refused += 1
            raise self.missed(message)
        if self.receivers:
            self._accept_served(message)
            self._deliver(message)
            return True
        if queue.statistics.queued >= queue.capacity:
            self._expire()
            if self._waits_for_room and queue.statistics.queued >= queue.capacity:
                return False
        accepted, victim = queue.offer(message)
        if not accepted:
            raise MailboxFull(self.name, f"its mailbox holds {len(queue)} of {queue.capacity}")
        if has_deadline:
            self._arm(message)
        if self.bound:
            self.donate()
        if victim is not None:
            shed: Any = victim
            shed.disarm()
            self._notify_dropped((shed,))
        return True

    def submit_nowait(self, message: Envelope) -> None:
        """``submit`` for a caller that does not wait for room.

        Raises:
          trio.WouldBlock: the mailbox is full, and the policy is to wait.
          MailboxFull, DeadlineMissed, BaseExceptionGroup: as ``submit``.
        """
        if not self.submit(message):
            self.queue.statistics.refused += 1
            raise trio.WouldBlock

    def submit_control(self, value: Any) -> None:
        """Deliver or queue a value on the control lane."""
        message = Envelope(value, 0, math.inf, None, self.control)
        if self.receivers:
            self._accept_served(message)
            self._deliver(message)
        else:
            self.control.offer(message)
            self.donate()

    def block(self, message: Envelope, sender: Task, end: dict[Envelope, None]) -> None:
        """Let a message wait for room, and its sender with it.

        Args:
          message: the message to accept when there is room.
          sender: the task to wake then.
          end: the blocked messages of the sending end that the sender called.
        """
        message.sender, message.end = sender, end
        end[message] = None
        self.blocked.offer(message)
        self._arm(message)
        if self.bound:
            self.donate()

    def unblock(self, message: Envelope, result: outcome.Outcome[None] | None = None) -> None:
        """Remove a blocked sender, and wake it with ``result``; without one, the caller wakes it."""
        self.blocked.withdraw(message, State.CANCELLED)
        message.disarm()
        self._forget_sender(message, result)
        self.donate()

    def _forget_sender(self, message: Envelope, result: outcome.Outcome[None] | None) -> None:
        sender, end = message.sender, message.end
        assert sender is not None
        assert end is not None
        message.sender = message.end = None
        del end[message]
        if result is not None:
            trio.lowlevel.reschedule(sender, result)

    def _admit_blocked(self) -> None:
        """Accept the messages of blocked senders, most urgent first, while there is room."""
        queue = self.queue
        while queue.statistics.queued < queue.capacity:
            message: Any = self.blocked.hand_over()
            if message is None:
                return
            # Its timer goes on: the deadline is the same in the queue.
            self._forget_sender(message, outcome.Value(None))
            message.state = WAITING
            queue.offer(message)

    def _accept_served(self, message: Envelope) -> None:
        message.lane.stamp(message)
        message.lane.accept_served(message)

    def _deliver(self, message: Envelope) -> None:
        # First come, first served, as in Trio's channel: receivers have no order of their own.
        task = next(iter(self.receivers))
        holds = task in self.holders
        self.remove_receiver(task)
        context = self.bound.get(task) if self.bound else None
        if context is not None:
            # Until the receiver runs, which ends this.
            context.inherit_from(message, message.level, message.deadline)
        if not holds:
            message.lane.settle(message, HANDLED)
        trio.lowlevel.reschedule(task, outcome.Value(message))

    # Receiving.

    def add_receiver(self, task: Task, end: set[Task], *, holds: bool) -> None:
        """Register a task that waits for a message.

        Args:
          task: the task.
          end: the waiting tasks of the receiving end that it called.
          holds: the message is being served once it is delivered, and the task settles it.
        """
        self.receivers[task] = end
        end.add(task)
        if holds:
            self.holders.add(task)

    def remove_receiver(self, task: Task) -> None:
        """Remove a task that waits no longer."""
        self.receivers.pop(task).remove(task)
        self.holders.discard(task)

    def take(self, *, holds: bool) -> Envelope | None:
        """Remove and return the next message; ``None`` if no message waits.

        Args:
          holds: the message is being served from now on, and the caller settles it;
            otherwise it counts as handled.

        Raises:
          BaseExceptionGroup: ``on_drop`` raised for an expired message; none was taken.
        """
        lane = self.control
        if not lane.statistics.queued:
            lane = self.queue
            if self._has_deadlines:
                self._expire()
            if self.blocked.statistics.queued:
                return self._take_before_blocked(holds=holds)
        message: Any = lane.take() if holds else lane.hand_over()
        if message is not None and message.timer is not None:
            message.disarm()
        if self.bound:
            self.donate()
        taken: Envelope | None = message
        return taken

    def _take_before_blocked(self, *, holds: bool) -> Envelope:
        """Take the next message of the queue, or that of a blocked sender that is more urgent."""
        queue = self.queue
        message: Any = queue.head()
        blocked: Any = self.blocked.head()
        if more_urgent(message, blocked) is blocked:
            message = blocked
            self.unblock(message, outcome.Value(None))
            self._accept_served(message)
            if not holds:
                queue.settle(message, HANDLED)
        else:
            queue.take() if holds else queue.hand_over()
            message.disarm()
            self._admit_blocked()
            if self.bound:
                self.donate()
        taken: Envelope = message
        return taken

    # Messages that are held while a receiver works on them.

    def put_back(self, message: Envelope) -> None:
        """Return a message that was not handled to its position, unless it must be dropped."""
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
                self.donate()
            return
        self._notify_dropped((message,))

    def fail(self, message: Envelope, error: Exception, *, at: float) -> bool:
        """Put a message back on which a receiver failed; quarantine it the second time.

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
        log.error("mailbox %s: quarantined a message that failed twice", self.name, exc_info=error)
        forgotten = self.quarantine.add(poison)
        if forgotten is not None:
            log.error("mailbox %s: the quarantine is full; removed the oldest, %r", self.name, forgotten)
        if self._on_poison is not None:
            self._on_poison(poison)
        return True

    def release(self, poison: Poison, deadline: float) -> None:
        """Send a quarantined message again; see ``MailboxReceiveChannel.release``."""
        check_deadline("release", deadline)
        self.quarantine.check("release", poison)
        if poison.is_control:
            self.submit_control(poison.value)
        else:
            self.submit_nowait(Envelope(poison.value, poison.level, deadline, poison.key, self.queue))
        self.quarantine.remove(poison)

    # Messages that leave without being delivered.

    def missed(self, message: Envelope) -> DeadlineMissed:
        """The error for the sender of a message that was not accepted in time."""
        late = max(trio.current_time() - message.due, 0.0)
        return DeadlineMissed(f"a message to {self.name}", started=False, late=late)

    def end_receivers(self) -> None:
        """Raise ``EndOfChannel`` in every waiting receiver: the last sending end is closed."""
        for task in tuple(self.receivers):
            self.remove_receiver(task)
            trio.lowlevel.reschedule(task, outcome.Error(trio.EndOfChannel()))

    def discard(self) -> None:
        """Break the blocked senders and drop every message: the last receiving end is closed.

        Raises:
          BaseExceptionGroup: ``on_drop`` raised; see ``open_mailbox``.
        """
        blocked: Any = tuple(self.blocked)
        for message in blocked:
            self.unblock(message, outcome.Error(trio.BrokenResourceError()))
        dropped: list[Any] = [*sorted(self.control, key=_arrival), *sorted(self.queue, key=_arrival)]
        for message in dropped:
            message.lane.withdraw(message, State.CANCELLED)
            message.disarm()
        self.donate()
        self._notify_dropped(dropped)

    # Priority inheritance.

    def bind(self, task: Task, context: SchedulingContext) -> None:
        """Let ``context``, which ``task`` runs under, inherit from the messages that wait."""
        self.bound[task] = context
        self.donate()

    def unbind(self, task: Task) -> None:
        """Undo ``bind``. Does nothing for a task that is not bound."""
        context = self.bound.pop(task, None)
        if context is not None:
            context.disinherit(self)
            # Another task of the same context may still be bound.
            self.donate()

    def donate(self) -> None:
        """Let the bound contexts inherit from the message that is next."""
        if not self.bound:
            return
        head = more_urgent(self.control.head() or self.queue.head(), self.blocked.head())
        for context in self.bound.values():
            if head is None:
                context.disinherit(self)
            else:
                context.inherit_from(self, head.level, head.deadline)

    def _arm(self, message: Envelope) -> None:
        if message.due != math.inf:
            self._has_deadlines = True
            message.timer = self._timers.add(message.due, partial(self._expired.append, message))

    def _expire(self) -> None:
        """Drop the messages that can no longer be delivered in time, earliest deadline first."""
        # The clock is read only when some message has a deadline.
        if not len(self._timers):
            return
        for expire in self._timers.due(self._horizon()):
            expire()
        expired = self._expired.copy()
        self._expired.clear()
        dropped = [message for message in expired if message.sender is None]
        # Blocked senders first, so that no message is admitted only to expire in the queue.
        for message in expired:
            message.timer = None
            if message.sender is not None:
                self.unblock(message, outcome.Error(self.missed(message)))
        for message in dropped:
            self.queue.withdraw(message, State.EXPIRED)
        self._admit_blocked()
        self.donate()
        self._notify_dropped(dropped)

    def _horizon(self) -> float:
        """Messages with a deadline up to this time can no longer be delivered in time."""
        now = trio.current_time()
        return now if self._service_time is None else now + self._service_time()

    def _notify_dropped(self, dropped: Iterable[Message]) -> None:
        """Call ``on_drop`` for every message, whatever it raises, and then raise its errors."""
        if self._on_drop is None:
            return
        errors = []
        for message in dropped:
            try:
                self._on_drop(message.value, _REASONS[message.state])
            except BaseException as error:  # noqa: BLE001 - raised below, once all have been called
                errors.append(error)
        if errors:
            raise BaseExceptionGroup(f"on_drop of mailbox {self.name} raised", errors)

    def statistics(self) -> ChannelStatistics:
        """A snapshot."""
        messages = self.queue.statistics
        return ChannelStatistics(
            current_buffer_used=messages.queued,
            max_buffer_size=self.queue.capacity,
            open_send_channels=self.open_senders,
            open_receive_channels=self.open_receivers,
            tasks_waiting_send=len(self.blocked),
            tasks_waiting_receive=len(self.receivers),
            peak_buffer_used=messages.high_water,
            peak_tasks_waiting_send=self.blocked.statistics.high_water,
            messages=attrs.evolve(messages),
            control=attrs.evolve(self.control.statistics),
            quarantined=len(self.quarantine),
        )


def _arrival(message: Message) -> int:
    return message.arrival
