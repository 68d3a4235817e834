"""Trio's own order: what works with public API alone, and what is refused.

In most tests the module of Trio's internals cannot be imported, and time is virtual.
"""

import builtins
import logging
import math
import subprocess
import sys
import threading
from contextlib import asynccontextmanager

import pytest
import trio
import trio._core._run as trio_run  # noqa: TID251 - the test looks into Trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import ConfigurationError, DaemonDown, DeadlineMissed, UnsupportedTrio
from rtos.scheduler import Budget, CallStatistics, current_context, open_scheduler, open_supervisor, periodic
from rtos.scheduler.analysis import Job
from rtos.scheduler.analysis.online import admit_now
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.watchdog import LongStep
from rtos.scheduler.dispatch.current import current_level
from rtos.scheduler.mailbox.channels import open_mailbox
from rtos.scheduler.tracing.raw import nanoseconds
from rtos.scheduler.tracing.records import Sleep, Step
from tests.support.children import Children

KIND = CallStatistics("daemon/do")


@pytest.fixture
def no_internals(monkeypatch):
    """Make the import of the run queue fail."""
    found = builtins.__import__

    def refuse(name, scope=None, locals_=None, fromlist=(), level=0):
        if name == "rtos.scheduler.dispatch.run_queue":
            raise ImportError("no module named 'trio._core._run'")
        return found(name, scope, locals_, fromlist, level)

    monkeypatch.setattr(builtins, "__import__", refuse)


@pytest.fixture
async def scheduler(autojump_clock, no_internals):
    async with open_scheduler(ordered=False, trace=4096) as opened:
        yield opened


@asynccontextmanager
async def served(scheduler, body, *, level=2, **options):
    """A port, and the context of its only worker."""
    port, context = Port(scheduler, "daemon", **options), scheduler.context("daemon", level=level)
    async with trio.open_nursery() as nursery:
        with context:
            nursery.start_soon(lambda: port.serve(body, context=context))
        await wait_all_tasks_blocked()
        yield port, context
        nursery.cancel_scope.cancel()


# Versions of Trio.


def test_unordered_scheduler_does_not_import_the_run_queue():
    program = (
        "import sys, trio\n"
        "from rtos import open_scheduler\n"
        "async def main():\n"
        "    async with open_scheduler(ordered=False) as scheduler:\n"
        "        await trio.sleep(0)\n"
        "        assert 'rtos.scheduler.dispatch.run_queue' not in sys.modules\n"
        "    async with open_scheduler():\n"
        "        assert 'rtos.scheduler.dispatch.run_queue' in sys.modules\n"
        "trio.run(main)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


async def test_error_for_a_trio_without_the_modules_names_the_remedy(no_internals):
    with pytest.raises(
        UnsupportedTrio, match=r"no module named .*; .* open_scheduler\(ordered=False\) .* runs"
    ):
        await open_scheduler().__aenter__()
    async with open_scheduler(ordered=False) as scheduler:
        assert not scheduler.ordered


class Renamed:
    """A runner whose ready queue has another name."""

    def __init__(self, runner):
        self.__dict__["_runner"] = runner

    def __getattr__(self, name):
        if name == "runq":
            raise AttributeError(name)
        return getattr(self._runner, name)

    def __setattr__(self, name, value):
        assert name != "runq"
        setattr(self._runner, name, value)


async def test_trio_whose_queue_has_another_name_works_unordered_only(autojump_clock, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(trio_run.GLOBAL_RUN_CONTEXT, "runner", Renamed(trio_run.GLOBAL_RUN_CONTEXT.runner))
        with pytest.raises(UnsupportedTrio, match=r"it lacks \['runq'\].*open_scheduler\(ordered=False\)"):
            await open_scheduler().__aenter__()
        async with open_scheduler(ordered=False) as scheduler:
            fired = []
            scheduler.add_timer(scheduler.now() + 5, lambda: fired.append(trio.current_time()))
            await trio.sleep(6)
            assert fired == [5.0]


async def test_closed_scheduler_leaves_queue_and_hooks_unchanged():
    runner = trio_run.GLOBAL_RUN_CONTEXT.runner
    queue, hooks, tasks = runner.runq, dict(runner.instruments), len(runner.tasks)
    async with open_scheduler(ordered=False):
        assert runner.runq is queue
        await trio.lowlevel.checkpoint()
    assert runner.runq is queue
    assert dict(runner.instruments) == hooks
    assert len(runner.tasks) == tasks


# What is refused.


@pytest.mark.parametrize("options", [{"reserve": 0.05}, {"direct": True}])
async def test_option_that_needs_the_run_queue_is_refused(options):
    (name,) = options
    with pytest.raises(ConfigurationError, match=f"{name}=.* does not work with ordered=False; leave out"):
        await open_scheduler(ordered=False, **options).__aenter__()
    async with open_scheduler(ordered=False, reserve=0, direct=False) as scheduler:
        assert scheduler.reserve == 0


async def test_budget_is_refused(scheduler, autojump_clock):
    budget = Budget(0.1, 1.0)
    with pytest.raises(
        ConfigurationError, match="context\\('tame'\\): budgets do not work with ordered=False; leave out"
    ):
        scheduler.context("tame", budget=budget)
    assert "tame" not in [account.name for account in scheduler.statistics().contexts]


async def test_admission_is_refused_since_no_wait_is_bounded(scheduler, autojump_clock):
    job = Job(name="new", level=1, cost=1, period=1000)
    with pytest.raises(ConfigurationError, match="'new' cannot be analysed"):
        await admit_now(scheduler, [], job)


@pytest.mark.parametrize("first", [True, False])
async def test_schedulers_of_one_loop_must_have_the_same_order(first):
    async with open_scheduler(ordered=first, reserve=0, direct=False):
        with pytest.raises(ConfigurationError, match=f"with .*ordered={first}; open both with the same"):
            await open_scheduler(ordered=not first, reserve=0, direct=False).__aenter__()
        async with open_scheduler(ordered=first, reserve=0, direct=False) as second:
            assert second.ordered is first


async def test_ordered_and_unordered_schedulers_one_after_another():
    for ordered in (True, False, True):
        async with open_scheduler(ordered=ordered):
            await trio.lowlevel.checkpoint()


# Calls.


async def test_call_is_served_at_its_level(scheduler, autojump_clock):
    async def body(request):
        assert current_context().name == "daemon"
        return request, current_level(), trio.current_time()

    async with served(scheduler, body, level=5) as (port, _):
        with scheduler.context("client", level=1):
            assert await port.call("a", deadline=math.inf, statistics=KIND) == ("a", 1, 0.0)
    assert scheduler.statistics().donated == 0


async def test_error_of_the_handler_reaches_the_caller(scheduler, autojump_clock):
    async def body(_):
        raise LookupError("nothing there")

    async with served(scheduler, body) as (port, _):
        with pytest.raises(LookupError, match="nothing there"):
            await port.call(None, statistics=KIND)


async def test_missed_deadline_ends_the_call_and_is_reported(scheduler, autojump_clock):
    async def body(_):
        await trio.sleep(10)

    async with served(scheduler, body) as (port, _):
        with pytest.raises(DeadlineMissed, match="missed its deadline"):
            await port.call(None, deadline=3.0, statistics=KIND)
        assert trio.current_time() == 3.0
        await trio.sleep(1)
    assert scheduler.statistics().misses == 1
    (report,) = scheduler.misses
    assert report.missed.port == "daemon"


async def test_cancelled_call_does_not_start_and_a_running_one_is_cancelled(scheduler, autojump_clock):
    seen = []

    async def body(request):
        seen.append(request)
        try:
            await trio.sleep(10)
        except trio.Cancelled:
            seen.append(f"{request} cancelled")
            raise

    async with served(scheduler, body) as (port, _), trio.open_nursery() as nursery:
        nursery.start_soon(port.call, "running")
        await wait_all_tasks_blocked()
        with trio.move_on_after(1):
            await port.call("queued", statistics=KIND)
        nursery.cancel_scope.cancel()
    assert seen == ["running", "running cancelled"]


async def test_calls_wait_in_order_of_level_then_deadline_then_arrival(scheduler, autojump_clock):
    ran = []

    async def body(request):
        ran.append(request)
        await trio.sleep(1)

    async def send(name, deadline):
        await port.call(name, deadline=deadline, statistics=KIND)

    async with served(scheduler, body) as (port, _), trio.open_nursery() as nursery:
        waiting = [
            ("first", 4, math.inf),  # the daemon is idle
            ("less urgent", 6, math.inf),
            ("equal", 3, math.inf),
            ("equal, later", 3, math.inf),
            ("due", 3, 50.0),
            ("urgent", 0, math.inf),
        ]
        for name, level, deadline in waiting:
            with scheduler.context(name, level=level):
                nursery.start_soon(send, name, deadline)
            await wait_all_tasks_blocked()
    assert ran == ["first", "urgent", "due", "equal", "equal, later", "less urgent"]


async def test_messages_wait_in_order_of_level(no_internals):
    async with open_scheduler(ordered=False) as scheduler:
        send, receive = open_mailbox(8)
        for level in (5, 1, 3):
            with scheduler.context(str(level), level=level):
                await send.send(level)
        assert [await receive.receive() for _ in range(3)] == [1, 3, 5]


# Timers, periodic releases, supervision.


async def test_timers_fire_in_order_although_one_raises(scheduler, autojump_clock, caplog):
    fired = []

    def note(name):
        return lambda: fired.append((name, trio.current_time()))

    def fail():
        raise ValueError("broken")

    scheduler.add_timer(2.0, note("second"))
    scheduler.add_timer(1.0, fail)
    scheduler.add_timer(1.0, note("first"))
    scheduler.add_timer(2.0, note("third"))
    scheduler.add_timer(1.5, note("never")).cancel()
    with caplog.at_level(logging.CRITICAL, "rtos.scheduler"):
        await trio.sleep(3)
    assert fired == [("first", 1.0), ("second", 2.0), ("third", 2.0)]
    assert scheduler.statistics().timers == 0


async def test_timer_fires_while_tasks_are_always_ready():
    """In real time: the loop never sleeps, so only a look at the timer heap can fire it."""
    async with open_scheduler(ordered=False) as scheduler:
        fired = []
        scheduler.add_timer(scheduler.now(), lambda: fired.append("due"))
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        assert fired == ["due"]
        assert scheduler.statistics().sleeps == 0


async def test_timer_ends_the_sleep_of_the_loop():
    async with open_scheduler(ordered=False) as scheduler:
        woken = trio.Event()
        scheduler.add_timer(scheduler.now() + 0.01, woken.set)
        with trio.fail_after(10):
            await woken.wait()
        assert scheduler.statistics().sleeps > 0


async def test_periodic_releases_are_on_the_grid(scheduler, autojump_clock):
    due = []
    async for release in periodic(scheduler, 10.0, offset=5.0):
        due.append((release.due, release.late, trio.current_time()))
        await trio.sleep(3)
        if len(due) == 3:
            break
    assert due == [(5.0, 0.0, 5.0), (15.0, 0.0, 15.0), (25.0, 0.0, 25.0)]


async def test_supervisor_starts_in_order_and_stops_in_reverse(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=2), children.spec("b", start=1)]
    async with open_supervisor(scheduler, specs):
        assert children.take() == ["start a", "ready a", "start b", "ready b"]
        assert trio.current_time() == 3.0
    assert children.take() == ["stop b", "end b", "stop a", "end a"]


# Trace and accounts.


async def test_context_is_billed_for_its_steps(scheduler, autojump_clock):
    async def spend(seconds):
        for _ in range(3):
            autojump_clock.jump(seconds)
            await trio.lowlevel.checkpoint()

    contexts = [scheduler.context(name) for name in ("a", "b")]
    async with trio.open_nursery() as nursery:
        for context, seconds in zip(contexts, (1, 10), strict=True):
            with context:
                nursery.start_soon(spend, seconds)
    accounts = {account.name: account for account in scheduler.statistics().contexts}
    assert (accounts["a"].cpu, accounts["a"].steps, accounts["a"].longest_step) == (3.0, 4, 1.0)
    assert (accounts["b"].cpu, accounts["b"].steps, accounts["b"].longest_step) == (30.0, 4, 10.0)
    steps = [each for each in scheduler.trace.snapshot() if isinstance(each, Step) and each.name == "a"]
    assert [step.duration for step in steps] == [10**9] * 3 + [0]


async def test_step_counts_as_ready_since_its_pass_began(scheduler, autojump_clock):
    lot = trio.lowlevel.ParkingLot()
    autojump_clock.jump(100)

    async def spend():
        await lot.park()
        autojump_clock.jump(5)

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            with scheduler.context("spender"):
                nursery.start_soon(spend)
        await wait_all_tasks_blocked()
        lot.unpark_all()
    steps = [each for each in scheduler.trace.snapshot() if isinstance(each, Step) and each.name == "spender"]
    steps = [step for step in steps if step.duration]
    assert [step.at - step.ready for step in steps] == [0, 5 * 10**9]


async def test_trace_has_trio_time():
    async with open_scheduler(ordered=False, trace=4096) as scheduler:
        before = nanoseconds(trio.current_time())
        for _ in range(3):
            await trio.lowlevel.checkpoint()
        after = nanoseconds(trio.current_time())
        steps = [
            each for each in scheduler.trace.snapshot() if isinstance(each, Step) and each.name == "host"
        ]
    # Trio's clock starts at a random offset of hours, so a wrong offset would show.
    assert before <= steps[0].at + 10**9
    assert steps[-1].at <= after


async def test_service_is_billed_to_the_caller(scheduler, autojump_clock):
    async def body(_):
        autojump_clock.jump(2)

    async with served(scheduler, body) as (port, context):
        client = scheduler.context("client")
        with client:
            await port.call(None, statistics=KIND)
    assert client.billed_ns == 2 * 10**9
    assert context.cpu_ns == 2 * 10**9
    assert client.cpu_ns == 0


async def test_cpu_time_of_a_context_includes_the_running_step(scheduler, autojump_clock):
    with scheduler.context("client") as client:
        await trio.lowlevel.checkpoint()
        before = scheduler.cpu_ns(client)
        autojump_clock.jump(4)
        assert scheduler.cpu_ns(client) - before == 4 * 10**9


async def test_trace_records_sleep(scheduler, autojump_clock):
    await trio.sleep(7)
    await trio.lowlevel.checkpoint()
    slept = [each.duration for each in scheduler.trace.snapshot() if isinstance(each, Sleep)]
    assert sum(slept) == 7 * 10**9


async def test_ready_tasks_are_counted_as_trio_counts_them(scheduler, autojump_clock):
    lot = trio.lowlevel.ParkingLot()
    async with trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(lot.park)
        await wait_all_tasks_blocked()
        lot.unpark_all()
        assert scheduler.statistics().ready == 5


async def test_watchdog_reports_a_long_step_while_it_runs():
    alarms, reported = [], threading.Event()

    def note(alarm):
        alarms.append(alarm)
        if isinstance(alarm, LongStep) and alarm.context == "hog":
            reported.set()

    async with open_scheduler(ordered=False, watchdog=0.03, on_alarm=note) as scheduler:

        async def hog():
            assert reported.wait(10)

        async with trio.open_nursery() as nursery:
            with scheduler.context("hog", level=6):
                nursery.start_soon(hog, name="the hog")
    (report,) = [alarm for alarm in alarms if isinstance(alarm, LongStep) and alarm.context == "hog"]
    assert (report.level, report.task) == (6, "the hog")


async def test_call_to_a_closed_port_raises_daemon_down(scheduler, autojump_clock):
    port = Port(scheduler, "daemon")
    port.close(DaemonDown("daemon", "it has been stopped"))
    with pytest.raises(DaemonDown, match="it has been stopped"):
        await port.call(None, statistics=KIND)
