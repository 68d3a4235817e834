"""The scheduler: settings, timers, accounts, and an idle loop that is left alone."""

import logging
import math
import threading

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import ConfigurationError
from rtos.scheduler import Budget, open_scheduler


async def test_settings_are_checked_before_anything_changes():
    for quantum in (-1e-6, math.nan, math.inf):
        with pytest.raises(ValueError, match="open_scheduler: quantum .* is no length of time; use seconds"):
            await open_scheduler(quantum=quantum).__aenter__()
    with pytest.raises(ValueError, match=r"open_scheduler\(host_level\): level 8 does not exist"):
        await open_scheduler(host_level=8).__aenter__()
    async with open_scheduler() as scheduler:
        with pytest.raises(ValueError, match=r"context\('c'\): level -1 does not exist"):
            scheduler.context("c", level=-1)
        with pytest.raises(ValueError, match="add_timer: nan is not a time"):
            scheduler.add_timer(math.nan, lambda: None)
        assert scheduler.statistics().timers == 0


async def test_two_in_one_loop_must_agree():
    async with open_scheduler(quantum=0.002, host_level=3):
        with pytest.raises(
            ConfigurationError, match=r"quantum=0.002, host_level=3.*; open both with the same"
        ):
            await open_scheduler(quantum=0.001, host_level=3).__aenter__()
        with pytest.raises(ConfigurationError, match="another scheduler is open in this loop"):
            await open_scheduler(quantum=0.002).__aenter__()
        async with open_scheduler(quantum=0.002, host_level=3) as inner:
            assert inner.host_level == 3
    async with open_scheduler() as other:  # after it, any settings will do
        assert other.host_level == 4


async def test_tasks_without_a_context_stand_at_the_hosts_level():
    for host_level, expected in ((2, ["host", "middle"]), (6, ["middle", "host"])):
        async with open_scheduler(host_level=host_level) as scheduler:
            trace, lot = [], trio.lowlevel.ParkingLot()

            async def task(name, trace=trace, lot=lot):
                await lot.park()
                trace.append(name)

            async with trio.open_nursery() as nursery:
                with scheduler.context("middle", level=4):
                    nursery.start_soon(task, "middle")
                nursery.start_soon(task, "host")
                await wait_all_tasks_blocked()
                lot.unpark_all()
        assert trace == expected


# Time.


async def test_now_is_trios_time(autojump_clock):
    async with open_scheduler() as scheduler:
        assert scheduler.now() == trio.current_time() == 0.0
        await trio.sleep(5)
        assert scheduler.now() == trio.current_time() == 5.0


async def test_now_is_trios_time_in_real_loops_too():
    async with open_scheduler() as scheduler:
        before = trio.current_time()
        now = scheduler.now()
        assert before <= now <= trio.current_time()


async def test_timers_fire_in_order_at_their_time(autojump_clock):
    async with open_scheduler() as scheduler:
        trace = []

        def note(name):
            return lambda: trace.append((name, trio.current_time()))

        scheduler.add_timer(3.0, note("third"))
        scheduler.add_timer(1.0, note("first"))
        scheduler.add_timer(2.0, note("second"))
        scheduler.add_timer(2.0, note("also second"))
        scheduler.add_timer(2.5, note("cancelled")).cancel()
        assert scheduler.statistics().timers == 4
        await trio.sleep(10)
        assert trace == [("first", 1.0), ("second", 2.0), ("also second", 2.0), ("third", 3.0)]
        assert scheduler.statistics().timers == 0


async def test_timers_alone_drive_virtual_time(autojump_clock):
    """Nothing else has a deadline, so only the kernel's own wake-up can move the clock."""
    async with open_scheduler() as scheduler:
        for _ in range(3):
            done = trio.Event()
            for after in (1.0, 2.0, 4.0):
                scheduler.add_timer(trio.current_time() + after, done.set if after == 4.0 else lambda: None)
            await done.wait()
        assert trio.current_time() == 12.0


async def test_an_action_may_add_and_cancel_timers(autojump_clock):
    async with open_scheduler() as scheduler:
        trace, done = [], trio.Event()

        def first():
            trace.append(("first", trio.current_time()))
            victim.cancel()
            scheduler.add_timer(trio.current_time() - 1, lambda: trace.append(("late", trio.current_time())))
            scheduler.add_timer(4.0, done.set)

        scheduler.add_timer(2.0, first)
        victim = scheduler.add_timer(2.0, lambda: trace.append("victim"))
        await done.wait()
        assert trace == [("first", 2.0), ("late", 2.0)]
        assert trio.current_time() == 4.0


async def test_dead_timers_do_not_move_virtual_time(autojump_clock):
    async with open_scheduler() as scheduler:
        for number in range(20):
            scheduler.add_timer(10.0 + number, lambda: None).cancel()
        await wait_all_tasks_blocked()
        passes = scheduler.statistics().passes
        await trio.sleep(100)
        assert scheduler.statistics().passes - passes <= 2  # from the going to sleep to the waking up


async def test_an_action_that_raises_stops_nobody_elses(autojump_clock, caplog):
    async with open_scheduler() as scheduler:
        fired = []

        def bad():
            msg = "bad"
            raise ValueError(msg)

        scheduler.add_timer(1.0, bad)
        scheduler.add_timer(1.0, lambda: fired.append(1))
        scheduler.add_timer(2.0, lambda: fired.append(2))
        with caplog.at_level(logging.ERROR, logger="rtos.scheduler"):
            await trio.sleep(3)
    assert fired == [1, 2]
    assert [record.message for record in caplog.records] == ["the action of a timer raised"]


async def test_a_timer_goes_before_the_work_of_every_level(autojump_clock):
    async with open_scheduler(reserve=0) as scheduler:
        trace = []

        async def spin():
            for number in range(5):
                trace.append(number)
                if number == 1:
                    autojump_clock.jump(2.0)
                await trio.lowlevel.checkpoint()

        scheduler.add_timer(1.0, lambda: trace.append("timer"))
        async with trio.open_nursery() as nursery:
            with scheduler.context("urgent", level=0):
                nursery.start_soon(spin)
    assert trace == [0, 1, "timer", 2, 3, 4]


async def test_timers_do_not_starve_messages(autojump_clock):
    """A timer that is always due again still lets everybody else take their step."""
    async with open_scheduler(reserve=0) as scheduler:
        fired = 0

        def again():
            nonlocal fired
            fired += 1
            if fired < 1000:
                scheduler.add_timer(0.0, again)

        again()
        with scheduler.context("background", level=7):
            for _ in range(10):
                await trio.lowlevel.checkpoint()
        assert fired < 500


async def test_a_timer_in_real_time_is_not_early():
    async with open_scheduler() as scheduler:
        fired = trio.Event()
        at = trio.current_time() + 0.02
        times = []
        scheduler.add_timer(at, lambda: (times.append(trio.current_time()), fired.set()))
        await fired.wait()
        assert times[0] >= at


# Accounts.


async def test_steps_are_counted_for_whom_they_are_run():
    async with open_scheduler() as scheduler:
        contexts = [scheduler.context(f"{number}", level=number) for number in (5, 1, 3)]

        async def spin(steps):
            for _ in range(steps):
                await trio.lowlevel.checkpoint()

        # The kernel has tasks of its own from the first timer on.
        scheduler.add_timer(scheduler.now(), lambda: None)
        async with trio.open_nursery() as nursery:
            for context, steps in zip(contexts, (10, 20, 30), strict=True):
                with context:
                    nursery.start_soon(spin, steps)
        accounts = scheduler.statistics().contexts
        assert [(account.name, account.level) for account in accounts] == [
            ("system", -1),
            ("1", 1),
            ("3", 3),
            ("host", 4),
            ("5", 5),
        ]
        by_name = {account.name: account for account in accounts}
        assert [by_name[name].steps for name in ("5", "1", "3")] == [11, 21, 31]
        for account in accounts:
            if account.name == "host":
                continue  # the step that opened the scheduler goes on, and is nobody's
            assert 0 < account.longest_step <= account.cpu, account
        scheduler.release(contexts[0])
        scheduler.release(contexts[0])
        assert "5" not in {account.name for account in scheduler.statistics().contexts}


async def test_a_nursery_inside_a_context_is_billed_to_it():
    async with open_scheduler() as scheduler:
        context = scheduler.context("all mine")

        async def child():
            await trio.lowlevel.checkpoint()

        with context:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(child)
                nursery.start_soon(child)
        await trio.lowlevel.checkpoint()
        assert context.steps >= 4


async def test_ready_counts_what_is_released():
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        assert scheduler.statistics().ready == 0
        for _ in range(3):
            nursery.start_soon(trio.lowlevel.checkpoint)
        assert scheduler.statistics().ready == 3


async def test_a_step_may_go_on_within_the_quantum_only():
    async with open_scheduler(quantum=1000.0) as scheduler:
        await trio.lowlevel.checkpoint()
        assert scheduler.may_continue()
    async with open_scheduler(quantum=0) as scheduler:
        await trio.lowlevel.checkpoint()
        assert not scheduler.may_continue()


# Idle.


async def test_an_idle_system_makes_no_wake_up():
    """The one real wait of this suite: half a second, in a thread, with much that is not due."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        for number in range(50):
            with scheduler.context(f"{number}", level=number % 8):
                nursery.start_soon(trio.sleep_forever)
        for number in range(200):
            # Dead: they were due during the wait.
            scheduler.add_timer(trio.current_time() + 0.002 * number, lambda: None).cancel()
        scheduler.add_timer(trio.current_time() + 3600, lambda: None)
        await wait_all_tasks_blocked()
        before = scheduler.statistics()
        await trio.to_thread.run_sync(threading.Event().wait, 0.5)
        after = scheduler.statistics()
        assert after.sleeps - before.sleeps == 1  # until the thread was done
        assert after.passes - before.passes <= 4  # the thread's answer, and who waited for it
        nursery.cancel_scope.cancel()


async def test_without_timers_it_has_no_task_in_the_loop():
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_scheduler() as scheduler:
        assert trio.lowlevel.current_statistics().tasks_living == before
        scheduler.add_timer(scheduler.now() + 1000, lambda: None)
        assert trio.lowlevel.current_statistics().tasks_living == before + 2
    assert trio.lowlevel.current_statistics().tasks_living == before
    async with open_scheduler() as scheduler:
        scheduler.context("thrifty", budget=Budget(1.0, 2.0))
        assert trio.lowlevel.current_statistics().tasks_living == before + 2
