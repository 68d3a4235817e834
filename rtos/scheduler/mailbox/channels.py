"""Mailboxes: bounded channels between tasks, ordered by urgency, with overload policies.

Mailboxes keep what ``trio.open_memory_channel`` promises: cloning, closing, cancellation (a
message is delivered or the mailbox is unchanged), rendezvous at capacity 0, and fairness (no
task overtakes a waiting one, except by urgency). One thing differs under the run queue: an
operation that need not wait goes on within its step for up to a quantum
(``mailbox/yielding.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar, final

from rtos.scheduler.mailbox.receive import MailboxReceiveChannel
from rtos.scheduler.mailbox.send import MailboxSendChannel
from rtos.scheduler.mailbox.state import MailboxState
from rtos.scheduler.policy.overload import MailboxQueue, OverloadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.mailbox.dead_letters import Poison
    from rtos.scheduler.mailbox.envelope import DropReason

__all__ = ["MailboxReceiveChannel", "MailboxSendChannel", "open_mailbox"]

T = TypeVar("T")


# A class rather than a function, so that ``open_mailbox[int](10)`` works, as in Trio.
@final
class open_mailbox(tuple["MailboxSendChannel[T]", "MailboxReceiveChannel[T]"]):  # noqa: N801 - used as a function
    """Open a bounded channel between tasks, ordered by level, deadline and arrival.

    ``send, receive = open_mailbox[int](10)`` opens one for integers, as far as type checkers
    are concerned; nothing is checked at run time.

    Args:
      capacity: most messages that may be queued; 0 for a rendezvous, ``math.inf`` for
        no bound.
      policy: what happens to a message that arrives when the mailbox is full. Expired
        messages are dropped first. Default: the sender waits.
      name: for errors and logs.
      on_drop: called with the value of each accepted message that is not delivered, and the
        reason. The operation that drops the message calls it, once the statistics are up to
        date. No timer runs: the next receive, or the next send to a full mailbox, drops expired
        messages. If ``on_drop`` raises, it is still called for all other messages that the
        operation dropped; then the operation raises all errors as one ``BaseExceptionGroup``.
      service_time: returns the time, in seconds, that a receiver needs for one message. Called
        before each delivery; a message that would be finished past its deadline is dropped as
        expired. It must not raise. Default: no time, so that only messages past their deadline
        are dropped.
      on_poison: called with each message that is quarantined, once the statistics are up to
        date. Its errors leave the ``handling()`` block.

    Returns:
      The sending and the receiving end. Both can be cloned, and should be closed, like the
      ends of ``trio.open_memory_channel``.

    Raises:
      TypeError: the capacity is neither an integer nor ``math.inf``.
      ValueError: the capacity is negative, or 0 with a policy that keeps messages.
    """

    __slots__ = ()

    def __new__(  # type: ignore[misc]  # must return a subtype: a plain tuple, as Trio's function does
        cls,
        capacity: float,
        policy: OverloadPolicy = OverloadPolicy.BLOCK,
        *,
        name: str = "mailbox",
        on_drop: Callable[[T, DropReason], None] | None = None,
        service_time: Callable[[], float] | None = None,
        on_poison: Callable[[Poison], None] | None = None,
    ) -> tuple[MailboxSendChannel[T], MailboxReceiveChannel[T]]:
        """Open the mailbox; see the class."""
        _check(capacity, policy)
        state = MailboxState(MailboxQueue(capacity, policy), name, on_drop, service_time, on_poison)
        return MailboxSendChannel(state), MailboxReceiveChannel(state)


def _check(capacity: float, policy: OverloadPolicy) -> None:
    if capacity != math.inf and not isinstance(capacity, int):
        msg = f"open_mailbox: capacity {capacity!r} is not a count; use an integer or math.inf"
        raise TypeError(msg)
    if capacity < 0:
        msg = f"open_mailbox: capacity {capacity!r} is negative; use 0 for a rendezvous"
        raise ValueError(msg)
    if not capacity and policy not in (OverloadPolicy.BLOCK, OverloadPolicy.REJECT):
        msg = f"open_mailbox: policy {policy.value!r} keeps messages; use a capacity of 1 or more"
        raise ValueError(msg)
