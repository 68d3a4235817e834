"""The receiving end of a mailbox: taking, holding, and what is in quarantine.

Owns whether the end is open, and which tasks wait in it. The order and the law of
conservation are the exchange's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Generic, Self, TypeVar, final

import outcome
import trio
from trio.lowlevel import Abort, enable_ki_protection

from rtos.scheduler.mailbox.delivery import Handling

if TYPE_CHECKING:
    from types import TracebackType

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.mailbox.dead_letters import Poison
    from rtos.scheduler.mailbox.envelope import ChannelStatistics, Envelope
    from rtos.scheduler.mailbox.state import MailboxState

ReceiveT_co = TypeVar("ReceiveT_co", covariant=True)


@final
class MailboxReceiveChannel(trio.abc.ReceiveChannel[ReceiveT_co], Generic[ReceiveT_co]):
    """The receiving end. Made by ``open_mailbox`` and ``clone``."""

    __slots__ = ("_closed", "_exchange", "_waiting")

    def __init__(self, exchange: MailboxState) -> None:
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
        for a cancellation until the step has lasted a quantum (``mailbox/yielding.py``). After
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
