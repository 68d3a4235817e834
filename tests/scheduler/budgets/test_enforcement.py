from __future__ import annotations

import pytest

from rtos.scheduler import SchedulingContext
from rtos.scheduler.budgets.enforcement import BudgetEnforcement
from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, Exhausted
from rtos.scheduler.policy.timer_heap import TimerHeap

SECOND = 1_000_000_000


class World:
    """A ready order, a clock and timers, without a loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.ready = ReadyQueue()
        self.timers = TimerHeap()
        self.notified = 0
        self.enforcement = BudgetEnforcement(
            throttle=self.throttle,
            unthrottle=self.ready.unthrottle,
            clock=lambda: self.now,
            add_timer=self.timers.add,
            notify=lambda notify: notify(),
        )

    def throttle(self, context: SchedulingContext) -> bool:
        self.ready.throttle(context)
        return bool(self.ready.set_aside(context))

    def notify(self) -> None:
        self.notified += 1

    def context(self, name: str, server: BandwidthServer, level: int = 2) -> SchedulingContext:
        context = SchedulingContext(name, level=level)
        self.enforcement.join(context, server)
        return context

    def arrive(self, context: SchedulingContext, task: str) -> None:
        assert context.budget is not None
        self.enforcement.arrive(context.budget)
        self.ready.push(context, task)

    def pass_time(self, until: float) -> list[float]:
        """Move the clock from timer to timer; when they fired."""
        fired = []
        while self.timers.next_at() <= until:
            self.now = self.timers.next_at()
            fired.append(self.now)
            for action in self.timers.due(self.now):
                action()
        self.now = until
        return fired


@pytest.fixture
def world() -> World:
    return World()


def throttled(seconds: float = 2, period: float = 10) -> BandwidthServer:
    return BandwidthServer(Budget(seconds, period, Exhausted.THROTTLE))


def test_the_deadline_of_the_budget_orders_its_contexts(world: World) -> None:
    near, far = (world.context(name, throttled(2, period)) for name, period in (("near", 10), ("far", 20)))
    own = SchedulingContext("own deadline", level=2, deadline=15.0)
    world.arrive(far, "far")
    world.ready.push(own, "own")
    world.arrive(near, "near")
    assert [world.ready.take()[2] for _ in range(3)] == ["near", "own", "far"]


def test_a_deadline_of_its_own_does_not_make_it_more_urgent(world: World) -> None:
    context = world.context("x", throttled())
    context.rebase(2, 1.0)
    world.arrive(context, "task")
    assert (context.deadline, context.job_deadline) == (10.0, 1.0)


def test_it_is_held_until_its_debt_is_paid(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 5 * SECOND, 2)
    assert (world.ready.waiting, len(world.ready)) == (0, 0)
    assert world.pass_time(19.0) == []
    assert world.pass_time(20.0) == [20.0]
    assert world.ready.waiting == 1


def test_who_goes_deeper_into_debt_waits_longer(world: World) -> None:
    """Somebody else serves a call for it while it is held back."""
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    world.now = 5.0
    world.enforcement.charge_payer(server, 3 * SECOND)
    # The timer for 10 finds it in debt, and is set anew for when that will be paid.
    assert world.pass_time(30.0) == [10.0, 20.0]
    assert world.ready.waiting == 1


def test_what_is_due_is_not_released_under_a_loop_that_goes_to_sleep(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    world.now = 12.0
    world.enforcement.charge_payer(server, 1)
    assert world.ready.waiting == 0
    assert world.pass_time(12.0) == [10.0]
    assert world.ready.waiting == 1


def test_nothing_waits_so_nothing_is_timed(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.ready.take()
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    server.is_active = False
    assert len(world.timers) == 0
    # It comes back long after: granted, released and timed for nothing.
    world.now = 35.0
    world.arrive(context, "task")
    assert (world.ready.waiting, len(world.timers)) == (1, 0)
    assert (server.remaining, context.deadline) == (2 * SECOND, 45.0)


def test_it_comes_back_too_early_and_waits_for_the_refill(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.ready.take()
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    server.is_active = False
    world.now = 4.0
    world.arrive(context, "task")
    assert world.ready.waiting == 0
    assert world.pass_time(10.0) == [10.0]
    assert world.ready.waiting == 1


def test_what_was_late_is_granted_at_once(world: World) -> None:
    """More urgent levels kept it from running until its deadline had passed."""
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.now = 12.0
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    assert not server.is_exhausted
    assert (context.deadline, world.ready.waiting, len(world.timers)) == (20.0, 1, 0)


def test_demoted_it_comes_last_and_pays_only_for_what_callers_raise_it_to(world: World) -> None:
    server = BandwidthServer(Budget(2, 10, Exhausted.DEMOTE, level=6))
    context, other = world.context("x", server), SchedulingContext("other", level=6)
    world.arrive(context, "task")
    world.ready.push(other, "other")
    world.enforcement.charge_own(server, 3 * SECOND, 2)
    assert (context.level, world.ready.head()) == (6, context)
    context.fall_back()
    assert context.level == 6
    world.enforcement.charge_own(server, 5 * SECOND, 6)
    assert server.used == 3 * SECOND
    world.enforcement.charge_own(server, 1 * SECOND, 1)
    assert server.used == 4 * SECOND
    # 2 owed: the first refill does not do, and the timer for it finds that out.
    assert world.pass_time(30.0) == [10.0, 20.0]
    assert context.level == 2


def test_cancelling_is_told_once_for_each_time(world: World) -> None:
    server = BandwidthServer(Budget(2, 10, Exhausted.CANCEL, notify=world.notify))
    context = world.context("x", server)
    world.arrive(context, "task")
    for _ in range(3):
        world.enforcement.charge_own(server, 2 * SECOND, 2)
    assert (world.notified, world.ready.waiting, len(world.timers)) == (1, 1, 0)
    # 4 owed: paid at 30, and used up anew.
    world.now = 30.0
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    assert world.notified == 2


def test_context_joins_an_exhausted_budget_and_leaves_it_with_its_last_reference(world: World) -> None:
    server = throttled()
    first = world.context("first", server)
    world.arrive(first, "first")
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    second = world.context("second", server)
    world.arrive(second, "second")
    assert world.ready.waiting == 0
    assert world.enforcement.contexts(server) == [first, second]
    assert world.pass_time(10.0) == [10.0]
    assert world.ready.waiting == 2
    assert {world.ready.take()[0].name for _ in range(2)} == {"first", "second"}
    world.ready.head()  # the ready order refers to the context it took from last, until it is asked again
    del second
    assert world.enforcement.contexts(server) == [first]
