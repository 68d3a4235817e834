"""The ready queue: chooses which released task runs next.

Pure: no Trio, no clock, no logging. The caller passes the time in, so a test is a table
of inputs and outputs.

Order: level, then absolute deadline, then arrival. Arrival is a counter rather than a
timestamp, since two tasks released on one clock reading must still leave in the order
they came. The deadline breaks ties inside a level and never jumps levels: a chatty
background daemon with near deadlines must not starve the supervisor, whose jobs carry
no deadline at all.

Fairness: tasks of one level and one deadline take turns in order of arrival, inside one
context and across contexts. Between two steps of a task, every task of its level and
deadline that was ready at the end of the first one has had a step. Trio's locks and
channels are fair only as long as that holds. Two kinds of steps are not ordered here: a
donated step is part of its caller's step, and the starvation guard lends steps to the
context that has waited longest.

Contexts are ordered, each with its own tasks in order of arrival. A context that
changes its level moves all its queued tasks at once. An entry of the heap that has
become stale is recognised by identity and skipped: nothing is ever re-keyed inside the
heap, which would corrupt it.
"""

from __future__ import annotations

from collections import deque
from heapq import heapify, heappop, heappush
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rtos.scheduler.policy.context import SchedulingContext

Entry = tuple[int, float, int, "SchedulingContext"]

_SWEEP: Final = 32
"""Number of stale entries that is always tolerated."""


class ReadyQueue:
    """Released tasks, most urgent first.

    Invariant: a context has exactly one valid entry while it has tasks in the order, unless
    it is ``current``, and none otherwise. The number of stale entries is bounded by the
    number of valid ones and ``_SWEEP``. Tasks of a throttled context are set aside, apart
    from those that ``release`` lets into the order.

    Attributes:
      waiting: number of tasks in the order, over all contexts.
      current: the context that a task was taken from last. It has no entry until another
        method needs one, so that a context whose tasks follow each other costs no heap
        operation.
      now: time of the latest look at the arrivals, in nanoseconds; set by the caller.
    """

    __slots__ = ("_arrivals", "_aside", "_heap", "_stale", "current", "now", "waiting")

    def __init__(self) -> None:
        self._heap: list[Entry] = []
        self._arrivals = 0
        self._stale = 0
        self.current: SchedulingContext | None = None
        # The tasks that are set aside, by throttled context.
        self._aside: dict[SchedulingContext, deque[tuple[int, Any]]] = {}
        self.now = 0
        self.waiting = 0

    def __len__(self) -> int:
        return self.waiting

    def __iter__(self) -> Iterator[Any]:
        """All tasks, those set aside too, in no particular order."""
        for tasks in (*(context.ready for context in self.contexts()), *self._aside.values()):
            for _, task in tasks:
                yield task

    def contexts(self) -> Iterator[SchedulingContext]:
        """The contexts that have tasks in the order, in no particular order."""
        self._put_back()
        return (entry[3] for entry in self._heap if entry[3].entry is entry)

    def push(self, context: SchedulingContext, task: Any) -> None:
        """Add a task. If its context is throttled, the task is set aside."""
        self._arrivals = arrival = self._arrivals + 1
        if context.is_throttled:
            self._aside.setdefault(context, deque()).append((arrival, task))
            return
        context.ready.append((arrival, task))
        self.waiting += 1
        if context.entry is None and context is not self.current:
            self._enter(context)

    def move(self, context: SchedulingContext) -> None:
        """Order a queued context anew, after its level or deadline has changed."""
        context.entry = entry = (context.level, context.deadline, context.ready[0][0], context)
        heappush(self._heap, entry)
        self._stale += 1
        if self._stale > _SWEEP and self._stale * 2 > len(self._heap):
            self._heap = [entry for entry in self._heap if entry[3].entry is entry]
            heapify(self._heap)
            self._stale = 0

    def head(self) -> SchedulingContext | None:
        """The most urgent context, or ``None`` if the queue is empty."""
        self._put_back()
        heap = self._heap
        while heap:
            entry = heap[0]
            if entry[3].entry is entry:
                return entry[3]
            heappop(heap)
            self._stale -= 1
        return None

    def take(self) -> tuple[SchedulingContext, int, Any]:
        """Take the first task of the most urgent context. The queue must not be empty.

        Returns:
          The context, since when it was ready (nanoseconds), and the task.
        """
        current = self.current
        if current is not None:
            ready = current.ready
            # A stale entry at the head only causes a closer look.
            if ready and (
                not self._heap or (current.level, current.deadline, ready[0][0]) < self._heap[0][:3]
            ):
                self.waiting -= 1
                return current, self.now, ready.popleft()[1]
        context = self.head()
        assert context is not None
        heappop(self._heap)
        context.entry = None
        self.current = context
        self.waiting -= 1
        return context, context.since, context.ready.popleft()[1]

    def following(self, most: int) -> int:
        """How many tasks of the current context come next, before any task of another; ``most`` at most."""
        context = self.current
        assert context is not None
        ready, heap = context.ready, self._heap
        most = min(most, len(ready))
        if not heap or not most:
            return most
        level, deadline, arrival, _ = heap[0]
        own, other = (context.level, context.deadline), (level, deadline)
        if own != other:
            # A stale entry at the head only makes the row shorter.
            return most if own < other else 0
        if ready[most - 1][0] < arrival:
            return most
        return sum(number < arrival for number, _ in islice(ready, most))

    def take_current(self) -> Any:
        """Take the first task of the current context, as ``following`` has allowed."""
        context = self.current
        assert context is not None
        self.waiting -= 1
        return context.ready.popleft()[1]

    def take_from(self, context: SchedulingContext) -> Any:
        """Take the first task of ``context``, which need not be the most urgent one."""
        self._put_back()
        task = context.ready.popleft()[1]
        self.waiting -= 1
        self._stale += 1
        context.entry = None
        if context.ready:
            self._enter(context)
        return task

    def take_behind(self, passed: SchedulingContext) -> tuple[SchedulingContext, int, Any]:
        """``take`` as if ``passed``, the most urgent context, had no tasks. Another context must have one."""
        self._put_back()
        passed.entry = None
        self._stale += 1
        taken = self.take()
        self._enter(passed)
        return taken

    def throttle(self, context: SchedulingContext) -> None:
        """Set the present and future tasks of a context aside, until ``unthrottle``."""
        if context.is_throttled:
            return
        self._put_back()
        context.is_throttled = True
        if context.ready:
            context.entry = None
            self._stale += 1
            self.waiting -= len(context.ready)
            self._aside[context], context.ready = context.ready, deque()

    def unthrottle(self, context: SchedulingContext) -> None:
        """Order the tasks of a throttled context again. Does nothing if it is not throttled."""
        context.is_throttled = False
        aside = self._aside.pop(context, None)
        if aside is not None:
            self._put_back()
            self.waiting += len(aside)
            self._stale += context.entry is not None
            context.ready = deque(sorted((*aside, *context.ready), key=_arrival_of))
            self._enter(context)

    def release(self, context: SchedulingContext, task: Any) -> None:
        """Order one task that is set aside, as the latest arrival; its context stays throttled."""
        aside = self._aside[context]
        aside.remove(next(entry for entry in reversed(aside) if entry[1] is task))
        if not aside:
            del self._aside[context]
        self._arrivals = arrival = self._arrivals + 1
        context.ready.append((arrival, task))
        self.waiting += 1
        if context.entry is None and context is not self.current:
            self._enter(context)

    def set_aside(self, context: SchedulingContext) -> list[Any]:
        """The tasks of a context that are set aside."""
        return [task for _, task in self._aside.get(context, ())]

    def all_set_aside(self) -> list[Any]:
        """The tasks of all contexts that are set aside."""
        return [task for aside in self._aside.values() for _, task in aside]

    def clear(self) -> None:
        """Remove everything; the contexts may be used in another queue afterwards."""
        self._put_back()
        for entry in self._heap:
            context = entry[3]
            context.entry = context.moved = None
            context.ready.clear()
        for context in self._aside:
            context.is_throttled = False
        self._aside.clear()
        self._heap.clear()
        self._stale = 0
        self.waiting = 0

    def _put_back(self) -> None:
        """Give the current context an entry, if it has tasks."""
        context, self.current = self.current, None
        if context is not None and context.ready:
            self._enter(context)

    def _enter(self, context: SchedulingContext) -> None:
        context.since = self.now
        context.moved = self.move
        context.entry = entry = (context.level, context.deadline, context.ready[0][0], context)
        heappush(self._heap, entry)


def _arrival_of(entry: tuple[int, Any]) -> int:
    return entry[0]
