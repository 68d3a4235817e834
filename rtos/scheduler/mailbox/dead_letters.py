"""The quarantine: messages on which receivers failed twice, kept for an operator.

Pure: no Trio, no clock. Bounded: beyond the limit the oldest message is removed and
returned, so that the caller can report it. A quarantined message has been settled as
failed and is no longer part of the mailbox.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMIT: Final = 64


@attrs.frozen(kw_only=True, eq=False)
class Poison:
    """A message in quarantine. Compares by identity.

    Attributes:
      value: the value that was sent.
      level, key: as they were sent.
      is_control: whether it was sent on the control lane.
      errors: the first and the second failure, each as one line.
      at: absolute Trio time of the second failure.
    """

    value: Any
    level: int
    key: object
    is_control: bool
    errors: tuple[str, str]
    at: float


class Quarantine:
    """Quarantined messages, oldest first.

    Args:
      limit: most messages that are kept.
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
        """Keep a message; return the oldest one if it had to be removed."""
        self._kept[poison] = None
        if len(self._kept) <= self._limit:
            return None
        oldest = next(iter(self._kept))
        del self._kept[oldest]
        return oldest

    def check(self, operation: str, poison: Poison) -> None:
        """Check that a message is in quarantine.

        Raises:
          ValueError: it is not.
        """
        if poison not in self._kept:
            msg = f"{operation}: {poison!r} is not in quarantine; use one of quarantined()"
            raise ValueError(msg)

    def remove(self, poison: Poison) -> None:
        """Remove a message. It must be in quarantine: see ``check``."""
        del self._kept[poison]


def describe(error: BaseException) -> str:
    """An error as one line. Groups with a single error, as nurseries raise them, are unwrapped."""
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        return describe(error.exceptions[0])
    return f"{type(error).__name__}: {error}"
