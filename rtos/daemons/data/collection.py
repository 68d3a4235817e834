"""Collections: what may be stored under a name, and how it is found again.

Pure. What the daemon is to know of a collection is handed to it; there is no
registry.
"""

from __future__ import annotations

import re
from typing import Any, Final

import attrs
import msgspec

from rtos.daemons.data.plain import first_unknown, plain
from rtos.errors import CommandRejected, ConfigurationError

KV: Final = "kv"
"""The collection of plain keys and values."""
META: Final = ("id", "version", "created_at", "updated_at")
"""Fields of every record, which are the store's to write."""


_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TAKEN: Final = (*META, "rowid", "rank")


@attrs.frozen
class Collection:
    """One kind of record.

    Attributes:
      name: letters, digits and ``_``; also the middle of its events' names.
      entity: an attrs class that the data must convert to; ``None`` for any data.
      search: fields that are indexed for full-text search; all weigh the same.
      indexes: fields that are looked up often.
      near: the field of a vector's signature and that of the vector, for
        ``data/nearest`` (`rtos.daemons.data.vectors`); ``null`` in a record without one.
      durable: whether what is acknowledged survives a power cut. Without it a
        transaction that touches only such collections is not synced: a power cut may
        take the latest of them, with their numbers in the log of changes, and never a
        part of one. A crash of the process loses nothing, and the database is
        consistent in any case.
    """

    name: str = attrs.field(validator=attrs.validators.matches_re(r"[a-z][a-z0-9_]{0,62}"))
    entity: type | None = None
    search: tuple[str, ...] = ()
    indexes: tuple[str, ...] = ()
    near: tuple[str, str] | None = attrs.field(default=None, kw_only=True)
    durable: bool = attrs.field(default=True, kw_only=True)

    @classmethod
    def of(cls, entity: type) -> Collection:
        """The collection of an entity, as the entity declares it.

        Args:
          entity: an attrs class with the class attributes ``collection`` (its name),
            and where it has any ``search_fields``, ``indexed_fields``,
            ``near_fields`` and ``durable``.

        Raises:
          ConfigurationError: it names no collection, or a field that it has not.
        """
        name = getattr(entity, "collection", None)
        if not isinstance(name, str):
            raise ConfigurationError(
                f"{entity.__name__} names no collection", "give it a class attribute 'collection'"
            )
        return cls(
            name,
            entity=entity,
            search=getattr(entity, "search_fields", ()),
            indexes=getattr(entity, "indexed_fields", ()),
            near=getattr(entity, "near_fields", None),
            durable=getattr(entity, "durable", True),
        )

    def __attrs_post_init__(self) -> None:
        known = None if self.entity is None else {field.name for field in attrs.fields(self.entity)}
        for fields in (self.search, self.indexes, self.near or ()):
            # They become names in SQL, where "Title" is "title"; and a wrong one
            # would index nothing for ever.
            taken = set(_TAKEN)
            for field in fields:
                wrong = not _FIELD.fullmatch(field) or (known is not None and field not in known)
                if wrong or field.lower() in taken:
                    raise ConfigurationError(
                        f"collection {self.name!r} cannot index {field!r}",
                        "name a field of its records, and each once",
                    )
                taken.add(field.lower())

    def checked(self, command: str, data: dict[str, Any]) -> dict[str, Any]:
        """The data, plain, with the entity's defaults filled in; a copy.

        Raises:
          CommandRejected: a field is unknown, missing or wrong; it is named.
        """
        given: dict[str, Any] = plain_or_rejected(command, "data", data)
        reserved = [name for name in META if name in given]
        if reserved:
            raise _rejected(command, f"field {reserved[0]!r} is the store's own", "leave it out of the data")
        if self.entity is None:
            return given
        try:
            checked: dict[str, Any] = plain(msgspec.to_builtins(msgspec.convert(given, type=self.entity)))
        except (msgspec.ValidationError, ValueError, TypeError) as error:
            raise _rejected(command, f"{self.name}: {error}", "mend the field that is named") from None
        unknown = first_unknown(given, checked)
        if unknown is not None:
            known = ", ".join(sorted(field.name for field in attrs.fields(self.entity)))
            raise _rejected(command, f"{self.name} has no field {unknown!r}", f"its fields are {known}")
        return checked


def plain_or_rejected(command: str, parameter: str, value: Any) -> Any:
    """A value, made plain.

    Raises:
      CommandRejected: it cannot be stored.
    """
    try:
        return plain(value, parameter)
    except ValueError as error:
        raise CommandRejected(command, str(error), parameter=parameter, remedy="use JSON data") from None


def _rejected(command: str, reason: str, remedy: str) -> CommandRejected:
    return CommandRejected(command, reason, parameter="data", remedy=remedy)
