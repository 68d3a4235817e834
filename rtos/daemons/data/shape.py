"""What a collection's records look like, told in plain values. Pure."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import attrs
import msgspec

from rtos.daemons.data.collection import META
from rtos.daemons.data.plain import plain

if TYPE_CHECKING:
    from rtos.daemons.data.collection import Collection


def shape_of(collection: Collection) -> dict[str, Any]:
    """A collection's name, its fields, and which of them are searched and indexed.

    ``fields`` is ``None`` where any data may be stored. A field that is not required
    has a ``default``, as it would be stored.
    """
    entity = collection.entity
    return {
        "collection": collection.name,
        "always": list(META),
        "fields": None if entity is None else [_field(field) for field in attrs.fields(entity)],
        "search": list(collection.search),
        "indexes": list(collection.indexes),
        "near": list(collection.near or ()),
    }


def _field(field: attrs.Attribute[Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"name": field.name, "type": _type(field.type)}
    default: Any = field.default
    if default is attrs.NOTHING:
        return {**told, "required": True}
    if isinstance(default, attrs.Factory):  # type: ignore[arg-type]
        # None takes the record: such an entity cannot be converted to at all.
        default = default.factory()
    return {**told, "required": False, "default": plain(msgspec.to_builtins(default))}


def _type(given: Any) -> str:
    return given if isinstance(given, str) else inspect.formatannotation(given)
