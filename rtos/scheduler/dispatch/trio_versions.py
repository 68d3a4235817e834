"""Which releases of Trio the run queue is known to fit, and what is said of others."""

from __future__ import annotations

from typing import Final

import trio

from rtos.errors import UnsupportedTrio

TESTED: Final = ("0.30.0", "0.35.0")
"""The oldest and the newest Trio release that the suite has been run with."""


def unsupported(found: str) -> UnsupportedTrio:
    """What is raised where Trio is not shaped as the run queue needs it."""
    return UnsupportedTrio(
        f"trio {trio.__version__} is not shaped as the run queue needs it ({found})",
        f"use a version from {TESTED[0]} to {TESTED[1]}, and say which one this is;"
        " or open_scheduler(ordered=False) (rtos boot --unordered) runs with Trio's own order,"
        " without budgets",
    )
