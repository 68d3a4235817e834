"""Mailboxes: Trio's memory channel, with an order, an overload policy and an account.

What a ``trio.open_memory_channel`` promises holds here too: cloning, closing,
cancellation (a message is delivered or the mailbox is unchanged), rendezvous at
capacity 0, and fairness (nobody overtakes those who wait, except by urgency). Under
the run queue one thing differs: an operation that need not wait goes on in its step
for a quantum (``mailbox/yielding.py``).

The two ends are in ``mailbox/send.py`` and ``mailbox/receive.py``; what they share, the order
and the law of conservation, is in ``mailbox/state.py``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rtos.scheduler.mailbox.receive import MailboxReceiveChannel
from rtos.scheduler.mailbox.send import MailboxSendChannel
from rtos.scheduler.mailbox.state import MailboxState
from rtos.scheduler.policy.overload import MailboxQueue, OverloadPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.mailbox.dead_letters import Poison
    from rtos.scheduler.mailbox.envelope import DropReason

__all__ = ["MailboxReceiveChannel", "MailboxSendChannel", "open_mailbox"]


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
    exchange = MailboxState(MailboxQueue(capacity, policy), name, on_drop, service_time, on_poison)
    return MailboxSendChannel(exchange), MailboxReceiveChannel(exchange)
