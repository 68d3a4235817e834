"""Collections: what may be stored under a name, and how it is found again.

Pure. What the daemon is to know of a collection is handed to it; there is no
registry.
"""

from __future__ import annotations

from typing import Any, Final

import attrs
import msgspec

from rtos.errors import CommandRejected

KV: Final = "kv"
"""The collection of plain keys and values."""
META: Final = ("id", "version", "created_at", "updated_at")
"""Fields of every record, which are the store's to write."""


@attrs.frozen
class Collection:
    """One kind of record.

    Attributes:
      name: letters, digits and ``_``; also the middle of its events' names.
      entity: an attrs class that the data must convert to; ``None`` for any data.
      search: fields that are indexed for full-text search, the weightiest first.
      indexes: fields that are looked up often.
    """

    name: str = attrs.field(validator=attrs.validators.matches_re(r"[a-z][a-z0-9_]{0,62}"))
    entity: type | None = None
    search: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()

    def checked(self, command: str, data: dict[str, Any]) -> dict[str, Any]:
        """The data with the entity's defaults filled in.

        Raises:
          CommandRejected: a field is unknown, missing or wrong; it is named.
        """
        reserved = [name for name in META if name in data]
        if reserved:
            raise CommandRejected(
                command,
                f"field {reserved[0]!r} is the store's own",
                parameter="data",
                remedy="leave it out of the data",
            )
        if self.entity is None:
            free: dict[str, Any] = _plain_or_rejected(command, data)
            return free
        known = {field.name for field in attrs.fields(self.entity)}
        unknown = sorted(set(data) - known)
        if unknown:
            raise CommandRejected(
                command,
                f"{self.name} has no field {unknown[0]!r}",
                parameter="data",
                remedy="its fields are " + ", ".join(sorted(known)),
            )
        try:
            checked: dict[str, Any] = plain(msgspec.convert(data, type=self.entity))
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise CommandRejected(
                command, f"{self.name}: {error}", parameter="data", remedy="mend the field that is named"
            ) from None
        return checked


def _plain_or_rejected(command: str, value: Any) -> Any:
    try:
        return plain(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise CommandRejected(
            command, f"the value cannot be stored: {error}", parameter="value", remedy="use JSON data"
        ) from None


def plain(value: Any) -> Any:
    """A value as JSON gives it back, so that every backend stores one and the same.

    Raises:
      TypeError: it holds what JSON cannot.
    """
    return msgspec.json.decode(msgspec.json.encode(value))
