"""The log of missed deadlines: counts each at once, and explains it soon after.

Pure: the clock and the timers are passed in. Explaining a miss takes longer than missing,
and must not make an overload worse. So it is done in portions of about 0.1 ms (one
portion, which sorts, takes up to 1 ms), with pauses of nine times their length in between.
Misses beyond a limit are only counted: the first of a burst tell more than the last.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from rtos.scheduler.diagnosis.attribution import explain_in_portions
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
"""How many reports are kept."""
PENDING: Final = 32
"""How many misses may wait for their explanation."""
RECORDS: Final = 1024
"""How many of the newest records one explanation reads; older time counts as *not recorded*."""
PAUSE: Final = 9
"""Length of the pause after a portion, in lengths of the portion."""


class MissLog:
    """The misses of one scheduler.

    Args:
      trace: the trace that explanations read.
      now: returns the Trio time.
      add_timer: as ``Scheduler.add_timer``.
      on_miss: called with each report, in the kernel's timer task; must be synchronous and
        short. An exception is logged.

    Attributes:
      count: misses so far.
      unexplained: misses for which there will be no report.
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
        """Count a miss (its raw record), and explain it after the step that noticed it."""
        self.count += 1
        if len(self._pending) >= PENDING:
            self.unexplained += 1
            return
        self._pending.append(raw)
        if self._timer is None:
            self._timer = self._add_timer(max(self._now(), self._rested), self._go_on)

    def close(self) -> None:
        """Stop explaining; misses that wait count as unexplained."""
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
        for portion in self._trace.portions_since(missed.sent, limit=RECORDS):
            records += portion
            yield None
        yield from explain_in_portions(missed, records)


def log_miss(report: MissReport) -> None:
    """Log a report as a warning of ``rtos.misses``; for ``on_miss``."""
    log.warning("%s", report)
