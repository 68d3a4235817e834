"""The ``handling()`` block: a message that is held while a receiver works on it.

Law: however the block ends, the message is settled or put back, exactly once.
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
    from rtos.scheduler.policy.context import SchedulingContext

ReceiveT_co = TypeVar("ReceiveT_co", covariant=True)


class _Take(Protocol):
    async def __call__(self, *, holds: bool) -> Envelope: ...


@final
class Handling(Generic[ReceiveT_co]):
    """Async context manager that holds one message. Created by ``handling()``; used once."""

    __slots__ = ("_donee", "_message", "_state", "_take")

    def __init__(self, state: MailboxState, take: _Take) -> None:
        self._state = state
        self._take = take
        self._message: Envelope | None = None
        # The context that inherits from the message, if its task is bound to the mailbox.
        self._donee: SchedulingContext | None = None

    @enable_ki_protection
    async def __aenter__(self) -> ReceiveT_co:
        assert self._message is None
        self._message = message = await self._take(holds=True)
        self._donee = donee = self._state.bound.get(trio.lowlevel.current_task())
        if donee is not None:
            donee.inherit_from(message, message.level, message.deadline)
        value: ReceiveT_co = message.value
        return value

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        message = self._message
        assert message is not None
        if self._donee is not None:
            self._donee.disinherit(message)
        if error is None:
            message.lane.settle(message, State.HANDLED)
            return False
        failure, rest = _split(error)
        if failure is None:
            self._state.put_back(message)
            return False
        if not self._state.fail(message, failure, at=trio.current_time()):
            return False
        if rest is not None:
            # A cancellation that came together with the failure goes on.
            raise rest
        return True


def _split(error: BaseException) -> tuple[Exception | None, BaseException | None]:
    """Separate the failures in an error from the rest: cancellations and exits."""
    if isinstance(error, Exception):
        return error, None
    if isinstance(error, BaseExceptionGroup):
        return error.split(Exception)
    return None, error
