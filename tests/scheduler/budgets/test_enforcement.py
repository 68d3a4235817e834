"""Enforcement of budgets without a loop: throttling, demotion, notification, and refill timers."""

from __future__ import annotations

import pytest

from rtos.scheduler import SchedulingContext
from rtos.scheduler.budgets.enforcement import BudgetEnforcement
from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, Exhausted
from rtos.scheduler.policy.timer_heap import TimerHeap

SECOND = 1_000_000_000


class World:
    """A ready queue, a clock and timers, without a loop."""

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
        """Move the clock from timer to timer; return when they fired."""
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


def test_deadline_of_the_budget_orders_its_contexts(world: World) -> None:
    near, far = (world.context(name, throttled(2, period)) for name, period in (("near", 10), ("far", 20)))
    own = SchedulingContext("own deadline", level=2, deadline=15.0)
    world.arrive(far, "far")
    world.ready.push(own, "own")
    world.arrive(near, "near")
    assert [world.ready.take()[2] for _ in range(3)] == ["near", "own", "far"]


def test_own_deadline_of_a_context_with_a_budget_does_not_order_it(world: World) -> None:
    context = world.context("x", throttled())
    context.rebase(2, 1.0)
    world.arrive(context, "task")
    assert (context.deadline, context.job_deadline) == (10.0, 1.0)


def test_throttled_context_waits_until_its_debt_is_paid(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 5 * SECOND, 2)
    assert (world.ready.waiting, len(world.ready)) == (0, 0)
    assert world.pass_time(19.0) == []
    assert world.pass_time(20.0) == [20.0]
    assert world.ready.waiting == 1


def test_throttled_context_that_is_charged_again_waits_longer(world: World) -> None:
    """A daemon serves a call for it while it is throttled."""
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    world.now = 5.0
    world.enforcement.charge_payer(server, 3 * SECOND)
    # The timer for 10 finds it in debt, and is set again for when that will be paid.
    assert world.pass_time(30.0) == [10.0, 20.0]
    assert world.ready.waiting == 1


def test_charge_does_not_release_a_context_whose_refill_timer_is_due(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    world.now = 12.0
    world.enforcement.charge_payer(server, 1)
    assert world.ready.waiting == 0
    assert world.pass_time(12.0) == [10.0]
    assert world.ready.waiting == 1


def test_exhausted_budget_without_ready_tasks_has_no_timer(world: World) -> None:
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.ready.take()
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    server.is_active = False
    assert len(world.timers) == 0
    # A task becomes ready long after: granted and released, without a timer.
    world.now = 35.0
    world.arrive(context, "task")
    assert (world.ready.waiting, len(world.timers)) == (1, 0)
    assert (server.remaining, context.deadline) == (2 * SECOND, 45.0)


def test_task_that_becomes_ready_before_the_refill_waits_for_it(world: World) -> None:
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


def test_budget_whose_deadline_has_passed_is_granted_at_once(world: World) -> None:
    """More urgent tasks kept it from running until its deadline had passed."""
    context = world.context("x", server := throttled())
    world.arrive(context, "task")
    world.now = 12.0
    world.enforcement.charge_own(server, 2 * SECOND, 2)
    assert not server.is_exhausted
    assert (context.deadline, world.ready.waiting, len(world.timers)) == (20.0, 1, 0)


def test_demoted_context_comes_last_and_is_charged_only_for_time_above_its_level(world: World) -> None:
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
    # It owes 2 s: the first refill is not enough, as its timer finds.
    assert world.pass_time(30.0) == [10.0, 20.0]
    assert context.level == 2


def test_notify_is_called_once_per_exhaustion(world: World) -> None:
    server = BandwidthServer(Budget(2, 10, Exhausted.CANCEL, notify=world.notify))
    context = world.context("x", server)
    world.arrive(context, "task")
    for _ in range(3):
        world.enforcement.charge_own(server, 2 * SECOND, 2)
    assert (world.notified, world.ready.waiting, len(world.timers)) == (1, 1, 0)
    # It owes 4 s: paid at 30, and used up again.
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
    world.ready.head()  # drops the reference to the context that was taken from last
    del second
    assert world.enforcement.contexts(server) == [first]
