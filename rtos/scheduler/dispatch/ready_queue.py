"""The ready order: which released task runs next.

Pure: no Trio, no clock, no logging. Whoever knows the time passes it in, so a
test is a table of inputs and outputs.

Order: level, then absolute deadline, then arrival. Arrival is a counter rather
than a timestamp, since two tasks released on one clock reading must still leave
in the order they came. The deadline breaks ties inside a level and never jumps
levels: a chatty background daemon with near deadlines must not starve the
supervisor, whose jobs carry no deadline at all.

What is ordered are contexts, each with its own tasks in order of arrival. So a
context that changes its level moves all its queued tasks in one step, and an
entry that has become stale is recognised by identity and skipped: nothing is
ever re-keyed inside the heap, which is how priority queues get corrupted.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtos.scheduler.policy.context import SchedulingContext

Entry = tuple[int, float, int, "SchedulingContext"]

_SWEEP: Final = 32
"""Stale entries that are always tolerated."""


class ReadyQueue:
    """Released tasks, most urgent first.

    Invariant: a context has exactly one valid entry while it has tasks here and
    none while it has not; ``waiting`` is the number of tasks over all contexts. A
    context that is held back has no entry, and its tasks do not count as waiting.
    Memory follows the valid entries: a context that moves again and again while
    something more urgent keeps it from running leaves no trail of stale ones.
    """

    __slots__ = ("_arrivals", "_current", "_heap", "_held", "_stale", "now", "waiting")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._arrivals = 0
        self._stale = 0
        # The one that was taken from last: it has no entry until something else is asked,
        # so that a context whose tasks follow each other costs no heap.
        self._current: SchedulingContext | None = None
        # Contexts that are held back and have tasks.
        self._held: dict[SchedulingContext, None] = {}
        # When the loop looked last, nanoseconds; whoever knows it sets it.
        self.now = 0
        self.waiting = 0

    def __len__(self) -> int:
        return self.waiting

    def __iter__(self) -> Iterator[Any]:
        """All tasks, held ones too, in no particular order; for handing the queue back."""
        for context in (*self.contexts(), *self._held):
            for _, task in context.ready:
                yield task

    def contexts(self) -> Iterator[SchedulingContext]:
        """The contexts that have tasks and are not held back, in no particular order."""
        self._put_back()
        return (entry[3] for entry in self._heap if entry[3].entry is entry)

    def push(self, context: SchedulingContext, task: Any) -> None:
        """Add a released task."""
        self._arrivals = arrival = self._arrivals + 1
        context.ready.append((arrival, task))
        if context.is_held:
            self._held[context] = None
            return
        self.waiting += 1
        if context.entry is None and context is not self._current:
            context.since = self.now
            context.moved = self.move
            self._enter(context, arrival)

    def move(self, context: SchedulingContext) -> None:
        """Order a queued context anew, after its level or deadline changed."""
        self._enter(context, context.ready[0][0])
        self._stale += 1
        if self._stale > _SWEEP and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[3].entry is entry]
            heapify(self._heap)
            self._stale = 0

    def head(self) -> SchedulingContext | None:
        """The context that goes next, or ``None``."""
        self._put_back()
        heap = self._heap
        while heap:
            entry = heap[0]
            if entry[3].entry is entry:
                return entry[3]
            heappop(heap)
            self._stale -= 1
        return None

    def pop(self, limit: int) -> tuple[SchedulingContext, list[Any]]:
        """Take up to ``limit`` tasks of the most urgent context, in order of arrival.

        More than one is taken only of those that came before what another context of the
        same level and deadline has, so that a batch never overtakes an equal, and none
        while one of that level has another deadline. All of a batch belong to one
        round: a round is what waited when it began, so nobody has a second step,
        wherever a batch is cut and however it is shuffled, while another waits for
        its first. Locks and channels are fair only as long as that holds.

        Raises:
          IndexError: the queue is empty.
        """
        context = self.head()
        if context is None:
            msg = "pop from an empty ready queue"
            raise IndexError(msg)
        ready = context.ready
        if ready[0][0] > context.round:
            context.round = self._arrivals
        tasks = [ready.popleft()[1]]
        if ready and limit > 1:
            last = self._last_of_batch(context)
            if len(ready) < limit and ready[-1][0] <= last:
                tasks += [task for _, task in ready]
                ready.clear()
            while ready and ready[0][0] <= last and len(tasks) < limit:
                tasks.append(ready.popleft()[1])
        self.waiting -= len(tasks)
        heappop(self._heap)
        if ready:
            context.since = self.now
            self._enter(context, ready[0][0])
        else:
            context.entry = None
        return context, tasks

    def take(self) -> tuple[SchedulingContext, int, Any]:
        """The first task of the most urgent context, that context, and since when it was ready.

        The queue must not be empty.
        """
        current = self._current
        if current is not None:
            ready = current.ready
            # A stale entry in front only makes this look closer.
            if ready and (
                not self._heap or (current.level, current.deadline, ready[0][0]) < self._heap[0][:3]
            ):
                self.waiting -= 1
                return current, self.now, ready.popleft()[1]
        context = self.head()
        assert context is not None
        heappop(self._heap)
        context.entry = None
        self._current = context
        self.waiting -= 1
        return context, context.since, context.ready.popleft()[1]

    def pop_from(self, context: SchedulingContext) -> Any:
        """Take the first task of ``context``, which need not be the most urgent one."""
        self._put_back()
        if context.ready[0][0] > context.round:
            context.round = self._arrivals
        task = context.ready.popleft()[1]
        self.waiting -= 1
        self._stale += 1
        context.entry = None
        if context.ready:
            context.since = self.now
            self._enter(context, context.ready[0][0])
        return task

    def hold(self, context: SchedulingContext) -> None:
        """Keep a context out of the order, with what it has and what it gets, until ``let_go``."""
        self._put_back()
        context.is_held = True
        if context.entry is not None:
            context.entry = None
            self._stale += 1
            self._held[context] = None
            self.waiting -= len(context.ready)

    def let_go(self, context: SchedulingContext) -> None:
        """Order a context that was held back; harmless when it was not."""
        context.is_held = False
        if context in self._held:
            del self._held[context]
            self.waiting += len(context.ready)
            context.since = self.now
            context.moved = self.move
            self._enter(context, context.ready[0][0])

    def clear(self) -> None:
        """Forget everything; the contexts may be used in another queue after."""
        self._put_back()
        for entry in self._heap:
            context = entry[3]
            context.entry = context.moved = None
            context.ready.clear()
        for context in self._held:
            context.is_held = False
            context.ready.clear()
        self._held.clear()
        self._heap.clear()
        self._stale = 0
        self.waiting = 0

    def _put_back(self) -> None:
        context, self._current = self._current, None
        if context is not None and context.ready:
            context.since = self.now
            context.moved = self.move
            self._enter(context, context.ready[0][0])

    def _enter(self, context: SchedulingContext, arrival: int) -> None:
        context.entry = entry = (context.level, context.deadline, arrival, context)
        heappush(self._heap, entry)

    def _last_of_batch(self, head: SchedulingContext) -> int:
        """The latest arrival that may go together with the first of ``head``."""
        # The second smallest of a heap is one of the two children of the first. A stale
        # one can only make the batch smaller.
        last = head.round
        for level, deadline, arrival, _ in self._heap[1:3]:
            if level == head.level:
                # Where deadlines differ there is more than the arrival to compare: one at a time.
                last = min(last, arrival - 1) if deadline == head.deadline else 0
        return last
