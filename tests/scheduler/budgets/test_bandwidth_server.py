from __future__ import annotations

import heapq
import math
import signal
from contextlib import asynccontextmanager
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import CallStatistics, Scheduler, SchedulingContext, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, BudgetStatistics, Exhausted
from tests.support.effort import short_or_full

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import outcome

SECOND = 1_000_000_000


def reservation(granted: float, period: float, **settings: Any) -> BandwidthServer:
    return BandwidthServer(Budget(granted, period, **settings))


# The rules of one budget. Q = 2 s in P = 10 s.

WAKE = [
    # (q, d, now, q afterwards, d afterwards): a reason per entry
    (2, -1, 0, 2, 10),  # the very first: a period begins
    (1, 10, 11, 2, 21),  # d has passed: full budget, new deadline
    (1, 10, 10, 2, 20),  # d is now, and q would have to be used in no time
    (1, 10, 5, 1, 10),  # 1 in 5 is just 2 in 10: keep both
    (1, 10, 4, 1, 10),  # less than that: keep both
    (1, 10, 6, 2, 16),  # 1 in 4 is more than 2 in 10: begin anew
    (2, 10, 1, 2, 11),  # never used, but the period was half asleep
]


@pytest.mark.parametrize(("left", "deadline", "now", "left_then", "deadline_then"), WAKE)
def test_the_wake_up_rule(left: int, deadline: int, now: int, left_then: int, deadline_then: int) -> None:
    server = reservation(2, 10)
    server.remaining, server.deadline_ns = left * SECOND, deadline * SECOND
    assert server.wake(now * SECOND) == (deadline != deadline_then)
    assert (server.remaining, server.deadline_ns) == (left_then * SECOND, deadline_then * SECOND)


def test_what_is_used_up_comes_back_at_the_deadline() -> None:
    server = reservation(2, 10)
    server.wake(0)
    assert [server.charge(SECOND) for _ in range(2)] == [False, True]
    assert server.is_exhausted
    assert server.refill_at() == 10 * SECOND
    assert not server.refill(10 * SECOND - 1)
    assert server.refill(10 * SECOND)
    assert (server.remaining, server.deadline_ns, server.is_exhausted) == (2 * SECOND, 20 * SECOND, False)


@pytest.mark.parametrize(
    ("used", "refilled_at", "left"),
    [
        (2, 10, 2),  # nothing owed
        (3, 10, 1),  # 1 owed, paid from the first refill
        (4, 20, 2),  # a whole refill owed: it stays away for one period more
        (7, 30, 1),  # 5 owed: two refills pay 4, the third is left with 1
    ],
)
def test_debt_is_paid_back(used: int, refilled_at: int, left: int) -> None:
    server = reservation(2, 10)
    server.wake(0)
    assert server.charge(used * SECOND)
    assert server.refill_at() == refilled_at * SECOND
    assert not server.refill(refilled_at * SECOND - 1)
    assert server.refill(refilled_at * SECOND)
    assert (server.remaining, server.deadline_ns) == (left * SECOND, (refilled_at + 10) * SECOND)


def test_debt_does_not_go_away_by_sleeping() -> None:
    server = reservation(2, 10)
    server.wake(0)
    server.charge(7 * SECOND)
    # The deadline has passed, which gives anybody else a full budget.
    assert not server.wake(15 * SECOND)
    assert server.is_exhausted
    # 5 owed are paid by 25 s of waiting, and not sooner.
    assert not server.wake(29 * SECOND)
    assert server.wake(40 * SECOND)
    assert (server.remaining, server.deadline_ns) == (2 * SECOND, 50 * SECOND)


def test_the_account_is_kept() -> None:
    server = reservation(2, 10)
    server.wake(0)
    server.charge(5 * SECOND)
    assert server.statistics() == BudgetStatistics(
        remaining=-3.0, exhausted=True, exhaustions=1, refills=1, used=5.0
    )
    assert "2 s in 10 s" in repr(server)


@pytest.mark.parametrize(("granted", "period"), [(0, 1), (-1, 1), (2, 1), (1, math.inf), (math.nan, 1)])
def test_a_budget_that_is_no_share_is_refused(granted: float, period: float) -> None:
    with pytest.raises(ValueError, match="is no share"):
        Budget(granted, period)


def test_a_budget_that_cancels_needs_something_to_call() -> None:
    with pytest.raises(ValueError, match="CANCEL cancels nothing by itself"):
        Budget(1, 2, Exhausted.CANCEL)
    with pytest.raises(ValueError, match="level 8 does not exist"):
        Budget(1, 2, level=8)


class Naive:
    """The same rules, one unit of time after the other."""

    def __init__(self, granted: int, period: int) -> None:
        self.granted, self.period = granted, period
        self.left, self.deadline, self.exhausted = granted, -1, False

    def tick(self, now: int) -> None:
        if self.exhausted:
            while self.deadline <= now:
                self.left = min(self.left + self.granted, self.granted)
                self.deadline += self.period
            self.exhausted = self.left <= 0

    def wake(self, now: int) -> None:
        if self.exhausted:
            return
        if self.deadline < now or self.left * self.period > self.granted * (self.deadline - now):
            self.deadline, self.left = now + self.period, self.granted

    def charge(self, spent: int) -> None:
        self.left -= spent
        self.exhausted = self.exhausted or self.left <= 0


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("wake"), st.just(0)),
        st.tuples(st.just("charge"), st.integers(1, 12)),
        st.tuples(st.just("wait"), st.integers(1, 30)),
    ),
    max_size=40,
)


@given(st.integers(1, 6), st.integers(6, 12), ACTIONS)
def test_it_does_what_the_naive_model_does(granted: int, period: int, actions: Any) -> None:
    server, naive = reservation(granted / 1e9, period / 1e9), Naive(granted, period)
    now = 0
    server.wake(now)
    naive.wake(now)
    for action, amount in actions:
        if action == "wake":
            server.wake(now)
            naive.wake(now)
        elif action == "charge":
            was = server.is_exhausted
            assert server.charge(amount) == (not was and server.remaining <= 0)
            naive.charge(amount)
            # What is due already is granted at once.
            server.refill(now)
            naive.tick(now)
        else:
            for _ in range(amount):
                now += 1
                naive.tick(now)
                # As the kernel's timer does: once, when all debt will have been paid.
                if server.is_exhausted and now >= server.refill_at():
                    assert server.refill(now)
        assert server.is_exhausted == naive.exhausted
        if not naive.exhausted:
            assert (server.remaining, server.deadline_ns) == (naive.left, naive.deadline)
        assert server.remaining <= granted
        assert (server.remaining <= 0) == server.is_exhausted


@given(
    st.integers(1, 6),
    st.integers(6, 12),
    st.lists(st.tuples(st.integers(0, 15), st.integers(1, 9)), max_size=40),
)
def test_nobody_uses_more_than_his_share(granted: int, period: int, steps: Any) -> None:
    """Whatever it asks for, and however it sleeps in between."""
    server = reservation(granted / 1e9, period / 1e9)
    now, used = 0, []
    for pause, length in steps:
        if pause:
            now += pause
            server.wake(now)
        elif server.deadline_ns < 0:
            server.wake(now)
        if server.is_exhausted:
            now = max(now, server.refill_at())
            assert server.refill(now)
        used.append((now, length))
        now += length
        server.charge(length)
        server.refill(now)
    longest = max((length for _, length in used), default=0)
    for first, (start, _) in enumerate(used):
        total = 0
        for at, length in used[first:]:
            total += length
            window = at + length - start
            assert total <= granted * (math.ceil(window / period) + 1) + longest


# Several budgets at once, by deadline, in steps that cannot be cut.


def simulate(
    servers: list[tuple[int, int, int]], until: int, asleep: dict[int, list[tuple[int, int]]]
) -> Any:
    """Run servers (Q, P, step), hungry but for the given pauses, and the greedy rest of the world.

    Returns:
      For each, every deadline that was set while it was hungry, with what it had used
      in the period before; and its total.
    """
    state = [reservation(granted / 1e9, period / 1e9) for granted, period, _ in servers]
    total = [0] * len(servers)
    late: list[tuple[int, int, int]] = []
    now = 0

    def is_hungry(number: int, at: int) -> bool:
        return not any(start <= at < end for start, end in asleep.get(number, ()))

    awake = [False] * len(servers)
    while now < until:
        ready = []
        for number, server in enumerate(state):
            if not is_hungry(number, now):
                awake[number] = False
                continue
            if not awake[number]:
                awake[number] = True
                server.wake(now)
            server.refill(now)
            if not server.is_exhausted:
                heapq.heappush(ready, (server.deadline_ns, number))
                if server.deadline_ns < now:
                    late.append((number, server.deadline_ns, now))
        if not ready:
            now += 1
            continue
        _, number = ready[0]
        length = servers[number][2]
        now += length
        total[number] += length
        state[number].charge(length)
        if state[number].is_exhausted and now > state[number].deadline_ns:
            late.append((number, state[number].deadline_ns, now))
    return total, late


sets = st.lists(st.tuples(st.integers(1, 8), st.integers(4, 40), st.integers(1, 4)), min_size=2, max_size=5)


def is_isolated(servers: list[tuple[int, int, int]]) -> bool:
    """Sum over the shorter periods of Q/P, and the longest step of all others, fit into each period.

    What one server overdraws it takes from its own next period, so besides the one
    longest step that blocks, each server may be ahead by one step.
    """
    ordered = sorted(servers, key=lambda server: server[1])
    for position, (_, period, _) in enumerate(ordered):
        share = sum(granted / others for granted, others, _ in ordered[: position + 1])
        overdrawn = sum(step - 1 for _, _, step in ordered[: position + 1])
        blocked = max((step - 1 for _, _, step in ordered[position + 1 :]), default=0)
        if share + (overdrawn + blocked) / period > 1:
            return False
    return True


@settings(max_examples=short_or_full(60, 200))
@given(sets, st.data())
def test_each_gets_its_budget_in_every_period(
    servers: list[tuple[int, int, int]], data: st.DataObject
) -> None:
    servers = [(granted, period, step) for granted, period, step in servers if granted <= period]
    assume(len(servers) >= 2)
    assume(is_isolated(servers))
    asleep = {
        number: [(start, start + length) for start, length in data.draw(pauses, label=f"pauses of {number}")]
        for number in range(1, len(servers))
    }
    until = 600
    total, late = simulate(servers, until, asleep)
    assert late == []
    # The first one is always hungry: it has what it was promised, however the others behave.
    granted, period, _ = servers[0]
    assert total[0] >= until // period * granted - granted


pauses = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=6)


# In the kernel, in virtual time: a step costs what it moves the clock by.


class Work:
    """Tasks that use virtual time, and a trace of who ran when."""

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


async def test_a_throttled_context_is_held_until_the_refill(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        await run_for(25, under(context, work.burn, "hog", 1.0))
        # The loop slept in between: nobody moved the clock but by jumping to the refill.
        assert work.trace == [("hog", at) for at in (0.0, 1.0, 10.0, 11.0, 20.0, 21.0)]
        assert context.budget is not None
        assert context.budget.statistics().exhaustions == 3


async def test_the_loop_sleeps_while_only_throttled_tasks_wait(autojump_clock: MockClock) -> None:
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
            # Idle in Trio's eyes: this would never return otherwise.
            await wait_all_tasks_blocked()
            passes = scheduler.statistics().passes
            await trio.sleep(4)
            # Our own wake-up, the kernel's for it, and nothing else.
            assert scheduler.statistics().passes - passes <= 3
            assert scheduler.statistics().ready == 5
    assert [at for _, at in work.trace] == [0.0, 10.0, 20.0, 30.0, 40.0]


async def test_a_demoted_context_runs_on_time_that_nobody_wants(autojump_clock: MockClock) -> None:
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
            ("hog", 1.0),  # and now it is demoted below the other
            *[("other", at) for at in (2.0, 3.0, 4.0, 5.0, 6.0)],
            *[("hog", at) for at in (7.0, 8.0, 9.0)],  # nobody else: costs nothing
            *[("hog", at) for at in (10.0, 11.0)],  # refilled
            *[("hog", at) for at in (12.0, 13.0)],
        ]
        assert hog.budget is not None
        assert hog.budget.statistics().used == 4.0
        assert hog.level == 6
    assert hog.level == 6


async def test_a_budget_that_is_exhausted_cancels(autojump_clock: MockClock) -> None:
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


async def test_a_blocked_hog_is_cancelled_before_the_loop_sleeps(autojump_clock: MockClock) -> None:
    # The step that exhausts the budget is the last one before the loop would sleep for ever.
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


async def test_who_is_told_may_fail(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    def told() -> None:
        raise RuntimeError("told")

    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE, notify=told))
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


async def test_a_step_that_overdraws_is_paid_back(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        await run_for(60, under(context, work.burn, "hog", 5.0))
    # 5 used of 2: 3 owed, so the second refill is the first that counts.
    assert [at for _, at in work.trace] == [0.0, 20.0, 50.0]


async def test_a_budget_that_sleeps_makes_no_wake_up(autojump_clock: MockClock) -> None:
    async with open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 10, Exhausted.THROTTLE))

        async def once() -> None:
            autojump_clock.jump(1)

        async with trio.open_nursery() as nursery:
            under(context, once)(nursery)
        assert context.budget is not None
        assert context.budget.is_exhausted
        # Nothing waits for the refill, so there is no timer for it.
        assert scheduler.statistics().timers == 0


async def test_isolation_of_two_hogs_and_a_victim(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    shares = {"three": (3.0, 10.0), "two": (2.0, 10.0), "four": (8.0, 20.0)}
    async with open_scheduler(host_level=0, reserve=0) as scheduler:
        contexts = [
            scheduler.context(name, level=3, budget=Budget(*share, Exhausted.THROTTLE))
            for name, share in shares.items()
        ]
        await run_for(201, *(under(context, work.burn, context.name, 0.5) for context in contexts))
    # 0.3 + 0.2 + 0.4 and a step of 0.5 in 10: each gets its budget in every period of it.
    for name, (granted, period) in shares.items():
        for k in range(int(200 / period)):
            assert work.used(name, k * period, (k + 1) * period, 0.5) == pytest.approx(granted), (name, k)


async def test_contexts_may_share_a_budget(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with open_scheduler(host_level=0) as scheduler:
        first = scheduler.context("first", level=2, budget=Budget(2, 10, Exhausted.THROTTLE))
        second = scheduler.context("second", level=2, budget=first.budget)
        async with trio.open_nursery() as nursery:
            under(first, work.burn, "first", 1.0)(nursery)
            under(second, work.burn, "second", 1.0)(nursery)
            await trio.sleep(15)
            # Who joins while it is exhausted waits like the others.
            late = scheduler.context("late", level=2, budget=first.budget)
            under(late, work.burn, "late", 1.0, 1)(nursery)
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        # At 30 they are cancelled, which takes one more step of one that never began.
        assert [at for _, at in work.trace if at < 25] == [0.0, 1.0, 10.0, 11.0, 20.0, 21.0]
        assert {name for name, _ in work.trace[:4]} == {"first", "second"}
        assert "late" not in {name for name, at in work.trace if at < 20}


async def test_a_daemon_without_a_budget_charges_its_caller(autojump_clock: MockClock) -> None:
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
        # The second call overdraws by 1: the reply is seen at the refill, where 1 is left.
        assert replies == [1.5, 10.0, 20.0]
        assert caller.budget is not None
        assert caller.budget.statistics().used == 4.5
        assert worker.budget is None
        nursery.cancel_scope.cancel()


async def test_an_urgent_caller_raises_a_demoted_daemon(autojump_clock: MockClock) -> None:
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
        # What it did for a more urgent level is charged all the same.
        assert worker.budget is not None
        assert worker.budget.statistics().used == 4.0
        nursery.cancel_scope.cancel()


async def test_closing_the_scheduler_lets_everybody_go_on(autojump_clock: MockClock) -> None:
    work = Work(autojump_clock)
    async with trio.open_nursery() as nursery, open_scheduler(host_level=0) as scheduler:
        context = scheduler.context("hog", level=2, budget=Budget(1, 1000, Exhausted.THROTTLE))
        under(context, work.burn, "hog", 1.0, 5)(nursery)
        await trio.sleep(3)
        assert len(work.trace) == 1
    assert len(work.trace) == 5
    assert trio.current_time() < 10


async def test_a_demotion_must_be_one() -> None:
    async with open_scheduler() as scheduler:
        with pytest.raises(ValueError, match="the budget demotes to level 3, which is not below level 3"):
            scheduler.context("x", level=3, budget=Budget(1, 10, level=3))


async def test_other_contexts_do_not_notice(autojump_clock: MockClock) -> None:
    """A budget changes nothing for those that have none."""

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


# Throttling, in the ready queue.


class _Throttling(RuleBasedStateMachine):
    """The ready queue with throttled contexts, against lists."""

    def __init__(self) -> None:
        super().__init__()
        self.queue = ReadyQueue()
        self.contexts = [SchedulingContext(str(number), level=number % 4) for number in range(6)]
        self.tasks: dict[SchedulingContext, list[int]] = {context: [] for context in self.contexts}
        self.throttled: set[SchedulingContext] = set()
        self.next = 0

    numbers = st.integers(0, 5)

    @rule(number=numbers)
    def push(self, number: int) -> None:
        context = self.contexts[number]
        self.queue.push(context, self.next)
        self.tasks[context].append(self.next)
        self.next += 1

    @rule(number=numbers)
    def throttle(self, number: int) -> None:
        self.queue.throttle(self.contexts[number])
        self.throttled.add(self.contexts[number])

    @rule(number=numbers)
    def unthrottle(self, number: int) -> None:
        self.queue.unthrottle(self.contexts[number])
        self.throttled.discard(self.contexts[number])

    @rule(number=numbers, level=st.integers(0, 3))
    def move(self, number: int, level: int) -> None:
        self.contexts[number].rebase(level)

    def _first(self) -> SchedulingContext | None:
        free = [context for context in self.contexts if self.tasks[context] and context not in self.throttled]
        return min(free, key=lambda context: (context.level, self.tasks[context][0]), default=None)

    @rule()
    def take(self) -> None:
        expected = self._first()
        assert self.queue.head() is expected
        if expected is not None:
            context, _, task = self.queue.take()
            assert (context, task) == (expected, self.tasks[expected].pop(0))

    @rule(number=numbers)
    def take_from(self, number: int) -> None:
        context = self.contexts[number]
        if self.tasks[context] and context not in self.throttled:
            assert self.queue.take_from(context) == self.tasks[context].pop(0)

    @invariant()
    def nothing_is_lost(self) -> None:
        free = [context for context in self.contexts if context not in self.throttled]
        assert self.queue.waiting == sum(len(self.tasks[context]) for context in free)
        assert sorted(self.queue) == sorted(task for tasks in self.tasks.values() for task in tasks)
        assert set(self.queue.contexts()) == {context for context in free if self.tasks[context]}


TestThrottling = _Throttling.TestCase
TestThrottling.settings = settings(max_examples=short_or_full(30, 100), stateful_step_count=40)
