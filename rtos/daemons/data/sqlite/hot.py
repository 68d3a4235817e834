"""Records that were used lately, in memory, so that reading them again takes no thread.

Law: what is found here is what the database holds, or held when something that is
not acknowledged yet was being written. A write is told of before its writer goes on;
what a read has found is kept only if nothing was written to its database meanwhile,
since the read may be older.

Pure: no Trio, no thread. Records are kept as JSON, which takes a third of the memory
of mappings and is copied by reading it.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.daemons.data.operation import Change, Record

UNKNOWN: Final = object()
"""Not remembered; the database knows."""
LIMIT: Final = 16 * 1024 * 1024
"""Bytes of JSON and names that are kept."""
_OVERHEAD: Final = 300
"""Bytes of memory that an entry takes beside its text."""

_Key = tuple[str | None, str, str]
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class HotRecords:
    """Records by database, collection and id; the least recently used go first.

    Args:
      limit: bytes; 0 keeps nothing.
    """

    __slots__ = ("_bytes", "_entries", "_generations", "_limit")

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._bytes = 0
        # None for what is known not to be there.
        self._entries: OrderedDict[_Key, bytes | None] = OrderedDict()
        self._generations: dict[str | None, int] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def bytes(self) -> int:
        """What they take by now."""
        return self._bytes

    def get(self, user_id: str | None, collection: str, id: str) -> Any:
        """A copy of the record, ``None`` if there is none, or ``UNKNOWN``."""
        key = (user_id, collection, id)
        try:
            kept = self._entries[key]
        except KeyError:
            return UNKNOWN
        self._entries.move_to_end(key)
        return None if kept is None else _decode(kept)

    def generation(self, user_id: str | None) -> int:
        """How often a database has changed; to be asked before it is read."""
        return self._generations.get(user_id, 0)

    def found(self, user_id: str | None, collection: str, id: str, record: Record | None, *, at: int) -> None:
        """Keep what was read when the database was at generation ``at``, if it is there still."""
        if self.generation(user_id) == at:
            self._keep((user_id, collection, id), record)

    def changed(self, user_id: str | None, changes: Sequence[Change]) -> None:
        """Keep what was written; nothing that is being read just now is kept."""
        self._generations[user_id] = self.generation(user_id) + 1
        for change in changes:
            if change.record is not None:
                record = None if change.verb == "deleted" else change.record
                self._keep((user_id, change.collection, change.record["id"]), record)

    def forget(self, user_id: str | None) -> None:
        """Keep nothing of a database: it was replaced, or what was written is not certain."""
        self._generations[user_id] = self.generation(user_id) + 1
        for key in [key for key in self._entries if key[0] == user_id]:
            self._bytes -= _size(key, self._entries.pop(key))

    def _keep(self, key: _Key, record: Record | None) -> None:
        if key in self._entries:
            self._bytes -= _size(key, self._entries.pop(key))
        kept = None if record is None else _encode(record)
        size = _size(key, kept)
        # One that would drive out much of the others is not worth it.
        if size * 8 > self._limit:
            return
        self._entries[key] = kept
        self._bytes += size
        while self._bytes > self._limit:
            self._bytes -= _size(*self._entries.popitem(last=False))


def _size(key: _Key, kept: bytes | None) -> int:
    return _OVERHEAD + len(key[2]) + (0 if kept is None else len(kept))
