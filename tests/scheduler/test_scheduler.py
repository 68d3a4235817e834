"""The scheduler: settings, start_soon, contexts, timers, closing, accounts, and an idle loop."""

import functools
import gc
import logging
import math
import queue
import threading
import weakref
from contextlib import suppress

import pytest
import trio
import trio.lowlevel
from trio.testing import wait_all_tasks_blocked

from rtos.errors import ConfigurationError, DeadlineMissed, MailboxFull, SchedulerClosed
from rtos.scheduler import (
    Budget,
    Exhausted,
    Lock,
    Port,
    current_context,
    open_mailbox,
    open_port,
    open_scheduler,
    periodic,
)
from rtos.scheduler.dispatch.trio_compat import running_loop
from rtos.scheduler.dispatch.wakeup import ClockWakeUp
from rtos.scheduler.scheduler import SchedulerState


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"quantum": -1e-6}, r"quantum -1e-06 is not a duration; use seconds, or 0 for strict mode"),
        ({"quantum": math.nan}, r"quantum nan is not a duration"),
        ({"quantum": math.inf}, r"quantum inf is not a duration"),
        ({"host_level": 8}, r"open_scheduler\(host_level\): level 8 does not exist; use 0 .* to 7"),
        ({"reserve": 1.0}, r"reserve 1.0 is not a share; use 0 for none"),
        ({"trace": -1}, r"trace -1 is not a number of records; use 0 for no trace"),
        ({"watchdog": 0.0}, r"watchdog 0.0 is not a limit; use seconds"),
    ],
)
async def test_invalid_setting_is_rejected_and_the_loop_stays_unchanged(options, match):
    runq = running_loop().runq
    with pytest.raises(ValueError, match=match):
        await open_scheduler(**options).__aenter__()
    assert running_loop().runq is runq


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"level": -1}, ValueError, r"context\('c'\): level -1 does not exist"),
        ({"level": 2.5}, ValueError, r"context\('c'\): level 2.5 does not exist"),
        ({"deadline": math.nan}, ValueError, r"context\('c'\): deadline nan is not a time"),
        ({"deadline": "soon"}, ValueError, r"context\('c'\): deadline 'soon' is not a time"),
        (
            {"budget": Budget(1, 2, Exhausted.DEMOTE, level=4)},
            ValueError,
            r"demotes to level 4.* below level 4",
        ),
        ({"budget": Budget(1, 2), "deadline": math.nan}, ValueError, r"deadline nan is not a time"),
    ],
)
async def test_invalid_context_is_rejected_and_leaves_no_row(options, error, match):
    async with open_scheduler() as scheduler:
        tasks = trio.lowlevel.current_statistics().tasks_living
        with pytest.raises(error, match=match):
            scheduler.context("c", **options)
        assert [row.name for row in scheduler.statistics().contexts] == ["system", "host"]
        assert trio.lowlevel.current_statistics().tasks_living == tasks


async def test_context_name_must_be_a_string():
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match=r"context\(None\): name None is not a string"):
            scheduler.context(None)
        with pytest.raises(TypeError, match=r"start_soon: name 7 is not a string"):
            scheduler.start_soon(nursery, trio.sleep_forever, name=7)
        assert not nursery.child_tasks


async def test_timer_at_nan_is_rejected():
    async with open_scheduler() as scheduler:
        with pytest.raises(ValueError, match="add_timer: nan is not a time"):
            scheduler.add_timer(math.nan, lambda: None)
        assert scheduler.statistics().timers == 0


async def test_rebase_to_an_invalid_place_changes_nothing():
    async with open_scheduler() as scheduler:
        context = scheduler.context("c", level=3, deadline=5.0)
        with pytest.raises(ValueError, match="rebase: deadline nan is not a time"):
            context.rebase(2, math.nan)
        assert (context.level, context.deadline) == (3, 5.0)


async def test_schedulers_of_one_loop_must_have_equal_settings():
    async with open_scheduler(quantum=0.002, host_level=3):
        with pytest.raises(
            ConfigurationError, match=r"quantum=0.002, host_level=3.*; open both with the same"
        ):
            await open_scheduler(quantum=0.001, host_level=3).__aenter__()
        with pytest.raises(ConfigurationError, match="another scheduler is open in this loop"):
            await open_scheduler(quantum=0.002).__aenter__()
        async with open_scheduler(quantum=0.002, host_level=3) as inner:
            assert inner.host_level == 3
    async with open_scheduler() as other:  # after it, any settings are allowed
        assert other.host_level == 4


async def test_task_without_a_context_has_the_host_level():
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


# start_soon.


async def test_urgent_task_overtakes_fifty_busy_tasks(autojump_clock):
    async with open_scheduler(reserve=0) as scheduler:
        steps = []

        async def urgent():
            for _ in range(20):
                steps.append("urgent")
                await trio.lowlevel.checkpoint()

        async def busy(number):
            for _ in range(20):
                steps.append(number)
                if len(steps) == 100:
                    scheduler.start_soon(nursery, urgent, level=0)
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            for number in range(50):
                scheduler.start_soon(nursery, busy, number, level=6)
    # Its twenty steps come before the next step of a busy task; these had 900 steps left.
    assert steps[100:120] == ["urgent"] * 20
    assert len(steps) == 20 + 50 * 20


async def test_start_soon_gives_the_task_its_own_context_and_leaves_the_callers_alone(autojump_clock):
    async with open_scheduler() as scheduler:
        seen = []

        async def note(*args):
            context = current_context()
            seen.append((args, context.name, context.level, context.deadline))
            seen.append(trio.lowlevel.current_task().name)

        async with trio.open_nursery() as nursery:
            scheduler.start_soon(nursery, note, 1, 2, level=2, deadline=9.0, name="given")
            scheduler.start_soon(nursery, functools.partial(note, 3))
            assert current_context() is None
    local = "test_start_soon_gives_the_task_its_own_context_and_leaves_the_callers_alone.<locals>.note"
    assert sorted(seen, key=str) == sorted(
        [((1, 2), "given", 2, 9.0), "given", ((3,), local, 4, math.inf), f"{__name__}.{local}"], key=str
    )


@pytest.mark.parametrize("options", [{"level": 8}, {"deadline": math.nan}])
async def test_start_soon_with_an_invalid_place_starts_nothing(options):
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="start_soon: "):
            scheduler.start_soon(nursery, trio.sleep_forever, **options)
        assert not nursery.child_tasks
        assert current_context() is None


async def test_start_soon_of_a_function_that_is_not_async_restores_the_context():
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with pytest.raises(TypeError, match="async"):
            scheduler.start_soon(nursery, lambda: None)
        assert current_context() is None
        assert [row.name for row in scheduler.statistics().contexts] == ["system", "host"]


# The life of a context.


@pytest.fixture
def no_gc():
    """Without the garbage collector only reference counts free an object: a cycle would stay."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def test_context_and_its_row_go_with_its_block_and_its_last_task(no_gc, autojump_clock):
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:

        async def job(seconds):
            await trio.sleep(seconds)

        for number in range(200):
            with scheduler.context("request", level=number % 8):
                nursery.start_soon(job, 1)
                nursery.start_soon(job, 2)
            scheduler.start_soon(nursery, job, 1, level=number % 8)

        def rows():
            return sum(row.name in ("request", job.__qualname__) for row in scheduler.statistics().contexts)

        assert rows() == 400
        await trio.sleep(1.5)
        assert rows() == 200
        await trio.sleep(1)
        await trio.lowlevel.checkpoint()
        assert rows() == 0


class Waits:
    """The ways in which a task may have waited before it ends."""

    def __init__(self, scheduler, port, nursery):
        self.scheduler, self.port, self.nursery = scheduler, port, nursery
        self.lock = Lock()
        self.send, self.receive = open_mailbox(1)

    async def answered_call(self):
        await self.port.call(1)

    async def failed_call(self):
        with suppress(LookupError):
            await self.port.call(-1)

    async def missed_call(self):
        with suppress(DeadlineMissed):
            await self.port.call(3, deadline=trio.current_time() + 1)

    async def call_that_expired_in_the_queue(self):
        self.nursery.start_soon(self.port.call, 5)
        await trio.sleep(0.1)
        with suppress(DeadlineMissed):
            await self.port.call(1, deadline=trio.current_time() + 1)

    async def refused_call(self):
        for _ in range(3):
            self.nursery.start_soon(self.port.call, 1)
        await trio.sleep(0.1)
        with suppress(MailboxFull):
            await self.port.call(1)

    async def cancelled_call(self):
        await self.port.call(5)

    async def call_that_was_cancelled_in_the_queue(self):
        self.nursery.start_soon(self.port.call, 5)
        await trio.sleep(0.1)
        await self.port.call(1)

    async def held_lock(self):
        async with self.lock:
            await trio.sleep(1)

    async def periodic_loop(self):
        async for _ in periodic(self.scheduler, 0.5):
            pass

    async def received_message(self):
        await self.send.send(None)
        await self.receive.receive()

    async def cancelled_send(self):
        await self.send.send(None)
        await self.send.send(None)

    async def cancelled_receive(self):
        await self.receive.receive()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "queued"])
@pytest.mark.parametrize("wait", [name for name in vars(Waits) if not name.startswith("_")])
async def test_context_goes_whatever_its_task_has_waited_for(no_gc, autojump_clock, wait, direct):
    """No error refers to itself through its traceback, and no worker to its last call."""

    async def serve(seconds):
        if seconds < 0:
            raise LookupError
        await trio.sleep(seconds)

    async def task():
        with trio.move_on_after(2):
            await getattr(waits, wait)()

    opened = open_scheduler(direct=direct)
    async with opened as scheduler, open_port(scheduler, "port", serve, capacity=2) as port:
        for _ in range(3):
            async with trio.open_nursery() as nursery:
                waits = Waits(scheduler, port, nursery)
                scheduler.start_soon(nursery, task, name="task")
            await trio.sleep(10)
        await trio.lowlevel.checkpoint()
        assert [row.name for row in scheduler.statistics().contexts] == ["system", "host", "port"]


@pytest.mark.parametrize("on_exhausted", [Exhausted.DEMOTE, Exhausted.THROTTLE])
async def test_context_with_a_budget_goes_with_its_last_task(no_gc, autojump_clock, on_exhausted):
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:

        async def job():
            autojump_clock.jump(3.0)
            await trio.lowlevel.checkpoint()

        first = scheduler.context("first", budget=Budget(1.0, 2.0, on_exhausted))
        second = scheduler.context("second", budget=first.budget)
        server, gone = first.budget, weakref.ref(second)
        enforced = scheduler.accounts.enforcement
        with second:
            nursery.start_soon(job)
        del second
        assert [context.name for context in enforced.contexts(server)] == ["first", "second"]
        await trio.sleep(20)
        assert server.statistics().exhaustions == 1
        assert gone() is None
        assert enforced.contexts(server) == [first]


async def test_context_that_the_program_keeps_stays_and_can_be_entered_again(autojump_clock):
    async with open_scheduler() as scheduler:
        context = scheduler.context("kept")
        for _ in range(2):
            with context:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(trio.lowlevel.checkpoint)
            await trio.sleep(1)
            assert "kept" in [row.name for row in scheduler.statistics().contexts]


# Closing.


async def test_states_follow_the_block():
    opened = open_scheduler()
    async with opened as scheduler:
        assert scheduler.state is SchedulerState.OPEN
        seen = []

        class Owner:
            def scheduler_closed(self):
                seen.append(scheduler.state)

        owner = Owner()
        scheduler.on_close(owner)
    assert seen == [SchedulerState.CLOSING]
    assert scheduler.state is SchedulerState.CLOSED
    assert repr(scheduler) == "<Scheduler closed>"


async def test_closed_scheduler_raises_at_the_call_and_leaves_no_task_behind():
    tasks = trio.lowlevel.current_statistics().tasks_living
    async with open_scheduler() as scheduler:
        pass
    async with trio.open_nursery() as nursery:
        for operation, use in (
            ("context('c')", lambda: scheduler.context("c")),
            ("context('b')", lambda: scheduler.context("b", budget=Budget(1, 2))),
            ("start_soon", lambda: scheduler.start_soon(nursery, trio.sleep_forever)),
            ("add_timer", lambda: scheduler.add_timer(0.0, lambda: None)),
            ("on_close", lambda: scheduler.on_close(object())),
            ("open_x", lambda: scheduler.check_open("open_x")),
        ):
            with pytest.raises(SchedulerClosed) as caught:
                use()
            assert str(caught.value) == (
                f"{operation}: the scheduler is closed;"
                " use it only inside its `async with open_scheduler()` block"
            )
            assert caught.value.operation == operation
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    assert scheduler.statistics().timers == 0


async def test_close_cancels_its_timers_and_leaves_those_of_another_scheduler(autojump_clock):
    fired = []
    async with open_scheduler() as outer:
        async with open_scheduler() as inner:
            outer.add_timer(1.0, lambda: fired.append("outer"))
            inner.add_timer(1.0, lambda: fired.append("inner"))
            with outer.context("outer", level=1) as context:
                pass
        assert outer.statistics().timers == 1
        await trio.sleep(2)
        assert fired == ["outer"]
        outer.add_timer(3.0, lambda: fired.append("outer again"))
        with context:
            await trio.sleep(2)
        assert fired == ["outer", "outer again"]
        with pytest.raises(SchedulerClosed):
            inner.add_timer(4.0, lambda: None)


async def test_first_scheduler_of_a_loop_may_close_first(autojump_clock):
    """Its tasks and the loop's run queue go on under the second."""
    first, second = open_scheduler(), open_scheduler()
    one = await first.__aenter__()
    two = await second.__aenter__()
    order, lot = [], trio.lowlevel.ParkingLot()

    async def note(name):
        await lot.park()
        order.append(name)

    async with trio.open_nursery() as nursery:
        two.start_soon(nursery, note, "less urgent", level=5)
        one.start_soon(nursery, note, "urgent", level=1)
        await first.__aexit__(None, None, None)
        assert (one.state, two.state) == (SchedulerState.CLOSED, SchedulerState.OPEN)
        await wait_all_tasks_blocked()
        lot.unpark_all()
    assert order == ["urgent", "less urgent"]
    await second.__aexit__(None, None, None)


async def test_every_wait_for_the_scheduler_ends_when_it_closes(autojump_clock):
    """Calls that nothing serves, a call that is served, its worker, and a periodic loop."""
    ended = {}

    async def run(name, async_fn):
        try:
            ended[name] = await async_fn()
        except Exception as error:  # noqa: BLE001 - every outcome counts
            ended[name] = str(error), trio.current_time()

    async def loop(scheduler):
        async for _ in periodic(scheduler, 4.0):
            pass

    tasks = trio.lowlevel.current_statistics().tasks_living
    async with trio.open_nursery() as nursery:
        async with open_scheduler() as scheduler:
            served, unserved = Port(scheduler, "served"), Port(scheduler, "unserved")
            worker = scheduler.context("worker")
            with worker:
                serve = functools.partial(served.serve, trio.sleep, context=worker)
                nursery.start_soon(run, "worker", serve)
            for name, port, deadline in (
                ("served call", served, 50.0),
                ("call", unserved, math.inf),
                ("call with a deadline", unserved, 50.0),
            ):
                nursery.start_soon(run, name, functools.partial(port.call, 100, deadline=deadline))
            nursery.start_soon(run, "loop", functools.partial(loop, scheduler))
            await trio.sleep(10)
        await trio.sleep(1)
        nursery.start_soon(run, "late call", functools.partial(unserved.call, 1))
    remedy = "the scheduler is closed; use it only inside its `async with open_scheduler()` block"
    assert ended == {
        "worker": (f"port 'served': {remedy}", 10.0),
        "served call": (f"port 'served': {remedy}", 10.0),
        "call": (f"port 'unserved': {remedy}", 10.0),
        "call with a deadline": (f"port 'unserved': {remedy}", 10.0),
        "loop": (f"periodic: {remedy}", 10.0),
        "late call": (f"port 'unserved': {remedy}", 11.0),
    }
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    with pytest.raises(SchedulerClosed, match=r"port\('late'\): the scheduler is closed"):
        Port(scheduler, "late")


async def test_throttled_task_goes_on_when_the_scheduler_closes(autojump_clock):
    steps = []

    async def burn():
        for number in range(3):
            autojump_clock.jump(1.0)
            steps.append(number)
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery, open_scheduler(host_level=0) as scheduler:
        with scheduler.context("burner", level=2, budget=Budget(1.0, 1000.0, Exhausted.THROTTLE)):
            nursery.start_soon(burn)
        await trio.sleep(5)
        assert steps == [0]
    assert steps == [0, 1, 2]
    assert trio.current_time() < 100


async def test_scheduler_closes_although_its_instrument_has_raised(monkeypatch, caplog):
    """Trio removes an instrument that raises; closing must still put Trio's run queue back."""
    async with open_scheduler() as scheduler:
        with monkeypatch.context() as patch:
            patch.setattr(scheduler._kernel.queue, "close_pass", lambda: 1 / 0)
            await trio.lowlevel.checkpoint()
        assert "Instrument has been disabled" in caplog.text
    assert type(running_loop().runq).__name__ == "deque"
    assert scheduler.state is SchedulerState.CLOSED


async def test_trace_and_watchdog_of_a_second_scheduler_outlive_it_until_the_last_one_closes():
    watchdogs = []

    def running():
        return [thread for thread in threading.enumerate() if thread.name == "rtos watchdog"]

    async with open_scheduler() as plain:
        assert not plain.trace.size
        async with open_scheduler(trace=100, watchdog=60.0) as second:
            async with open_scheduler(trace=7, watchdog=30.0) as third:
                assert third.trace is second.trace
            assert second.trace.size == 100
            watchdogs += running()
            assert len(watchdogs) == 1
            await trio.sleep(0.001)
            assert second.trace.snapshot()
        assert running() == watchdogs
        assert not plain.trace.snapshot()
    assert not running()


async def test_every_owner_is_told_of_the_close_although_one_raises(caplog):
    told = []

    class Owner:
        def __init__(self, name):
            self.name = name

        def __repr__(self):
            return self.name

        def scheduler_closed(self):
            told.append(self.name)
            if self.name == "bad":
                raise ValueError(self.name)

    owners = [Owner("first"), Owner("bad"), Owner("last")]
    async with open_scheduler() as scheduler:
        for owner in (*owners, Owner("dropped")):
            scheduler.on_close(owner)
        del owner
        with caplog.at_level(logging.ERROR, logger="rtos.scheduler"):
            await trio.lowlevel.checkpoint()
    assert told == ["first", "bad", "last"]
    assert [record.message for record in caplog.records] == ["closing the scheduler: bad raised"]


@pytest.mark.parametrize("leave", ["cancelled", "KeyboardInterrupt", "error"])
async def test_block_that_ends_early_closes_the_scheduler(leave, autojump_clock):
    tasks = trio.lowlevel.current_statistics().tasks_living
    with trio.CancelScope() as scope:
        try:
            async with open_scheduler() as scheduler:
                scheduler.add_timer(100.0, lambda: None)
                await trio.lowlevel.checkpoint()
                if leave == "cancelled":
                    scope.cancel()
                    await trio.lowlevel.checkpoint()
                raise KeyboardInterrupt if leave == "KeyboardInterrupt" else ValueError
        except (KeyboardInterrupt, ValueError):
            assert leave != "cancelled"
    assert scope.cancelled_caught == (leave == "cancelled")
    assert scheduler.state is SchedulerState.CLOSED
    assert trio.lowlevel.current_statistics().tasks_living == tasks
    async with open_scheduler(quantum=0.5):  # another kernel, with other settings
        pass


def test_ctrl_c_while_the_scheduler_opens_or_closes_waits_until_it_is_done():
    """A signal that arrives inside the entry or the exit of the block interrupts neither."""
    import signal

    seen = []

    class Owner:
        def scheduler_closed(self):
            signal.raise_signal(signal.SIGINT)
            seen.append("closing")

    async def main():
        owner = Owner()
        async with open_scheduler() as scheduler:
            seen.append(scheduler)
            scheduler.on_close(owner)
            scheduler.add_timer(trio.current_time() + 1000, lambda: None)
            await trio.lowlevel.checkpoint()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    scheduler, closing = seen
    assert closing == "closing"
    assert scheduler.state is SchedulerState.CLOSED


def test_two_loops_in_two_threads_have_schedulers_of_their_own():
    meet = threading.Barrier(2, timeout=60)
    orders = {}

    def run(name):
        async def main():
            order, lot = [], trio.lowlevel.ParkingLot()

            async def note(level):
                await lot.park()
                order.append(level)

            async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
                await trio.to_thread.run_sync(meet.wait)
                for level in (6, 3, 0, 5):
                    scheduler.start_soon(nursery, note, level, level=level)
                await wait_all_tasks_blocked()
                await trio.to_thread.run_sync(meet.wait)
                lot.unpark_all()
            orders[name] = (order, scheduler.state)

        trio.run(main)

    threads = [threading.Thread(target=run, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert orders == {name: ([0, 3, 5, 6], SchedulerState.CLOSED) for name in ("one", "two")}


# Time.


async def test_now_equals_trio_time_with_a_virtual_clock(autojump_clock):
    async with open_scheduler() as scheduler:
        assert scheduler.now() == trio.current_time() == 0.0
        await trio.sleep(5)
        assert scheduler.now() == trio.current_time() == 5.0


async def test_now_equals_trio_time_with_the_system_clock():
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


async def test_timers_alone_advance_a_virtual_clock(autojump_clock):
    """No task has a deadline, so only the kernel's wake-up can advance the clock."""
    async with open_scheduler() as scheduler:
        for _ in range(3):
            done = trio.Event()
            for after in (1.0, 2.0, 4.0):
                scheduler.add_timer(trio.current_time() + after, done.set if after == 4.0 else lambda: None)
            await done.wait()
        assert trio.current_time() == 12.0


async def test_timer_action_may_add_and_cancel_timers(autojump_clock):
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


async def test_cancelled_timers_do_not_wake_the_loop(autojump_clock):
    async with open_scheduler() as scheduler:
        for number in range(20):
            scheduler.add_timer(10.0 + number, lambda: None).cancel()
        await wait_all_tasks_blocked()
        passes = scheduler.statistics().passes
        await trio.sleep(100)
        assert scheduler.statistics().passes - passes <= 2  # before and after the sleep


async def test_timer_action_that_raises_is_logged_and_other_timers_fire(autojump_clock, caplog):
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


async def test_due_timer_fires_before_the_next_step_of_any_level(autojump_clock):
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


async def test_timer_that_is_always_due_again_does_not_starve_tasks(autojump_clock):
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


async def test_timer_does_not_fire_early():
    async with open_scheduler() as scheduler:
        fired = trio.Event()
        at = trio.current_time() + 0.02
        times = []
        scheduler.add_timer(at, lambda: (times.append(trio.current_time()), fired.set()))
        await fired.wait()
        assert times[0] >= at


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "unordered"])
@pytest.mark.parametrize("source", ["best", "clock"])
@pytest.mark.parametrize("earlier", [True, False], ids=["has had a timer", "first timer"])
def test_timer_that_the_host_adds_while_a_guest_loop_sleeps_wakes_it(monkeypatch, ordered, source, earlier):
    if source == "clock":
        monkeypatch.setattr("rtos.scheduler.kernel.open_wakeup", lambda clock: ClockWakeUp())
    calls, outcomes, fired = queue.SimpleQueue(), [], []
    shared = {}

    async def main():
        async with open_scheduler(ordered=ordered) as scheduler:
            if earlier:
                done = trio.Event()
                scheduler.add_timer(trio.current_time(), done.set)
                await done.wait()
            shared.update(scheduler=scheduler, stop=trio.Event())
            await shared["stop"].wait()

    def host_until(done):
        """Run what the guest asks for until ``done()``; raises ``queue.Empty`` if the guest sleeps on."""
        while not done():
            calls.get(timeout=60)()

    trio.lowlevel.start_guest_run(
        main,
        run_sync_soon_threadsafe=calls.put,
        done_callback=outcomes.append,
        host_uses_signal_set_wakeup_fd=True,
    )
    host_until(lambda: shared and shared["scheduler"]._kernel.queue.asleep and calls.empty())
    scheduler = shared["scheduler"]
    scheduler.add_timer(scheduler.now() + 0.01, lambda: fired.append(scheduler.now()))
    host_until(lambda: fired)
    shared["stop"].set()
    host_until(lambda: outcomes)
    outcomes[0].unwrap()


# Accounts.


async def test_each_context_counts_its_own_steps():
    async with open_scheduler() as scheduler:
        contexts = [scheduler.context(f"{number}", level=number) for number in (5, 1, 3)]

        async def spin(steps):
            for _ in range(steps):
                await trio.lowlevel.checkpoint()

        # The kernel starts its system tasks with the first timer.
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
                continue  # the step that opened the scheduler still runs, and is not accounted for
            assert 0 < account.longest_step <= account.cpu, account


async def test_tasks_of_a_nursery_inside_a_context_are_billed_to_it():
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


async def test_ready_counts_released_tasks():
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        await wait_all_tasks_blocked()
        assert scheduler.statistics().ready == 0
        for _ in range(3):
            nursery.start_soon(trio.lowlevel.checkpoint)
        assert scheduler.statistics().ready == 3


async def test_may_continue_is_true_within_the_quantum_only():
    async with open_scheduler(quantum=1000.0) as scheduler:
        await trio.lowlevel.checkpoint()
        assert scheduler.may_continue()
    async with open_scheduler(quantum=0) as scheduler:
        await trio.lowlevel.checkpoint()
        assert not scheduler.may_continue()


# Idle.


async def test_idle_loop_is_not_woken():
    """Waits half a second of real time, in a thread, with 200 cancelled timers that would be due."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        for number in range(50):
            with scheduler.context(f"{number}", level=number % 8):
                nursery.start_soon(trio.sleep_forever)
        for number in range(200):
            # Cancelled: they would be due during the wait.
            scheduler.add_timer(trio.current_time() + 0.002 * number, lambda: None).cancel()
        scheduler.add_timer(trio.current_time() + 3600, lambda: None)
        await wait_all_tasks_blocked()
        before = scheduler.statistics()
        await trio.to_thread.run_sync(threading.Event().wait, 0.5)
        after = scheduler.statistics()
        assert after.sleeps - before.sleeps == 1  # until the thread was done
        assert after.passes - before.passes <= 4  # the thread's reply, and the task that waits for it
        nursery.cancel_scope.cancel()


async def test_scheduler_without_timers_starts_no_task():
    before = trio.lowlevel.current_statistics().tasks_living
    async with open_scheduler() as scheduler:
        assert trio.lowlevel.current_statistics().tasks_living == before
        scheduler.add_timer(scheduler.now() + 1000, lambda: None)
        assert trio.lowlevel.current_statistics().tasks_living == before + 2
    assert trio.lowlevel.current_statistics().tasks_living == before
    async with open_scheduler() as scheduler:
        scheduler.context("thrifty", budget=Budget(1.0, 2.0))
        assert trio.lowlevel.current_statistics().tasks_living == before + 2
