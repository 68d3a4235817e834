"""CPU budgets in the kernel, in virtual time: a step costs the time by which it moves the clock."""

from __future__ import annotations

import signal
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import Budget, CallStatistics, Exhausted, Scheduler, SchedulingContext, open_scheduler
from rtos.scheduler.calls.port import Port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import outcome


class Work:
    """Tasks that use virtual time, and a trace of their steps."""

    def __init__(self, clock: MockClock) -> None:
        self.clock = clock
        self.trace: list[tuple[str, float]] = []

    async def burn(self, name: str, step: float, count: int = 1_000_000) -> None:
        for _ in range(count):
            self.trace.append((name, round(trio.current_time(), 6)))
            self.clock.jump(step)
            await trio.lowlevel.checkpoint()

    def used(self, name: str, start: float, end: float, step: float) -> float:
        return sum(step for who, at in self.trace if who == name and start <= at < end)


async def run_for(seconds: float, *starts: Callable[[trio.Nursery], None]) -> None:
    async with trio.open_nursery() as nursery:
        for start in starts:
            start(nursery)
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()


def under(context: SchedulingContext, body: Any, *args: Any) -> Callable[[trio.Nursery], None]:
    def start(nursery: trio.Nursery) -> None:
        with context:
            nursery.start_soon(body, *args)

    return start


async def test_throttled_context_waits_for_the_refill(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        await run_for(25, under(context, work.burn, "hog", 1.0))
        # The loop slept in between: the clock jumped to the refill.
        assert work.trace == [("hog", at) for at in (0.0, 1.0, 10.0, 11.0, 20.0, 21.0)]
        assert context.budget is not None
        assert context.budget.statistics().exhaustions == 3


async def test_loop_sleeps_while_only_throttled_tasks_wait(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE))

        async def many() -> None:
            async with trio.open_nursery() as nursery:
                for number in range(5):
                    nursery.start_soon(work.burn, f"hog {number}", 1.0, 1)

        async with trio.open_nursery() as nursery:
            under(context, many)(nursery)
            await trio.sleep(5)
            # Returns only if the loop is idle for Trio.
            await wait_all_tasks_blocked()
            passes = scheduler.statistics().passes
            await trio.sleep(4)
            # The wake-up of this task and the kernel's for it, and no other.
            assert scheduler.statistics().passes - passes <= 3
            assert scheduler.statistics().ready == 5
    assert [at for _, at in work.trace] == [0.0, 10.0, 20.0, 30.0, 40.0]


async def test_demoted_context_runs_on_time_that_no_other_context_wants(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0, reserve=0) as scheduler:
        hog = scheduler.context("hog", level=2, budget=Budget(2, 10, Exhausted.DEMOTE, level=6))
        other = scheduler.context("other", level=4)
        await run_for(
            14,
            under(hog, work.burn, "hog", 1.0),
            under(other, work.burn, "other", 1.0, 5),
        )
        assert work.trace == [
            ("hog", 0.0),
            ("hog", 1.0),  # exhausted: demoted below the other
            *[("other", at) for at in (2.0, 3.0, 4.0, 5.0, 6.0)],
            *[("hog", at) for at in (7.0, 8.0, 9.0)],  # no other task is ready: not charged
            *[("hog", at) for at in (10.0, 11.0)],  # refilled
            *[("hog", at) for at in (12.0, 13.0)],
        ]
        assert hog.budget is not None
        assert hog.budget.statistics().used == 4.0
        assert hog.level == 6
    assert hog.level == 6


async def test_exhausted_budget_cancels_through_notify(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    scope = trio.CancelScope()
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context(
            "hog", level=2, budget=Budget(2, 10, Exhausted.CANCEL, notify=scope.cancel)
        )

        async def body() -> None:
            with scope:
                await work.burn("hog", 1.0)
            work.trace.append(("left", trio.current_time()))

        async with trio.open_nursery() as nursery:
            under(context, body)(nursery)
    # The cancellation comes from a system task, so before the next step.
    assert work.trace == [("hog", 0.0), ("hog", 1.0), ("left", 2.0)]


async def test_task_that_blocks_at_exhaustion_is_cancelled_before_the_loop_sleeps(
    autojump_clock: MockClock,
) -> None:
    # The step that exhausts the budget is the last one before the loop would sleep forever.
    scope = trio.CancelScope()
    async with open_scheduler() as scheduler:
        context = scheduler.context("hog", budget=Budget(1, 10, Exhausted.CANCEL, notify=scope.cancel))

        async def body() -> None:
            with scope:
                autojump_clock.jump(1)
                await trio.sleep_forever()

        async with trio.open_nursery() as nursery:
            under(context, body)(nursery)
    assert scope.cancelled_caught
    assert trio.current_time() == 1.0


async def test_exception_of_notify_is_logged(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("broken")

    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE, notify=fail))
        await run_for(15, under(context, work.burn, "hog", 1.0))
    assert len(work.trace) == 2
    assert caplog.text.count("the notify function of an exhausted budget raised") == 2


# Cancellation of throttled tasks.


@asynccontextmanager
async def throttled(
    clock: MockClock, *jobs: Callable[[], Any], **options: Any
) -> AsyncIterator[tuple[SchedulingContext, trio.Nursery]]:
    """A context that is throttled from 1 s to 10 s, and a nursery in which ``jobs`` run under it."""

    async def use_budget() -> None:
        clock.jump(1.0)

    async with open_scheduler(host_level=0, **options) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE))
        async with trio.open_nursery() as nursery:
            for job in (*jobs, use_budget):
                under(context, job)(nursery)
                await wait_all_tasks_blocked()
            assert trio.current_time() == 1.0
            yield context, nursery


@pytest.mark.parametrize("ready", [False, True], ids=["parked", "ready"])
@pytest.mark.parametrize("by_deadline", [False, True], ids=["cancel", "deadline"])
@pytest.mark.parametrize("options", [{}, {"quantum": 0.1}], ids=["strict", "quantum"])
async def test_cancelled_task_of_a_throttled_context_runs_at_once(
    autojump_clock: MockClock, *, ready: bool, by_deadline: bool, options: dict[str, Any]
) -> None:
    left: list[object] = []
    event = trio.Event()

    async def job() -> None:
        try:
            await event.wait()
            left.append("woken")
            await trio.sleep_forever()
        finally:
            left.append(trio.current_time())

    async with throttled(autojump_clock, job, **options) as (_, nursery):
        if ready:
            event.set()
        if by_deadline:
            nursery.cancel_scope.deadline = 5.0
        else:
            await trio.sleep_until(5.0)
            nursery.cancel_scope.cancel()
    assert trio.current_time() == 5.0
    assert left == (["woken", 5.0] if ready else [5.0])  # what woke it is not lost


async def test_task_that_starts_cancelled_in_a_throttled_context_runs_at_once(
    autojump_clock: MockClock,
) -> None:
    left = []

    async def job() -> None:
        try:
            await trio.lowlevel.checkpoint()
        finally:
            left.append(trio.current_time())

    async with throttled(autojump_clock) as (context, nursery):
        nursery.cancel_scope.cancel()
        under(context, job)(nursery)
    assert left == [1.0]


async def test_only_the_cancelled_task_of_a_throttled_context_runs(autojump_clock: MockClock) -> None:
    trace = []

    async def job(name: str) -> None:
        try:
            for _ in range(2):
                await trio.lowlevel.checkpoint()
                trace.append((name, trio.current_time()))
        except trio.Cancelled:
            trace.append((name, trio.current_time()))
            raise

    async with throttled(autojump_clock) as (context, others), trio.open_nursery() as nursery:
        under(context, job, "other")(others)
        under(context, job, "cancelled")(nursery)
        await trio.sleep_until(5.0)
        nursery.cancel_scope.cancel()
    assert trace == [
        ("cancelled", 5.0),  # its first checkpoint
        ("other", 10.0),  # at the refill
        ("other", 10.0),
    ]


async def test_shielded_part_of_a_cancelled_task_is_throttled(autojump_clock: MockClock) -> None:
    left = []

    async def job() -> None:
        try:
            await trio.sleep_forever()
        finally:
            left.append(trio.current_time())
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            left.append(trio.current_time())

    async with throttled(autojump_clock, job) as (_, nursery):
        await trio.sleep_until(5.0)
        nursery.cancel_scope.cancel()
    assert left == [5.0, 10.0]


async def test_steps_of_a_cancelled_task_are_charged(autojump_clock: MockClock) -> None:
    async def job() -> None:
        try:
            await trio.sleep_forever()
        finally:
            autojump_clock.jump(1.5)

    async with throttled(autojump_clock, job) as (context, nursery):
        await trio.sleep_until(5.0)
        nursery.cancel_scope.cancel()
    assert context.budget is not None
    assert context.budget.statistics().used == 2.5
    assert context.budget.statistics().remaining == -1.5


def test_ctrl_c_reaches_a_throttled_main_task() -> None:
    clock, came = MockClock(autojump_threshold=0), []

    @trio.lowlevel.enable_ki_protection
    async def interrupt() -> None:
        await trio.sleep_until(5.0)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        async with throttled(clock) as (context, nursery):
            nursery.start_soon(interrupt)
            try:
                with context:
                    await trio.lowlevel.checkpoint()
            except KeyboardInterrupt:
                came.append(trio.current_time())

    trio.run(main, clock=clock)
    assert came == [5.0]


def test_host_of_a_guest_run_cancels_a_throttled_task() -> None:
    host: SimpleQueue[Callable[[], object]] = SimpleQueue()
    done: list[outcome.Outcome[float]] = []

    async def main() -> float:
        budget = Budget(1e-9, 1000.0, Exhausted.THROTTLE)
        async with open_scheduler() as scheduler:
            with scheduler.context("hog", budget=budget), trio.CancelScope() as scope:
                # By now the loop sleeps until the refill.
                host.put(lambda: host.put(lambda: host.put(scope.cancel)))
                while True:
                    await trio.lowlevel.checkpoint()
        return trio.current_time()

    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=host.put, done_callback=done.append)
    while not done:
        host.get(timeout=30)()
    done[0].unwrap()


@pytest.mark.parametrize("options", [{}, {"quantum": 0.1}], ids=["strict", "quantum"])
async def test_closing_the_scheduler_lets_throttled_tasks_be_cancelled(
    autojump_clock: MockClock, options: dict[str, Any]
) -> None:
    left = []

    async def job() -> None:
        try:
            await trio.lowlevel.checkpoint()
            await trio.sleep_forever()
        finally:
            left.append(trio.current_time())

    async with trio.open_nursery() as outer:
        async with throttled(autojump_clock, **options) as (context, _):
            under(context, job)(outer)
            await trio.sleep_until(5.0)
        await trio.sleep_until(6.0)
        outer.cancel_scope.cancel()
    assert left == [6.0]


async def test_step_that_overdraws_delays_the_refill(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        await run_for(60, under(context, work.burn, "hog", 5.0))
    # 5 used of 2: a debt of 3, so the second refill is the first that grants time.
    assert [at for _, at in work.trace] == [0.0, 20.0, 50.0]


async def test_exhausted_budget_of_a_sleeping_context_has_no_timer(autojump_clock: MockClock) -> None:
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE))

        async def once() -> None:
            autojump_clock.jump(1)

        async with trio.open_nursery() as nursery:
            under(context, once)(nursery)
        assert context.budget is not None
        assert context.budget.is_exhausted
        assert scheduler.statistics().timers == 0


async def test_three_throttled_contexts_of_a_level_get_their_budgets(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    shares = {"three": (3.0, 10.0), "two": (2.0, 10.0), "four": (8.0, 20.0)}
    async with open_scheduler(host_level=0, reserve=0) as scheduler:
        contexts = [
            scheduler.context(name, level=3, budget=Budget(*share, Exhausted.THROTTLE))
            for name, share in shares.items()
        ]
        await run_for(201, *(under(context, work.burn, context.name, 0.5) for context in contexts))
    # Shares of 0.3, 0.2 and 0.4, and a step of 0.5 in 10: isolated.
    for name, (granted, period) in shares.items():
        for k in range(int(200 / period)):
            assert work.used(name, k * period, (k + 1) * period, 0.5) == pytest.approx(granted), (name, k)


async def test_contexts_share_a_budget(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        first = scheduler.context("first", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        second = scheduler.context("second", level=2, budget=first.budget)
        async with trio.open_nursery() as nursery:
            under(first, work.burn, "first", 1.0)(nursery)
            under(second, work.burn, "second", 1.0)(nursery)
            await trio.sleep(15)
            # A context that joins while the budget is exhausted waits like the others.
            late = scheduler.context("late", level=2, budget=first.budget)
            under(late, work.burn, "late", 1.0, 1)(nursery)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert [at for _, at in work.trace if at < 25] == [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]
        assert {name for name, _ in work.trace[:4]} == {"first", "second"}
        assert "late" not in {name for name, at in work.trace if at < 20}


async def test_daemon_without_budget_charges_its_caller(autojump_clock: MockClock) -> None:
    async with open_scheduler(host_level=0) as scheduler, trio.open_nursery() as nursery:
        port, kind = Port(scheduler, "store"), CallStatistics("store/work")
        worker = scheduler.context("store", level=1)

        async def serve(seconds: float) -> None:
            autojump_clock.jump(seconds)

        async def work() -> None:
            await port.serve(serve, context=worker)

        under(worker, work)(nursery)
        caller = scheduler.context("caller", level=3, budget=Budget(2, 10, Exhausted.THROTTLE))
        replies = []

        async def call() -> None:
            for _ in range(3):
                await port.call(1.5, statistics=kind)
                replies.append(trio.current_time())

        async with trio.open_nursery() as callers:
            under(caller, call)(callers)
        # The second call overdraws by 1: its caller runs on at the refill, with 1 left.
        assert replies == [1.5, 10.0, 20.0]
        assert caller.budget is not None
        assert caller.budget.statistics().used == 4.5
        assert worker.budget is None
        nursery.cancel_scope.cancel()


async def test_urgent_caller_raises_a_demoted_daemon(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0, reserve=0) as scheduler, trio.open_nursery() as nursery:
        port, kind = Port(scheduler, "store"), CallStatistics("store/work")
        worker = scheduler.context("store", level=3, budget=Budget(2, 100, Exhausted.DEMOTE))

        async def serve(seconds: float) -> None:
            work.trace.append(("store", trio.current_time()))
            autojump_clock.jump(seconds)

        async def serving() -> None:
            await port.serve(serve, context=worker)

        under(worker, serving)(nursery)
        await port.call(3.0, statistics=kind)
        assert worker.level == 7
        under(scheduler.context("hog", level=5), work.burn, "hog", 1.0, 4)(nursery)
        await trio.lowlevel.checkpoint()
        urgent = scheduler.context("urgent", level=1)

        async def ask() -> None:
            await port.call(1.0, statistics=kind)
            work.trace.append(("reply", trio.current_time()))

        under(urgent, ask)(nursery)
        await trio.sleep(6)
        assert [name for name, _ in work.trace[:4]] == ["store", "store", "reply", "hog"]
        # Time at the urgent level is charged.
        assert worker.budget is not None
        assert worker.budget.statistics().used == 4.0
        nursery.cancel_scope.cancel()


async def test_closing_the_scheduler_releases_throttled_tasks(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with trio.open_nursery() as nursery, open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 1000, Exhausted.THROTTLE))
        under(context, work.burn, "hog", 1.0, 5)(nursery)
        await trio.sleep(3)
        assert len(work.trace) == 1
    assert len(work.trace) == 5
    assert trio.current_time() < 10


async def test_demotion_to_a_level_that_is_not_less_urgent_is_rejected() -> None:
    async with open_scheduler() as scheduler:
        with pytest.raises(ValueError, match="the budget demotes to level 3, which is not below level 3"):
            scheduler.context("x", level=3, budget=Budget(1, 10, level=3))


async def test_budget_changes_nothing_for_contexts_without_one(autojump_clock: MockClock) -> None:
    async def run(scheduler: Scheduler, budget: Budget | None) -> list[tuple[str, float]]:
        work = Work(autojump_clock)
        began = trio.current_time()
        contexts = [scheduler.context(f"{level}", level=level) for level in (1, 2, 3)]
        idle = scheduler.context("idle", level=0, budget=budget)
        await run_for(
            0.5,
            *(under(context, work.burn, context.name, 1.0, 3) for context in contexts),
            under(idle, trio.sleep, 0.1),
        )
        return [(name, round(at - began, 6)) for name, at in work.trace]

    async with open_scheduler(host_level=0) as scheduler:
        without = await run(scheduler, None)
        assert without == await run(scheduler, Budget(1, 10))
