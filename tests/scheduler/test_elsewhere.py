"""What went wrong elsewhere, and cannot here: one named test for each.

The tickets are those of the projects named; each test says what happened there and
why it cannot happen here. In virtual time, where a step costs what it declares.
"""

import logging
import random
import socket

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import CallCycle, DaemonDown, DeadlineMissed, MailboxFull
from rtos.scheduler import (
    Backoff,
    ChildSpec,
    Kind,
    OverloadPolicy,
    current_level,
    open_crowd,
    open_mailbox,
    open_scheduler,
    open_supervisor,
)
from rtos.scheduler.analysis import Job, analyse
from rtos.scheduler.explain import Part
from rtos.scheduler.polling import PollingDetector
from rtos.scheduler.restart import RestartWindow
from rtos.scheduler.watchdog import Cause, Sample
from rtos.testing import TICK, run_virtual, spend


async def _always_ready(log=None, name=None, *, step=0):
    while True:
        if log is not None:
            log.append(name)
        spend(step * TICK)
        await trio.lowlevel.checkpoint()


# Order.


async def test_timers_that_are_always_due_do_not_starve_messages(autojump_clock):
    """ros2/rclcpp#392: an executor served all due timers first, and a fast timer starved the messages.

    Timers are fired by a task of the kernel's, which gives way after a few passes.
    """
    got = []
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:

        def again():
            spend(TICK)
            scheduler.add_timer(scheduler.now(), again)

        async def receive_all():
            async for message in receive:
                got.append(message)  # noqa: PERF401 - each has to come

        send, receive = open_mailbox(10)
        with scheduler.context("receiver", level=5):
            nursery.start_soon(receive_all)
        await wait_all_tasks_blocked()
        again()
        for number in range(5):
            await send.send(number)
        await trio.sleep(200 * TICK)
        nursery.cancel_scope.cancel()
    assert got == [0, 1, 2, 3, 4]


async def test_a_backlog_is_bounded_whatever_the_senders_do(autojump_clock):
    """erlang/otp PR 481, emqx#1179: mailboxes without a bound grew under overload until memory ended."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, kind = scheduler.port("server", capacity=8), Kind("work")
        refused = 0

        async def client():
            nonlocal refused
            try:
                await port.call(kind, None)
            except MailboxFull:
                refused += 1

        async def work(_):
            await trio.sleep(1)

        context = scheduler.context("server", level=2)
        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        await wait_all_tasks_blocked()
        for _ in range(1000):
            nursery.start_soon(client)
        await wait_all_tasks_blocked()
        statistics = port.queue.statistics
        assert (statistics.high_water, statistics.refused, refused) == (8, 991, 991)
        assert statistics.conserved()
        nursery.cancel_scope.cancel()


async def test_what_was_sent_first_is_not_what_is_most_urgent(autojump_clock):
    """ros2_documentation#6502: a queue in order of arrival was taken for one of priorities."""
    async with open_scheduler():
        send, receive = open_mailbox(10)
        for level in (5, 3, 7, 0, 3):
            await send.send(level, level=level)
        assert [receive.receive_nowait() for _ in range(5)] == [0, 3, 3, 5, 7]


@pytest.mark.parametrize("seed", range(20))
def test_a_priority_that_changes_in_the_queue_leaves_the_queue_whole(seed):
    """embassy-rs/embassy#4666: changing the priority of a queued task corrupted the ready list."""
    chance = random.Random(seed)

    async def main():
        ran, levels = [], {}
        async with open_scheduler(quantum=0, reserve=0) as scheduler, trio.open_nursery() as nursery:

            async def run(number):
                ran.append((current_level(), number))

            with scheduler.context("test", level=0):
                contexts = [scheduler.context(str(number), level=7) for number in range(30)]
                async with trio.open_nursery() as group:
                    for number, context in enumerate(contexts):
                        with context:
                            group.start_soon(run, number)
                    for _ in range(200):
                        number = chance.randrange(30)
                        levels[number] = chance.randrange(8)
                        contexts[number].rebase(levels[number], chance.random())
            nursery.cancel_scope.cancel()
        return ran, levels

    ran, levels = run_virtual(main)
    assert sorted(number for _, number in ran) == list(range(30))
    assert [level for level, _ in ran] == sorted(levels.get(number, 7) for number in range(30))


async def test_who_reports_does_not_disturb_what_is_measured(autojump_clock):
    """zephyrproject-rtos/zephyr#87010: the reporter ran above what it reported, and changed it."""
    waits = []
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:

        async def report():
            while True:
                scheduler.statistics()
                scheduler.trace.snapshot()
                spend(3 * TICK)
                await trio.lowlevel.checkpoint()

        async def urgent():
            for _ in range(20):
                due = trio.current_time() + 10.5 * TICK
                await trio.sleep_until(due)
                waits.append((trio.current_time() - due) / TICK)
            nursery.cancel_scope.cancel()

        with scheduler.context("report", level=7):
            nursery.start_soon(report)
        with scheduler.context("urgent", level=0):
            nursery.start_soon(urgent)
    assert len(waits) == 20
    assert max(waits) <= 3  # one step of the reporter's


async def test_what_comes_in_does_not_wait_for_all_that_is_ready(autojump_clock):
    """micropython-lib#287: I/O was looked at only after every ready task had run twice."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    steps = []
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:

        async def read():
            await trio.lowlevel.wait_readable(ours)
            steps.append("read")
            nursery.cancel_scope.cancel()

        with scheduler.context("reader", level=0):
            nursery.start_soon(read)
        await wait_all_tasks_blocked()
        with scheduler.context("busy", level=4):
            for number in range(50):
                nursery.start_soon(_always_ready, steps, number)
        for _ in range(2):
            await trio.lowlevel.checkpoint()
        steps.clear()
        theirs.send(b"x")
    ours.close()
    theirs.close()
    assert steps.index("read") <= 2


# What no tool said.


async def test_ten_steps_of_ten_block_like_one_of_a_hundred_and_it_is_said(autojump_clock):
    """python/cpython#101946: a debug mode that looks at single steps says nothing of ten in a row."""
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        port, kind = scheduler.port("server"), Kind("work")

        async def ten_steps():
            for _ in range(10):
                spend(10 * TICK)
                await trio.lowlevel.checkpoint()

        async def work(_):
            await trio.lowlevel.checkpoint()

        context = scheduler.context("server", level=3)
        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        await wait_all_tasks_blocked()
        with scheduler.context("many small steps", level=2):
            nursery.start_soon(ten_steps)
        deadline = trio.current_time() + 50 * TICK
        with scheduler.context("client", level=3), pytest.raises(DeadlineMissed):
            await port.call(kind, None, deadline=deadline)
        await trio.sleep(200 * TICK)
        nursery.cancel_scope.cancel()
    (report,) = scheduler.misses
    share = report.offender
    assert (share.part, share.who) == (Part.INTERFERENCE, "many small steps")
    # All the time until it was given up, and no single piece of it is long.
    assert share.ns / 1e9 / TICK == pytest.approx(50)
    assert share.longest / 1e9 / TICK == pytest.approx(10)
    assert sum(each.ns for each in report.shares) == report.window


def test_the_analysis_tells_small_steps_from_one_long_one_for_whom_it_matters():
    """The same, before it happens: above them steps of ten are ten, below them they are a hundred."""
    steps = Job(name="steps", level=2, cost=100, period=1000, deadline=1000, longest_step=10, last_step=10)
    above = Job(name="above", level=1, cost=5, period=500, deadline=50)
    below = Job(name="below", level=3, cost=5, period=500, deadline=50)
    report = analyse([above, steps, below])
    responses = {each.job.name: each.response for each in report.jobs}
    assert responses["above"] < 20
    assert responses["below"] > 100
    assert {each.job.name: each.feasible for each in report.jobs} == {
        "above": True,
        "steps": True,
        "below": False,
    }


async def test_who_waits_busily_is_noticed(autojump_clock):
    """python-trio/trio#672: a task that wakes up all the time with nothing to do looks like any other."""
    detector, reports = PollingDetector(), []
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:

        async def poll():
            while True:
                await trio.sleep(0.01)
                reports.extend(detector.see(context, round(trio.current_time() * 1e9)))

        context = scheduler.context("busybody", level=5)
        with context:
            nursery.start_soon(poll)
        await trio.sleep(30)
        nursery.cancel_scope.cancel()
    (report,) = reports
    assert report.name == "busybody"
    assert report.rate == pytest.approx(100, rel=0.05)


async def test_no_pass_is_paid_for_while_nothing_else_is_ready(autojump_clock):
    """python-trio/trio#1757: a schedule point costs a pass of the loop although nobody else wants to run."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, kind = scheduler.port("server"), Kind("work")

        async def work(_):
            return None

        context = scheduler.context("server", level=3)
        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        await wait_all_tasks_blocked()
        before = scheduler.statistics()
        for _ in range(50):
            await port.call(kind, None)
        after = scheduler.statistics()
        assert after.lent - before.lent == 50
        assert after.passes == before.passes
        nursery.cancel_scope.cancel()


# Supervision.


async def _fails(ready):
    ready()
    raise OSError


async def test_a_crash_loop_does_not_burn_its_quota_within_microseconds(autojump_clock):
    """erlang/otp PR 1287: without a wait all restarts of a period are used up before anything can recover."""
    async with open_scheduler() as scheduler:
        began = trio.current_time()
        with pytest.raises(DaemonDown):
            async with open_supervisor(
                scheduler,
                [ChildSpec(name="child", run=_fails)],
                intensity=5,
                period=60.0,
                backoff=Backoff(first=0.5, cap=4.0),
            ):
                await trio.sleep_forever()
        # The first at once, then 0.5, 1, 2 and 4 seconds.
        assert trio.current_time() - began == pytest.approx(7.5)


@pytest.mark.parametrize("seed", range(10))
def test_never_more_restarts_in_any_window_than_allowed(seed):
    """elle#1211: the window counted messages and not time, so the limit was never reached."""
    chance, window, admitted, now = random.Random(seed), RestartWindow(3, 5.0), [], 0.0
    for _ in range(500):
        now += chance.expovariate(1.0)
        if window.admit(now):
            admitted.append(now)
    assert admitted
    for first, fourth in zip(admitted, admitted[3:], strict=False):
        assert fourth - first >= 5.0


async def test_a_child_that_never_gets_ready_keeps_nobody_waiting_for_ever(autojump_clock):
    """tractor: a child that died before it could report left its parent waiting for ever."""

    async def never(_):
        await trio.sleep_forever()

    async with open_scheduler() as scheduler:
        with pytest.raises(DaemonDown, match="not ready after 3"):
            async with open_supervisor(scheduler, [ChildSpec(name="child", run=never, start_timeout=3)]):
                pytest.fail("it must not be open")


async def test_stopping_many_tasks_does_not_hold_the_loop(autojump_clock):
    """Trio: cancelling 100 000 parked tasks takes one pass of four seconds, and nobody else runs in it."""
    urgent = 0
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:

        async def beat():
            nonlocal urgent
            while True:
                await trio.lowlevel.checkpoint()
                urgent += 1

        async with open_crowd(scheduler) as crowd:
            for _ in range(3000):
                crowd.start_soon(trio.sleep_forever)
            await wait_all_tasks_blocked()
            nursery.start_soon(beat)
            before = urgent
        assert urgent - before >= 20
        nursery.cancel_scope.cancel()


# Messages.


async def test_what_controls_a_daemon_is_never_shed_for_ordinary_messages(autojump_clock):
    """actor-ts#1148: dropping the oldest by default dropped the messages that say that somebody has ended."""
    async with open_scheduler():
        send, receive = open_mailbox(2, policy=OverloadPolicy.DROP_OLDEST)
        send.send_control("stop")
        for number in range(100):
            await send.send(number)
        assert [receive.receive_nowait() for _ in range(3)] == ["stop", 98, 99]


async def test_whoever_asks_itself_is_told_the_way_and_does_not_hang(autojump_clock):
    """orleans#5331, pykka#48: a call that leads back to its caller waits until a time-out, or for ever."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        ports = {name: scheduler.port(name) for name in ("a", "b")}
        kinds = {name: Kind(name) for name in ports}

        async def pass_on(to):
            await ports[to].call(kinds[to], "a" if to == "b" else "b")

        for name, port in ports.items():
            context = scheduler.context(name)
            with context:
                nursery.start_soon(lambda port=port, context=context: port.serve(pass_on, context=context))
        await wait_all_tasks_blocked()
        with pytest.raises(CallCycle, match="a -> b -> a"):
            await ports["a"].call(kinds["a"], "b")
        nursery.cancel_scope.cancel()


async def test_one_that_sends_to_itself_for_ever_lets_others_run(autojump_clock):
    """Thespian's simple base: an actor that messages itself freezes the program that hosts it."""
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        send, receive = open_mailbox(1)

        async def echo():
            async for message in receive:
                await send.send(message + 1)

        with scheduler.context("echo", level=4):
            nursery.start_soon(echo)
        await send.send(0)
        for _ in range(20):
            await trio.lowlevel.checkpoint()
        # The host has the same level, and has run on.
        nursery.cancel_scope.cancel()


async def test_what_has_expired_is_not_run(autojump_clock):
    """akka#32721, orleans#8331: a request whose caller had given up was worked on all the same."""
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, kind, ran = scheduler.port("server"), Kind("work"), []

        async def work(seconds):
            ran.append(seconds)
            await trio.sleep(seconds)

        context = scheduler.context("server", level=2)
        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        await wait_all_tasks_blocked()
        nursery.start_soon(port.call, kind, 10)
        await wait_all_tasks_blocked()
        with pytest.raises(DeadlineMissed, match="before it started; nothing happened"):
            await port.call(kind, 1, deadline=trio.current_time() + 5)
        await trio.sleep(20)
        assert ran == [10]
        nursery.cancel_scope.cancel()


# Alarms.


def test_a_step_that_got_no_processor_is_not_called_a_deadlock():
    """temporalio/sdk-python#1050: an alarm after two seconds of wall time went off on loaded machines."""
    before = Sample(wall=0, cpu=0, queued=0, process=0)
    stolen = Sample(wall=2_000_000_000, cpu=10_000_000, queued=1_950_000_000, process=10_000_000)
    assert before.cause(stolen) is Cause.STARVED


async def test_every_refused_or_dropped_call_is_answered(autojump_clock, caplog):
    """lambdaclass, ergo#94: what a full mailbox dropped was dropped silently, and its sender waited."""
    outcomes = []
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, kind = scheduler.port("server", capacity=2, policy=OverloadPolicy.DROP_OLDEST), Kind("work")

        async def client(number):
            try:
                outcomes.append(await port.call(kind, number))
            except Exception as error:  # noqa: BLE001 - every outcome counts
                outcomes.append(type(error).__name__)

        async def work(number):
            await trio.sleep(1)
            return number

        context = scheduler.context("server", level=2)
        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        with caplog.at_level(logging.ERROR):
            for number in range(10):
                nursery.start_soon(client, number)
            await trio.sleep(100)
        assert len(outcomes) == 10
        assert outcomes.count("Overloaded") == 7
        assert not caplog.records
        nursery.cancel_scope.cancel()
