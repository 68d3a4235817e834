"""Detection of busy polling: contexts that keep waking up with nothing to do.

Pure: the time is passed in. A context is suspected of polling if, over a window, it ran
often, its steps were almost empty, and it neither sent nor served a call nor had a
periodic release. This is circumstantial evidence, so a report may be wrong.

Only contexts that were seen are checked: the one that ran last before a sleep, and the one
that runs during a sample of the CPU clock. So the cost depends on what runs and not on how
many contexts exist, and no task runs for this purpose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import attrs

if TYPE_CHECKING:
    from rtos.scheduler.policy.context import SchedulingContext

_REMEMBERED: Final = 1024


@attrs.frozen
class PollingReport:
    """A context that seems to poll.

    Attributes:
      name: its name.
      level: its level.
      rate: steps per second.
      mean: mean length of a step, seconds.
    """

    name: str
    level: int
    rate: float
    mean: float

    def __str__(self) -> str:
        return (
            f"{self.name!r} (level {self.level}) seems to poll: {self.rate:.0f} steps per second of"
            f" {self.mean * 1e6:.0f} µs, and no call; wait for an event or a deadline instead"
        )


@attrs.frozen
class _Sighting:
    at: int
    steps: int
    cpu_ns: int
    jobs: int
    # CPU time that workers used for its calls; grows with each call that it sends.
    billed_ns: int


class PollingDetector:
    """Watches contexts, window after window, and reports each at most once.

    Args:
      rate: steps per second from which on a context is suspected.
      tiny: mean length of a step, seconds, up to which its steps count as empty.
      window: length of a window, seconds.
    """

    def __init__(self, *, rate: float = 20.0, tiny: float = 50e-6, window: float = 5.0) -> None:
        self._rate = rate
        self._tiny = tiny
        self._window_ns = round(window * 1e9)
        self._began_ns: int | None = None
        self._seen: dict[SchedulingContext, _Sighting] = {}
        self._reported: set[int] = set()

    def see(self, context: SchedulingContext, now_ns: int) -> list[PollingReport]:
        """Note that a context runs; at the end of a window, return the contexts that seem to poll."""
        if self._began_ns is None:
            self._began_ns = now_ns
        reports = []
        if now_ns - self._began_ns >= self._window_ns:
            reports = self._judge(now_ns)
            self._seen.clear()
            self._began_ns = now_ns
        if context not in self._seen:
            self._seen[context] = _Sighting(
                now_ns, context.steps, context.cpu_ns, context.jobs, context.billed_ns
            )
        return reports

    def _judge(self, now_ns: int) -> list[PollingReport]:
        reports = []
        for context, first in self._seen.items():
            report = self._suspect(context, first, now_ns)
            if report is not None and context.level >= 0 and context.number not in self._reported:
                if len(self._reported) >= _REMEMBERED:
                    self._reported.clear()
                self._reported.add(context.number)
                reports.append(report)
        return reports

    def _suspect(self, context: SchedulingContext, first: _Sighting, now_ns: int) -> PollingReport | None:
        elapsed, steps = now_ns - first.at, context.steps - first.steps
        if context.jobs != first.jobs or context.billed_ns != first.billed_ns:
            return None
        if elapsed * 2 < self._window_ns or not steps:
            return None
        rate, mean = steps * 1e9 / elapsed, (context.cpu_ns - first.cpu_ns) / steps / 1e9
        if rate < self._rate or mean > self._tiny:
            return None
        return PollingReport(context.name, context.level, rate, mean)
