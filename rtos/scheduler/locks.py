"""``Lock``, ``Semaphore`` and ``Condition`` with priority inheritance, in place of Trio's.

An urgent task that waits for a ``trio.Lock`` waits for every task that is more urgent than the
owner of the lock, for as long as these have something to do (priority inversion). With the
classes here the owner runs at the level and deadline of its most urgent waiter until it
releases the lock.

They have the methods, arguments, errors, statistics and checkpoints of Trio's classes, with
two differences:

* Waiting tasks proceed in order of level, deadline and arrival; in Trio in order of arrival.
  As in Trio, no task acquires a lock while another task waits for it.
* Holders inherit. It is the scheduling context of the holder that inherits, and so all tasks
  of that context. Inheritance is transitive: if the holder waits for another lock, for a call
  or for room in a mailbox, the level and deadline are passed on. A context whose CPU budget
  is used up stays throttled.

The level and deadline of a waiting task follow those of its context. Without an open scheduler
all tasks are equal, so that the order is Trio's and nothing is inherited.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, cast, final

import outcome
import trio
from trio.lowlevel import Abort, current_task, enable_ki_protection

from rtos.scheduler.dispatch.current import context_of
from rtos.scheduler.policy.wait_queue import Waiter, WaitQueue

if TYPE_CHECKING:
    from types import TracebackType

    from trio.lowlevel import ParkingLot, RaiseCancelT, Task

    from rtos.scheduler.policy.context import SchedulingContext


class _AsyncWith(ABC):
    """``async with`` acquires on entering, which alone is a checkpoint, and releases on leaving."""

    __slots__ = ()

    @abstractmethod
    async def acquire(self) -> None:
        """Acquire it."""

    @abstractmethod
    def release(self) -> None:
        """Release it."""

    @enable_ki_protection
    async def __aenter__(self) -> None:
        await self.acquire()

    @enable_ki_protection
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@final
class Lock(_AsyncWith):
    """A lock whose owner inherits the priority of its most urgent waiter.

    Replaces ``trio.Lock``: not reentrant, and only the owner may release it. ``async with lock``
    acquires it on entering and releases it on leaving; only entering is a checkpoint.
    """

    __slots__ = ("__weakref__", "_context", "_exit_watch", "_owner", "_queue")

    def __init__(self) -> None:
        self._owner: Task | None = None
        # The context of the owner, from when the first task waits for it.
        self._context: SchedulingContext | None = None
        self._queue = WaitQueue()
        self._exit_watch = _ExitWatch(self._queue)

    def __repr__(self) -> str:
        name, waiters = f"Lock object at {id(self):#x}", len(self._queue)
        return f"<locked {name} with {waiters} waiters>" if self.locked() else f"<unlocked {name}>"

    def locked(self) -> bool:
        """Whether a task holds the lock."""
        return self._owner is not None

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Acquire the lock without waiting.

        Raises:
          trio.WouldBlock: another task holds the lock.
          RuntimeError: the running task holds it already.
        """
        task = current_task()
        if self._owner is task:
            msg = "attempt to re-acquire an already held Lock"
            raise RuntimeError(msg)
        if self._owner is not None:
            raise trio.WouldBlock
        self._own(task)

    @enable_ki_protection
    async def acquire(self) -> None:
        """Acquire the lock; wait until its owner and all more urgent waiters have released it.

        Raises:
          RuntimeError: the running task holds it already.
          trio.BrokenResourceError: the owner exited without releasing it.

        A checkpoint. After a cancellation the task does not hold the lock.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_nowait()
        except trio.WouldBlock:
            if self._exit_watch.broken_by is not None:
                raise _broken_error(self._exit_watch.broken_by) from None
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        waiter = _new_waiter()
        self._enqueue(waiter)
        await _wait(waiter)

    @enable_ki_protection
    def release(self) -> None:
        """Release the lock, and give back what was inherited. The most urgent waiter owns it next.

        Raises:
          RuntimeError: the running task does not hold the lock.
        """
        self._check_owner("can't release a Lock you don't own")
        assert self._owner is not None
        trio.lowlevel.remove_parking_lot_breaker(self._owner, cast("ParkingLot", self._exit_watch))
        self._owner = None
        if self._context is not None:
            self._queue.remove_holder(self._context)
            self._context = None
        if self._queue:
            self._own(_wake(self._queue.pop()))
            if self._queue:
                self._find_context()

    def statistics(self) -> trio.LockStatistics:
        """A snapshot: ``locked``, ``owner`` (a task or ``None``) and ``tasks_waiting``."""
        return trio.LockStatistics(locked=self.locked(), owner=self._owner, tasks_waiting=len(self._queue))

    def _own(self, task: Task) -> None:
        self._owner = task
        trio.lowlevel.add_parking_lot_breaker(task, cast("ParkingLot", self._exit_watch))

    def _check_owner(self, message: str) -> None:
        if current_task() is not self._owner:
            raise RuntimeError(message)

    def _enqueue(self, waiter: Waiter) -> None:
        """Let a task wait for the lock, and its owner inherit from it."""
        if self._context is None:
            self._find_context()
        self._queue.add(waiter)

    def _find_context(self) -> None:
        # Not at each acquire: it would cost 0.6 µs more.
        context = None if self._owner is None else context_of(self._owner)
        if context is not None:
            self._context = context
            self._queue.add_holder(context)


@final
class Semaphore(_AsyncWith):
    """A semaphore whose holders inherit the priority of its most urgent waiter.

    Replaces ``trio.Semaphore``. A task holds a semaphore from each acquire to its release, or
    until it exits. All holders inherit, since the waiter can go on when any of them releases
    it. Any task may release a semaphore: a task that does not hold it releases it for the task
    that has held it longest.

    ``async with semaphore`` acquires it on entering and releases it on leaving; only entering is
    a checkpoint.

    Args:
      initial_value: how many times it can be acquired without a release, 0 or more.
      max_value: the largest value; ``None`` for no limit.

    Raises:
      TypeError: a value is not an integer.
      ValueError: the initial value is negative or larger than ``max_value``.
    """

    __slots__ = ("__weakref__", "_holders", "_max_value", "_queue", "_value")

    def __init__(self, initial_value: int, *, max_value: int | None = None) -> None:
        _check_values(initial_value, max_value)
        self._value = initial_value
        self._max_value = max_value
        self._queue = WaitQueue()
        self._holders = _Holders(self._queue)

    def __repr__(self) -> str:
        limit = "" if self._max_value is None else f", max_value={self._max_value}"
        return f"<Semaphore({self._value}{limit}) at {id(self):#x}>"

    @property
    def value(self) -> int:
        """How many times it can be acquired without waiting."""
        return self._value

    @property
    def max_value(self) -> int | None:
        """The largest value; ``None`` for no limit."""
        return self._max_value

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Decrease the value by 1 without waiting.

        Raises:
          trio.WouldBlock: the value is 0.
        """
        if not self._value:
            raise trio.WouldBlock
        self._value -= 1
        if trio.lowlevel.in_trio_task():
            self._holders.add(current_task())

    @enable_ki_protection
    async def acquire(self) -> None:
        """Decrease the value by 1; wait while it is 0.

        A checkpoint. After a cancellation the value is unchanged.
        """
        await trio.lowlevel.checkpoint_if_cancelled()
        try:
            self.acquire_nowait()
        except trio.WouldBlock:
            pass
        else:
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        waiter = _new_waiter()
        self._queue.add(waiter)
        await _wait(waiter)

    @enable_ki_protection
    def release(self) -> None:
        """Increase the value by 1, or let the most urgent waiter go on.

        Raises:
          ValueError: the value is ``max_value`` already.
        """
        if not self._queue and self._value == self._max_value:
            msg = "semaphore released too many times"
            raise ValueError(msg)
        self._holders.remove(current_task() if trio.lowlevel.in_trio_task() else None)
        if self._queue:
            self._holders.add(_wake(self._queue.pop()))
        else:
            self._value += 1

    def statistics(self) -> trio.lowlevel.ParkingLotStatistics:
        """A snapshot: ``tasks_waiting``."""
        return trio.lowlevel.ParkingLotStatistics(tasks_waiting=len(self._queue))


@final
class Condition(_AsyncWith):
    """A condition variable on a ``Lock`` with priority inheritance.

    Replaces ``trio.Condition``. ``notify`` wakes the most urgent of the tasks that wait. From
    then on these wait for the lock, and its owner inherits from them; until then no task is
    known to be the one that they wait for, and nothing is inherited.

    ``async with condition`` acquires the lock on entering and releases it on leaving; only
    entering is a checkpoint.

    Args:
      lock: a ``Lock`` of this module; a new one by default.

    Raises:
      TypeError: ``lock`` is something else.
    """

    __slots__ = ("__weakref__", "_lock", "_queue")

    def __init__(self, lock: Lock | None = None) -> None:
        if lock is None:
            lock = Lock()
        if type(lock) is not Lock:
            msg = f"lock must be an rtos.scheduler.Lock, not {lock!r}"
            raise TypeError(msg)
        self._lock = lock
        self._queue = WaitQueue()

    def locked(self) -> bool:
        """Whether a task holds the lock."""
        return self._lock.locked()

    @enable_ki_protection
    def acquire_nowait(self) -> None:
        """Acquire the lock without waiting. Raises as ``Lock.acquire_nowait``."""
        self._lock.acquire_nowait()

    @enable_ki_protection
    async def acquire(self) -> None:
        """Acquire the lock. Raises as ``Lock.acquire``. A checkpoint."""
        await self._lock.acquire()

    @enable_ki_protection
    def release(self) -> None:
        """Release the lock. Raises as ``Lock.release``."""
        self._lock.release()

    @enable_ki_protection
    async def wait(self) -> None:
        """Release the lock, wait for ``notify`` or ``notify_all``, and acquire the lock again.

        Raises:
          RuntimeError: the running task does not hold the lock.
          trio.BrokenResourceError: the owner of the lock exited without releasing it.

        A checkpoint. After a cancellation, too, it acquires the lock before it raises
        ``trio.Cancelled``, so that ``async with condition`` can release it.
        """
        self._lock._check_owner("must hold the lock to wait")
        self._lock.release()
        # Created after the release, which may have changed the level of this task.
        waiter = _new_waiter()
        self._queue.add(waiter)
        try:
            # ``notify`` moves the waiter to the queue of the lock, whose release wakes it.
            await _wait(waiter)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self._lock.acquire()
            raise

    @enable_ki_protection
    def notify(self, n: int = 1) -> None:
        """Wake up to ``n`` tasks that are in ``wait``, most urgent first.

        Raises:
          RuntimeError: the running task does not hold the lock.
        """
        self._lock._check_owner("must hold the lock to notify")
        for _ in range(min(n, len(self._queue))):
            self._lock._enqueue(self._queue.pop())

    @enable_ki_protection
    def notify_all(self) -> None:
        """Wake all tasks that are in ``wait``.

        Raises:
          RuntimeError: the running task does not hold the lock.
        """
        self.notify(len(self._queue))

    def statistics(self) -> trio.ConditionStatistics:
        """A snapshot: ``tasks_waiting`` for a notification, and ``lock_statistics``."""
        return trio.ConditionStatistics(
            tasks_waiting=len(self._queue), lock_statistics=self._lock.statistics()
        )


# When a task exits, Trio calls ``break_lot`` of every object that was registered as a parking lot
# of the task. The two classes below are registered without being parking lots, since a parking
# lot can wake its tasks in order of arrival only.


class _ExitWatch:
    """Fails the waiters of a lock when its owner exits without releasing it."""

    __slots__ = ("broken_by", "queue")

    def __init__(self, queue: WaitQueue) -> None:
        self.queue = queue
        self.broken_by: Task | None = None

    def break_lot(self, task: Task) -> None:
        """``task``, the owner of the lock, has exited."""
        self.broken_by = task
        while self.queue:
            _wake(self.queue.pop(), _broken_error(task))


class _Holders:
    """The tasks that hold a semaphore; the contexts that they acquired it under inherit."""

    __slots__ = ("queue", "tasks")

    def __init__(self, queue: WaitQueue) -> None:
        self.queue = queue
        # The contexts of each acquire that was not released, by task, in order of the first.
        self.tasks: dict[Task, list[SchedulingContext | None]] = {}

    def add(self, task: Task) -> None:
        """``task`` has acquired the semaphore."""
        context, contexts = context_of(task), self.tasks.get(task)
        if contexts is None:
            contexts = self.tasks[task] = []
            trio.lowlevel.add_parking_lot_breaker(task, cast("ParkingLot", self))
        contexts.append(context)
        if context is not None:
            self.queue.add_holder(context)

    def remove(self, task: Task | None) -> None:
        """``task`` releases the semaphore, for another task if it does not hold it."""
        if task not in self.tasks:
            task = next(iter(self.tasks), None)
        if task is None:
            return
        contexts = self.tasks[task]
        self._remove_context(contexts.pop())
        if not contexts:
            del self.tasks[task]
            trio.lowlevel.remove_parking_lot_breaker(task, cast("ParkingLot", self))

    def break_lot(self, task: Task) -> None:
        """``task`` has exited without releasing the semaphore."""
        for context in self.tasks.pop(task):
            self._remove_context(context)

    def _remove_context(self, context: SchedulingContext | None) -> None:
        if context is not None:
            self.queue.remove_holder(context)


def _broken_error(owner: Task) -> trio.BrokenResourceError:
    return trio.BrokenResourceError(f"Owner of this lock exited without releasing: {owner}")


def _new_waiter() -> Waiter:
    task = current_task()
    return Waiter(task, context_of(task))


async def _wait(waiter: Waiter) -> None:
    """Wait until the waiter, which is in a queue, is taken from one and woken."""

    def abort(_: RaiseCancelT) -> Abort:
        assert waiter.queue is not None
        waiter.queue.remove(waiter)
        return Abort.SUCCEEDED

    await trio.lowlevel.wait_task_rescheduled(abort)


def _wake(waiter: Waiter, error: BaseException | None = None) -> Task:
    task = cast("Task", waiter.value)
    trio.lowlevel.reschedule(task, outcome.Value(None) if error is None else outcome.Error(error))
    return task


def _check_values(initial_value: object, max_value: object) -> None:
    if not isinstance(initial_value, int):
        msg = "initial_value must be an int"
        raise TypeError(msg)
    if initial_value < 0:
        msg = "initial value must be >= 0"
        raise ValueError(msg)
    if max_value is None:
        return
    if not isinstance(max_value, int):
        msg = "max_value must be None or an int"
        raise TypeError(msg)
    if max_value < initial_value:
        msg = "max_values must be >= initial_value"
        raise ValueError(msg)
