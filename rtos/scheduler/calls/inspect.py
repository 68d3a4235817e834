"""What a port looks like just now: for an operator, and within bounds.

Reading is synchronous, takes no lock and disturbs nobody: a port that is full, or
whose daemon hangs, is read like any other. The head of a queue is at most ``limit``
calls, and so are the latest ones, so the answer is as short for a million waiting
calls as for ten; finding the head looks at each of them once.
"""

from __future__ import annotations

from heapq import nsmallest
from itertools import islice
from typing import TYPE_CHECKING, Any

import attrs

from rtos.scheduler.calls.call import Call
from rtos.scheduler.tracing.raw import CALLED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtos.scheduler.calls.port import Port
    from rtos.scheduler.policy.overload import MailboxStatistics

LOOKED_AT = 8192
"""Records of the trace that are searched for the latest calls."""


@attrs.frozen
class CallState:
    """One call; times in seconds.

    Attributes:
      kind: the name of the command.
      sender: the name of the context that sent it.
      level: its effective level.
      age: since it was sent.
      left: until its deadline; ``None`` if it has none.
      state: ``waiting``, ``served``, or its outcome.
    """

    kind: str
    sender: str
    level: int
    age: float
    left: float | None
    state: str


@attrs.frozen
class PortState:
    """A port at one instant.

    Attributes:
      state: ``serving``, ``suspended``, ``draining`` or ``down``.
      workers: how many tasks serve it.
      idle: how many of them wait for a call.
      statistics: of its queue.
      serving: the calls that are being served.
      head: those that are served next, in order.
      latest: those that were settled last, the latest first; their age is that at their end.
    """

    name: str
    state: str
    workers: int
    idle: int
    statistics: MailboxStatistics
    serving: tuple[CallState, ...]
    head: tuple[CallState, ...]
    latest: tuple[CallState, ...]


def inspect(port: Port, *, limit: int = 10) -> PortState:
    """Look at a port. Not a checkpoint.

    Args:
      port: any that is open.
      limit: most calls in each of the lists.

    Raises:
      ValueError: the limit is below 0.
    """
    if limit < 0:
        msg = f"inspect({port.name!r}): limit {limit!r} is no number of calls; use 0 or more"
        raise ValueError(msg)
    workers = port.workers()
    serving = [worker.call for worker in workers if worker.call is not None]
    calls = (message for message in port.queue if isinstance(message, Call))
    head = nsmallest(limit, calls, key=lambda call: (call.level, call.deadline, call.arrival))
    now = port.scheduler.now()
    return PortState(
        name=port.name,
        state=port.state,
        workers=len(workers),
        idle=sum(worker.call is None for worker in workers),
        statistics=attrs.evolve(port.queue.statistics),
        serving=tuple(_state(call, now, "served") for call in serving[:limit]),
        head=tuple(_state(call, now, "waiting") for call in head),
        latest=tuple(islice(_latest(port), limit)),
    )


def _state(call: Call, now: float, state: str) -> CallState:
    left = None if call.due == float("inf") else call.due - now
    return CallState(call.kind.name, call.sender.name, call.level, now - call.sent, left, state)


def _latest(port: Port) -> Iterator[CallState]:
    for raw in port.scheduler.trace.newest(LOOKED_AT):
        if raw[0] == CALLED and raw[6] == port.name:
            yield _settled(raw)


def _settled(raw: tuple[Any, ...]) -> CallState:
    _, at, _, kind, _, sender, _, level, sent, _, _, _, outcome = raw
    return CallState(kind, sender, level, at - sent, None, outcome)
