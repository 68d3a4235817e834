"""Relaxation: a value that approaches a target, `v(t) = v* + (v0 - v*) e^(-at)`.

Pure arithmetic, in closed form: where the value is at an instant, and at which
instant it is somewhere. Written with `expm1` and `log1p`, so that the shortest
times and the smallest differences keep their digits.

Law: a value stays between where it was and its target, rounding included.
"""

from __future__ import annotations

import math


def mix(start: float, end: float, share: float) -> float:
    """The value so far on the way between two, and never beyond either, rounding included."""
    low, high = min(start, end), max(start, end)
    return min(high, max(low, start + (end - start) * share))


def relax(value: float, target: float, rate: float, elapsed: float) -> float:
    """Where a value is that approaches a target at a rate per second, some seconds later."""
    return mix(value, target, -math.expm1(-rate * elapsed))


def reach(value: float, target: float, rate: float, threshold: float) -> float:
    """Seconds until a value that approaches a target is at a threshold; `math.inf` if it never is.

    Never is also the answer where it is there already, and where the target is
    the threshold itself.
    """
    if not min(value, target) < threshold < max(value, target):
        return math.inf
    share = (threshold - value) / (target - value)
    return -math.log1p(-share) / rate if 0.0 < share < 1.0 else math.inf
