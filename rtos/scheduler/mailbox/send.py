"""The sending end of a mailbox: what a message carries, and waiting for room.

Owns whether the end is open, and which messages wait for room in it. The order and
the law of conservation are the exchange's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar, final

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from rtos.scheduler.mailbox.envelope import Envelope
from rtos.scheduler.policy.context import context_variable
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, check_level

if TYPE_CHECKING:
    from types import TracebackType

    from rtos.scheduler.mailbox.envelope import ChannelStatistics
    from rtos.scheduler.mailbox.state import MailboxState

SendT_contra = TypeVar("SendT_contra", contravariant=True)


@final
class MailboxSendChannel(trio.abc.SendChannel[SendT_contra], Generic[SendT_contra]):
    """The sending end. Made by ``open_mailbox`` and ``clone``."""

    __slots__ = ("_blocked", "_closed", "_exchange")

    def __init__(self, exchange: MailboxState) -> None:
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
        quantum (``mailbox/yielding.py``). After cancellation the mailbox is as it was.
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
