"""What any server could do with the arrivals of ``overload``: simulated, without a kernel.

Pure. One server, requests by level, then deadline; nothing costs time but the service.
It knows how long a service takes, and never begins what would be late. Not preemptive:
what has begun runs to its end, as a step does. Preemptive: it gives way in the middle to
whatever is more urgent, and goes on later; no step of Python can do that, and it is
shown as what lies below.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_ROUNDING: Final = 1e-9


def served(
    arrivals: Sequence[tuple[float, int]], service: float, deadline: float, *, preemptive: bool
) -> Iterator[tuple[int, float]]:
    """Level of each request that is served, and seconds from its arrival to its end.

    Args:
      arrivals: seconds and level, in order.
      service: seconds that each takes.
      deadline: seconds after its arrival from which on it is worth nothing.
      preemptive: whether a service is interrupted by a more urgent request.
    """
    waiting: list[tuple[int, float, float]] = []
    now, come = 0.0, 0
    while come < len(arrivals) or waiting:
        if not waiting:
            now = max(now, arrivals[come][0])
        while come < len(arrivals) and arrivals[come][0] <= now:
            at, level = arrivals[come]
            heappush(waiting, (level, at, service))
            come += 1
        level, at, left = heappop(waiting)
        if now + left > at + deadline + _ROUNDING:
            continue
        end = now + left
        if preemptive and come < len(arrivals) and arrivals[come][0] < end:
            now = arrivals[come][0]
            heappush(waiting, (level, at, end - now))
            continue
        now = end
        yield level, now - at
