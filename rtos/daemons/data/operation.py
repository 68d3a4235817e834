"""What can be done to records, and what has then changed.

Pure. An operation is applied to the record as it is; the rules about versions
and existence are here, so that every backend has the same ones.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import attrs

from rtos.errors import Conflict, NotFound

Record = dict[str, Any]


@attrs.frozen(kw_only=True)
class Operation:
    """One write.

    Attributes:
      op: ``create`` (must not exist), ``update`` (merge of the top level; must
        exist), ``delete``, ``store`` (write whatever is there).
      collection, id: which record.
      data: its fields, or the fields to merge.
      expected_version: what the version must be; ``None`` for any.
      check: makes the stored data from the whole of it; may refuse.
    """

    op: Literal["create", "update", "delete", "store"]
    collection: str
    id: str
    data: Record = attrs.field(factory=dict)
    expected_version: int | None = None
    check: Any = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen
class Change:
    """What a write has done; ``record`` is ``None`` when there was nothing to delete.

    Attributes:
      verb: what was done. ``restored`` is in logs only, of no collection: a backup, or an
        empty database, was put in place there.
      sequence: its number among the changes of its database, from 1; 0 while it has none.
    """

    collection: str
    verb: Literal["created", "updated", "deleted", "restored"]
    record: Record | None
    sequence: int = 0

    def noted(self) -> Record:
        """As the log of changes tells it."""
        return {
            "sequence": self.sequence,
            "collection": self.collection,
            "verb": self.verb,
            "record": self.record,
        }


CHANGES_KEPT: Final = 100_000
"""Changes of a database that its log holds; the oldest are forgotten."""


def number_of_restoring(last: int, now_ns: int) -> int:
    """The number of the change that a restored database begins with, after its last one.

    Args:
      last: the number of its last change; 0 for none.
      now_ns: nanoseconds since the epoch.

    Law: no database has ever given it to another change, so no bookmark is taken for one
    of a history that it is not of. Numbers go up by one, and nothing changes a million
    times a second, so they stay below the microseconds since the epoch.
    """
    return max(last + 1, now_ns // 1000)


@attrs.frozen
class ChangePage:
    """A part of a log of changes.

    Attributes:
      items: as ``Change.noted`` gives them, in order.
      last: the number of the newest change of the database; 0 if there was none yet.
      oldest: the number of the oldest that the log still holds; 0 if it holds none.
    """

    items: list[Record]
    last: int = 0
    oldest: int = 0


def apply(operation: Operation, before: Record | None, now: str) -> Change:
    """The change that an operation makes to a record.

    Raises:
      Conflict: it exists and must not, or is at another version.
      NotFound: it must exist and does not.
    """
    name = f"data/{operation.op}"
    where = f"{operation.collection}/{operation.id}"
    if before is None:
        if operation.op == "delete":
            return Change(operation.collection, "deleted", None)
        if operation.op == "update":
            raise NotFound(name, f"there is no {where!r}", "create it first")
        return Change(operation.collection, "created", _record(operation, operation.data, 1, now, now))
    if operation.op == "create":
        raise Conflict(name, f"{where!r} exists already", "update it, or choose another id")
    if operation.expected_version not in (None, before["version"]):
        raise Conflict(
            name,
            f"{where!r} is at version {before['version']}, not {operation.expected_version}",
            "read it again and repeat the change",
        )
    if operation.op == "delete":
        return Change(operation.collection, "deleted", before)
    data = operation.data
    if operation.op == "update":
        data = {key: value for key, value in before.items() if key not in _META} | data
    record = _record(operation, data, before["version"] + 1, before["created_at"], now)
    return Change(operation.collection, "updated", record)


_META = ("id", "version", "created_at", "updated_at")


def _record(operation: Operation, data: Record, version: int, created_at: str, now: str) -> Record:
    if operation.check is not None:
        data = operation.check(data)
    meta = {"id": operation.id, "version": version, "created_at": created_at, "updated_at": now}
    return meta | data
