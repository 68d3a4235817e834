"""The bandwidth server: its rules, its bound, and the isolation of several budgets."""

from __future__ import annotations

import heapq
import math
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget, BudgetStatistics, Exhausted
from tests.support.effort import short_or_full

SECOND = 1_000_000_000


def server_of(granted: float, period: float, **settings: Any) -> BandwidthServer:
    return BandwidthServer(Budget(granted, period, **settings))


# The rules of one budget. Q = 2 s in P = 10 s.

WAKE = [
    # (q, d, now, q afterwards, d afterwards)
    (2, -1, 0, 2, 10),  # the first wake-up: a period begins
    (1, 10, 11, 2, 21),  # d has passed: full budget, new deadline
    (1, 10, 10, 2, 20),  # d is now: no time is left to use q in
    (1, 10, 5, 1, 10),  # 1 in 5 is exactly 2 in 10: keep both
    (1, 10, 4, 1, 10),  # 1 in 6 is less than 2 in 10: keep both
    (1, 10, 6, 2, 16),  # 1 in 4 is more than 2 in 10: new period
    (2, 10, 1, 2, 11),  # unused, but part of the period has passed
]


@pytest.mark.parametrize(("left", "deadline", "now", "left_then", "deadline_then"), WAKE)
def test_wake_up_grants_a_new_period_only_if_the_rest_exceeds_the_share(
    left: int, deadline: int, now: int, left_then: int, deadline_then: int
) -> None:
    server = server_of(2, 10)
    server.remaining, server.deadline_ns = left * SECOND, deadline * SECOND
    assert server.wake(now * SECOND) == (deadline != deadline_then)
    assert (server.remaining, server.deadline_ns) == (left_then * SECOND, deadline_then * SECOND)


def test_exhausted_budget_is_refilled_at_its_deadline() -> None:
    server = server_of(2, 10)
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
        (2, 10, 2),  # no debt
        (3, 10, 1),  # debt of 1, paid from the first refill
        (4, 20, 2),  # debt of a whole refill: exhausted for one more period
        (7, 30, 1),  # debt of 5: two refills pay 4, the third leaves 1
    ],
)
def test_debt_is_paid_from_the_next_refills(used: int, refilled_at: int, left: int) -> None:
    server = server_of(2, 10)
    server.wake(0)
    assert server.charge(used * SECOND)
    assert server.refill_at() == refilled_at * SECOND
    assert not server.refill(refilled_at * SECOND - 1)
    assert server.refill(refilled_at * SECOND)
    assert (server.remaining, server.deadline_ns) == (left * SECOND, (refilled_at + 10) * SECOND)


def test_debt_remains_while_the_server_sleeps() -> None:
    server = server_of(2, 10)
    server.wake(0)
    server.charge(7 * SECOND)
    # The deadline has passed, which grants a full budget to a server without debt.
    assert not server.wake(15 * SECOND)
    assert server.is_exhausted
    # A debt of 5 is paid after 25 s of waiting.
    assert not server.wake(29 * SECOND)
    assert server.wake(40 * SECOND)
    assert (server.remaining, server.deadline_ns) == (2 * SECOND, 50 * SECOND)


def test_statistics_report_use_and_debt() -> None:
    server = server_of(2, 10)
    server.wake(0)
    server.charge(5 * SECOND)
    assert server.statistics() == BudgetStatistics(
        remaining=-3.0, exhausted=True, exhaustions=1, refills=1, used=5.0
    )
    assert "2 s in 10 s" in repr(server)


@pytest.mark.parametrize(("granted", "period"), [(0, 1), (-1, 1), (2, 1), (1, math.inf), (math.nan, 1)])
def test_budget_that_is_not_a_share_is_rejected(granted: float, period: float) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        Budget(granted, period)


def test_budget_that_cancels_requires_notify() -> None:
    with pytest.raises(ValueError, match="CANCEL cancels nothing by itself"):
        Budget(1, 2, Exhausted.CANCEL)
    with pytest.raises(ValueError, match="level 8 does not exist"):
        Budget(1, 2, level=8)


class Naive:
    """The same rules, applied at every unit of time."""

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
def test_server_agrees_with_the_naive_model(granted: int, period: int, actions: Any) -> None:
    server, naive = server_of(granted / 1e9, period / 1e9), Naive(granted, period)
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
            # A refill that is due already is granted at once.
            server.refill(now)
            naive.tick(now)
        else:
            for _ in range(amount):
                now += 1
                naive.tick(now)
                # As the kernel's timer does: once, when all debt is paid.
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
def test_use_in_any_window_stays_within_the_bound(granted: int, period: int, steps: Any) -> None:
    """For any steps, and any sleep between them."""
    server = server_of(granted / 1e9, period / 1e9)
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
    """Run servers (Q, P, step) that are always ready to run, except during their pauses.

    Returns:
      The total use of each, and the deadlines that were missed: server, deadline, time.
    """
    state = [server_of(granted / 1e9, period / 1e9) for granted, period, _ in servers]
    total = [0] * len(servers)
    late: list[tuple[int, int, int]] = []
    now = 0

    def is_ready(number: int, at: int) -> bool:
        return not any(start <= at < end for start, end in asleep.get(number, ()))

    awake = [False] * len(servers)
    while now < until:
        ready = []
        for number, server in enumerate(state):
            if not is_ready(number, now):
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
    """Whether the condition for isolation in the module's docstring holds.

    A server takes what it overdraws from its own next period, so besides the one longest
    step that blocks, each server may be ahead by one step.
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
def test_isolated_servers_get_their_budget_in_every_period(
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
    # The first server is always ready: it gets its budget, however the others behave.
    granted, period, _ = servers[0]
    assert total[0] >= until // period * granted - granted


pauses = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=6)
