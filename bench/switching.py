"""Python's switch interval as in a system that owns its process."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rtos.runtime.runtime import SWITCH_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def short_switch_interval() -> Iterator[None]:
    """Give threads their turn beside a busy loop.

    With the default of 5 ms a thread may wait for the interpreter's lock for seconds: the loop
    releases the lock once per pass, for less time than it takes to wake the thread.
    """
    before = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
