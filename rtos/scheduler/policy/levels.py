"""Priority levels, the default reserve, and the checks of levels and deadlines that callers pass in."""

from __future__ import annotations

from typing import Final

LEVELS: Final = 8
"""Number of levels: 0 is the most urgent, ``LEVELS - 1`` the least urgent."""

SYSTEM_LEVEL: Final = -1
"""More urgent than every other level: Trio's system tasks and the kernel's timers."""

DEFAULT_LEVEL: Final = 4
"""Level of tasks and contexts that are not given one."""

RESERVE: Final = 0.05
"""Default share of the CPU time that is kept for less urgent levels."""


def check_level(operation: str, level: int) -> None:
    """Check that ``level`` exists.

    Args:
      operation: name of the caller's operation, for the error message.
      level: the level to check.

    Raises:
      ValueError: ``level`` is not an integer from 0 to 7.
    """
    number: object = level
    if not isinstance(number, int) or not 0 <= number < LEVELS:
        msg = f"{operation}: level {level!r} does not exist; use 0 (most urgent) to {LEVELS - 1}"
        raise ValueError(msg)


def check_deadline(operation: str, deadline: float) -> None:
    """Check that ``deadline`` is a time: a NaN compares with nothing and would break every order.

    Args:
      operation: name of the caller's operation, for the error message.
      deadline: absolute Trio time in seconds; ``math.inf`` for none.

    Raises:
      ValueError: ``deadline`` is not a number, or is NaN.
    """
    number: object = deadline
    if not isinstance(number, int | float) or number != number:
        raise deadline_error(operation, deadline)


def deadline_error(operation: str, deadline: float) -> ValueError:
    """The error of a deadline that is not a time."""
    return ValueError(
        f"{operation}: deadline {deadline!r} is not a time; use absolute Trio time, or math.inf for none"
    )
