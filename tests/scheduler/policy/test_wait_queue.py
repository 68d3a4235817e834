"""The order of waiting tasks, and what the holders of a resource inherit from them."""

import math

from rtos.scheduler.policy.context import SchedulingContext
from rtos.scheduler.policy.levels import SYSTEM_LEVEL
from rtos.scheduler.policy.wait_queue import Waiter, WaitQueue


def wait(queue, name, context=None):
    waiter = Waiter(name, context)
    queue.add(waiter)
    return waiter


def test_order_is_level_deadline_and_arrival():
    queue = WaitQueue()
    wait(queue, "third", SchedulingContext("c", level=4))
    wait(queue, "fourth")  # without a context: the default level, which is 4
    wait(queue, "second", SchedulingContext("c", level=4, deadline=5.0))
    wait(queue, "first", SchedulingContext("c", level=1))
    assert len(queue) == 4
    assert [queue.pop().value for _ in range(4)] == ["first", "second", "third", "fourth"]
    assert len(queue) == 0


def test_waiter_moves_with_its_context_and_back():
    queue, context = WaitQueue(), SchedulingContext("c", level=5)
    first, second = wait(queue, "first", SchedulingContext("other", level=3)), wait(queue, "second", context)
    context.rebase(2)
    assert (second.level, queue.pop()) == (2, second)
    assert not context.waits
    queue.add(second)
    context.rebase(6)
    assert queue.pop() is first


def test_holders_inherit_from_the_head_until_it_leaves():
    queue, context = WaitQueue(), SchedulingContext("c", level=1, deadline=3.0)
    holders = [SchedulingContext("h", level=6), SchedulingContext("h", level=0)]
    for holder in holders:
        queue.add_holder(holder)
    waiter = wait(queue, "w", context)
    assert [(each.level, each.deadline) for each in holders] == [(1, 3.0), (0, math.inf)]
    queue.remove(waiter)
    assert [each.level for each in holders] == [6, 0]


def test_holder_that_is_replaced_gives_back():
    queue = WaitQueue()
    old, new = SchedulingContext("old", level=6), SchedulingContext("new", level=6)
    queue.add_holder(old)
    wait(queue, "w", SchedulingContext("c", level=1))
    queue.remove_holder(old)
    queue.add_holder(new)
    assert (old.level, new.level) == (6, 1)


def test_context_that_holds_twice_inherits_until_it_is_removed_twice():
    queue, holder = WaitQueue(), SchedulingContext("h", level=6)
    wait(queue, "w", SchedulingContext("c", level=1))
    queue.add_holder(holder)
    queue.add_holder(holder)
    queue.remove_holder(holder)
    assert holder.level == 1
    queue.remove_holder(holder)
    assert holder.level == 6


def test_holder_does_not_inherit_from_its_own_tasks():
    queue, holder = WaitQueue(), SchedulingContext("h", level=5)
    queue.add_holder(holder)
    own = wait(queue, "own", holder)
    urgent = wait(queue, "urgent", SchedulingContext("c", level=2))
    assert (holder.level, own.level) == (2, 2)
    # The own waiter is at the head now, and came first; the other one still counts.
    assert queue.pop() is own
    queue.add(own)
    assert holder.level == 2
    queue.remove(urgent)
    assert (holder.level, own.level) == (5, 5)


def test_tasks_without_a_context_raise_nobody():
    queue, holder = WaitQueue(), SchedulingContext("h", level=6)
    queue.add_holder(holder)
    wait(queue, "w")
    assert holder.level == 6


def test_holder_is_never_raised_to_the_level_of_system_tasks():
    queue, holder, system = WaitQueue(), SchedulingContext("h", level=6), SchedulingContext("s")
    system.base_level = system.level = SYSTEM_LEVEL
    queue.add_holder(holder)
    wait(queue, "w", system)
    assert holder.level == 0


def test_queue_keeps_no_context_of_a_task_that_left():
    queue, holder = WaitQueue(), SchedulingContext("h")
    for leave in (queue.remove, lambda _: queue.pop()):
        queue.add_holder(holder)
        leave(wait(queue, "w", SchedulingContext("c")))
        queue.remove_holder(holder)
        assert not queue._holders
        assert not queue._contexts


def test_many_changes_of_a_waiting_context_leave_no_entries_behind():
    queue, context = WaitQueue(), SchedulingContext("c")
    wait(queue, "w", context)
    for number in range(10_000):
        context.rebase(number % 8)
    assert queue._waiters.entries() < 100
