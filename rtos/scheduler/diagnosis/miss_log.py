"""What becomes of a miss: counted at once, explained soon after, reported.

Pure: the clock and the timers are handed in. Explaining takes longer than missing,
so under overload it must not make things worse: it is done in portions of about
0.1 ms (one of them, which sorts, of up to 1 ms), with pauses of nine times their
length in between, and misses beyond a bound are counted only. The first of a burst
tell more than the last.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from rtos.scheduler.diagnosis.attribution import explain_by_and_by
from rtos.scheduler.tracing.reading import make_missed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from rtos.scheduler.diagnosis.attribution import MissReport
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.scheduler.tracing.raw import Raw
    from rtos.scheduler.tracing.records import Missed, Record
    from rtos.scheduler.tracing.ring import Trace

log = logging.getLogger("rtos.misses")

KEPT: Final = 64
"""Reports that are kept."""
PENDING: Final = 32
"""Misses that may wait to be explained."""
RECORDS: Final = 1024
"""Records that one explanation looks at, the newest; older time is *not recorded*."""
PAUSE: Final = 9
"""Length of the pause after a portion, in portions."""


class MissLog:
    """The misses of one scheduler.

    Args:
      trace: where their windows are recorded.
      now: reads the Trio time.
      add_timer: as ``Scheduler.add_timer``.
      on_miss: called with each report, in the kernel's timer task; must be synchronous and
        short. An exception is logged.

    Attributes:
      count: misses so far.
      unexplained: those of them for which there will be no report.
      reports: the latest reports, the oldest first.
    """

    def __init__(
        self,
        trace: Trace,
        *,
        now: Callable[[], float],
        add_timer: Callable[[float, Callable[[], None]], Timer],
        on_miss: Callable[[MissReport], None] | None = None,
    ) -> None:
        self.count = 0
        self.unexplained = 0
        self.reports: deque[MissReport] = deque(maxlen=KEPT)
        self._trace = trace
        self._now = now
        self._add_timer = add_timer
        self._on_miss = on_miss
        self._pending: deque[Raw] = deque()
        self._portions: Generator[MissReport | None] | None = None
        self._timer: Timer | None = None
        self._rested = -math.inf

    def note(self, raw: Raw) -> None:
        """Count a miss (a raw record of it), and explain it when the step that noticed it is over."""
        self.count += 1
        if len(self._pending) >= PENDING:
            self.unexplained += 1
            return
        self._pending.append(raw)
        if self._timer is None:
            self._timer = self._add_timer(max(self._now(), self._rested), self._go_on)

    def close(self) -> None:
        """Explain nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self.unexplained += len(self._pending) + (self._portions is not None)
        self._pending.clear()
        self._portions = None

    def _go_on(self) -> None:
        began = self._now()
        try:
            self._explain()
        finally:
            ended = self._now()
            self._rested = ended + PAUSE * (ended - began)
            waits = self._portions is not None or self._pending
            self._timer = self._add_timer(self._rested, self._go_on) if waits else None

    def _explain(self) -> None:
        if self._portions is None:
            self._portions = self._report(make_missed(self._pending.popleft(), self._trace.epoch))
        report = next(self._portions)
        if report is not None:
            self._portions = None
            self.reports.append(report)
            if self._on_miss is not None:
                self._on_miss(report)

    def _report(self, missed: Missed) -> Generator[MissReport | None]:
        records: list[Record] = []
        for portion in self._trace.since_by_and_by(missed.sent, limit=RECORDS):
            records += portion
            yield None
        yield from explain_by_and_by(missed, records)


def log_miss(report: MissReport) -> None:
    """Log a report as a warning of ``rtos.misses``; for ``on_miss``."""
    log.warning("%s", report)
