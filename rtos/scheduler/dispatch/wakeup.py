"""What ends the loop's sleep when a kernel timer is due.

Two sources behind one shape: a ``timerfd``, which is armed only when the loop is
about to sleep and is some 0.2 ms late, and Trio's own clock, which is up to 1 ms
late because epoll sleeps in whole milliseconds, and is what a clock that is not
the system's (a virtual one) must be driven through.

Neither runs timers: the run queue looks at the heap on every pass.
"""

from __future__ import annotations

import ctypes
import math
import os
import sys
from typing import TYPE_CHECKING, Protocol

import trio

if TYPE_CHECKING:
    from collections.abc import Callable

_CLOCK_MONOTONIC = 1
_NONBLOCK_CLOEXEC = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)


class WakeUp(Protocol):
    """Ends the sleep of the loop at an instant."""

    def arm(self, at: float) -> None:
        """End the sleep at ``at`` (absolute Trio time), or never (``math.inf``)."""

    async def run(self) -> None:
        """Wait, again and again, until cancelled; holds what the source needs."""


class ClockWakeUp:
    """Through Trio's own deadlines. ``arm`` takes effect for the next time the loop sleeps."""

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
            # Who runs the timers may have armed the next one in the meantime.
            if self._at <= trio.current_time():
                self._at = math.inf
            self._scope = trio.CancelScope(deadline=self._at)


class TimerfdWakeUp:
    """Through a Linux ``timerfd``. May be armed when the loop has decided to sleep."""

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
        # Zero would disarm it; what is due already is due in a nanosecond.
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
    if sys.platform != "linux" or not is_system(clock):
        return ClockWakeUp()
    if sys.version_info >= (3, 13):
        fd = os.timerfd_create(_CLOCK_MONOTONIC, flags=os.TFD_NONBLOCK | os.TFD_CLOEXEC)
        return TimerfdWakeUp(_settime, fd)
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "timerfd_create"):
        return ClockWakeUp()
    fd = libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCK_CLOEXEC)
    return TimerfdWakeUp(_settime_by(libc), fd) if fd >= 0 else ClockWakeUp()


if sys.version_info >= (3, 13) and sys.platform == "linux":

    def _settime(fd: int, delay: float) -> None:
        os.timerfd_settime(fd, initial=delay)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def _settime_by(libc: ctypes.CDLL) -> Callable[[int, float], None]:
    def settime(fd: int, delay: float) -> None:
        nanoseconds = math.ceil(delay * 1e9)
        value = _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
        spec = _Itimerspec(_Timespec(0, 0), value)
        if libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    return settime
