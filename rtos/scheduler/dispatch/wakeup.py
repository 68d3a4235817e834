"""Wake-up of the sleeping loop when a kernel timer is due.

Two sources with one interface. A Linux ``timerfd`` is armed only when the loop is about
to sleep, and is some 0.2 ms late. Trio's own deadlines work everywhere, and are up to
1 ms late, because epoll sleeps in whole milliseconds; a clock that is not the system's
(a virtual one) needs them.

Neither source runs timers: the run queue looks at the timer heap on every pass.

Imports on every platform; a ``timerfd`` is looked for when a source is opened.
"""

from __future__ import annotations

import math
import os
import sys
import time
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable


class WakeUp(Protocol):
    """Ends the sleep of the loop at an instant."""

    lazy: bool
    """Whether ``arm`` still takes effect once the loop has decided how long to sleep."""

    def arm(self, at: float) -> None:
        """End the sleep at ``at`` (absolute Trio time), or never (``math.inf``)."""

    async def run(self) -> None:
        """Wait, again and again, until cancelled; owns the source's resources."""


class ClockWakeUp:
    """Wakes the loop through Trio's deadlines. ``arm`` takes effect when the loop sleeps next."""

    lazy = False

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._at = math.inf

    def arm(self, at: float) -> None:
        """See ``WakeUp.arm``."""
        if at != self._at:
            self._at = self._scope.deadline = at

    async def run(self) -> None:
        """See ``WakeUp.run``."""
        while True:
            with self._scope:
                await trio.sleep_forever()
            # The timer task may have armed the next instant in the meantime.
            if self._at <= trio.current_time():
                self._at = math.inf
            self._scope = trio.CancelScope(deadline=self._at)


class TimerfdWakeUp:
    """Wakes the loop through a Linux ``timerfd``.

    Args:
      settime: ``settime(fd, delay)`` arms the timer; 0 seconds disarms it.
      fd: file descriptor of the timer; ``run`` closes it.
    """

    lazy = True

    def __init__(self, settime: Callable[[int, float], None], fd: int) -> None:
        self._settime = settime
        self._fd = fd
        self._at = math.inf

    def arm(self, at: float) -> None:
        """See ``WakeUp.arm``."""
        if at == self._at:
            return
        self._at = at
        # Zero would disarm it, so a time that has passed is due in a nanosecond.
        delay = 0.0 if at == math.inf else max(at - trio.current_time(), 1e-9)
        self._settime(self._fd, delay)

    async def run(self) -> None:
        """See ``WakeUp.run``."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._fd)
                self._at = math.inf
                os.read(self._fd, 8)
        finally:
            os.close(self._fd)


def is_system(clock: trio.abc.Clock) -> bool:
    """Whether ``clock`` is Trio's own, which follows the system's; otherwise time is virtual."""
    # By its name: the class itself is not public.
    return type(clock).__name__ == "SystemClock"


def open_wakeup(clock: trio.abc.Clock) -> ClockWakeUp | TimerfdWakeUp:
    """The best source for the loop that runs on ``clock``."""
    timer = open_timerfd() if is_system(clock) else None
    return ClockWakeUp() if timer is None else TimerfdWakeUp(*timer)


def open_timerfd() -> tuple[Callable[[int, float], None], int] | None:
    """A function that arms a new ``timerfd``, and its descriptor; ``None`` where there is none."""
    if sys.platform != "linux":
        return None
    try:
        if sys.version_info >= (3, 13):
            flags = os.TFD_NONBLOCK | os.TFD_CLOEXEC
            return _settime, os.timerfd_create(time.CLOCK_MONOTONIC, flags=flags)
        # Not imported elsewhere: it takes a millisecond.
        from rtos.scheduler.dispatch.timerfd import settime, timerfd_create

        return settime, timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
    except (AttributeError, ImportError, OSError):
        # The C library, the kernel or a sandbox does not have it.
        return None


if sys.platform == "linux" and sys.version_info >= (3, 13):

    def _settime(fd: int, delay: float) -> None:
        os.timerfd_settime(fd, initial=delay)
