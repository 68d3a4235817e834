"""The trace: what the loop did lately, in a ring of fixed size.

Pure: no Trio, no clock; whoever records hands the time in. Owned here: what a
record holds, how it is written cheaply and read comfortably. Must not know: what a
record is used for.

Writing is one C call, ``Trace.record``, with a plain tuple that starts with one of
the marks below; reading makes frozen records of it, often several of one: a call
is written once, when it has its outcome, and read as its sending, its beginning
and its end. Three writings instead of one were tried, and cost twice as much.
Names travel as references to strings that exist anyway, so nothing has to be
interned and nothing outlives the ring. A tuple of numbers and strings is dropped
by the garbage collector from what it looks at, so a full ring does not lengthen
collections.

Price of one record (CPython 3.11, a 2-core cloud machine, the call included):
``deque(maxlen)`` of tuples 60 ns; a preallocated list of tuples and an index 90;
a flat preallocated list 130; ``struct.pack_into`` 120. In place, where caches are
shared with the program, about 250. A clock reading is 50 more, which is why records
reuse one that was made anyway. Memory: about 250 bytes a record, taken only once
it is written.

Price of the whole on a command's round trip over the bus (CPU per operation, runs
interleaved with the same kernel without the hooks): 22.1 to 23.9 µs with one client,
26.9 to 28.9 with a hundred, so 6 to 8 %; of these 1 to 2 are the hooks, which stay
when the trace is off.

Order: records are written when what they tell of has ended, so a step comes after
what happened in it; ``snapshot`` sorts them by when they began.
"""

from __future__ import annotations

from collections import deque
from itertools import chain, count, islice
from typing import TYPE_CHECKING, Final

from rtos.scheduler.tracing.raw import CALLED, CPU, SLEPT, STEP, Raw, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rtos.scheduler.tracing.records import Record

PORTION: Final = 32
"""Raw records that are read in one go."""

COLLECTIONS: Final = 1024
"""Garbage collections that are remembered, apart from the ring."""


_LASTING: Final = (STEP, SLEPT, CPU)


class Trace:
    """The latest records, ``size`` of them.

    Args:
      size: how many are kept; the oldest is forgotten for the newest.
      epoch: ticks + epoch = nanoseconds of Trio time.

    Attributes:
      record: ``record((MARK, at, ...))``; what follows is with the readers below.
      record_collection: ``record_collection((at, duration, generation))``, in
        ticks; safe from any thread, and in the middle of a snapshot.
      next_call: a number for a call.
    """

    __slots__ = ("_collections", "_ring", "epoch", "next_call", "record", "record_collection", "size")

    def __init__(self, size: int, *, epoch: int = 0) -> None:
        self.size = size
        self.epoch = epoch
        self._ring: deque[Raw] = deque(maxlen=size)
        # Apart, because a collection may begin while the ring is being read.
        self._collections: deque[tuple[int, int, int]] = deque(maxlen=min(size, COLLECTIONS))
        self.record: Callable[[Raw], None] = self._ring.append
        self.record_collection: Callable[[tuple[int, int, int]], None] = self._collections.append
        self.next_call: Callable[[], int] = count(1).__next__

    def __len__(self) -> int:
        return len(self._ring) + len(self._collections)

    def snapshot(self) -> tuple[Record, ...]:
        """Everything that is remembered, by when it began. About 2 µs a record."""
        return self._in_order(self._ring.copy())

    def newest(self, limit: int) -> Iterator[Raw]:
        """The newest raw records, the latest first."""
        return islice(reversed(self._ring), limit)

    def later(self, *, limit: int) -> Callable[[], tuple[Record, ...]]:
        """The newest ``limit`` records as they are now, to be read later, in another thread say.

        Takes some 10 ns a record; reading them takes 200 times that.
        """
        ring = self._ring.copy()
        newest = islice(ring, max(len(ring) - limit, 0), None)
        return lambda: self._in_order(newest)

    def since(self, at: int, *, limit: int) -> tuple[Record, ...]:
        """What had not ended at ``at`` (nanoseconds of Trio time), by when it began.

        Of at most the newest ``limit`` raw records, and all collections. The newest
        record that *had* ended is among them, if it is remembered: it shows that
        nothing is missing.
        """
        portions = self.since_by_and_by(at, limit=limit)
        return tuple(sorted(chain.from_iterable(portions), key=_beginning))

    def since_by_and_by(self, at: int, *, limit: int) -> Iterator[list[Record]]:
        """As ``since``, in portions of about 0.1 ms, and in no order.

        What is recorded once it has begun is not among them.
        """
        raws = self._tail(at, limit)
        yield self._read_collections(since=at)
        for start in range(0, len(raws), PORTION):
            yield list(self._read(raws[start : start + PORTION]))

    def clear(self) -> None:
        """Forget everything."""
        self._ring.clear()
        self._collections.clear()

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
        # Not imported before it is needed: a program that does not read its trace saves 4 ms.
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
