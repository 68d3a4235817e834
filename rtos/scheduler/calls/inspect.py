"""A snapshot of a port for an operator.

Reading is synchronous, takes no lock and changes nothing, so a port that is full, or whose
daemon hangs, is read like any other. Each list holds at most ``limit`` calls, so the answer
is as short for a million waiting calls as for ten. Finding the head of the queue looks at
every waiting call once.
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
"""Trace records that are searched for the latest calls."""


@attrs.frozen
class CallSnapshot:
    """One call; times in seconds.

    Attributes:
      kind: name of its statistics, for example of the command.
      sender: name of the context that sent it.
      level: its effective level.
      age: time since it was sent.
      left: time until its deadline; ``None`` if it has none.
      state: ``waiting``, ``served``, or its final state.
    """

    kind: str
    sender: str
    level: int
    age: float
    left: float | None
    state: str


@attrs.frozen
class PortSnapshot:
    """A port at one instant.

    Attributes:
      name: of the port.
      state: ``serving``, ``suspended``, ``draining`` or ``down``.
      workers: tasks that serve it.
      idle: workers that wait for a call.
      statistics: counts of its queue.
      serving: calls that are being served.
      head: calls that are served next, in order.
      latest: calls that ended last, the latest first; ``age`` is that at their end.
    """

    name: str
    state: str
    workers: int
    idle: int
    statistics: MailboxStatistics
    serving: tuple[CallSnapshot, ...]
    head: tuple[CallSnapshot, ...]
    latest: tuple[CallSnapshot, ...]


def inspect(port: Port[Any, Any], *, limit: int = 10) -> PortSnapshot:
    """Take a snapshot of a port. Not a checkpoint.

    Args:
      port: of an open scheduler.
      limit: most calls in each of the lists, 0 or more.

    Raises:
      ValueError: the limit is below 0.
    """
    if limit < 0:
        msg = f"inspect({port.name!r}): limit {limit!r} is not a number of calls; use 0 or more"
        raise ValueError(msg)
    workers = port.workers
    serving = [worker.call for worker in workers if worker.call is not None]
    calls = (message for message in port.queue if isinstance(message, Call))
    head = nsmallest(limit, calls, key=lambda call: (call.level, call.deadline, call.arrival))
    now = port.scheduler.now()
    return PortSnapshot(
        name=port.name,
        state=port.state,
        workers=len(workers),
        idle=sum(worker.call is None for worker in workers),
        statistics=attrs.evolve(port.queue.statistics),
        serving=tuple(_snapshot(call, now, "served") for call in serving[:limit]),
        head=tuple(_snapshot(call, now, "waiting") for call in head),
        latest=tuple(islice(_latest(port), limit)),
    )


def _snapshot(call: Call, now: float, state: str) -> CallSnapshot:
    left = None if call.due == float("inf") else call.due - now
    return CallSnapshot(call.statistics.name, call.sender.name, call.level, now - call.sent, left, state)


def _latest(port: Port[Any, Any]) -> Iterator[CallSnapshot]:
    for raw in port.scheduler.trace.newest(LOOKED_AT):
        if raw[0] == CALLED and raw[6] == port.name:
            yield _ended(raw)


def _ended(raw: tuple[Any, ...]) -> CallSnapshot:
    _, at, _, kind, _, sender, _, level, sent, _, _, _, outcome = raw
    return CallSnapshot(kind, sender, level, at - sent, None, outcome)
