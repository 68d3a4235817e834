"""What is asked of storage, checked before anything happens. Pure.

Every command checks what it was given by these, so that one mistake has one error,
wherever it is made.
"""

from __future__ import annotations

import uuid
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from rtos.daemons.data.collection import KV, Collection, plain_or_rejected
from rtos.daemons.data.operation import Operation
from rtos.errors import CommandRejected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_LIMIT: Final = 500
MAX_ID: Final = 200

_GIVEN: Final[dict[Any, set[str]]] = {
    "create": {"op", "collection", "id", "data"},
    "update": {"op", "collection", "id", "data", "expected_version"},
    "delete": {"op", "collection", "id", "expected_version"},
    "store": {"op", "key", "value"},
}
"""What the operations of a batch take."""


class Requests:
    """What may be asked, with the collections that there are.

    Attributes:
      collections: by name, keys and values among them.
    """

    def __init__(self, collections: Sequence[Collection]) -> None:
        self.collections: Mapping[str, Collection] = {
            collection.name: collection for collection in (Collection(KV), *collections)
        }

    def operation(self, asked: str, given: dict[str, Any]) -> Operation:
        """One write of a command or of a batch.

        Raises:
          CommandRejected: something in it cannot be done.
        """
        op: Any = given.get("op")
        if not (isinstance(op, str) and op in _GIVEN):
            raise CommandRejected(
                asked,
                f"there is no operation {op!r}",
                parameter="operations",
                remedy="use create, update, delete or store",
            )
        # A mistyped expected_version that is passed over would lose an update.
        unknown = sorted(set(given) - _GIVEN[op])
        if unknown:
            raise CommandRejected(
                asked,
                f"{op} does not take {unknown[0]!r}",
                parameter="operations",
                remedy="it takes " + ", ".join(sorted(_GIVEN[op])),
            )
        if op == "store":
            return Operation(
                op="store",
                collection=KV,
                id=checked_id(asked, "key", given.get("key")),
                data={"value": plain_or_rejected(asked, "value", given.get("value"))},
            )
        known = self.known(asked, given.get("collection"))
        id = given.get("id")
        if id is None and op == "create":
            id = uuid.uuid4().hex
        data = given.get("data", {})
        if not isinstance(data, dict):
            raise CommandRejected(
                asked, f"data is {data!r}", parameter="data", remedy="give a mapping of fields"
            )
        return Operation(
            op=given["op"],
            collection=known.name,
            id=checked_id(asked, "id", id),
            data=known.checked(asked, data) if op == "create" else plain_or_rejected(asked, "data", data),
            expected_version=_checked_version(asked, given.get("expected_version")),
            check=partial(known.checked, asked) if op == "update" else None,
        )

    def known(self, asked: str, collection: object) -> Collection:
        """The collection of a name.

        Raises:
          CommandRejected: there is none.
        """
        known = self.collections.get(collection) if isinstance(collection, str) else None
        if known is None:
            raise CommandRejected(
                asked,
                f"there is no collection {collection!r}",
                parameter="collection",
                remedy="there are " + ", ".join(sorted(self.collections)),
            )
        return known


def checked_limit(asked: str, limit: int, most: int = MAX_LIMIT, *, parameter: str = "limit") -> int:
    """How many at most.

    Raises:
      CommandRejected: it is not from 1 to ``most``.
    """
    if not 1 <= limit <= most:
        raise CommandRejected(
            asked,
            f"{parameter} is {limit!r}",
            parameter=parameter,
            remedy=f"use 1 to {most}, and ask again for more",
        )
    return limit


def _checked_version(asked: str, version: object) -> int | None:
    if version is None or (isinstance(version, int) and not isinstance(version, bool)):
        return version
    raise CommandRejected(
        asked,
        f"expected_version is {version!r}",
        parameter="expected_version",
        remedy="use the version of the record that you have read",
    )


def checked_id(asked: str, parameter: str, id: object) -> str:
    """A name that a record can have.

    Raises:
      CommandRejected: it is no text, or too long.
    """
    if not isinstance(id, str) or not 1 <= len(id) <= MAX_ID or not _is_text(id):
        raise CommandRejected(
            asked,
            f"{parameter} is {id!r}",
            parameter=parameter,
            remedy=f"use 1 to {MAX_ID} characters of text",
        )
    return id


def _is_text(id: str) -> bool:
    return "\0" not in id and not any("\ud800" <= char <= "\udfff" for char in id)
