"""The sending end of a mailbox.

Owns whether the end is open, and which messages wait for room in it. ``state.py`` owns the
order of the messages and their statistics.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar, final

import outcome
import trio
from trio.lowlevel import Abort, enable_ki_protection

from rtos.scheduler.dispatch.current import current_context
from rtos.scheduler.mailbox.envelope import Envelope, check_deadline
from rtos.scheduler.mailbox.state import BlockedSender
from rtos.scheduler.policy.context import context_variable
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, check_level

if TYPE_CHECKING:
    from types import TracebackType

    from trio.lowlevel import RaiseCancelT

    from rtos.scheduler.mailbox.envelope import ChannelStatistics
    from rtos.scheduler.mailbox.state import MailboxState

SendT_contra = TypeVar("SendT_contra", contravariant=True)


@final
class MailboxSendChannel(trio.abc.SendChannel[SendT_contra], Generic[SendT_contra]):
    """The sending end of a mailbox. Created by ``open_mailbox`` and ``clone``."""

    __slots__ = ("_blocked", "_closed", "_state")

    def __init__(self, state: MailboxState) -> None:
        self._state = state
        self._closed = False
        # Messages whose senders are blocked in this end; those in clones are not included.
        self._blocked: dict[Envelope, None] = {}
        state.open_senders += 1

    def __repr__(self) -> str:
        return f"<send channel of mailbox {self._state.name!r} at {id(self):#x}>"

    def statistics(self) -> ChannelStatistics:
        """A snapshot of the mailbox; the same for all ends."""
        return self._state.statistics()

    @enable_ki_protection
    def send_nowait(
        self,
        value: SendT_contra,
        *,
        level: int | None = None,
        deadline: float | None = None,
        key: object = None,
    ) -> None:
        """Send a message without waiting for room. Arguments and errors are those of ``send``.

        Raises:
          trio.WouldBlock: the mailbox is full, and the policy is BLOCK.
          MailboxFull: the mailbox is full, and the policy refused the message.
        """
        message = self._envelope(value, level, deadline, key)
        self._state.submit_nowait(message)

    @enable_ki_protection
    async def send(
        self,
        value: SendT_contra,
        *,
        level: int | None = None,
        deadline: float | None = None,
        key: object = None,
    ) -> None:
        """Send a message; under BLOCK, wait for room, at most until its deadline.

        Args:
          value: the value to send.
          level: 0 (most urgent) to 7. Default: the level of the running task's context, or 4.
          deadline: absolute Trio time; the message is not delivered later. Default: the
            deadline of the job that the task serves, or none.
          key: hashable; under COALESCE a new message replaces a waiting one with the same key.

        Raises:
          MailboxFull: the mailbox is full, and the policy refused the message.
          DeadlineMissed: the deadline passed before there was room; the message was not accepted.
          ValueError: the level does not exist, or the deadline is NaN.
          TypeError: the deadline is not a number, or the key is not hashable.
          trio.ClosedResourceError: this end is closed, or was closed while the task waited.
          trio.BrokenResourceError: every receiving end is closed.
          BaseExceptionGroup: ``on_drop`` raised; see ``open_mailbox``.

        A checkpoint. Under the run queue, if there is room and no receiver waits, it only
        checks for cancellation until the step has lasted a quantum (``mailbox/yielding.py``).
        After a cancellation the mailbox is unchanged.
        """
        state = self._state
        # A sender that wakes a receiver gives way, since the receiver may be more urgent.
        continues = not state.receivers and state.yielding.may_continue()
        if not continues:
            await trio.lowlevel.checkpoint_if_cancelled()
        message = self._envelope(value, level, deadline, key)
        if not state.submit(message):
            await self._wait_for_room(message, inherits=level is None and deadline is None)
        elif not continues:
            await trio.lowlevel.cancel_shielded_checkpoint()

    @enable_ki_protection
    def send_control(self, value: SendT_contra) -> None:
        """Send on the control lane: never waits, goes before all messages, never shed or expired.

        Raises:
          trio.ClosedResourceError: this end is closed.
          trio.BrokenResourceError: every receiving end is closed.
        """
        self._check_open()
        self._state.submit_control(value)

    async def _wait_for_room(self, message: Envelope, *, inherits: bool) -> None:
        state = self._state
        state.block(message, trio.lowlevel.current_task(), self._blocked)

        def abort(_: RaiseCancelT) -> Abort:
            state.unblock(message)
            return Abort.SUCCEEDED

        # A level or deadline that the caller gave is fixed.
        context = current_context() if inherits else None
        if context is not None:
            blocked = BlockedSender(state, message)
            # A receiver must not raise itself through its own blocked message.
            if context in state.bound.values():
                context = None
            else:
                context.waits[blocked] = None
        try:
            if message.due == math.inf:
                await trio.lowlevel.wait_task_rescheduled(abort)
                return
            with trio.CancelScope(deadline=message.due):
                await trio.lowlevel.wait_task_rescheduled(abort)
                return
        finally:
            if context is not None:
                del context.waits[blocked]
        raise state.missed(message)

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError
        if not self._state.open_receivers:
            raise trio.BrokenResourceError

    def _envelope(
        self, value: SendT_contra, level: int | None, deadline: float | None, key: object
    ) -> Envelope:
        """Create the message, after checking everything that could be wrong with it."""
        state = self._state
        # Repeats ``_check_open``, since the call would cost as much as the rest of this function.
        if self._closed or not state.open_receivers:
            self._check_open()
        context = context_variable.get(None)
        if context is not None:
            context = current_context()
        if level is None:
            level = DEFAULT_LEVEL if context is None else context.level
        else:
            check_level("send", level)
        if deadline is None:
            deadline = math.inf if context is None else context.job_deadline
        else:
            check_deadline("send", deadline)
        if key is not None:
            hash(key)
        return Envelope(value, level, deadline, key, state.queue)

    @enable_ki_protection
    def clone(self) -> Self:
        """Create another sending end of this mailbox. Receivers go on until all ends are closed.

        Raises:
          trio.ClosedResourceError: this end is closed.
        """
        if self._closed:
            raise trio.ClosedResourceError
        return type(self)(self._state)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @enable_ki_protection
    def close(self) -> None:
        """Close this end. Does nothing if it is closed. Not a checkpoint.

        Senders that wait in this end raise ``trio.ClosedResourceError``. When the last
        sending end is closed, waiting receivers raise ``trio.EndOfChannel``.
        """
        if self._closed:
            return
        self._closed = True
        state = self._state
        for message in tuple(self._blocked):
            state.unblock(message, outcome.Error(trio.ClosedResourceError()))
        state.open_senders -= 1
        if not state.open_senders:
            state.end_receivers()

    @enable_ki_protection
    async def aclose(self) -> None:
        """Close this end, also if cancelled. A checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()
