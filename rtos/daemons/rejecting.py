"""Saying of what was given wrongly that it was, in the name of the command that was asked for."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def rejecting(asked: str, parameter: str | None = None) -> Iterator[None]:
    """Say of what cannot be stored, or asked for, that it was given wrongly."""
    try:
        yield
    except CommandRejected as error:
        if error.command == asked:
            raise
        raise CommandRejected(asked, error.reason, parameter=parameter, remedy=error.remedy) from None
    except ValueError as error:
        reason, _, remedy = str(error).rpartition("; ")
        raise CommandRejected(asked, reason, parameter=parameter, remedy=remedy) from None
