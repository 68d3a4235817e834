"""A message that is held while it is worked on, and what its block's end means for it.

Law: whichever way the block ends, the message is settled or waits again, exactly once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Protocol, TypeVar, final

import trio
from trio.lowlevel import enable_ki_protection

from rtos.scheduler.policy.overload import State

if TYPE_CHECKING:
    from types import TracebackType

    from rtos.scheduler.mailbox.envelope import Envelope
    from rtos.scheduler.mailbox.state import MailboxState

ReceiveT_co = TypeVar("ReceiveT_co", covariant=True)


class _Take(Protocol):
    async def __call__(self, *, holds: bool) -> Envelope: ...


@final
class Handling(Generic[ReceiveT_co]):
    """The block in which one message is worked on. Made by ``handling()``, and used once."""

    __slots__ = ("_exchange", "_message", "_take")

    def __init__(self, exchange: MailboxState, take: _Take) -> None:
        self._exchange = exchange
        self._take = take
        self._message: Envelope | None = None

    @enable_ki_protection
    async def __aenter__(self) -> ReceiveT_co:
        assert self._message is None
        self._message = await self._take(holds=True)
        value: ReceiveT_co = self._message.value
        return value

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        message = self._message
        assert message is not None
        if error is None:
            message.lane.settle(message, State.HANDLED)
            return False
        failure, rest = _split(error)
        if failure is None:
            self._exchange.put_back(message)
            return False
        if not self._exchange.fail(message, failure, at=trio.current_time()):
            return False
        if rest is not None:
            # The cancellation that came with it is not the message's, and goes on.
            raise rest
        return True


def _split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """What of an error is a failure, and what is not: cancellation, or an order to end."""
    if isinstance(error, Exception):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return None, error
