"""Mailboxes: Trio's memory channel, with an order, an overload policy and an account.

What a ``trio.open_memory_channel`` promises holds here too: cloning, closing,
cancellation (a message is delivered or the mailbox is unchanged), rendezvous at
capacity 0, and fairness (nobody overtakes those who wait, except by urgency).

Owns the two ends: which of them is open, and which tasks wait in which. What they
share, the order and the law of conservation, is in ``exchange.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, final

import outcome
import trio
from trio.lowlevel import Abort, enable_ki_protection

from rtos.scheduler.context import DEFAULT_LEVEL, check_level, context_variable
from rtos.scheduler.exchange import ChannelStatistics, DropReason, Envelope, Exchange
from rtos.scheduler.handling import Handling
from rtos.scheduler.order import MailboxQueue, OverloadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.quarantine import Poison

SendT_contra = TypeVar("SendT_contra", contravariant=True)
ReceiveT_co = TypeVar("ReceiveT_co", covariant=True)


@final
class MailboxSendChannel(trio.abc.SendChannel[SendT_contra], Generic[SendT_contra]):
    """The sending end. Made by ``open_mailbox`` and ``clone``."""

    __slots__ = ("_blocked", "_closed", "_exchange")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._closed = False
        # Messages whose senders are blocked in this very end, and not in a clone.
        self._blocked: dict[Envelope, None] = {}
        exchange.open_senders += 1

    def __repr__(self) -> str:
        return f"<send channel of mailbox {self._exchange.name!r} at {id(self):#x}>"

    def statistics(self) -> ChannelStatistics:
        """A snapshot, the same for both ends."""
        return self._exchange.statistics()

    @enable_ki_protection
    def send_nowait(
        self,
        value: SendT_contra,
        *,
        level: int | None = None,
        deadline: float | None = None,
        key: object = None,
    ) -> None:
        """Send without waiting. See ``send``.

        Raises:
          trio.WouldBlock: there is no room, and the policy is BLOCK.
          MailboxFull: there is no room, and the policy is another.
        """
        message = self._envelope(value, level, deadline, key)
        self._exchange.submit_nowait(message)

    @enable_ki_protection
    async def send(
        self,
        value: SendT_contra,
        *,
        level: int | None = None,
        deadline: float | None = None,
        key: object = None,
    ) -> None:
        """Send a message; under BLOCK wait for room until its deadline.

        Args:
          value: what is sent.
          level: 0 (most urgent) to 7; by default that of the running task's context.
          deadline: absolute Trio time after which it must not be delivered any
            more; by default that of the job that is being served, if any.
          key: under COALESCE a newer message replaces one with the same key.

        Raises:
          MailboxFull: there is no room, and the policy is not to wait.
          DeadlineMissed: its deadline passed before there was room; it was not accepted.
          ValueError: there is no such level.
          trio.ClosedResourceError: this end is closed, or was while it waited.
          trio.BrokenResourceError: every receiving end is closed.

        A checkpoint. Under the run queue, where there is room and nobody waits for the
        message, one that only looks for a cancellation until the step has lasted a
        quantum (``pace.py``). After cancellation the mailbox is as it was.
        """
        exchange = self._exchange
        # Who wakes a receiver gives way to it, for it may be more urgent.
        goes_on = not exchange.receivers and exchange.pace.goes_on()
        if not goes_on:
            await trio.lowlevel.checkpoint_if_cancelled()
        message = self._envelope(value, level, deadline, key)
        if not exchange.submit(message):
            await self._wait_for_room(message, inherits=level is None and deadline is None)
        elif not goes_on:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @enable_ki_protection
    def send_control(self, value: SendT_contra) -> None:
        """Send on the control lane: never blocks, goes first, is never shed, never expires.

        Raises:
          trio.ClosedResourceError: this end is closed.
          trio.BrokenResourceError: every receiving end is closed.
        """
        self._check()
        self._exchange.submit_control(value)

    async def _wait_for_room(self, message: Envelope, *, inherits: bool) -> None:
        self._exchange.block(message, trio.lowlevel.current_task(), self._blocked)
        context = context_variable.get(None) if inherits else None
        if context is not None:
            context.waits[message] = None
        try:
            if message.due == math.inf:
                await trio.lowlevel.wait_task_rescheduled(message.abort)
                return
            with trio.CancelScope(deadline=message.due):
                await trio.lowlevel.wait_task_rescheduled(message.abort)
                return
        finally:
            if context is not None:
                context.waits.pop(message)
        raise self._exchange.missed(message)

    def _check(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if not self._exchange.open_receivers:
            raise trio.BrokenResourceError

    def _envelope(
        self, value: SendT_contra, level: int | None, deadline: float | None, key: object
    ) -> Envelope:
        """The message, if this end can send it."""
        exchange = self._exchange
        # As ``_check``, whose call would cost as much as the rest of this.
        if self._closed or not exchange.open_receivers:
            self._check()
        context = context_variable.get(None)
        if level is None:
            level = DEFAULT_LEVEL if context is None else context.level
        else:
            check_level("send", level)
        if deadline is None:
            deadline = math.inf if context is None else context.job_deadline
        return Envelope(exchange, value, level, deadline, key)

    @enable_ki_protection
    def clone(self) -> Self:
        """Another sending end of the same mailbox; receivers go on until all are closed.

        Raises:
          trio.ClosedResourceError: this end is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError
        return type(self)(self._exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @enable_ki_protection
    def close(self) -> None:
        """Close this end. Not a checkpoint; harmless when it is closed."""
        if self._closed:
            return
        self._closed = True
        exchange = self._exchange
        for message in tuple(self._blocked):
            exchange.unblock(message, outcome.Error(trio.ClosedResourceError()))
        exchange.open_senders -= 1
        if not exchange.open_senders:
            exchange.end_receivers()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close this end. A checkpoint; it is closed also when cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()


@final
class MailboxReceiveChannel(trio.abc.ReceiveChannel[ReceiveT_co], Generic[ReceiveT_co]):
    """The receiving end. Made by ``open_mailbox`` and ``clone``."""

    __slots__ = ("_closed", "_exchange", "_waiting")

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._closed = False
        # Tasks that wait in this very end, and not in a clone.
        self._waiting: set[Task] = set()
        exchange.open_receivers += 1

    def __repr__(self) -> str:
        return f"<receive channel of mailbox {self._exchange.name!r} at {id(self):#x}>"

    def statistics(self) -> ChannelStatistics:
        """A snapshot, the same for both ends."""
        return self._exchange.statistics()

    @enable_ki_protection
    def receive_nowait(self) -> ReceiveT_co:
        """Take the message that goes next, without waiting.

        Raises:
          trio.WouldBlock: nothing waits.
          trio.EndOfChannel: nothing waits, and every sending end is closed.
          trio.ClosedResourceError: this end is closed.
        """
        message = self._take_nowait(holds=False)
        if message is None:
            raise trio.WouldBlock
        value: ReceiveT_co = message.value
        return value

    def _take_nowait(self, *, holds: bool) -> Envelope | None:
        if self._closed:
            raise trio.ClosedResourceError
        message = self._exchange.take(holds=holds)
        if message is None and not self._exchange.open_senders:
            raise trio.EndOfChannel
        return message

    @enable_ki_protection
    async def receive(self) -> ReceiveT_co:
        """Wait for the message that goes next.

        Raises:
          trio.EndOfChannel: nothing waits, and every sending end is closed.
          trio.ClosedResourceError: this end is closed, or was while it waited.

        A checkpoint. Under the run queue, where a message waits, one that only looks
        for a cancellation until the step has lasted a quantum (``pace.py``). After
        cancellation no message has been taken.
        """
        message, exchange = None, self._exchange
        # One that need not wait costs 1.0 µs, by way of the two below 1.2.
        if not self._closed and exchange.pace.goes_on():
            message = exchange.take(holds=False)
        if message is None:
            message = await self._take(holds=False)
        value: ReceiveT_co = message.value
        return value

    async def _take(self, *, holds: bool) -> Envelope:
        """Wait for the message that goes next; it is being served if it is to be held, else settled."""
        await trio.lowlevel.checkpoint_if_cancelled()
        message = self._take_nowait(holds=holds)
        if message is None:
            return await self._wait(holds=holds)
        await trio.lowlevel.cancel_shielded_checkpoint()
        return message

    async def _wait(self, *, holds: bool) -> Envelope:
        task = trio.lowlevel.current_task()
        self._exchange.enter(task, self._waiting, holds=holds)

        def abort(_: RaiseCancelT) -> Abort:
            self._exchange.leave(task)
            return Abort.SUCCEEDED

        received: Envelope = await trio.lowlevel.wait_task_rescheduled(abort)
        return received

    def handling(self) -> Handling[ReceiveT_co]:
        """Hold the message that goes next while it is worked on: ``async with receive.handling() as value``.

        Inside the block it is being served, and no other receiver gets it. When the
        block ends it is handled. When the block fails, or is cancelled, it goes back
        to its place in the order, whether there is room or not, and the error goes
        on, so that a supervisor can restart the daemon. It is dropped instead when it
        has expired, a newer one of its key has come, or the last receiver has closed.

        When a block fails on it a second time it is quarantined: settled as failed,
        logged, kept, and handed to ``on_poison``. That error ends here: the first one
        has been reported and has had its restart, the message is out of the way, and
        another restart would burn the budget for what no restart can mend. What the
        block leaves half done the second time is its own business. A cancellation is
        not a failure, and always goes on.

        Raises:
          trio.EndOfChannel: on entering; as ``receive``. What another task holds may
            still come back.
          trio.ClosedResourceError: on entering; as ``receive``.

        A checkpoint on entering, as ``receive``; none on leaving.
        """
        return Handling(self._exchange, self._take)

    def quarantined(self) -> tuple[Poison, ...]:
        """The messages in quarantine, the oldest first; of more than 64 the newest."""
        return tuple(self._exchange.quarantine)

    @enable_ki_protection
    def release(self, poison: Poison, *, deadline: float = math.inf) -> None:
        """Send a quarantined message again, as a new one with two failures to go.

        Args:
          poison: one of ``quarantined()``.
          deadline: absolute Trio time; that of its sender was for then, and is not kept.

        Raises:
          ValueError: it is not in quarantine.
          trio.ClosedResourceError: this end is closed.
          trio.WouldBlock, MailboxFull, DeadlineMissed: it was not accepted, as by
            ``send_nowait``; it stays in quarantine.
        """
        if self._closed:
            raise trio.ClosedResourceError
        self._exchange.release(poison, deadline)

    def discard(self, poison: Poison) -> None:
        """Forget a quarantined message; it stays counted as failed.

        Raises:
          ValueError: it is not in quarantine.
        """
        self._exchange.quarantine.check("discard", poison)
        self._exchange.quarantine.remove(poison)

    @enable_ki_protection
    def clone(self) -> Self:
        """Another receiving end of the same mailbox; each message goes to one of them.

        Raises:
          trio.ClosedResourceError: this end is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError
        return type(self)(self._exchange)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @enable_ki_protection
    def close(self) -> None:
        """Close this end. Not a checkpoint; harmless when it is closed.

        With the last one go the messages that wait: they are counted as
        cancelled and handed to ``on_drop``.
        """
        if self._closed:
            return
        self._closed = True
        exchange = self._exchange
        for task in tuple(self._waiting):
            exchange.leave(task)
            trio.lowlevel.reschedule(task, outcome.Error(trio.ClosedResourceError()))
        exchange.open_receivers -= 1
        if not exchange.open_receivers:
            exchange.discard()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close this end. A checkpoint; it is closed also when cancelled."""
        self.close()
        await trio.lowlevel.checkpoint()


def open_mailbox(
    capacity: float,
    policy: OverloadPolicy = OverloadPolicy.BLOCK,
    *,
    name: str = "mailbox",
    on_drop: Callable[[Any, DropReason], None] | None = None,
    service_time: Callable[[], float] | None = None,
    on_poison: Callable[[Poison], None] | None = None,
) -> tuple[MailboxSendChannel[Any], MailboxReceiveChannel[Any]]:
    """A bounded channel between tasks, ordered by level, deadline and arrival.

    Args:
      capacity: most messages that may wait; 0 for a rendezvous, ``math.inf`` for
        no bound.
      policy: what happens to a message for which there is no room. What has
        expired is dropped before the policy is asked.
      name: for people, and for errors.
      on_drop: told of every accepted message that is not delivered. Called at
        once, after the counts are right; what it raises comes out of the
        operation that dropped the message.
      service_time: what serving one message takes, in seconds, asked before each
        dispatch; what would be served past its deadline is dropped as expired.
        Zero by default: only what has passed its deadline is.
      on_poison: told of every message that is quarantined, at once, after the
        counts are right; what it raises comes out of the ``handling()`` block.

    Returns:
      The sending and the receiving end. Both can be cloned, and have to be
      closed as those of ``trio.open_memory_channel``.

    Raises:
      TypeError: the capacity is neither an integer nor ``math.inf``.
      ValueError: it is negative, or 0 with a policy that keeps something.
    """
    if capacity != math.inf and not isinstance(capacity, int):
        msg = f"open_mailbox: capacity {capacity!r} is not a count; use an integer or math.inf"
        raise TypeError(msg)
    if capacity < 0:
        msg = f"open_mailbox: capacity {capacity!r} is negative; use 0 for a rendezvous"
        raise ValueError(msg)
    if not capacity and policy not in (OverloadPolicy.BLOCK, OverloadPolicy.REJECT):
        msg = f"open_mailbox: {policy.value!r} needs room for what it keeps; use a capacity of 1 or more"
        raise ValueError(msg)
    exchange = Exchange(MailboxQueue(capacity, policy), name, on_drop, service_time, on_poison)
    return MailboxSendChannel(exchange), MailboxReceiveChannel(exchange)
