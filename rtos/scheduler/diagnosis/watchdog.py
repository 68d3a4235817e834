"""The watchdog: reports a step that runs too long while it runs.

A thread of its own that reads two things of the loop, the number of the pass and
whether it is inside one, which the loop keeps anyway: a pass costs nothing more
for being watched. Must not touch: anything of the loop's, and any task.

An idle loop is not watched. The thread then waits for a bell, without a time
limit, and the loop rings it when it begins to work again. While the loop works the
thread looks twice per limit, and it goes on for two looks after; so a loop that
wakes for one short step costs three wake-ups of this thread, and one that wakes a
thousand times a second costs 40 a second at the default limit.

It needs the interpreter to look. A step that holds it in one long C call is
reported when it lets go.
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
"""Default of the longest step, seconds."""

_QUIET_NS: Final = 1_000_000_000
"""Time between two reports of late wake-ups, nanoseconds."""


class Cause(enum.Enum):
    """What a thread that does not get on is doing."""

    COMPUTING = "it computes"
    STARVED = "it is ready, and the system runs something else"
    INTERPRETER = "it waits while other threads of this process run; for the interpreter, most likely"
    BLOCKED = "it is blocked in a call that waits"
    UNKNOWN = "what it does cannot be measured here"


@attrs.frozen
class Sample:
    """Clocks of the loop's thread at one instant; nanoseconds.

    Attributes:
      wall: of the wall clock.
      cpu: what the thread has run.
      queued: what it has been ready to run while the system ran something else;
        0 where that is not told.
      process: what all threads together have run.
    """

    wall: int
    cpu: int
    queued: int
    process: int

    def cause(self, later: Sample) -> Cause:
        """What the thread did between this sample and a later one, for the most part."""
        cpu, queued = later.cpu - self.cpu, later.queued - self.queued
        waited = later.wall - self.wall - cpu - queued
        if cpu + queued >= waited:
            return Cause.COMPUTING if cpu >= queued else Cause.STARVED
        others = later.process - self.process - cpu
        return Cause.INTERPRETER if others * 2 >= waited else Cause.BLOCKED


@attrs.frozen
class LongStep:
    """A step that has run for too long, and goes on.

    Attributes:
      context: name of its scheduling context.
      level: the level it runs with.
      task: name of the task; of a batch, of the one that was running.
      running: how long it has run so far, seconds.
      limit: what is allowed, seconds.
      cause: what it is about.
      stack: where it is, the innermost call last, as a traceback prints it.
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
            f" {self.running:.3f} s, allowed are {self.limit:g} s; {self.cause.value}\n"
            + "".join(self.stack).rstrip()
        )


@attrs.frozen
class LateWakeUp:
    """The loop was to be woken, and began to work this much later (seconds)."""

    late: float

    def __str__(self) -> str:
        return f"the loop was woken {self.late:.3f} s late; the system was busy, or the process was stopped"


Alarm = LongStep | PollingReport | LateWakeUp


class Watched(Protocol):
    """What the watchdog reads of the loop, from its own thread."""

    passes: int

    @property
    def running(self) -> SchedulingContext | None:
        """The context whose step, or batch, is being run; ``None`` between passes."""

    @property
    def asleep(self) -> bool:
        """Whether the loop sleeps."""

    def step_age_ns(self) -> int:
        """How long the running step has run."""

    def running_task(self) -> str:
        """The name of the task that is running."""


class Watchdog:
    """The thread. Made, started and stopped in the loop's thread.

    Args:
      watched: the loop.
      limit: longest step, seconds.
      on_alarm: called with each report, in the watchdog's thread; what it raises
        is logged. Every report is logged as well.
      polling: who decides what is polling.

    Attributes:
      looks: how often the thread has looked; still while the loop is idle.
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
        self._bell = threading.Event()
        self._stopped = threading.Event()
        self._parked = False
        self._thread = threading.Thread(target=self._watch, name="rtos watchdog", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and wait for it; it waits for nothing but a running ``on_alarm``."""
        self._stopped.set()
        self._bell.set()
        self._thread.join()
        self._clocks.close()

    # Called by the loop (see ``Watch``).

    def woke(self, late_ns: int) -> None:
        """The loop begins to work after a sleep."""
        if late_ns > self._limit_ns:
            now_ns = time.perf_counter_ns()
            if now_ns - self._late_reported_ns >= _QUIET_NS:
                self._late_reported_ns = now_ns
                self._posted.append(LateWakeUp(late_ns / 1e9))
        if self._parked:
            self._bell.set()

    def ran(self, context: SchedulingContext, now_ns: int) -> None:
        """``context`` is one of those that run."""
        reports = self._polling.see(context, now_ns)
        if reports:
            self._posted.extend(reports)
            if self._parked:
                self._bell.set()

    # The thread.

    def _watch(self) -> None:
        first: tuple[int, Sample | None] = (-1, None)
        reported = idle_since = -1
        while not self._stopped.is_set():
            self.looks += 1
            self._tell_posted()
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
                # Not of every short step: reading costs the loop the interpreter.
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
        # The loop may have gone on between one reading and the next.
        return passes, age_ns, context if watched.passes == passes else None

    def _park(self) -> None:
        self._bell.clear()
        self._parked = True
        # It may have woken just before it could see that the bell is to be rung.
        if self._watched.asleep and not self._posted:
            self._bell.wait()
        self._parked = False

    def _report(self, context: SchedulingContext, passes: int, earlier: Sample | None) -> None:
        age_ns = self._watched.step_age_ns()
        level, task = context.level, self._watched.running_task()
        frames = _frames_of(self._loop_thread)
        if self._watched.passes != passes or self._watched.running is None:
            return
        # From here on things are read from files. Each time, getting the interpreter
        # back from a step that computes takes a switch interval.
        later = self._clocks.read()
        self._tell(
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

    def _tell_posted(self) -> None:
        while self._posted:
            self._tell(self._posted.popleft())

    def _tell(self, alarm: Alarm) -> None:
        log.warning("%s", alarm)
        if self._on_alarm is not None:
            try:
                self._on_alarm(alarm)
            except Exception:
                log.exception("on_alarm raised")


class _Clocks:
    """The clocks of the thread that makes it, readable from another."""

    def __init__(self) -> None:
        self._cpu: int | None = None
        self._scheduled: int | None = None
        if sys.platform == "linux":
            self._cpu = time.pthread_getcpuclockid(threading.get_ident())
            with suppress(OSError):
                path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
                self._scheduled = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> Sample | None:
        """All clocks now; ``None`` where the system does not tell."""
        if self._cpu is None:
            return None
        return Sample(
            wall=time.perf_counter_ns(),
            cpu=time.clock_gettime_ns(self._cpu),
            queued=self._queued(),
            process=time.process_time_ns(),
        )

    def close(self) -> None:
        """Read no more: the thread may end, and its clock with it."""
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
    """Where a thread is; the source lines are not read yet."""
    frame = sys._current_frames().get(thread)
    frames = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    frames.reverse()
    # What is below the task's own frames is the loop, and the same every time.
    below = [index for index, entry in enumerate(frames) if entry.name in ("unrolled_run", "run_step")]
    del frames[: below[-1] + 1 if below else 0]
    return frames
