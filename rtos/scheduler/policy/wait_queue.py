"""Tasks that wait for a resource, most urgent first, and priority inheritance to its holders.

Pure: no Trio, no clock. A task is opaque here.

Order: level, deadline, arrival. While tasks wait, the contexts that hold the resource inherit
the level and deadline of the most urgent one. A context does not inherit from its own waiting
tasks: it would raise itself, and stay raised for as long as it holds the resource.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.scheduler.policy.levels import DEFAULT_LEVEL
from rtos.scheduler.policy.message_queue import Message, MessageQueue

if TYPE_CHECKING:
    from rtos.scheduler.policy.context import SchedulingContext


class Waiter(Message):
    """A task that waits. ``value`` is the task.

    Args:
      task: the task.
      context: the context that it runs under; ``None`` if contexts do not order tasks here.
    """

    __slots__ = ("context", "queue")

    def __init__(self, task: object, context: SchedulingContext | None) -> None:
        if context is None:
            super().__init__(task, level=DEFAULT_LEVEL)
        else:
            super().__init__(task, level=context.level, deadline=context.deadline)
        self.context = context
        # The queue that it is in; ``None`` once it waits no longer.
        self.queue: WaitQueue | None = None

    def reprioritise(self, level: int, deadline: float) -> None:
        """Order it by the new level and deadline of its context."""
        assert self.queue is not None
        self.queue.reprioritise(self, level, deadline)


class WaitQueue:
    """The tasks that wait for one resource, and the contexts that hold it."""

    __slots__ = ("_arrivals", "_contexts", "_holders", "_size", "_waiters")

    def __init__(self) -> None:
        self._waiters = MessageQueue()
        self._size = 0
        self._arrivals = 0
        # How many of the waiting tasks each context has.
        self._contexts: dict[SchedulingContext, int] = {}
        # How many times each context holds the resource.
        self._holders: dict[SchedulingContext, int] = {}

    def __len__(self) -> int:
        return self._size

    def add(self, waiter: Waiter) -> None:
        """Add a task that starts to wait."""
        self._arrivals = waiter.arrival = self._arrivals + 1
        self._waiters.push(waiter)
        self._size += 1
        waiter.queue, context = self, waiter.context
        if context is not None:
            _count(self._contexts, context, 1)
            context.waits[waiter] = None
        self._donate()

    def remove(self, waiter: Waiter) -> None:
        """Remove a task that waits no longer, for example because it was cancelled."""
        self._waiters.remove(waiter, self._size - 1)
        self._forget(waiter)

    def pop(self) -> Waiter:
        """Remove and return the most urgent waiter. The queue must not be empty."""
        waiter = self._waiters.pop()
        assert isinstance(waiter, Waiter)
        self._forget(waiter)
        return waiter

    def reprioritise(self, waiter: Waiter, level: int, deadline: float) -> None:
        """Give a waiter another level and deadline."""
        waiter.level, waiter.deadline = level, deadline
        self._waiters.push(waiter)
        self._waiters.sweep(self._size)
        self._donate()

    def add_holder(self, context: SchedulingContext) -> None:
        """Note that a task of ``context`` holds the resource, once more."""
        _count(self._holders, context, 1)
        self._donate_to(context)

    def remove_holder(self, context: SchedulingContext) -> None:
        """Undo one ``add_holder``."""
        if not _count(self._holders, context, -1):
            context.disinherit(self)

    def _forget(self, waiter: Waiter) -> None:
        self._size -= 1
        waiter.queue, context = None, waiter.context
        if context is not None:
            _count(self._contexts, context, -1)
            del context.waits[waiter]
        self._donate()

    def _donate(self) -> None:
        for context in self._holders:
            self._donate_to(context)

    def _donate_to(self, holder: SchedulingContext) -> None:
        """Let a holder inherit from the most urgent waiter of another context."""
        urgent: SchedulingContext | Waiter | None = None
        if self._contexts:
            head = self._waiters.head()
            assert isinstance(head, Waiter)
            urgent = head
            if head.context is holder:
                others = (context for context in self._contexts if context is not holder)
                urgent = min(others, key=_place, default=None)
        if urgent is None:
            holder.disinherit(self)
        else:
            # System tasks are above all levels, and nothing else may be.
            holder.inherit_from(self, max(urgent.level, 0), urgent.deadline)


def _count(counts: dict[SchedulingContext, int], context: SchedulingContext, change: int) -> int:
    """Change a count, drop it when it is 0, and return it."""
    count = counts[context] = counts.get(context, 0) + change
    if not count:
        del counts[context]
    return count


def _place(context: SchedulingContext) -> tuple[int, float]:
    return context.level, context.deadline
