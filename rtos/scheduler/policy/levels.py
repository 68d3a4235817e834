"""The levels of urgency, and the check that a given level exists."""

from __future__ import annotations

from typing import Final

LEVELS: Final = 8
"""Levels run from 0, the most urgent, to ``LEVELS - 1``."""

SYSTEM_LEVEL: Final = -1
"""Above every level: Trio's own system tasks, and the kernel's timers."""

DEFAULT_LEVEL: Final = 4


def check_level(operation: str, level: int) -> None:
    """Refuse a level that does not exist.

    Raises:
      ValueError: ``level`` is not an integer from 0 to ``LEVELS - 1``.
    """
    number: object = level
    if not isinstance(number, int) or not 0 <= number < LEVELS:
        msg = f"{operation}: level {level!r} does not exist; use 0 (most urgent) to {LEVELS - 1}"
        raise ValueError(msg)
