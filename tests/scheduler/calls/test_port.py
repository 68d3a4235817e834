"""Ports: one outcome in every phase, priority inheritance, overload, cycles, and conservation of calls.

All in virtual time: a handler that takes a second takes it exactly.
"""

import math
from collections import Counter
from contextlib import nullcontext
from functools import partial

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.errors import CallCycle, DaemonDown, DeadlineMissed, MailboxFull
from rtos.scheduler import CallStatistics, current_context, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.dispatch.current import current_deadline, current_level
from rtos.scheduler.policy.overload import MailboxStatistics
from tests.support.effort import short_or_full


@pytest.fixture(params=[True, False], ids=["direct", "queued"])
async def scheduler(autojump_clock, request):
    async with open_scheduler(reserve=0, direct=request.param) as opened:
        yield opened


@pytest.fixture
async def queueing(autojump_clock):
    """A scheduler without the direct path: every call is handed to the worker's own task."""
    async with open_scheduler(reserve=0, direct=False) as opened:
        yield opened


class Daemon:
    """A port whose handler does what the request says: sleep so many seconds, or call a function."""

    def __init__(self, scheduler, nursery, name="daemon", *, level=3, workers=1, **options):
        self.scheduler = scheduler
        self.port = Port(scheduler, name, **options)
        self.kind = CallStatistics(name)
        self.name = name
        self.ran = []
        self.contexts = []
        self.scopes = []
        self.level = level
        self.nursery = nursery
        for _ in range(workers):
            self.start()

    def start(self):
        context = self.scheduler.context(self.name, level=self.level)
        scope = trio.CancelScope()
        self.contexts.append(context)
        self.scopes.append(scope)
        with context:
            self.nursery.start_soon(self._serve, context, scope)

    def stop(self):
        for scope in self.scopes:
            scope.cancel()
        self.scopes.clear()

    async def _serve(self, context, scope):
        with scope:
            await self.port.serve(self._body, context=context)

    async def _body(self, request):
        self.ran.append(request)
        if callable(request):
            return await request()
        if isinstance(request, Exception):
            raise request
        if isinstance(request, tuple):
            await trio.sleep(request[1])
        elif request:
            await trio.sleep(request)
        return request

    async def call(self, request=0, *, deadline=math.inf):
        return await self.port.call(request, deadline=deadline, statistics=self.kind)

    def counts(self):
        """The counts that are not zero, without ``accepted``."""
        counts = self.port.queue.statistics
        assert counts.conserved()
        blocked = self.port._core.blocked
        assert blocked is None or blocked.statistics.conserved()
        names = ("handled", "failed", "expired", "shed", "cancelled", "queued", "served")
        return {name: value for name in names if (value := getattr(counts, name))}


class Outcomes:
    """Callers in tasks of their own, and the outcome of each."""

    def __init__(self, nursery):
        self.nursery = nursery
        self.of = {}
        self.scopes = {}

    def start(self, name, call, *, context=None):
        self.scopes[name] = trio.CancelScope()
        if context is None:
            self.nursery.start_soon(self._run, name, call)
        else:
            with context:
                self.nursery.start_soon(self._run, name, call)

    def cancel(self, name):
        self.scopes[name].cancel()

    async def _run(self, name, call):
        assert name not in self.of
        with self.scopes[name] as scope:
            try:
                result = await call()
            except Exception as error:  # noqa: BLE001 - that is what is looked at
                result = error
            assert name not in self.of
            self.of[name] = (result, trio.current_time())
        if scope.cancelled_caught:
            self.of[name] = ("cancelled", trio.current_time())

    def kinds(self):
        return {name: type(what).__name__ if isinstance(what, Exception) else what for name, (what, _) in
                self.of.items()}  # fmt: skip


# Calls that succeed or fail.


async def test_call_returns_the_reply_and_raises_the_error_of_its_handler(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        assert await daemon.call(0) == 0
        assert await daemon.call(2) == 2
        assert trio.current_time() == 2.0
        error = ValueError("the daemon's own")
        with pytest.raises(ValueError, match="^the daemon's own$") as caught:
            await daemon.call(error)
        assert caught.value is error
        assert daemon.counts() == {"handled": 2, "failed": 1}
        nursery.cancel_scope.cancel()


async def test_waiting_calls_are_served_by_level_deadline_and_arrival(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=0)
        callers = Outcomes(nursery)
        await wait_all_tasks_blocked()
        callers.start("busy", lambda: daemon.call(("busy", 1)))
        await wait_all_tasks_blocked()
        for name, level, deadline in (
            ("chatty", 6, 50.0),
            ("plain", 4, math.inf),
            ("later", 4, 99.0),
            ("sooner", 4, 98.0),
            ("as plain", 4, math.inf),
            ("urgent", 1, math.inf),
        ):
            context = scheduler.context(name, level=level)
            callers.start(name, lambda n=name, d=deadline: daemon.call((n, 1), deadline=d), context=context)
            await wait_all_tasks_blocked()
        await trio.sleep(20)
        assert [name for name, _ in daemon.ran] == [
            "busy",  # it was being served already
            "urgent",  # the most urgent level, although it came last
            "sooner",  # within a level the earlier deadline
            "later",
            "plain",  # among equals the earlier arrival
            "as plain",
            "chatty",  # a deadline does not matter across levels
        ]
        nursery.cancel_scope.cancel()


async def test_each_worker_serves_one_call_at_a_time(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=3)
        callers = Outcomes(nursery)
        for number in range(6):
            callers.start(number, lambda: daemon.call(1))
        await trio.sleep(2.5)
        assert sorted(at for _, at in callers.of.values()) == [1, 1, 1, 2, 2, 2]
        nursery.cancel_scope.cancel()


async def test_call_waits_for_the_first_worker(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=0)
        callers = Outcomes(nursery)
        callers.start("early", lambda: daemon.call(1))
        await trio.sleep(5)
        assert daemon.counts() == {"queued": 1}
        daemon.start()
        await trio.sleep(2)
        assert callers.of == {"early": (1, 6.0)}
        nursery.cancel_scope.cancel()


async def test_queued_call_is_a_checkpoint(queueing, autojump_clock):
    scheduler = queueing
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        await wait_all_tasks_blocked()
        with trio.testing.assert_checkpoints():
            await daemon.call()
        with trio.CancelScope() as scope:
            scope.cancel()
            await daemon.call("never")
        assert daemon.ran == [0]
        nursery.cancel_scope.cancel()


async def test_invalid_capacity_or_deadline_raises_before_anything_changes(scheduler, autojump_clock):
    with pytest.raises(ValueError, match=r"port\('p'\): capacity 0 leaves no room; use 1 or more"):
        Port(scheduler, "p", capacity=0)
    port = Port(scheduler, "p")
    with pytest.raises(ValueError, match="kind: deadline nan is not a time; use absolute Trio time"):
        await port.call(None, deadline=math.nan, statistics=CallStatistics("kind"))
    assert port.queue.statistics == MailboxStatistics()


# One outcome, in every phase and for every event.


async def make_queued(daemon, callers):
    callers.start("blocker", lambda: daemon.call(("blocker", 4)))
    await wait_all_tasks_blocked()
    callers.start("it", lambda: daemon.call(("it", 4), deadline=10.0))
    await wait_all_tasks_blocked()


async def make_running(daemon, callers):
    callers.start("it", lambda: daemon.call(("it", 4), deadline=10.0))
    await wait_all_tasks_blocked()


async def make_handed_over(daemon, callers):
    """Assigned to a worker that has not run since: among equals, this task came first."""
    # All three have one level and one deadline.
    caller, here = (daemon.scheduler.context(name, level=4, deadline=10.0) for name in ("caller", "here"))
    callers.start("it", lambda: daemon.call(("it", 4)), context=caller)
    with here:
        await trio.lowlevel.checkpoint()
    assert daemon.counts() == {"served": 1}
    assert daemon.ran == []


async def make_finished(daemon, callers):
    """The reply was sent, and the caller has not run since."""
    caller = daemon.scheduler.context("caller", level=7)
    callers.start("it", lambda: daemon.call(("it", 4), deadline=10.0), context=caller)
    await trio.sleep(4)
    assert daemon.counts() == {"handled": 1}
    assert callers.of == {}


async def caller_cancelled(daemon, callers, clock):
    callers.cancel("it")


async def deadline_passed(daemon, callers, clock):
    clock.jump(100)


async def daemon_stopped(daemon, callers, clock):
    daemon.stop()


async def port_closed(daemon, callers, clock):
    daemon.port.close(DaemonDown("daemon", "closed"))


SURE = {"cancelled", "DeadlineMissed", "DaemonDown", ("it", 4)}

OUTCOMES = {
    # A waiting call has not run, and never does.
    (make_queued, caller_cancelled): ("cancelled", "cancelled", False),
    (make_queued, deadline_passed): ("DeadlineMissed", "expired", False),
    (make_queued, port_closed): ("DaemonDown", "failed", False),
    # A waiting call stays when the workers stop, and the next worker serves it.
    (make_queued, daemon_stopped): (("it", 4), "handled", True),
    (make_handed_over, caller_cancelled): ("cancelled", "cancelled", False),
    (make_handed_over, deadline_passed): ("DeadlineMissed", "expired", False),
    # The worker runs, and is cancelled at its first checkpoint.
    (make_handed_over, daemon_stopped): ("DaemonDown", "failed", True),
    # A handler that runs may end, although the port was closed.
    (make_handed_over, port_closed): (("it", 4), "handled", True),
    (make_running, caller_cancelled): ("cancelled", "cancelled", True),
    (make_running, deadline_passed): ("DeadlineMissed", "expired", True),
    (make_running, daemon_stopped): ("DaemonDown", "failed", True),
    (make_running, port_closed): (("it", 4), "handled", True),
    # The reply was sent, and cannot be taken back.
    (make_finished, caller_cancelled): (("it", 4), "handled", True),
    (make_finished, deadline_passed): (("it", 4), "handled", True),
    (make_finished, daemon_stopped): (("it", 4), "handled", True),
    (make_finished, port_closed): (("it", 4), "handled", True),
}


@pytest.mark.parametrize(
    ("phase", "event"), OUTCOMES, ids=lambda part: part.__name__.removeprefix("make_").replace("_", " ")
)
async def test_call_has_one_outcome_in_every_phase(queueing, autojump_clock, phase, event):
    scheduler = queueing
    outcome, counter, runs = OUTCOMES[phase, event]
    level = {make_handed_over: 6, make_finished: 1}.get(phase, 3)
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=level)
        callers = Outcomes(nursery)
        await wait_all_tasks_blocked()
        # Less urgent than the worker and more urgent than the caller, to run between the two.
        with scheduler.context("test", level=5) if phase is make_finished else nullcontext():
            await phase(daemon, callers)
        await event(daemon, callers, autojump_clock)
        await trio.lowlevel.checkpoint()
        if event is daemon_stopped:
            daemon.start()
        await trio.sleep(50)
        assert callers.kinds()["it"] == outcome
        assert daemon.counts()[counter] >= 1
        assert (("it", 4) in daemon.ran) == runs
        assert daemon.ran.count(("it", 4)) <= 1
        result = callers.of["it"][0]
        if isinstance(result, DeadlineMissed):
            assert result.started is runs
        if event is not port_closed:
            assert await daemon.call() == 0  # the next call is served
        assert set(daemon.counts()) <= {"handled", "failed", "expired", "cancelled"}
        nursery.cancel_scope.cancel()


async def test_caller_is_answered_at_the_deadline_although_the_handler_is_shielded(scheduler, autojump_clock):
    async def stubborn():
        with trio.CancelScope(shield=True):
            await trio.sleep(10)

    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        with pytest.raises(DeadlineMissed, match="missed its deadline while it ran") as caught:
            await daemon.call(stubborn, deadline=3.0)
        assert (trio.current_time(), caught.value.started, caught.value.late) == (3.0, True, 0.0)
        assert daemon.counts() == {"served": 1}
        await trio.sleep(20)
        assert daemon.counts() == {"expired": 1}
        assert daemon.kind.missed == 1
        nursery.cancel_scope.cancel()


async def test_call_whose_deadline_has_passed_is_not_sent(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        await trio.sleep(5)
        with pytest.raises(DeadlineMissed, match="before it started; nothing happened") as caught:
            await daemon.call(1, deadline=4.0)
        assert (caught.value.started, caught.value.late) == (False, 1.0)
        assert daemon.counts() == {}
        assert daemon.port.queue.statistics.accepted == 0
        nursery.cancel_scope.cancel()


async def test_cancelled_caller_waits_until_its_handler_has_ended(scheduler, autojump_clock):
    cleaned = []

    async def handler():
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(2)
            cleaned.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        with trio.move_on_after(1) as scope:
            await daemon.call(handler)
        assert scope.cancelled_caught
        assert cleaned == [trio.current_time()] == [3.0]
        assert daemon.counts() == {"cancelled": 1}
        nursery.cancel_scope.cancel()


async def test_handler_that_ends_before_it_notices_the_cancellation_is_handled(scheduler, autojump_clock):
    async def handler():
        callers.cancel("it")
        return "done"

    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        callers.start("it", lambda: daemon.call(handler))
        await wait_all_tasks_blocked()
        assert callers.kinds() == {"it": "done"}
        assert daemon.counts() == {"handled": 1}
        assert await daemon.call(1) == 1
        nursery.cancel_scope.cancel()


async def test_caller_and_worker_cancelled_together_give_one_outcome(scheduler, autojump_clock):
    with trio.move_on_after(60) as too_long:
        async with trio.open_nursery() as nursery:
            daemon = Daemon(scheduler, nursery, workers=2)
            callers = Outcomes(nursery)
            for number in range(5):
                callers.start(number, lambda: daemon.call(10))
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    assert not too_long.cancelled_caught
    assert daemon.counts() == {"cancelled": 5}


@pytest.mark.parametrize("why", ["cancelled", "deadline"])
async def test_error_in_the_cleanup_of_a_cancelled_handler_does_not_end_the_worker(
    scheduler, autojump_clock, why
):
    async def fails_on_cancellation():
        try:
            await trio.sleep_forever()
        finally:
            msg = "while cleaning up"
            raise ValueError(msg)

    async def handler():
        async with trio.open_nursery() as inner:
            inner.start_soon(trio.sleep_forever)
            inner.start_soon(fails_on_cancellation)

    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        deadline = 1.0 if why == "deadline" else math.inf
        callers.start("it", lambda: daemon.call(handler, deadline=deadline))
        await wait_all_tasks_blocked()
        if why == "cancelled":
            callers.cancel("it")
        await trio.sleep(5)
        # A cancelled caller gets the error; one that was late has been answered before.
        assert callers.kinds() == {"it": "ExceptionGroup" if why == "cancelled" else "DeadlineMissed"}
        assert await daemon.call(1) == 1
        assert daemon.counts() in ({"failed": 1, "handled": 1}, {"expired": 1, "handled": 1})
        nursery.cancel_scope.cancel()


async def test_keyboard_interrupt_of_a_handler_ends_the_worker_and_answers_the_caller(
    scheduler, autojump_clock
):
    async def handler():
        raise KeyboardInterrupt

    callers = None
    with pytest.raises(BaseExceptionGroup, match="unhandled errors|Exceptions from Trio") as caught:  # noqa: PT012
        async with trio.open_nursery() as nursery:
            daemon = Daemon(scheduler, nursery)
            callers = Outcomes(nursery)
            callers.start("it", lambda: daemon.call(handler))
            await trio.sleep(5)
    assert caught.value.split(KeyboardInterrupt)[1] is None
    assert callers.kinds()["it"] in ("DaemonDown", "cancelled")
    assert daemon.counts() == {"failed": 1}


# Deadlines that cannot be met.


async def test_call_whose_deadline_cannot_be_met_is_not_started(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        await daemon.call(("teach", 4))
        assert daemon.kind.estimate == 4.0
        callers.start("busy", lambda: daemon.call(("busy", 4)))
        await wait_all_tasks_blocked()
        callers.start("tight", lambda: daemon.call(("tight", 4), deadline=10.0))
        callers.start("loose", lambda: daemon.call(("loose", 4), deadline=13.0))
        await trio.sleep(10)
        assert callers.kinds() == {"busy": ("busy", 4), "tight": "DeadlineMissed", "loose": ("loose", 4)}
        assert callers.of["tight"][1] == 8.0  # the worker became free, with 2 of the 4 seconds left
        assert ("tight", 4) not in daemon.ran
        assert daemon.counts() == {"handled": 3, "expired": 1}
        nursery.cancel_scope.cancel()


async def test_estimate_that_refuses_every_call_is_lowered(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        await daemon.call(("once", 100))
        served = 0
        for _ in range(40):
            blocker = Outcomes(nursery)
            blocker.start("b", lambda: daemon.call(("b", 0.1)))
            await wait_all_tasks_blocked()
            try:
                await daemon.call(("quick", 0.1), deadline=trio.current_time() + 20)
                served += 1
            except DeadlineMissed:
                pass
        assert served > 10
        nursery.cancel_scope.cancel()


# Overload.


async def test_full_port_refuses_further_calls(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, capacity=2)
        callers = Outcomes(nursery)
        for name in ("busy", "one", "two", "three", "urgent"):
            context = scheduler.context(name, level=2 if name == "urgent" else 4)
            callers.start(name, lambda n=name: daemon.call((n, 1)), context=context)
            await wait_all_tasks_blocked()
        await trio.sleep(30)
        assert [name for name, _ in daemon.ran] == ["busy", "one", "two"]
        assert callers.kinds() == {name: (name, 1) for name in ("busy", "one", "two")} | {
            "three": "MailboxFull",
            "urgent": "MailboxFull",
        }
        assert daemon.port.queue.statistics.refused == 2
        nursery.cancel_scope.cancel()


async def test_refusal_names_the_port_and_its_capacity(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=0, capacity=1)
        nursery.start_soon(daemon.call)
        await wait_all_tasks_blocked()
        with pytest.raises(MailboxFull, match="^daemon refused: its mailbox holds 1 of 1; try again later$"):
            await daemon.call()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("end", ["cancelled", "deadline", "closed", "served"])
async def test_call_that_a_drain_blocks_has_one_outcome(scheduler, autojump_clock, end):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        callers.start("busy", lambda: daemon.call(("busy", 10)))
        await wait_all_tasks_blocked()
        nursery.start_soon(daemon.port.drain)
        await wait_all_tasks_blocked()
        deadline = 5.0 if end == "deadline" else math.inf
        callers.start("blocked", lambda: daemon.call(("blocked", 1), deadline=deadline))
        await trio.sleep(1)
        assert "blocked" not in callers.of
        match end:
            case "cancelled":
                callers.cancel("blocked")
            case "closed":
                daemon.port.close(DaemonDown("daemon", "it has gone"))
            case "served":
                await trio.sleep(20)
                daemon.start()
        await trio.sleep(60)
        kind = {"cancelled": "cancelled", "deadline": "DeadlineMissed", "closed": "DaemonDown"}
        assert callers.kinds()["blocked"] == kind.get(end, ("blocked", 1))
        assert (("blocked", 1) in daemon.ran) == (end == "served")
        nursery.cancel_scope.cancel()


# Priority inheritance.


async def test_worker_is_raised_when_a_call_is_sent_and_falls_back_at_the_reply(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=5)
        callers = Outcomes(nursery)
        (context,) = daemon.contexts
        await wait_all_tasks_blocked()
        low, high = scheduler.context("low", level=6), scheduler.context("high", level=1)
        callers.start("low", lambda: daemon.call(2), context=low)
        await wait_all_tasks_blocked()
        assert context.level == 5  # a less urgent caller does not lower it
        callers.start("high", lambda: daemon.call(1, deadline=50.0), context=high)
        await wait_all_tasks_blocked()
        assert (context.level, context.deadline) == (1, 50.0)  # while it still serves the first call
        await trio.sleep(2.5)
        assert context.level == 1  # now it serves the second call
        await trio.sleep(1)
        assert (context.level, context.deadline, context.job_deadline) == (5, math.inf, math.inf)
        assert (context.payer, context.chain) == (None, ())
        nursery.cancel_scope.cancel()


async def test_waiting_call_raises_all_busy_workers(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=5, workers=3)
        callers = Outcomes(nursery)
        for number in range(3):
            callers.start(number, lambda: daemon.call(5))
        await wait_all_tasks_blocked()
        with scheduler.context("high", level=0):
            nursery.start_soon(daemon.call)
        await wait_all_tasks_blocked()
        assert [context.level for context in daemon.contexts] == [0, 0, 0]
        nursery.cancel_scope.cancel()


async def test_worker_keeps_the_level_of_the_waiting_call_between_two_calls(scheduler, autojump_clock):
    """Otherwise every task between its own level and that of the call would run first."""
    trace = []

    async def spin():
        while True:
            trace.append("middle")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=6)
        callers = Outcomes(nursery)
        await wait_all_tasks_blocked()
        urgent = scheduler.context("urgent", level=1)
        for name in ("first", "second", "third"):
            callers.start(name, lambda n=name: daemon.call((n, 0)), context=urgent)
        with scheduler.context("middle", level=3):
            nursery.start_soon(spin)
        with scheduler.context("test", level=2):
            while len(daemon.ran) < 3:
                await trio.lowlevel.checkpoint()
        assert trace == []
        nursery.cancel_scope.cancel()


async def test_raising_the_served_call_keeps_the_level_of_a_more_urgent_waiting_one(
    scheduler, autojump_clock
):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=5)
        callers = Outcomes(nursery)
        served, waiting = scheduler.context("served", level=4), scheduler.context("waiting", level=0)
        callers.start("served", lambda: daemon.call(5), context=served)
        await wait_all_tasks_blocked()
        callers.start("waiting", lambda: daemon.call(5), context=waiting)
        await wait_all_tasks_blocked()
        served.inherit(2, math.inf)
        assert daemon.contexts[0].level == 0
        nursery.cancel_scope.cancel()


async def test_level_deadline_and_payer_travel_through_nested_calls(scheduler, autojump_clock):
    seen = {}

    def note(name):
        context = current_context()
        seen[name] = (current_level(), current_deadline(), context.payer, context.chain)

    async with trio.open_nursery() as nursery:
        a, b, c = (
            Daemon(scheduler, nursery, name, level=level)
            for name, level in zip("abc", (4, 6, 7), strict=True)
        )
        await wait_all_tasks_blocked()

        async def in_a():
            note("a")
            return await b.call(in_b, deadline=80.0)

        async def in_b():
            note("b")
            return await c.call(in_c)

        async def in_c():
            note("c")
            return "deep"

        client = scheduler.context("client", level=2)
        with client:
            assert await a.call(in_a, deadline=90.0) == "deep"
        assert seen == {
            "a": (2, 90.0, client, ("a",)),
            "b": (2, 80.0, client, ("a", "b")),  # the earlier of its own deadline and the job's
            "c": (2, 80.0, client, ("a", "b", "c")),
        }
        for daemon in (a, b, c):
            (context,) = daemon.contexts
            assert (context.level, context.payer, context.chain) == (context.base_level, None, ())
        nursery.cancel_scope.cancel()


async def test_each_caller_pays_for_its_own_call_when_one_step_serves_many():
    """In real time, since in virtual time a step takes no time; compared within one run."""

    def burn(rounds):
        async def handler():
            sum(range(rounds))

        return handler

    async with open_scheduler(quantum=10.0) as scheduler, trio.open_nursery() as nursery:
        daemon, deeper = Daemon(scheduler, nursery, level=6), Daemon(scheduler, nursery, "deeper", level=6)
        await wait_all_tasks_blocked()
        dear, cheap, idle, nested = (
            scheduler.context(name, level=3) for name in ("dear", "cheap", "idle", "nested")
        )
        for context, rounds in ((dear, 2_000_000), (cheap, 1_000)):
            with context:
                nursery.start_soon(daemon.call, burn(rounds))
        with nested:
            nursery.start_soon(daemon.call, lambda: deeper.call(burn(2_000_000)))
        await wait_all_tasks_blocked()
        assert daemon.contexts[0].steps < 6  # they were served in one step
        assert dear.billed_ns > 5 * cheap.billed_ns > 0
        assert nested.billed_ns > 5 * cheap.billed_ns  # the first caller pays for nested calls too
        assert idle.billed_ns == 0
        billed = sum(context.billed_ns for context in (dear, cheap, nested))
        assert billed <= daemon.contexts[0].cpu_ns + deeper.contexts[0].cpu_ns
        await daemon.call(burn(1_000))
        accounts = {account.name: account for account in scheduler.statistics().contexts}
        assert accounts["host"].billed > 0  # this task has no context of its own
        nursery.cancel_scope.cancel()


async def test_raised_caller_raises_the_workers_of_nested_calls(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        a, b, c = (Daemon(scheduler, nursery, name, level=7) for name in "abc")
        callers = Outcomes(nursery)
        low, high = scheduler.context("low", level=6), scheduler.context("high", level=1)
        callers.start("low", lambda: a.call(lambda: b.call(lambda: c.call(5))), context=low)
        await wait_all_tasks_blocked()
        assert [daemon.contexts[0].level for daemon in (a, b, c)] == [6, 6, 6]
        callers.start("high", lambda: a.call(1), context=high)
        await wait_all_tasks_blocked()
        assert [daemon.contexts[0].level for daemon in (a, b, c)] == [1, 1, 1]
        await trio.sleep(5.5)
        assert [daemon.contexts[0].level for daemon in (a, b, c)] == [1, 7, 7]
        nursery.cancel_scope.cancel()


async def test_nested_call_is_sent_with_the_deadline_that_its_caller_inherits(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        a, b = Daemon(scheduler, nursery, "a", level=5), Daemon(scheduler, nursery, "b", level=7)
        callers = Outcomes(nursery)

        async def in_a():
            await trio.sleep(1)
            await b.call(5)

        patient, urgent = scheduler.context("patient", level=4), scheduler.context("urgent", level=4)
        callers.start("patient", lambda: a.call(in_a), context=patient)
        await wait_all_tasks_blocked()
        callers.start("urgent", lambda: a.call(1, deadline=50.0), context=urgent)
        await trio.sleep(2)
        (worker,) = b.contexts
        # The worker of a is as urgent as the call that waits for it; its own job has no deadline.
        assert (worker.level, worker.deadline, worker.job_deadline) == (4, 50.0, math.inf)
        nursery.cancel_scope.cancel()


async def test_raised_caller_moves_its_nested_call_ahead_in_the_queue(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        a, b = Daemon(scheduler, nursery, "a", level=7), Daemon(scheduler, nursery, "b", level=7)
        callers = Outcomes(nursery)
        callers.start("busy", lambda: b.call(("busy", 2)))
        await wait_all_tasks_blocked()
        for name, level, call in (
            ("middle", 3, lambda: b.call(("middle", 1))),
            ("low", 6, lambda: a.call(lambda: b.call(("low", 1)))),
            ("high", 1, lambda: a.call(("high", 1))),
        ):
            callers.start(name, call, context=scheduler.context(name, level=level))
            await wait_all_tasks_blocked()
        await trio.sleep(10)
        assert [name for name, _ in b.ran] == [
            "busy",
            "low",  # a caller at level 1 waits for the caller of this one
            "middle",
        ]
        nursery.cancel_scope.cancel()


async def test_finished_call_raises_no_worker(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=1)
        callers = Outcomes(nursery)
        caller = scheduler.context("caller", level=7)
        callers.start("it", lambda: daemon.call(("it", 1)), context=caller)
        await wait_all_tasks_blocked()
        callers.start("next", lambda: daemon.call(("next", 5)))
        with scheduler.context("test", level=5):
            await trio.sleep(1)
        assert daemon.counts() == {"handled": 1, "served": 1}
        assert callers.of == {}  # the reply was sent, the caller has not run yet
        caller.inherit(0, math.inf)
        assert daemon.contexts[0].level == 1
        nursery.cancel_scope.cancel()


async def test_rebase_of_the_caller_raises_the_worker(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=5)
        caller = scheduler.context("caller", level=6)
        with caller:
            nursery.start_soon(daemon.call, 5)
        await wait_all_tasks_blocked()
        caller.rebase(2)
        assert daemon.contexts[0].level == 2
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("end", ["expired", "cancelled", "closed", "served by another worker"])
async def test_worker_falls_back_at_once_when_the_call_that_raised_it_leaves(scheduler, autojump_clock, end):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=5)
        callers = Outcomes(nursery)
        for name, level, deadline in (
            ("busy", 6, math.inf),
            ("urgent", 0, 3.0 if end == "expired" else math.inf),
            ("usual", 4, math.inf),
        ):
            context = scheduler.context(name, level=level)
            callers.start(name, lambda n=name, d=deadline: daemon.call((n, 10), deadline=d), context=context)
            await wait_all_tasks_blocked()
        assert daemon.contexts[0].level == 0
        await trio.sleep(3)
        match end:
            case "cancelled":
                callers.cancel("urgent")
            case "closed":
                daemon.port.close(DaemonDown("daemon", "closed"))
            case "served by another worker":
                daemon.start()
        await wait_all_tasks_blocked()
        # The call that still waits keeps its worker raised.
        assert daemon.contexts[0].level == (5 if end == "closed" else 4)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("phase", ["waiting", "served"])
async def test_worker_is_lowered_when_its_caller_is(scheduler, autojump_clock, phase):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, level=6)
        caller = scheduler.context("caller", level=5)
        if phase == "waiting":
            nursery.start_soon(daemon.call, 10)
            await wait_all_tasks_blocked()
        with caller:
            nursery.start_soon(daemon.call, 10)
        await wait_all_tasks_blocked()
        caller.inherit_from("lock", 1, math.inf)
        assert daemon.contexts[0].level == 1
        caller.disinherit("lock")
        assert daemon.contexts[0].level == (4 if phase == "waiting" else 5)
        nursery.cancel_scope.cancel()


# Cycles.


async def test_cycle_of_calls_is_refused_with_its_path(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        a, b = Daemon(scheduler, nursery, "a"), Daemon(scheduler, nursery, "b")
        with pytest.raises(CallCycle, match="^a: would wait for itself: a -> b -> a; emit an event"):
            await a.call(lambda: b.call(lambda: a.call(1)))
        with pytest.raises(CallCycle, match="would wait for itself: b -> b;"):
            await b.call(lambda: b.call(1))
        assert a.counts() == {"failed": 1}
        assert await a.call(lambda: b.call(1)) == 1  # the same two ports, without a cycle
        assert await b.call(lambda: a.call(1)) == 1
        nursery.cancel_scope.cancel()


# Suspending, draining, closing.


async def test_call_to_a_suspended_port_waits_and_can_miss_its_deadline(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        await wait_all_tasks_blocked()
        daemon.port.suspend()
        callers.start("late", lambda: daemon.call(("late", 1), deadline=3.0))
        callers.start("patient", lambda: daemon.call(("patient", 1)))
        await trio.sleep(5)
        assert callers.kinds() == {"late": "DeadlineMissed"}
        assert daemon.counts() == {"expired": 1, "queued": 1}
        daemon.port.resume()
        await trio.sleep(2)
        assert callers.of["patient"] == (("patient", 1), 6.0)
        daemon.port.resume()
        nursery.cancel_scope.cancel()


async def test_suspending_does_not_stop_calls_that_are_being_served(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=2)
        callers = Outcomes(nursery)
        for number in range(6):
            callers.start(number, lambda: daemon.call(1))
        await trio.sleep(0.5)
        daemon.port.suspend()
        await trio.sleep(5)
        assert len(callers.of) == 2  # the calls being served ended, no other was started
        daemon.port.resume()
        await trio.sleep(2.5)
        assert len(callers.of) == 6
        nursery.cancel_scope.cancel()


async def test_drain_waits_for_every_accepted_call(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        for _ in range(3):
            nursery.start_soon(daemon.call, 2)
        await wait_all_tasks_blocked()
        await daemon.port.drain()
        assert trio.current_time() == 6.0
        assert daemon.counts() == {"handled": 3}
        with trio.testing.assert_checkpoints():
            await daemon.port.drain()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("end", ["cancelled", "deadline", "infeasible"])
async def test_drain_ends_when_the_last_waiting_call_is_withdrawn(scheduler, autojump_clock, end):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=0 if end != "infeasible" else 1)
        callers = Outcomes(nursery)
        if end == "infeasible":
            await daemon.call(("teach", 100))
            callers.start("busy", lambda: daemon.call(("busy", 1)))
            await wait_all_tasks_blocked()
        now = trio.current_time()
        callers.start(
            "it", lambda: daemon.call(("it", 1), deadline=now + 4 if end != "cancelled" else math.inf)
        )
        await wait_all_tasks_blocked()
        with trio.move_on_after(50) as too_long:
            async with trio.open_nursery() as inner:
                for _ in range(3):  # several tasks may drain at once
                    inner.start_soon(daemon.port.drain)
                await trio.sleep(1)
                if end == "cancelled":
                    callers.cancel("it")
        assert not too_long.cancelled_caught
        assert callers.kinds()["it"] == ("cancelled" if end == "cancelled" else "DeadlineMissed")
        nursery.cancel_scope.cancel()


async def test_drain_ends_despite_a_steady_stream_of_calls(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)

        async def stream():
            for number in range(20):
                callers.start(number, lambda n=number: daemon.call((n, 3)))
                await trio.sleep(1)

        nursery.start_soon(stream)
        await trio.sleep(5.5)
        await daemon.port.drain()
        assert trio.current_time() == 18.0  # six calls of three seconds
        assert daemon.counts() == {"handled": 6}
        daemon.stop()
        await trio.sleep(20)
        assert daemon.counts() == {"handled": 6}
        daemon.start()  # the next worker serves the others
        await trio.sleep(60)
        assert daemon.counts() == {"handled": 20}
        assert [number for number, _ in daemon.ran] == list(range(20))
        nursery.cancel_scope.cancel()


async def test_calls_blocked_by_a_drain_count_against_the_capacity(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, capacity=2)
        callers = Outcomes(nursery)
        callers.start("busy", lambda: daemon.call(("busy", 5)))
        await wait_all_tasks_blocked()
        nursery.start_soon(daemon.port.drain)
        await wait_all_tasks_blocked()
        for name in ("one", "two", "three"):
            callers.start(name, lambda n=name: daemon.call((n, 1)))
            await wait_all_tasks_blocked()
        assert callers.kinds() == {"three": "MailboxFull"}
        daemon.port.close(DaemonDown("daemon", "closed"))
        await wait_all_tasks_blocked()
        assert callers.kinds() == {"three": "MailboxFull", "one": "DaemonDown", "two": "DaemonDown"}
        nursery.cancel_scope.cancel()


async def test_drain_of_a_suspended_port_does_not_wait_for_its_queue(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        for name in ("running", "waiting"):
            callers.start(name, lambda n=name: daemon.call((n, 2)))
            await wait_all_tasks_blocked()
        daemon.port.suspend()
        await daemon.port.drain()
        assert trio.current_time() == 2.0
        assert daemon.counts() == {"handled": 1, "queued": 1}
        nursery.cancel_scope.cancel()


async def test_close_answers_each_caller_with_its_own_copy_of_the_error(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery, workers=0)
        callers = Outcomes(nursery)
        for number in range(3):
            callers.start(number, daemon.call)
        await wait_all_tasks_blocked()
        cause = ValueError("why")
        down = DaemonDown("daemon", "it is gone", 2)
        down.__cause__ = cause
        daemon.port.close(down)
        await wait_all_tasks_blocked()
        errors = [error for error, _ in callers.of.values()]
        assert len({id(error) for error in errors}) == 3
        assert all(isinstance(error, DaemonDown) and error.__cause__ is cause for error in errors)
        with pytest.raises(DaemonDown, match="daemon 'daemon' is down after 2 restarts: it is gone;"):
            await daemon.call()
        assert daemon.counts() == {"failed": 3}
        daemon.start()
        await wait_all_tasks_blocked()
        assert await daemon.call(1) == 1  # serving opens the port again
        nursery.cancel_scope.cancel()


async def test_waiting_calls_are_served_after_a_restart(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        callers = Outcomes(nursery)
        for name in ("running", "waiting", "also waiting"):
            callers.start(name, lambda n=name: daemon.call((n, 2)))
            await wait_all_tasks_blocked()
        daemon.stop()
        await trio.sleep(5)
        assert callers.kinds() == {"running": "DaemonDown"}
        daemon.start()
        await trio.sleep(5)
        assert callers.kinds() == {
            "running": "DaemonDown",
            "waiting": ("waiting", 2),
            "also waiting": ("also waiting", 2),
        }
        nursery.cancel_scope.cancel()


# Statistics.


async def test_statistics_hold_service_and_response_times(scheduler, autojump_clock):
    async with trio.open_nursery() as nursery:
        daemon = Daemon(scheduler, nursery)
        await wait_all_tasks_blocked()
        for _ in range(2):
            nursery.start_soon(daemon.call, 2)
        await trio.sleep(10)
        kind = daemon.kind
        assert (kind.service.count, kind.service.least, kind.service.most) == (
            2,
            2_000_000_000,
            2_000_000_000,
        )
        assert (kind.response.least, kind.response.most) == (2_000_000_000, 4_000_000_000)
        assert kind.estimate == 2.0
        nursery.cancel_scope.cancel()


# Random scripts.

steps = st.tuples(
    st.sampled_from(
        ["call"] * 6 + ["cancel", "suspend", "resume", "stop", "start", "drain", "sleep", "close"]
    ),
    st.integers(0, 7),  # level, or index of a caller
    st.integers(0, 3),  # seconds of service
    st.integers(1, 6),  # seconds until the deadline; 5 and 6 for none
)


async def play(scheduler, nursery, daemon, callers, script):
    """Play a script, and check the counts after each step."""
    plain = {
        "suspend": daemon.port.suspend,
        "resume": daemon.port.resume,
        "stop": daemon.stop,
        "drain": lambda: nursery.start_soon(daemon.port.drain),
        "close": lambda: daemon.port.close(DaemonDown("daemon", "closed")),
    }
    for number, (what, which, length, until) in enumerate(script):
        if what == "call":
            deadline = trio.current_time() + until if until < 5 else math.inf
            call = partial(daemon.call, (number, length), deadline=deadline)
            callers.start(number, call, context=scheduler.context(f"{number}", level=which))
        elif what == "cancel" and callers.scopes:
            callers.cancel(sorted(callers.scopes)[which % len(callers.scopes)])
        elif what == "start" and len(daemon.scopes) < 3:
            daemon.start()
        elif what == "sleep":
            await trio.sleep(length)
        elif what in plain:
            plain[what]()
        daemon.counts()
        if until % 2:
            await trio.lowlevel.checkpoint()
            daemon.counts()


def check_outcome(result, *, ran):
    """Compare the outcome that a caller got with whether its call ran."""
    if isinstance(result, MailboxFull):
        assert not ran
    elif isinstance(result, DeadlineMissed):
        assert result.started is ran
    elif isinstance(result, tuple):
        assert ran


@settings(max_examples=short_or_full(50, 150))
@given(
    capacity=st.integers(1, 3),
    workers=st.integers(1, 3),
    script=st.lists(steps, max_size=30),
)
def test_every_call_has_one_outcome_and_no_call_is_lost(capacity, workers, script):
    async def main():
        async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
            daemon = Daemon(scheduler, nursery, capacity=capacity, workers=workers)
            callers = Outcomes(nursery)
            await play(scheduler, nursery, daemon, callers, script)
            daemon.port.resume()
            await trio.sleep(100)
            # It serves the calls that came during a drain, or after the last worker stopped.
            daemon.start()
            await trio.sleep(1000)
            assert not daemon.port.queue.statistics.waiting
            assert daemon.counts().keys() <= {"handled", "failed", "expired", "shed", "cancelled"}
            assert sorted(callers.of) == [number for number, step in enumerate(script) if step[0] == "call"]
            assert max(Counter(daemon.ran).values(), default=0) <= 1
            started = {number for number, _ in daemon.ran}
            for number, (result, _) in callers.of.items():
                check_outcome(result, ran=number in started)
            for context in daemon.contexts:
                assert (context.level, context.payer, context.chain) == (context.base_level, None, ())
            assert len(scheduler._kernel.timers) == 0
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock(autojump_threshold=0))
