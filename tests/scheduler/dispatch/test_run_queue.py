"""The run queue in Trio loops: order, fairness, installation and removal, and what Trio guarantees."""

import gc
import itertools
import queue
import random
import threading
from collections import deque
from contextlib import asynccontextmanager

import pytest
import trio
import trio._core._run as trio_run  # noqa: TID251 - the test looks into Trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import SchedulingContext, open_scheduler
from rtos.scheduler.dispatch.current import current_level
from rtos.scheduler.dispatch.run_queue import RunQueue

SEEDS = range(25)


@asynccontextmanager
async def plain_trio(**_):
    """Stands in for ``open_scheduler``."""
    yield


def runner():
    return trio_run.GLOBAL_RUN_CONTEXT.runner


def is_plain():
    return type(runner().runq) is deque


async def released_together(*contexts):
    """The order in which tasks run that were released in one step."""
    # A parking lot wakes in order; an event wakes the members of a set.
    trace, lot = [], trio.lowlevel.ParkingLot()

    async def task(name):
        await lot.park()
        trace.append(name)

    async with trio.open_nursery() as nursery:
        for context in contexts:
            with context:
                nursery.start_soon(task, context.name)
                await wait_all_tasks_blocked()
        lot.unpark_all()
    return trace


def five_contexts():
    return (
        SchedulingContext("background", level=7, deadline=0.0),
        SchedulingContext("first", level=3),
        SchedulingContext("second", level=3),
        SchedulingContext("due", level=3, deadline=1e12),
        SchedulingContext("urgent", level=0),
    )


ORDER = [
    "urgent",  # the most urgent level, although it came last
    "due",  # inside a level a deadline goes before none
    "first",  # among equals by arrival
    "second",
    "background",  # its deadline has long passed, and never jumps a level
]


# Order.


def test_order_is_the_same_for_every_seed_of_trio():
    async def main():
        async with open_scheduler():
            return await released_together(*five_contexts())

    for seed in SEEDS:
        trio_run._r.seed(seed)
        assert trio.run(main) == ORDER


def test_plain_trio_has_no_such_order():
    async def main():
        return await released_together(*five_contexts())

    traces = []
    for seed in SEEDS:
        trio_run._r.seed(seed)
        traces.append(trio.run(main))
    assert any(trace != ORDER for trace in traces)
    assert len({tuple(trace) for trace in traces}) > 1


async def others_before_the_urgent_one(opened, busy_contexts):
    """The number of steps of fifty busy tasks between each release of an urgent task and its step."""
    steps, counts = 0, []
    wake = trio.Event()

    async def busy(number):
        nonlocal steps, wake
        while True:
            steps += 1
            if number == 25 and steps > 500 * (len(counts) + 1):
                released_at.append(steps)
                wake.set()
            await trio.lowlevel.checkpoint()

    async def urgent():
        nonlocal wake
        while len(counts) < 20:
            await wake.wait()
            counts.append(steps - released_at[-1])
            wake = trio.Event()
        nursery.cancel_scope.cancel()

    released_at = []
    async with opened, trio.open_nursery() as nursery:
        with SchedulingContext("urgent", level=0):
            nursery.start_soon(urgent)
        for number in range(50):
            with busy_contexts(number):
                nursery.start_soon(busy, number)
    return counts


@pytest.mark.parametrize("is_shared", [True, False], ids=["one context", "a context for each"])
def test_urgent_task_overtakes_fifty_busy_tasks(is_shared):
    shared = SchedulingContext("busy", level=4)

    def busy_context(number):
        return shared if is_shared else SchedulingContext(f"busy {number}", level=4)

    counts = trio.run(
        lambda: others_before_the_urgent_one(open_scheduler(quantum=0, reserve=0), busy_context)
    )
    assert counts == [0] * 20  # it waited only for the step that released it


def test_urgent_task_overtakes_busy_tasks_of_other_contexts_within_a_quantum():
    def busy_context(number):
        return SchedulingContext(f"busy {number}", level=4)

    counts = trio.run(lambda: others_before_the_urgent_one(open_scheduler(reserve=0), busy_context))
    assert max(counts) == 0


def test_urgent_task_waits_for_many_steps_in_plain_trio():
    counts = trio.run(
        lambda: others_before_the_urgent_one(plain_trio(), lambda n: SchedulingContext(f"{n}", level=4))
    )
    assert max(counts) >= 25
    assert sum(counts) / len(counts) > 10


def test_tasks_of_one_context_keep_their_order_in_strict_mode():
    async def main():
        async with open_scheduler(quantum=0):
            trace = []

            async def task(number):
                for _ in range(3):
                    trace.append(number)
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                with SchedulingContext("one"):
                    for number in range(10):
                        nursery.start_soon(task, number)
            return trace

    for seed in SEEDS:
        trio_run._r.seed(seed)
        assert trio.run(main) == [*range(10)] * 3


def test_queued_tasks_move_when_their_context_is_raised():
    async def main():
        async with open_scheduler():
            trace = []
            low, middle = SchedulingContext("low", level=6), SchedulingContext("middle", level=5)

            async def task(name):
                trace.append(name)

            async with trio.open_nursery() as nursery:
                for context in (middle, low):
                    with context:
                        nursery.start_soon(task, context.name)
                        nursery.start_soon(task, context.name)
                with SchedulingContext("raiser", level=3):
                    nursery.start_soon(raise_low, low)
            return trace

    async def raise_low(low):
        # By now the others are in the ready order, no longer among the arrivals.
        assert low.entry is not None
        low.rebase(0)

    for seed in SEEDS:
        trio_run._r.seed(seed)
        assert trio.run(main) == ["low", "low", "middle", "middle"]


def test_system_task_runs_while_tasks_of_level_0_are_always_ready():
    async def main():
        async with open_scheduler():
            trace = []

            async def spin():
                while len(trace) < 3:
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                for number in range(10):
                    with SchedulingContext(f"{number}", level=0):
                        nursery.start_soon(spin)
                with SchedulingContext("caller", level=0):
                    while len(trace) < 3:
                        # A system task of Trio resumes this one.
                        await trio.to_thread.run_sync(trace.append, len(trace))
            return trace

    assert trio.run(main) == [0, 1, 2]


def test_virtual_time_runs_one_step_per_pass():
    async def main():
        async with open_scheduler() as scheduler:
            context = scheduler.context("busy")

            async def spin():
                for _ in range(50):
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                with context:
                    for _ in range(20):
                        nursery.start_soon(spin)
            statistics = scheduler.statistics()
            return statistics.passes, sum(account.steps for account in statistics.contexts)

    passes, steps = trio.run(main, clock=MockClock(autojump_threshold=0))
    assert steps >= 20 * 51
    assert passes - steps in (0, 1)  # the running step is not counted yet


def test_pass_runs_many_short_steps():
    async def main():
        async with open_scheduler(quantum=0.05) as scheduler:
            context = scheduler.context("busy")

            async def spin():
                for _ in range(50):
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                with context:
                    for _ in range(50):
                        nursery.start_soon(spin)
            return scheduler.statistics().passes, context.steps

    passes, steps = trio.run(main)
    assert steps == 50 * 51
    assert passes * 2 < steps


@pytest.mark.parametrize("contexts", [1, 3, 12])
@pytest.mark.parametrize("quantum", [0, 30e-6, 1.0], ids=["strict", "short quantum", "long quantum"])
def test_equal_tasks_take_turns(contexts, quantum):
    """Trio's locks and channels are fair only as long as this holds."""

    async def main():
        order = []
        async with open_scheduler(quantum=quantum, reserve=0) as scheduler:

            async def task(number):
                for _ in range(60):
                    order.append(number)
                    await trio.lowlevel.checkpoint()

            async with trio.open_nursery() as nursery:
                made = [scheduler.context(f"{number}") for number in range(contexts)]
                for number in range(12):
                    with made[number % contexts]:
                        nursery.start_soon(task, number)
        assert order == [*range(12)] * 60

    for seed in SEEDS[:5]:
        trio_run._r.seed(seed)
        trio.run(main)


def test_task_that_becomes_ready_waits_for_one_step_of_each_equal():
    async def main():
        woken, steps = trio.lowlevel.ParkingLot(), [0] * 12
        async with open_scheduler(reserve=0) as scheduler:

            async def busy(number):
                for _ in range(60):
                    steps[number] += 1
                    if number == 5:
                        before.append(steps.copy())
                        woken.unpark()
                    await trio.lowlevel.checkpoint()

            async def sleeper():
                while len(after) < 60:
                    await woken.park()
                    after.append(steps.copy())

            before, after = [], []
            async with trio.open_nursery() as nursery:
                with scheduler.context("all"):
                    nursery.start_soon(sleeper)
                    await wait_all_tasks_blocked()
                    for number in range(12):
                        nursery.start_soon(busy, number)
        return [
            max(late - early for early, late in zip(*pair, strict=True))
            for pair in zip(before, after, strict=True)
        ]

    for seed in SEEDS[:5]:
        trio_run._r.seed(seed)
        assert trio.run(main) == [1] * 60


# Installation and removal.


async def test_schedulers_one_after_another():
    for _ in range(3):
        assert is_plain()
        async with open_scheduler():
            assert type(runner().runq) is RunQueue
            assert await released_together(*five_contexts()) == ORDER
    assert is_plain()


async def test_nested_schedulers_share_one_queue():
    async with open_scheduler():
        outer = runner().runq
        async with open_scheduler():
            assert runner().runq is outer
        assert runner().runq is outer
        assert await released_together(*five_contexts()) == ORDER
    assert is_plain()


async def test_last_scheduler_to_close_removes_the_queue():
    first, second = open_scheduler(), open_scheduler()
    await first.__aenter__()
    await second.__aenter__()
    await first.__aexit__(None, None, None)
    assert await released_together(*five_contexts()) == ORDER
    await second.__aexit__(None, None, None)
    assert is_plain()


async def test_scheduler_opens_while_another_closes():
    opened = []

    async def open_now():
        async with open_scheduler():
            opened.append(await released_together(*five_contexts()))

    async with trio.open_nursery() as nursery:  # noqa: SIM117 - the tasks outlive the scheduler
        async with open_scheduler():
            # Its first step comes while the inner block is being left.
            nursery.start_soon(open_now)
    assert opened == [ORDER]
    assert is_plain()


async def test_system_task_closes_the_scheduler():
    scheduler = open_scheduler()
    await scheduler.__aenter__()
    closed = trio.Event()

    async def close():
        await scheduler.__aexit__(None, None, None)
        closed.set()

    trio.lowlevel.spawn_system_task(close)
    await closed.wait()
    assert is_plain()
    async with open_scheduler():
        assert await released_together(*five_contexts()) == ORDER


async def test_older_system_task_closes_the_scheduler():
    go, done = trio.Event(), trio.Event()

    async def system():
        await go.wait()
        await scheduler.__aexit__(None, None, None)
        done.set()

    trio.lowlevel.spawn_system_task(system)
    await wait_all_tasks_blocked()
    scheduler = open_scheduler()
    await scheduler.__aenter__()
    go.set()
    await done.wait()
    assert is_plain()


async def test_exception_in_the_block_propagates_and_the_queue_is_removed():
    async def fail():
        async with open_scheduler():
            msg = "mine"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="^mine$"):
        await fail()
    assert is_plain()


async def test_cancellation_in_the_block_propagates_and_the_queue_is_removed():
    with trio.CancelScope() as scope:
        async with open_scheduler():
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert is_plain()


async def test_cancelled_block_without_a_checkpoint_removes_the_queue():
    with trio.CancelScope() as scope:
        async with open_scheduler():
            scope.cancel()
    assert is_plain()


async def test_queued_tasks_run_after_the_removal():
    ran = []

    async def task(number):
        ran.append(number)
        await trio.lowlevel.checkpoint()
        ran.append(number)

    async with trio.open_nursery() as nursery:  # noqa: SIM117 - the tasks outlive the scheduler
        async with open_scheduler():
            for number in range(40):
                with SchedulingContext(f"{number}", level=number % 8):
                    nursery.start_soon(task, number)
            # Half a round, so that some wait in the ready order and some in the arrivals.
            with SchedulingContext("here", level=3):
                await trio.lowlevel.checkpoint()
    assert sorted(ran) == sorted([*range(40), *range(40)])
    assert is_plain()


async def test_tasks_queued_before_the_installation_are_ordered():
    trace = []

    async def task(name):
        trace.append(name)

    async with trio.open_nursery() as nursery:
        for context in five_contexts():
            with context:
                nursery.start_soon(task, context.name)
        async with open_scheduler():
            await wait_all_tasks_blocked()
    assert trace == ORDER


def test_run_ends_while_a_system_task_has_the_scheduler_open():
    async def keep_open():
        async with open_scheduler():
            await trio.sleep_forever()

    async def main():
        trio.lowlevel.spawn_system_task(keep_open)
        await wait_all_tasks_blocked()
        assert not is_plain()

    trio.run(main)


async def test_inspecting_the_queue_changes_nothing():
    ran = []

    async def task(number):
        ran.append(number)

    async with open_scheduler(), trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        for number in range(5):
            nursery.start_soon(task, number)
        assert repr(runner().runq) == "<RunQueue of 5 tasks>"
        assert len(runner().runq.tasks()) == 5
        repr(runner())
    assert sorted(ran) == list(range(5))


# Several loops, and guest mode.


def run_as_guest(main):
    """Run Trio as a guest of a minimal host loop."""
    todo, done = queue.Queue(), []
    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=todo.put, done_callback=done.append)
    while not done:
        todo.get(timeout=30)()
    return done[0].unwrap()


def test_order_in_guest_mode():
    async def main():
        async with open_scheduler() as scheduler:
            order = await released_together(*five_contexts())
            fired = trio.Event()
            scheduler.add_timer(trio.current_time() + 0.01, fired.set)
            await fired.wait()
            number = await trio.to_thread.run_sync(lambda: 7)
            with trio.move_on_after(0.01) as scope:
                await trio.sleep_forever()
        assert is_plain()
        return order, number, scope.cancelled_caught

    for seed in SEEDS:
        trio_run._r.seed(seed)
        assert run_as_guest(main) == (ORDER, 7, True)


def test_host_of_a_guest_run_releases_tasks():
    async def main():
        async with open_scheduler():
            event = trio.Event()
            # The host sets it between two passes, while no task is ready.
            host.put(lambda: host.put(event.set))
            await event.wait()
            return await released_together(*five_contexts())

    host, done = queue.Queue(), []
    trio.lowlevel.start_guest_run(main, run_sync_soon_threadsafe=host.put, done_callback=done.append)
    while not done:
        host.get(timeout=30)()
    assert done[0].unwrap() == ORDER


def test_order_in_two_loops_of_two_threads():
    both, results = threading.Barrier(2), []

    async def main():
        async with open_scheduler():
            orders = []
            for _ in range(20):
                await trio.to_thread.run_sync(lambda: both.wait(30))
                orders.append(await released_together(*five_contexts()))
        assert is_plain()
        results.append(orders)

    threads = [threading.Thread(target=trio.run, args=(main,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [[ORDER] * 20] * 2


def test_loop_without_scheduler_beside_one_with_a_scheduler():
    async def ordered():
        async with open_scheduler():
            return await trio.to_thread.run_sync(trio.run, plain)

    async def plain():
        assert is_plain()
        return await released_together(*five_contexts())

    assert sorted(trio.run(ordered)) == sorted(ORDER)


# What Trio guarantees.


async def test_wait_all_tasks_blocked():
    steps = 0

    async def task():
        nonlocal steps
        for _ in range(20):
            await trio.lowlevel.checkpoint()
            steps += 1
        await trio.sleep_forever()

    async with open_scheduler(), trio.open_nursery() as nursery:
        for number in range(10):
            with SchedulingContext(f"{number}", level=number % 8):
                nursery.start_soon(task)
        await wait_all_tasks_blocked()
        assert steps == 200
        nursery.cancel_scope.cancel()


async def test_autojump(autojump_clock):
    async with open_scheduler():
        trace = []

        async def sleeper(seconds):
            await trio.sleep(seconds)
            trace.append((seconds, trio.current_time()))

        async with trio.open_nursery() as nursery:
            for seconds in (300, 100, 200):
                nursery.start_soon(sleeper, seconds)
    assert trace == [(100, 100.0), (200, 200.0), (300, 300.0)]


async def test_cancellation_and_deadlines(autojump_clock):
    async with open_scheduler():
        with trio.move_on_after(5) as scope:
            async with trio.open_nursery() as nursery:
                for number in range(8):
                    with SchedulingContext(f"{number}", level=number):
                        nursery.start_soon(trio.sleep_forever)
        assert scope.cancelled_caught
        assert trio.current_time() == 5.0
        with pytest.raises(trio.TooSlowError, match="^$"), trio.fail_after(1):
            await trio.sleep(2)


async def test_deadline_cancels_a_task_that_never_sleeps():
    async with open_scheduler():
        with trio.move_on_after(0.01) as scope, SchedulingContext("spin", level=0):
            while True:
                await trio.lowlevel.checkpoint()
    assert scope.cancelled_caught


async def test_calls_from_and_to_threads():
    def body():
        assert trio.from_thread.run_sync(lambda: 1) == 1
        return trio.from_thread.run(answer)

    async def answer():
        await trio.lowlevel.checkpoint()
        return 2

    async with open_scheduler():
        assert await trio.to_thread.run_sync(body) == 2


async def test_call_from_a_thread_runs_under_the_context_that_started_the_thread():
    async def level():
        return current_level()

    async with open_scheduler():
        with SchedulingContext("caller", level=2):
            assert await trio.to_thread.run_sync(lambda: trio.from_thread.run(level)) == 2


async def test_async_generators_are_finalized():
    finalized = trio.Event()

    async def generator():
        try:
            yield 1
        finally:
            with trio.CancelScope(shield=True):
                await trio.lowlevel.checkpoint()
            finalized.set()

    async def abandon():
        async for _ in generator():
            break
        gc.collect()
        await finalized.wait()

    async with open_scheduler():
        with pytest.warns(ResourceWarning, match="garbage collected"):
            await abandon()


async def test_system_tasks_are_more_urgent_than_level_0():
    async with open_scheduler() as scheduler:
        trace, lot = [], trio.lowlevel.ParkingLot()

        async def task(name):
            await lot.park()
            trace.append(name)

        async with trio.open_nursery() as nursery:
            with scheduler.context("urgent", level=0):
                nursery.start_soon(task, "urgent")
            await wait_all_tasks_blocked()
            trio.lowlevel.spawn_system_task(task, "system")
            await wait_all_tasks_blocked()
            lot.unpark_all()
            await wait_all_tasks_blocked()
    assert trace == ["system", "urgent"]


async def test_system_task_that_is_always_ready_starves_no_task():
    """A callback that schedules itself again, as Trio allows."""
    async with open_scheduler(reserve=0) as scheduler:
        token, asked = trio.lowlevel.current_trio_token(), 0

        def again():
            nonlocal asked
            asked += 1
            if asked < 100_000:
                token.run_sync_soon(again, idempotent=True)

        again()
        with scheduler.context("background", level=7):
            for _ in range(50):
                await trio.lowlevel.checkpoint()
        assert asked < 1000
        asked = 100_000


async def test_system_tasks_give_way_after_eight_steps(autojump_clock):
    async with open_scheduler(reserve=0) as scheduler:
        trace = []

        async def task(name, steps):
            for _ in range(steps):
                trace.append(name)
                await trio.lowlevel.checkpoint()

        with scheduler.context("urgent", level=0):
            async with trio.open_nursery() as nursery:
                await wait_all_tasks_blocked()
                nursery.start_soon(task, "urgent", 3)
                trio.lowlevel.spawn_system_task(task, "system", 20)
                with scheduler.context("background", level=7):
                    nursery.start_soon(task, "background", 1)
    assert trace == [
        *["system"] * 8,
        "urgent",  # one step of the most urgent other task
        *["system"] * 8,
        "urgent",
        *["system"] * 4,
        "urgent",
        "background",
    ]


@pytest.mark.parametrize("seed", range(5))
async def test_time_between_two_steps_makes_no_step_longer_than_its_account(seed):
    draw = random.Random(seed)
    async with open_scheduler() as scheduler:
        queue, now = scheduler.accounts, itertools.count(scheduler.accounts.ticks_ns())

        def read():
            # Now and then the operating system takes the CPU away between two readings.
            return next(itertools.islice(now, draw.choice((100, 100, 20_000)), None))

        queue.ticks_ns = read
        contexts = [scheduler.context(f"{number}") for number in range(40)]

        async def step():
            pass

        async with trio.open_nursery() as nursery:
            for context in contexts:
                with context:
                    nursery.start_soon(step)
        assert [context.steps for context in contexts] == [1] * 40
        for context in contexts:
            assert 0 < context.longest_ns <= context.cpu_ns
