"""The watchdog: a thread that reports a step that runs too long, while it runs.

The thread reads two values of the loop, the number of the pass and whether the loop is
inside one. The loop keeps both anyway, so watching adds nothing to a pass. Must not change
anything of the loop, and must not touch a task.

An idle loop is not watched: the thread waits for an event, without a time limit, and the
loop sets the event when it wakes. While the loop works, the thread checks twice per limit,
and continues for two checks after. So a loop that wakes for one short step costs three
wake-ups of this thread, and a loop that wakes a thousand times a second costs 40 a second
at the default limit.

The thread needs the interpreter lock to check. A step that holds the lock in one long C
call is reported when it releases it.
"""

from __future__ import annotations

import enum
import logging
import os
import sys
import threading
import time
import traceback
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from rtos.scheduler.diagnosis.busy_poll import PollingDetector, PollingReport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.policy.context import SchedulingContext

log = logging.getLogger("rtos.watchdog")

LIMIT: Final = 0.05
"""Default limit of a step, seconds."""

_QUIET_NS: Final = 1_000_000_000
"""Time between two reports of late wake-ups, nanoseconds."""


class Cause(enum.Enum):
    """What the loop's thread does during a long step."""

    COMPUTING = "it is computing"
    STARVED = "it is ready, and the operating system runs other threads"
    INTERPRETER = "it waits while other threads of this process run, most likely for the interpreter lock"
    BLOCKED = "it is blocked in a call that waits"
    UNKNOWN = "the cause cannot be measured on this system"


@attrs.frozen
class Sample:
    """Clocks of the loop's thread at one instant; nanoseconds.

    Attributes:
      wall: the wall clock.
      cpu: CPU time of the thread.
      queued: time in which the thread was ready and the system ran other threads; 0 where
        the system does not tell.
      process: CPU time of all threads of the process.
    """

    wall: int
    cpu: int
    queued: int
    process: int

    def cause(self, later: Sample) -> Cause:
        """What the thread did for most of the time between this sample and a later one."""
        cpu, queued = later.cpu - self.cpu, later.queued - self.queued
        waited = later.wall - self.wall - cpu - queued
        if cpu + queued >= waited:
            return Cause.COMPUTING if cpu >= queued else Cause.STARVED
        others = later.process - self.process - cpu
        return Cause.INTERPRETER if others * 2 >= waited else Cause.BLOCKED


@attrs.frozen
class LongStep:
    """A step that is running for longer than the limit.

    Attributes:
      context: name of its scheduling context.
      level: the level that it runs at.
      task: name of the task; in a batch, of the task that was running.
      running: how long it has run so far, seconds.
      limit: the longest allowed step, seconds.
      cause: what the thread does.
      stack: the stack of the task, the innermost call last, as a traceback prints it.
    """

    context: str
    level: int
    task: str
    running: float
    limit: float
    cause: Cause
    stack: tuple[str, ...]

    def __str__(self) -> str:
        return (
            f"a step of {self.context!r} (level {self.level}, task {self.task!r}) has been running for"
            f" {self.running:.3f} s, longer than the limit of {self.limit:g} s; {self.cause.value}\n"
            + "".join(self.stack).rstrip()
        )


@attrs.frozen
class LateWakeUp:
    """The loop woke ``late`` seconds later than planned."""

    late: float

    def __str__(self) -> str:
        return f"the loop woke {self.late:.3f} s late; the system was busy, or the process was stopped"


Alarm = LongStep | PollingReport | LateWakeUp


class Watched(Protocol):
    """The part of the loop that the watchdog reads, from its own thread."""

    passes: int

    @property
    def running(self) -> SchedulingContext | None:
        """The context whose step or batch is running; ``None`` between passes."""

    @property
    def asleep(self) -> bool:
        """Whether the loop is asleep."""

    def step_age_ns(self) -> int:
        """How long the running step has run so far."""

    def running_task(self) -> str:
        """The name of the running task."""


class Watchdog:
    """The watchdog thread. Create, start and stop it in the loop's thread.

    Args:
      watched: the loop.
      limit: the longest allowed step, seconds.
      on_alarm: called with each report, in the watchdog's thread; an exception is logged.
        Every report is also logged.
      polling: detects polling.

    Attributes:
      looks: how often the thread has checked; does not grow while the loop is idle.
    """

    def __init__(
        self,
        watched: Watched,
        *,
        limit: float = LIMIT,
        on_alarm: Callable[[Alarm], None] | None = None,
        polling: PollingDetector | None = None,
    ) -> None:
        self.looks = 0
        self._watched = watched
        self._limit_ns = round(limit * 1e9)
        self._on_alarm = on_alarm
        self._polling = polling or PollingDetector()
        self._clocks = _Clocks()
        self._loop_thread = threading.get_ident()
        # Written by the loop's thread, drained by this one.
        self._posted: deque[Alarm] = deque(maxlen=64)
        self._late_reported_ns = -_QUIET_NS
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._parked = False
        self._thread = threading.Thread(target=self._watch, name="rtos watchdog", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it and for a running ``on_alarm``."""
        self._stopped.set()
        self._wake.set()
        self._thread.join()
        self._clocks.close()

    # Called by the loop, as a ``Watch``.

    def woke(self, late_ns: int) -> None:
        """Implement ``Watch.woke``."""
        if late_ns > self._limit_ns:
            now_ns = time.perf_counter_ns()
            if now_ns - self._late_reported_ns >= _QUIET_NS:
                self._late_reported_ns = now_ns
                self._posted.append(LateWakeUp(late_ns / 1e9))
        if self._parked:
            self._wake.set()

    def ran(self, context: SchedulingContext, now_ns: int) -> None:
        """See ``Watch.ran``."""
        reports = self._polling.see(context, now_ns)
        if reports:
            self._posted.extend(reports)
            if self._parked:
                self._wake.set()

    # In the watchdog's thread.

    def _watch(self) -> None:
        first: tuple[int, Sample | None] = (-1, None)
        reported = idle_since = -1
        while not self._stopped.is_set():
            self.looks += 1
            self._report_posted()
            passes, age_ns, context = self._look()
            if context is None and self._watched.asleep:
                if passes == idle_since:
                    self._park()
                    continue
                idle_since = passes
            if context is None or passes == reported:
                self._stopped.wait(self._limit_ns / 2e9)
                continue
            if first[0] != passes:
                # Not in every short step: reading the clocks takes the interpreter lock from the loop.
                if age_ns * 4 >= self._limit_ns:
                    first = passes, self._clocks.read()
            elif age_ns >= self._limit_ns:
                reported = passes
                self._report(context, passes, first[1])
            left_ns = self._limit_ns - age_ns
            self._stopped.wait(max(min(left_ns, self._limit_ns // 2), self._limit_ns // 10) / 1e9)

    def _look(self) -> tuple[int, int, SchedulingContext | None]:
        watched = self._watched
        passes, context, age_ns = watched.passes, watched.running, watched.step_age_ns()
        # The loop may have continued between the reads.
        return passes, age_ns, context if watched.passes == passes else None

    def _park(self) -> None:
        self._wake.clear()
        self._parked = True
        # The loop may have woken just before it could see that the thread waits.
        if self._watched.asleep and not self._posted:
            self._wake.wait()
        self._parked = False

    def _report(self, context: SchedulingContext, passes: int, earlier: Sample | None) -> None:
        age_ns = self._watched.step_age_ns()
        level, task = context.level, self._watched.running_task()
        frames = _frames_of(self._loop_thread)
        if self._watched.passes != passes or self._watched.running is None:
            return
        # From here on files are read. Each read releases the interpreter lock, and getting it
        # back from a step that computes takes a switch interval.
        later = self._clocks.read()
        self._emit(
            LongStep(
                context=context.name,
                level=level,
                task=task,
                running=age_ns / 1e9,
                limit=self._limit_ns / 1e9,
                cause=Cause.UNKNOWN if earlier is None or later is None else earlier.cause(later),
                stack=tuple(traceback.format_list(frames)),
            )
        )

    def _report_posted(self) -> None:
        while self._posted:
            self._emit(self._posted.popleft())

    def _emit(self, alarm: Alarm) -> None:
        log.warning("%s", alarm)
        if self._on_alarm is not None:
            try:
                self._on_alarm(alarm)
            except Exception:
                log.exception("on_alarm raised")


class _Clocks:
    """The clocks of the thread that creates it, readable from another thread."""

    def __init__(self) -> None:
        self._cpu: int | None = None
        self._scheduled: int | None = None
        if sys.platform == "linux":
            self._cpu = time.pthread_getcpuclockid(threading.get_ident())
            with suppress(OSError):
                path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
                self._scheduled = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> Sample | None:
        """All clocks now; ``None`` where the system does not provide them."""
        if self._cpu is None:
            return None
        return Sample(
            wall=time.perf_counter_ns(),
            cpu=time.clock_gettime_ns(self._cpu),
            queued=self._queued(),
            process=time.process_time_ns(),
        )

    def close(self) -> None:
        """Stop reading: the thread may end, and its clock with it."""
        self._cpu = None
        if self._scheduled is not None:
            os.close(self._scheduled)
            self._scheduled = None

    def _queued(self) -> int:
        with suppress(OSError, ValueError, IndexError):
            if self._scheduled is not None:
                return int(os.pread(self._scheduled, 64, 0).split()[1])
        return 0


def _frames_of(thread: int) -> traceback.StackSummary:
    """The stack of a thread; source lines are not read yet."""
    frame = sys._current_frames().get(thread)
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    frames.reverse()
    # Drop the frames of the loop, which are always the same.
    below = [index for index, entry in enumerate(frames) if entry.name in ("unrolled_run", "run_step")]
    del frames[: below[-1] + 1 if below else 0]
    return frames
