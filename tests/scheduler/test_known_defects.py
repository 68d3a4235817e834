"""Failures that were reported of other systems, and that must not be possible here.

One test each. Its docstring says what went wrong there, and why it cannot here.
"""

from __future__ import annotations

import itertools
import logging
import math
import random
import socket
from typing import TYPE_CHECKING

import attrs
import pytest
import trio
import trio.testing

from rtos.errors import CallCycle, DaemonDown, DeadlineMissed, MailboxFull
from rtos.scheduler import (
    Backoff,
    CallStatistics,
    ChildSpec,
    MissReport,
    OverloadPolicy,
    SchedulingContext,
    open_mailbox,
    open_scheduler,
    open_supervisor,
)
from rtos.scheduler.analysis import Job, analyse
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.attribution import Part
from rtos.scheduler.diagnosis.busy_poll import PollingDetector, PollingReport
from rtos.scheduler.diagnosis.watchdog import Cause, Sample
from rtos.scheduler.policy.levels import LEVELS
from rtos.scheduler.supervision.task_group import open_task_group
from rtos.testing import TICK, run_virtual, spend

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from trio.testing import MockClock


async def test_timers_that_are_always_due_do_not_starve_messages(autojump_clock: MockClock) -> None:
    """There (rclcpp#392) an executor looked at timers first, each time, and never came to the messages.

    Here whatever is due shares one step, and timers that are due again after each step have to
    give way now and then, so that whoever is less urgent goes on.
    """
    fired = 0
    # In virtual time, where no quantum ends, a step takes up to 64 of them.
    messages = 20 * 65
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        send, receive = open_mailbox(math.inf)
        received = trio.Event()

        def fire() -> None:
            nonlocal fired
            fired += 1
            if not received.is_set() and fired < 1000:  # or a failure would have no end
                scheduler.add_timer(trio.current_time(), fire)

        async def serve() -> None:
            for number in range(messages):
                assert await receive.receive() == number
            received.set()

        with scheduler.context("reader", level=6):
            nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        for number in range(messages):
            send.send_nowait(number)
        fire()
        before = scheduler.statistics().passes
        await received.wait()
        assert fired > 20, "the timer was not due all the time"
        # One pass in nine at the least is the reader's, or the host's.
        assert scheduler.statistics().passes - before <= 9 * 23


@pytest.mark.parametrize("policy", OverloadPolicy)
async def test_a_backlog_never_grows_past_its_bound(
    autojump_clock: MockClock, policy: OverloadPolicy
) -> None:
    """Elsewhere queues have no bound unless one asks: senders faster than the receiver fill the memory.

    Here a mailbox has to be given a bound. What does not fit waits with its sender, is refused
    or is shed, and whoever sheds is told of each.
    """
    dropped: list[object] = []
    send, receive = open_mailbox(8, policy, on_drop=lambda value, _: dropped.append(value))
    most = refused = received = 0

    async def flood(sender: int) -> None:
        nonlocal most, refused
        for number in range(40):
            try:
                await send.send((sender, number), key=(sender, number))
            except MailboxFull:
                refused += 1
            most = max(most, send.statistics().current_buffer_used)

    async with trio.open_nursery() as nursery:
        for sender in range(5):
            nursery.start_soon(flood, sender)
        with trio.move_on_after(1000):
            while True:
                await trio.sleep(1)
                await receive.receive()
                received += 1
    assert most == 8
    assert received + refused + len(dropped) == 5 * 40
    if policy is OverloadPolicy.BLOCK:
        assert received == 5 * 40


async def test_what_is_urgent_is_received_first_though_it_was_sent_last(autojump_clock: MockClock) -> None:
    """There (ros2_documentation#6502) the order of a queue was taken for one of priorities, and was FIFO.

    Here a mailbox is ordered by level, then deadline, and by arrival only among equals.
    """
    send, receive = open_mailbox(10)
    for number in range(5):
        send.send_nowait(f"early {number}", level=5)
    send.send_nowait("soon", level=5, deadline=trio.current_time() + 1)
    send.send_nowait("urgent", level=0)
    got = [receive.receive_nowait() for _ in range(7)]
    assert got == [
        "urgent",  # the most urgent one, though it came last
        "soon",  # then the one that has a deadline
        *(f"early {number}" for number in range(5)),  # and equals in order of arrival
    ]


@pytest.mark.parametrize("seed", range(20))
async def test_priorities_that_change_while_queued_lose_nobody_and_keep_the_order(
    autojump_clock: MockClock, seed: int
) -> None:
    """There (embassy-rs/embassy#4666) a new priority of a queued task broke the list that it stood in.

    Here a change moves the entry, whoever makes it and whenever: each step is that of the most
    urgent task, by the priorities at that moment, and each task runs exactly once.
    """
    chance = random.Random(seed)
    waiting: dict[int, SchedulingContext] = {}
    ran: list[int] = []

    def change() -> None:
        for context in chance.choices(contexts, k=chance.randrange(12)):
            ranks[context] = chance.randrange(LEVELS), chance.choice([math.inf, chance.random()])
            context.rebase(*ranks[context])

    async def work(number: int) -> None:
        # Among equals by arrival.
        assert number == min(waiting, key=lambda each: (ranks[waiting[each]], each))
        del waiting[number]
        ran.append(number)
        change()

    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        contexts = [scheduler.context(f"task {number}", level=4) for number in range(60)]
        ranks = dict.fromkeys(contexts, (4, math.inf))
        for number in range(150):
            waiting[number] = chance.choice(contexts)
            with waiting[number]:
                nursery.start_soon(work, number)
        change()
    assert sorted(ran) == list(range(150))


def test_who_measures_does_not_disturb_what_is_measured() -> None:
    """There (zephyr#87010) the thread that printed the figures of a benchmark was in the figures.

    Here it is less urgent than what it looks at, and reading the accounts and the trace takes no
    lock: an urgent task waits for one of its steps at most, as for anybody's.
    """

    async def main() -> list[float]:
        waits = []
        chance = random.Random(1)

        async def report() -> None:
            while True:
                assert scheduler.statistics().contexts
                assert scheduler.trace.snapshot()
                spend(TICK)
                await trio.lowlevel.checkpoint()

        async with open_scheduler(trace=4096) as scheduler, trio.open_nursery() as nursery:
            with scheduler.context("report", level=7):
                nursery.start_soon(report)
            with scheduler.context("measured", level=1):
                nursery.start_soon(measure, waits, chance, nursery)
        return waits

    async def measure(waits: list[float], chance: random.Random, nursery: trio.Nursery) -> None:
        for _ in range(100):
            due = trio.current_time() + chance.randint(1, 1000) * TICK / 64
            await trio.sleep_until(due)
            waits.append(trio.current_time() - due)
        nursery.cancel_scope.cancel()

    waits = run_virtual(main)
    assert 0 < max(waits) <= TICK, "and never waiting would mean that nobody reported"


@pytest.mark.parametrize("run", [trio.run, run_virtual], ids=["real", "virtual"])
@pytest.mark.parametrize("shared", [True, False], ids=["one context", "contexts"])
def test_io_is_looked_at_between_the_steps_of_tasks_that_are_always_ready(
    run: Callable[..., int], *, shared: bool
) -> None:
    """There (micropython-lib#287) I/O was polled only when every ready task had run, some of them twice.

    Here the loop looks after each pass, which is one step, or the short ones of one context: an
    urgent reader runs after two passes at most, however many tasks want to run.
    """

    async def main() -> int:
        took = 0

        async def spin() -> None:
            while True:
                await trio.lowlevel.checkpoint()

        async def read(end: trio.socket.SocketType) -> None:
            nonlocal took
            for _ in range(20):
                assert await end.recv(1) == b"x"
                took = max(took, scheduler.statistics().passes - sent[-1])
            nursery.cancel_scope.cancel()

        async def write(end: socket.socket) -> None:
            while True:
                for _ in range(30):
                    await trio.lowlevel.checkpoint()
                sent.append(scheduler.statistics().passes)
                end.send(b"x")

        sent: list[int] = []
        here, there = socket.socketpair()
        here.setblocking(False)
        with here, trio.socket.from_stdlib_socket(there) as end:
            async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
                with scheduler.context("reader", level=1):
                    nursery.start_soon(read, end)
                context = scheduler.context("busy", level=4)
                for number in range(50):
                    with context if shared else scheduler.context(f"busy {number}", level=4):
                        nursery.start_soon(spin)
                with context:
                    nursery.start_soon(write, here)
        return took

    assert 1 <= run(main) <= 2


async def _miss(hog: Callable[[], Awaitable[None]], *, level: int) -> MissReport:
    """The report of a call that is due after 20 ticks, and pauses for one, beside a hog."""
    async with (
        open_scheduler(reserve=0, direct=False, trace=4096) as scheduler,
        trio.open_nursery() as nursery,
    ):
        port, sent = Port(scheduler, "data"), trio.Event()

        async def serve(_: object) -> None:
            spend(TICK)
            await trio.sleep(TICK)

        async def start_hog() -> None:
            await sent.wait()
            await hog()

        server = scheduler.context("data", level=2)
        with server:
            nursery.start_soon(lambda: port.serve(serve, context=server))
        with scheduler.context("hog", level=level):
            nursery.start_soon(start_hog)
        await trio.testing.wait_all_tasks_blocked()
        sent.set()
        with scheduler.context("client", level=2), pytest.raises(DeadlineMissed):
            await port.call(CallStatistics("data/read"), None, deadline=trio.current_time() + 20 * TICK)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (report,) = scheduler.misses
    return report


def _ticks(report: MissReport, part: Part) -> dict[str | None, tuple[float, float]]:
    """What a part took, by context: in all, and at a time; in ticks."""
    scale = TICK * 1e9
    shares = [share for share in report.shares if share.part is part]
    return {share.who: (round(share.ns / scale, 3), round(share.longest / scale, 3)) for share in shares}


def test_many_short_steps_that_block_like_a_long_one_are_named() -> None:
    """There (python/cpython#101946) ten callbacks of 10 ms held everybody up and no warning came.

    The warning looked at each alone. Here a missed deadline is explained from its own window,
    whatever the pieces, and the causes add up to all of it.
    """

    async def in_steps() -> None:
        for _ in range(10):
            spend(5 * TICK)
            await trio.lowlevel.checkpoint()

    report = run_virtual(lambda: _miss(in_steps, level=1))
    assert _ticks(report, Part.INTERFERENCE) == {"hog": (20, 5)}
    assert sum(share.ns for share in report.shares) == report.window
    assert report.offender is not None
    assert report.offender.who == "hog"


def test_a_long_step_of_somebody_less_urgent_is_named() -> None:
    """As above: less urgent work runs while the server pauses, and is called by its name too."""

    async def at_once() -> None:
        spend(50 * TICK)

    report = run_virtual(lambda: _miss(at_once, level=6))
    # The pause was over at some time within the step, and nobody could see it before its end.
    assert _ticks(report, Part.BLOCKING) == {"hog": (50, 50)}
    assert sum(share.ns for share in report.shares) == report.window
    assert "hog" in str(report)


def test_what_many_short_steps_cost_is_known_beforehand() -> None:
    """As above: who is more urgent than the ten steps waits for one, who is less urgent for all."""
    urgent = Job(name="urgent", level=0, cost=5, period=1000)
    hog = Job(name="hog", level=1, cost=100, period=1000, longest_step=10)
    low = Job(name="low", level=2, cost=5, period=1000)
    bounds = {report.job.name: report.response for report in analyse([urgent, hog, low]).jobs}
    assert 5 + 9 <= bounds["urgent"] <= 5 + 10
    assert bounds["low"] == 5 + 100 + 5
    whole = attrs.evolve(hog, longest_step=100, last_step=100)
    assert 5 + 99 <= analyse([urgent, whole, low]).jobs[0].response <= 5 + 100


def test_who_waits_by_asking_again_and_again_is_reported() -> None:
    """There (python-trio/trio#672) a task that kept waking up for nothing was noticed by nobody.

    Here the watchdog is told who runs, and asks about a context that runs often and does nothing.
    """
    detector = PollingDetector(window=2.0)
    told: list[PollingReport] = []

    class Watch:
        def woke(self, _: int) -> None:
            """Not asked for here."""

        def ran(self, context: SchedulingContext, now_ns: int) -> None:
            told.extend(detector.see(context, now_ns))

    async def ask_again() -> None:
        for _ in range(500):
            await trio.sleep(0.01)

    async def work() -> None:
        for _ in range(500):
            spend(0.001)
            await trio.sleep(0.009)

    async def main() -> None:
        async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
            scheduler._kernel.queue.recorder.watch = Watch()
            with scheduler.context("busybody"):
                nursery.start_soon(ask_again)
            with scheduler.context("worker"):
                nursery.start_soon(work)

    run_virtual(main)
    assert [report.name for report in told] == ["busybody"]
    assert told[0].rate == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "queued"])
def test_nobody_pays_for_a_schedule_point_that_lets_nobody_in(*, direct: bool) -> None:
    """There (python-trio/trio#1757) every operation went round the loop, also with nothing else ready.

    Here a daemon drains what waits within one step while its quantum lasts, and a call to one that
    is idle runs inside the caller's step, with no pass of its own.
    """

    async def main() -> tuple[int, int, int]:
        done = 0

        async def serve(_: object) -> None:
            nonlocal done
            done += 1

        async def ask() -> None:
            await port.call(kind, None)

        kind = CallStatistics("echo")
        async with (
            open_scheduler(reserve=0, quantum=1000.0, direct=direct) as scheduler,
            trio.open_nursery() as nursery,
        ):
            port = Port(scheduler, "echo")
            context = scheduler.context("echo", level=2)
            with context:
                nursery.start_soon(lambda: port.serve(serve, context=context))
            await trio.testing.wait_all_tasks_blocked()
            port.suspend()
            with scheduler.context("clients", level=3):
                for _ in range(20):
                    nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            before = scheduler.statistics()
            port.resume()
            while done < 20:
                await trio.lowlevel.checkpoint()
            drained = scheduler.statistics().passes - before.passes
            await trio.testing.wait_all_tasks_blocked()
            before = scheduler.statistics()
            for _ in range(20):
                await port.call(kind, None)
            called = scheduler.statistics()
            nursery.cancel_scope.cancel()
        return drained, called.passes - before.passes, called.donated - before.donated

    drained, passes, lent = trio.run(main)
    assert drained <= 4
    # Nor is there a pass of the loop for each of the forty steps of calls that are queued.
    assert passes <= 1
    assert lent == (20 if direct else 0)


async def _crash_until_down(backoff: Backoff, lives: Iterable[float], *, intensity: int) -> list[float]:
    """When a child was started that lives so long each time, until its supervisor gives up."""
    began: list[float] = []
    ages = iter(lives)

    async def crash(ready: Callable[[], None]) -> None:
        began.append(trio.current_time())
        ready()
        await trio.sleep(next(ages))
        msg = "boom"
        raise RuntimeError(msg)

    spec = ChildSpec(name="crashing", run=crash)
    async with open_scheduler(reserve=0) as scheduler:
        supervised = open_supervisor(scheduler, [spec], intensity=intensity, period=5.0, backoff=backoff)
        with pytest.raises(DaemonDown), trio.fail_after(1000):
            async with supervised:
                await trio.sleep_forever()
    return began


async def test_a_crash_loop_does_not_burn_its_restarts_within_an_instant(autojump_clock: MockClock) -> None:
    """There (erlang PR 1287) restarts followed at once, and the whole allowance was gone in microseconds.

    Here the first restart is at once, as most crashes are by chance, and each one after it waits
    twice as long as the one before.
    """
    began = await _crash_until_down(Backoff(first=0.25, cap=0.75), itertools.repeat(0.0), intensity=4)
    assert [after - before for before, after in itertools.pairwise(began)] == [0.0, 0.25, 0.5, 0.75]


@pytest.mark.parametrize("seed", range(20))
async def test_there_are_never_more_restarts_in_any_window_than_allowed(
    autojump_clock: MockClock, seed: int
) -> None:
    """There (elle 1211) the window was counted in messages, so that the limit was never reached.

    Here it is counted in time, and over every window of that length, wherever it begins.
    """
    chance = random.Random(seed)
    lives = (chance.choice([0.0, 0.5, 1.5, 3.0]) for _ in itertools.count())
    began = await _crash_until_down(Backoff(first=0.125, cap=0.5), lives, intensity=3)
    restarts = began[1:]
    assert len(restarts) >= 3
    for start in restarts:
        assert len([at for at in restarts if start <= at < start + 5.0]) <= 3


async def test_what_never_becomes_ready_does_not_keep_its_parent_waiting(autojump_clock: MockClock) -> None:
    """There (tractor) a child died before it could say that it was there, and its parent waited for ever.

    Here a start has a limit, and a child that ends before it is ready has not started.
    """

    async def never_ready(_: Callable[[], None]) -> None:
        await trio.sleep_forever()

    async def dead_at_once(_: Callable[[], None]) -> None:
        msg = "no such package"
        raise ImportError(msg)

    async with open_scheduler(reserve=0) as scheduler:
        for run, limit in ((never_ready, 2.0), (dead_at_once, 0.0)):
            before = trio.current_time()
            spec = ChildSpec(name="child", run=run, start_timeout=2.0)
            with pytest.raises(DaemonDown, match="child"):
                async with open_supervisor(scheduler, [spec], intensity=0):
                    pytest.fail("it counts as started")
            assert trio.current_time() - before == limit


async def test_a_flood_evicts_no_control_message(autojump_clock: MockClock) -> None:
    """There (actor-ts 310, 1148) what was shed first were notes of death and of acknowledgement.

    Whoever waited for them waited for ever. Here control messages have a lane of their own, which
    goes first and is never shed.
    """
    dropped: list[object] = []
    send, receive = open_mailbox(
        4, OverloadPolicy.DROP_OLDEST, on_drop=lambda value, _: dropped.append(value)
    )
    for number in range(100):
        if number % 10 == 0:
            send.send_control(f"control {number}")
        send.send_nowait(number, level=0)
    got = [receive.receive_nowait() for _ in range(14)]
    assert got == [*(f"control {number}" for number in range(0, 100, 10)), 96, 97, 98, 99]
    assert dropped == list(range(96))


async def test_a_daemon_that_writes_to_itself_does_not_freeze_the_host(autojump_clock: MockClock) -> None:
    """There (Thespian) sending did not return while anything was queued.

    One actor that wrote to itself held the whole program. Here its turns share a step for a quantum,
    or 64 of them, and the host, as urgent as it is, gets its own in between.
    """
    turns = 0

    async def write_to_itself() -> None:
        nonlocal turns
        while True:
            send.send_nowait(await receive.receive())
            turns += 1

    send, receive = open_mailbox(4)
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        send.send_nowait("again")
        with scheduler.context("writer", level=scheduler.host_level) as writer:
            nursery.start_soon(write_to_itself)
        for _ in range(100):
            await trio.lowlevel.checkpoint()
        assert 90 <= writer.steps <= 110
        assert writer.steps <= turns <= 65 * writer.steps
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("direct", [True, False], ids=["direct", "queued"])
async def test_a_call_to_oneself_is_refused_with_its_path(autojump_clock: MockClock, *, direct: bool) -> None:
    """There (orleans 5331, pykka 48, dask 4224) an actor that called itself, by way of others, hung.

    Here the kernel knows who waits for whom, and refuses the call that would close the ring.
    """
    async with open_scheduler(reserve=0, direct=direct) as scheduler, trio.open_nursery() as nursery:
        names = ("a", "b", "c")
        ports = {name: Port(scheduler, name) for name in names}

        async def serve(name: str) -> None:
            following = names[(names.index(name) + 1) % len(names)]

            async def pass_on(request: object) -> None:
                await ports[following].call(CallStatistics(following), request)

            with scheduler.context(name, level=2) as context:
                await ports[name].serve(pass_on, context=context)

        for name in names:
            nursery.start_soon(serve, name)
        await trio.testing.wait_all_tasks_blocked()
        for _ in range(2):  # the second time daemons are known well enough to be lent a step
            with pytest.raises(CallCycle, match="a -> b -> c -> a"), trio.fail_after(1):
                await ports["a"].call(CallStatistics("a"), None)
        nursery.cancel_scope.cancel()


async def test_what_has_expired_is_not_executed(autojump_clock: MockClock) -> None:
    """There (akka 32721, proto.actor dotnet 1433) requests were worked off whose callers had left.

    So under load nothing was in time any more. Here they are answered when they expire, and their
    bodies never begin.
    """
    begun: list[object] = []

    async def serve(request: object) -> None:
        begun.append(request)
        await trio.sleep(10)

    async def ask(number: int) -> None:
        due = trio.current_time() + 5
        with pytest.raises(DeadlineMissed):
            await port.call(CallStatistics("slow"), number, deadline=due)
        assert trio.current_time() == due

    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        port = Port(scheduler, "slow")
        context = scheduler.context("slow", level=2)
        with context:
            nursery.start_soon(lambda: port.serve(serve, context=context))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as callers:
            callers.start_soon(port.call, CallStatistics("slow"), "first")
            await trio.testing.wait_all_tasks_blocked()
            for number in range(20):
                callers.start_soon(ask, number)
        await port.call(CallStatistics("slow"), "last")
        nursery.cancel_scope.cancel()
    assert begun == ["first", "last"]


@pytest.mark.parametrize(("crowded", "longest"), [(True, 1), (False, 300)], ids=["crowd", "nursery"])
def test_a_crowd_is_stopped_in_slices(*, crowded: bool, longest: int) -> None:
    """There (trio) cancelling 100 000 parked tasks took 4 s in a single pass: the loop was dead meanwhile.

    Here a crowd is cancelled slice by slice, and what is urgent runs in between.
    """

    async def park() -> None:
        def abort(_: object) -> trio.lowlevel.Abort:
            spend(TICK)
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    async def main() -> float:
        late = 0.0

        async def tick() -> None:
            nonlocal late
            while True:
                due = trio.current_time() + TICK
                await trio.sleep_until(due)
                late = max(late, trio.current_time() - due)

        async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
            opened = open_task_group(scheduler) if crowded else trio.open_nursery()
            with scheduler.context("urgent", level=0):
                nursery.start_soon(tick)
            async with opened as tasks:
                for _ in range(300):
                    tasks.start_soon(park)
                await trio.sleep(10 * TICK)
                if isinstance(tasks, trio.Nursery):
                    tasks.cancel_scope.cancel()
            await trio.sleep(10 * TICK)
            nursery.cancel_scope.cancel()
        return late / TICK

    assert longest - 1 <= run_virtual(main) <= longest


def test_an_alarm_on_a_loaded_machine_does_not_blame_the_code() -> None:
    """There (temporal sdk-python 1050) two seconds of the wall clock were called a deadlock.

    The process had not been given the CPU. Here an alarm compares the clocks of the thread, and
    says which of the two it was.
    """
    before = Sample(wall=0, cpu=0, queued=0, process=0)
    two = 2_000_000_000
    assert before.cause(Sample(wall=two, cpu=10_000_000, queued=two - 10_000_000, process=10_000_000)) is (
        Cause.STARVED
    )
    assert before.cause(Sample(wall=two, cpu=two, queued=0, process=two)) is Cause.COMPUTING
    assert before.cause(Sample(wall=two, cpu=0, queued=0, process=0)) is Cause.BLOCKED


async def test_every_refused_or_dropped_call_is_answered(autojump_clock, caplog):
    """lambdaclass, ergo#94: what a full mailbox dropped was dropped silently, and its sender waited."""
    outcomes = []
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, kind = (
            Port(scheduler, "server", capacity=2, policy=OverloadPolicy.DROP_OLDEST),
            CallStatistics("work"),
        )

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
