"""The trace: a ring buffer of the latest records of what the loop did.

Pure: no Trio, no clock; writers pass the time in. Defines how records are written and
read. Must not depend on what records are used for.

Writing is one C call, ``Trace.record``, with a plain tuple (``raw.py``). Reading makes
frozen records from it, often several from one tuple: a call is written once, when it has
its outcome, and read as its sending, its start and its end. Three writes instead of one
were tried, and cost twice as much. Names are references to strings that exist anyway, so
nothing needs interning and nothing outlives the ring. The garbage collector does not
track tuples of numbers and strings, so a full ring does not lengthen collections.

Cost of one record (CPython 3.11, a 2-core cloud machine, the call included):
``deque(maxlen)`` of tuples 60 ns; a preallocated list of tuples and an index 90 ns; a flat
preallocated list 130 ns; ``struct.pack_into`` 120 ns. In the kernel, where the program
shares the CPU caches, about 250 ns. Reading the clock would take 50 ns more, so records
reuse a time that was read anyway. Memory: about 250 bytes a record, allocated when it is
written.

Cost of the trace in a command's round trip over the bus (CPU time per operation, runs
interleaved with the same kernel without the hooks): from 22.1 to 23.9 µs with one client,
from 26.9 to 28.9 µs with a hundred, so 6 to 8 %. Of these, 1 to 2 % are the hooks, which
stay when the trace is off.

Order: a record is written when what it describes has ended, so a step comes after the
calls in it. ``snapshot`` sorts records by when they began.
"""

from __future__ import annotations

from collections import deque
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from rtos.scheduler.tracing.raw import CALLED, CPU, SLEPT, STEP, Raw, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rtos.scheduler.tracing.records import Record

PORTION: Final = 32
"""Raw records that are read at a time."""

COLLECTIONS: Final = 1024
"""Garbage collections that are kept, beside the ring."""


_LASTING: Final = (STEP, SLEPT, CPU)


class Trace:
    """The latest records.

    Args:
      size: how many records are kept; a new record replaces the oldest.
      epoch: ticks + epoch = nanoseconds of Trio time.

    Attributes:
      record: ``record((MARK, at, ...))`` writes a raw record; see ``reading.py`` for the fields.
      record_collection: ``record_collection((at, duration, generation))`` writes a garbage
        collection, in ticks; safe from any thread, and during a snapshot.
      next_call: returns a new number for a call.
    """

    __slots__ = ("_collections", "_ring", "epoch", "next_call", "record", "record_collection", "size")

    def __init__(self, size: int, *, epoch: int = 0) -> None:
        self.size = size
        self.epoch = epoch
        self._ring: deque[Raw] = deque(maxlen=size)
        # Not in the ring, because a collection may begin while the ring is being read.
        self._collections: deque[tuple[int, int, int]] = deque(maxlen=min(size, COLLECTIONS))
        self.record: Callable[[Raw], None] = self._ring.append
        self.record_collection: Callable[[tuple[int, int, int]], None] = self._collections.append
        self.next_call: Callable[[], int] = count(1).__next__

    def __len__(self) -> int:
        return len(self._ring) + len(self._collections)

    def snapshot(self) -> tuple[Record, ...]:
        """All records, by when they began. Takes about 2 µs a record."""
        return self._in_order(self._ring.copy())

    def newest(self, limit: int) -> Iterator[Raw]:
        """The newest raw records, the latest first."""
        return islice(reversed(self._ring), limit)

    def later(self, *, limit: int) -> Callable[[], tuple[Record, ...]]:
        """The newest ``limit`` records of this moment, to be read later, for example in another thread.

        Takes about 10 ns a record; reading them takes 200 times as long.
        """
        ring = self._ring.copy()
        newest = islice(ring, max(len(ring) - limit, 0), None)
        return lambda: self._in_order(newest)

    def portions_since(self, at: int, *, limit: int) -> Iterator[list[Record]]:
        """What had not ended at ``at``, in portions of about 0.1 ms of work, in no order.

        The newest record that *had* ended is included if the ring still holds it: it
        shows that nothing is missing.

        Args:
          at: nanoseconds of Trio time.
          limit: the most raw records that are read, the newest; all collections are added.

        Records that are written after the first portion was asked for are not included.
        """
        raws = self._tail(at, limit)
        yield self._read_collections(since=at)
        for start in range(0, len(raws), PORTION):
            yield list(self._read(raws[start : start + PORTION]))

    def _tail(self, at: int, limit: int) -> list[Raw]:
        tail = []
        for raw in reversed(self._ring):
            tail.append(raw)
            if len(tail) == limit or self._ended(raw) <= at:
                break
        tail.reverse()
        return tail

    def _ended(self, raw: Raw) -> int:
        if raw[0] >= CALLED:
            return nanoseconds(raw[1])
        began: int = raw[1] + self.epoch
        return began + raw[2] if raw[0] in _LASTING else began

    def _in_order(self, raws: Iterable[Raw]) -> tuple[Record, ...]:
        records = [*self._read(raws), *self._read_collections(since=0)]
        return tuple(sorted(records, key=_beginning))

    def _read(self, raws: Iterable[Raw]) -> Iterator[Record]:
        # Imported when it is needed: a program that does not read its trace saves 4 ms.
        from rtos.scheduler.tracing.reading import read

        return read(raws, self.epoch)

    def _read_collections(self, *, since: int) -> list[Record]:
        from rtos.scheduler.tracing.records import Collection

        return [
            Collection(began + self.epoch, duration, generation)
            for began, duration, generation in self._collections.copy()
            if began + duration + self.epoch > since
        ]


def _beginning(record: Record) -> int:
    return record.at
