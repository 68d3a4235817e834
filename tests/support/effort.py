"""How much the long tests do: a short run in ``make test``, everything in ``make torture``.

``RTOS_TESTS=full`` in the environment asks for everything.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

FULL = os.environ.get("RTOS_TESTS") == "full"


def short_or_full(short: int, full: int) -> int:
    """Return the number of rounds, examples or sets that a test takes."""
    return full if FULL else short


def load_hypothesis_profile() -> None:
    """Take fewer examples in a short run, and let no property fail on a slow or busy machine."""
    never_slow = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.register_profile("short", never_slow, max_examples=40)
    settings.register_profile("full", never_slow, max_examples=100)
    settings.load_profile("full" if FULL else "short")
