"""Raw records: the plain tuples that the kernel writes to the trace.

A raw record starts with one of the marks below. The functions in ``reading`` document
the fields that follow, and make the record classes of ``records`` from them.
"""

from __future__ import annotations

from typing import Any, Final

Raw = tuple[Any, ...]

# Records up to and including BUDGET carry ticks (nanoseconds of the loop's own counter).
# CALLED and MISSED carry Trio times (seconds), which their writers have read anyway.
STEP: Final = 0
SLEPT: Final = 1
CPU: Final = 2
BUDGET: Final = 3
CALLED: Final = 4
MISSED: Final = 5


def nanoseconds(at: float) -> int:
    """Convert a Trio time in seconds to integer nanoseconds."""
    return round(at * 1e9)
