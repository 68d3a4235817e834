"""The quarantine: messages on which a daemon has failed twice, until an operator decides.

Pure: no Trio, no clock. Bounded: beyond the limit the oldest is forgotten, and
handed back to whoever reports it. What is in here has been settled as failed; it
is no part of the account any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT: Final = 64


@attrs.frozen(kw_only=True, eq=False)
class Poison:
    """A message in quarantine. Two are equal only if they are the same one.

    Attributes:
      value: what was sent.
      level, key: as it was sent.
      is_control: whether it came on the control lane.
      errors: what the daemon failed with, the first and the second time.
      at: the absolute Trio time of the second failure.
    """

    value: Any
    level: int
    key: object
    is_control: bool
    errors: tuple[str, str]
    at: float


class Quarantine:
    """Poison in order of its coming.

    Args:
      limit: the most that is kept.
    """

    __slots__ = ("_kept", "_limit")

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._kept: dict[Poison, None] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def __iter__(self) -> Iterator[Poison]:
        return iter(self._kept)

    def add(self, poison: Poison) -> Poison | None:
        """Keep it; return the one that was forgotten for it, if any."""
        self._kept[poison] = None
        if len(self._kept) <= self._limit:
            return None
        oldest = next(iter(self._kept))
        del self._kept[oldest]
        return oldest

    def check(self, operation: str, poison: Poison) -> None:
        """Whether it is in here.

        Raises:
          ValueError: it is not.
        """
        if poison not in self._kept:
            msg = f"{operation}: {poison!r} is not in quarantine; use one of quarantined()"
            raise ValueError(msg)

    def remove(self, poison: Poison) -> None:
        """Let it go. It is in here: see ``check``."""
        del self._kept[poison]


def describe(error: BaseException) -> str:
    """An error as one line; what a nursery wraps around a single one says nothing."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return describe(error.exceptions[0])
    return f"{type(error).__name__}: {error}"
