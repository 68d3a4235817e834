"""A limit on the work of an analysis, so that no set of jobs can keep it busy for minutes.

The work is counted in *steps*: looking at one job once, in one iteration of a fixed
point. Counting steps instead of seconds makes every verdict repeatable on every
machine. A step takes about 0.2 µs on a 2-core cloud machine (CPython 3.11).

Near a utilisation of 1 a busy window can hold billions of releases, and fixed points
converge slowly. ``TooComplex`` then ends the analysis.
"""

from __future__ import annotations

import functools
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

P = ParamSpec("P")
R = TypeVar("R")

EFFORT: Final = 25_000_000
"""Default limit, in steps: about 5 s of CPU time. A hundred jobs in 25 levels at ordinary
utilisations take up to 20 million."""

ITERATION: Final = 5
"""One iteration takes, beside its jobs, about as long as so many steps."""


class TooComplex(ValueError):
    """The analysis was given up after the allowed number of steps."""

    def __init__(self) -> None:
        super().__init__(
            "too complex to analyse; lower costs, lengthen periods,"
            " or use periods that are multiples of each other"
        )


@attrs.define
class _Account:
    left: int


_account: Final[ContextVar[_Account]] = ContextVar("rtos_analysis_effort")


@contextmanager
def limit_effort(steps: int = EFFORT) -> Iterator[None]:
    """Limit the analysis inside the block to ``steps`` steps, or to what an outer limit has left.

    What the block uses is taken off the outer limit.

    Args:
      steps: the limit.

    Raises:
      TooComplex: by ``spend`` within the block, once the limit is used up.
    """
    outer = _account.get(None)
    allowed = steps if outer is None else min(steps, outer.left)
    inner = _Account(allowed)
    token = _account.set(inner)
    try:
        yield
    finally:
        _account.reset(token)
        if outer is not None:
            outer.left -= allowed - max(inner.left, 0)


def limited(function: Callable[P, R]) -> Callable[P, R]:
    """Give a function the default limit if its caller has set none."""

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        if _account.get(None) is not None:
            return function(*args, **kwargs)
        with limit_effort():
            return function(*args, **kwargs)

    return run


def spend(steps: int) -> None:
    """Count work before it is done.

    Raises:
      TooComplex: the limit does not allow it.
    """
    account = _account.get(None)
    if account is not None:
        account.left -= steps
        if account.left < 0:
            raise TooComplex


def steps_left() -> int:
    """How many steps the current limit still allows."""
    account = _account.get(None)
    return EFFORT if account is None else max(account.left, 0)
