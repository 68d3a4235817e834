"""Linux ``timerfd`` through the C library, for Python before 3.13."""

from __future__ import annotations

import ctypes
import math
import os
from typing import Final

_libc: Final = ctypes.CDLL(None, use_errno=True)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


def timerfd_create(clock: int, flags: int) -> int:
    """A new timer.

    Args:
      clock: number of the clock.
      flags: for the descriptor, such as ``os.O_CLOEXEC``.

    Returns:
      Its file descriptor.

    Raises:
      AttributeError: the C library does not have it.
      OSError: the system call failed.
    """
    fd: int = _libc.timerfd_create(clock, flags)
    if fd < 0:
        _raise("timerfd_create")
    return fd


def settime(fd: int, delay: float) -> None:
    """Let a timer expire once, in ``delay`` seconds; 0 disarms it.

    Raises:
      OSError: the system call failed.
    """
    nanoseconds = math.ceil(delay * 1e9)
    value = _Timespec(nanoseconds // 1_000_000_000, nanoseconds % 1_000_000_000)
    spec = _Itimerspec(_Timespec(0, 0), value)
    if _libc.timerfd_settime(fd, 0, ctypes.byref(spec), None) != 0:
        _raise("timerfd_settime")


def _raise(call: str) -> None:
    number = ctypes.get_errno()
    raise OSError(number, f"{call}: {os.strerror(number)}")
