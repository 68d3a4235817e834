"""Samples of the loop's sleep and CPU time, and records of garbage collections.

The run queue calls the sampler when the loop falls asleep, when it wakes, and once a
millisecond in between. Ticks are passed in; only the CPU clock of the thread is read here.

Reading the CPU clock takes 0.7 µs, ten times as long as the wall clock. So it is read once
per ``MEASURE_NS`` of waking time and not once per step. The samples therefore do not tell
which step of a millisecond lost the CPU; a step that lost enough to matter is longer than
its neighbours together.
"""

from __future__ import annotations

import gc
import math
import time
from typing import TYPE_CHECKING, Any, Final, Protocol

from rtos.scheduler.tracing.raw import CPU, SLEPT

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.tracing.raw import Raw
    from rtos.scheduler.tracing.ring import Trace

MEASURE_NS: Final = 1_000_000
"""Waking time between two samples of the thread's CPU clock, nanoseconds."""

ENDLESS_NS: Final = 86_400 * 1_000_000_000
"""A planned sleep of at least this length counts as one without end; Trio's own limit."""


class Watch(Protocol):
    """An observer of the loop, for example the watchdog."""

    def woke(self, late_ns: int) -> None:
        """Called when the loop wakes, ``late_ns`` later than planned."""

    def ran(self, context: SchedulingContext, now_ns: int) -> None:
        """Called with the context that ran last before a sleep, or runs during a sample."""


class Recorder:
    """Samples the sleep and the CPU time of one loop.

    Attributes:
      record: writes raw records; ``None`` without a trace.
      asleep: whether the loop has gone to sleep and not yet woken.
      measure_at: the tick from which on ``measure`` must be called.
      watch: called at sleeps and samples.
    """

    __slots__ = ("_awake_ns", "_cpu_ns", "_measured_ns", "_planned_ns", "_slept_ns", "_woke_ns",
                 "asleep", "measure_at", "record", "watch")  # fmt: skip

    def __init__(self, trace: Trace, *, now_ns: int, real: bool) -> None:
        self.record: Callable[[Raw], None] | None = trace.record if trace.size else None
        self.asleep = False
        # In virtual time there is no CPU time to compare with.
        self.measure_at: float = now_ns + MEASURE_NS if real else math.inf
        self.watch: Watch | None = None
        self._slept_ns = 0
        self._planned_ns = ENDLESS_NS
        self._measured_ns = self._woke_ns = now_ns
        self._awake_ns = 0
        self._cpu_ns = time.thread_time_ns() if real else 0

    def fall_asleep(self, now_ns: int, planned: float, last: SchedulingContext | None) -> None:
        """Note that the loop will sleep for up to ``planned`` seconds; ``last`` ran last."""
        self.asleep = True
        self._slept_ns = now_ns
        self._planned_ns = round(min(max(planned, 0.0) * 1e9, ENDLESS_NS))
        if self.watch is not None and last is not None:
            self.watch.ran(last, now_ns)

    def wake_up(self, now_ns: int) -> None:
        """Note that the loop has woken."""
        self.asleep = False
        slept_ns, planned_ns = now_ns - self._slept_ns, self._planned_ns
        self._awake_ns += self._slept_ns - self._woke_ns
        self._woke_ns = now_ns
        self.measure_at += slept_ns
        endless = planned_ns >= ENDLESS_NS
        if self.record is not None and (slept_ns or not endless):
            self.record((SLEPT, self._slept_ns, slept_ns, None if endless else planned_ns))
        if self.watch is not None:
            self.watch.woke(0 if endless else max(slept_ns - planned_ns, 0))

    def measure(self, now_ns: int, context: SchedulingContext) -> None:
        """Sample how much CPU time the thread got while the loop was awake."""
        awake_ns = self._awake_ns + now_ns - self._woke_ns
        cpu_ns = time.thread_time_ns()
        if self.record is not None:
            self.record((CPU, self._measured_ns, now_ns - self._measured_ns, awake_ns, cpu_ns - self._cpu_ns))
        self._awake_ns, self._cpu_ns = 0, cpu_ns
        self._measured_ns = self._woke_ns = now_ns
        self.measure_at = now_ns + MEASURE_NS
        if self.watch is not None:
            self.watch.ran(context, now_ns)


class CollectionRecorder:
    """Records every garbage collection of the process between ``start`` and ``stop``.

    Collections in other threads are recorded too: they hold the interpreter, and so stop
    the loop.
    """

    def __init__(self, trace: Trace, ticks_ns: Callable[[], int]) -> None:
        self._trace = trace
        self._ticks_ns = ticks_ns
        self._began_ns: int | None = None

    def start(self) -> None:
        """Record collections from now on."""
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """Record no more. Does nothing if it was not started."""
        if self._note in gc.callbacks:
            gc.callbacks.remove(self._note)
        self._began_ns = None

    def _note(self, phase: str, details: dict[str, Any]) -> None:
        if phase == "start":
            self._began_ns = self._ticks_ns()
        elif self._began_ns is not None:
            duration_ns = self._ticks_ns() - self._began_ns
            self._trace.record_collection((self._began_ns, duration_ns, details["generation"]))
