"""The starvation guard: its rules, its bound on the lent share, and its effect in the kernel."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
import trio
import trio.lowlevel
from hypothesis import given, settings
from hypothesis import strategies as st

from rtos.errors import ConfigurationError
from rtos.scheduler import SchedulingContext, open_scheduler
from rtos.scheduler.budgets.starvation_guard import StarvationGuard

if TYPE_CHECKING:
    from trio.testing import MockClock

MS = 1_000_000


def waiting(*contexts: tuple[str, int, int]) -> list[SchedulingContext]:
    found = []
    for name, level, since in contexts:
        context = SchedulingContext(name, level=level)
        context.since = since * MS
        found.append(context)
    return found


# The rules. A share of 5 %: patience of 950 ms, and 19 ms of urgent work for each ms that is lent.


def test_no_step_is_lent_before_a_context_has_waited_long_enough() -> None:
    guard = StarvationGuard(0.05)
    contexts = waiting(("urgent", 1, 0), ("low", 5, 100))
    assert guard.look_at <= 0
    assert guard.pick(1, contexts, 1049 * MS) is None
    # The answer cannot change before then.
    assert guard.look_at == 1050 * MS
    assert not guard.is_saturated
    picked = guard.pick(1, contexts, 1050 * MS)
    assert picked is contexts[1]
    assert guard.is_saturated


def test_only_less_urgent_contexts_borrow() -> None:
    guard = StarvationGuard(0.05)
    assert guard.pick(3, waiting(("equal", 3, 0), ("more urgent", 1, 0)), 5000 * MS) is None
    assert guard.look_at == 5950 * MS


def test_context_that_has_waited_longest_borrows() -> None:
    contexts = waiting(("a", 5, 300), ("b", 7, 100), ("c", 3, 200))
    assert StarvationGuard(0.05).pick(1, contexts, 2000 * MS) is contexts[1]


def test_no_step_is_lent_while_system_tasks_wait() -> None:
    assert StarvationGuard(0.05).pick(-1, waiting(("low", 5, 0)), 5000 * MS) is None


def test_no_step_is_lent_to_a_level_that_does_not_starve() -> None:
    """A runaway daemon waits too, for a moment, while a more urgent context runs."""
    guard = StarvationGuard(0.05)
    low, runaway = waiting(("low", 5, 0), ("runaway", 2, 999))
    assert guard.pick(2, [low], 1000 * MS) is low
    guard.ran(5, 0, lent=True)
    # The starving context is not ready now; a context that is more urgent than both is.
    assert guard.pick(1, [runaway], 1000 * MS) is None
    low.since = 1000 * MS
    assert guard.pick(1, [runaway, low], 1001 * MS) is low
    # A context that has waited for as long starves as well.
    assert guard.pick(1, [runaway, low], 2000 * MS) is runaway


def test_lent_step_is_followed_by_its_share_of_urgent_time() -> None:
    guard = StarvationGuard(0.05)
    contexts = waiting(("low", 5, 0))
    assert guard.pick(1, contexts, 1000 * MS)
    guard.ran(5, 2 * MS, lent=True)
    lent_at = []
    for number in range(1, 100):
        guard.ran(1, MS, lent=False)
        if guard.look_at <= 0:
            lent_at.append(number)
            guard.ran(5, 1 * MS, lent=True)
    # 38 ms of urgent steps for 2 ms lent, then 19 ms for 1 ms.
    assert lent_at == [38, 57, 76, 95]


def test_long_urgent_step_is_followed_by_several_lent_steps() -> None:
    guard = StarvationGuard(0.05)
    contexts = waiting(("low", 5, 0))
    assert guard.pick(1, contexts, 1000 * MS)
    guard.ran(5, 1 * MS, lent=True)
    guard.ran(1, 76 * MS, lent=False)
    lent = 0
    while guard.look_at <= 0:
        lent += 1
        guard.ran(5, 1 * MS, lent=True)
    assert lent == 4


def test_time_that_no_context_borrowed_is_not_saved_up() -> None:
    guard = StarvationGuard(0.05)
    contexts = waiting(("low", 5, 0))
    assert guard.pick(1, contexts, 1000 * MS)
    guard.ran(5, 1 * MS, lent=True)
    for _ in range(1000):
        guard.ran(1, 1 * MS, lent=False)
        if guard.look_at <= 0:
            assert guard.pick(1, [], 2000 * MS) is None
    # Lent at once, since the loop is still saturated, and then at the usual share.
    assert guard.pick(1, contexts, 3000 * MS) is contexts[0]
    guard.ran(5, 1 * MS, lent=True)
    assert guard.look_at > 3000 * MS


def test_saturation_ends_when_a_less_urgent_step_runs_unlent() -> None:
    guard = StarvationGuard(0.05)
    contexts = waiting(("low", 5, 0))
    assert guard.pick(1, contexts, 1000 * MS)
    guard.ran(5, 1 * MS, lent=True)
    guard.ran(1, 1 * MS, lent=False)
    guard.ran(6, 1 * MS, lent=False)
    assert not guard.is_saturated
    # From here on it takes another 950 ms of waiting.
    contexts[0].since = 1500 * MS
    assert guard.pick(1, contexts, 2000 * MS) is None
    assert guard.look_at == 2450 * MS


@settings(deadline=None)
@given(
    st.sampled_from([0.01, 0.05, 0.25, 0.5]),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
    st.lists(st.integers(1, 50), min_size=1, max_size=20),
)
def test_lent_time_stays_within_the_bound_for_any_steps(
    share: float, urgent: list[int], lent: list[int]
) -> None:
    """Over any time: within one lent step and the share of one urgent step."""
    guard = StarvationGuard(share)
    contexts = waiting(("low", 5, 0))
    now, u, v = 1000 * MS, [0], [0]
    for number in range(300):
        borrower = guard.pick(1, contexts, now) if guard.look_at <= now else None
        lengths = urgent if borrower is None else lent
        length = lengths[number % len(lengths)] * MS
        guard.ran(1 if borrower is None else 5, length, lent=borrower is not None)
        now += length
        u.append(u[-1] + length * (borrower is None))
        v.append(v[-1] + length * (borrower is not None))
    ratio = share / (1 - share)
    bound = (max(lent) + ratio * max(urgent)) * MS * 1.000001
    ahead = [at_v - at_u * ratio for at_u, at_v in zip(u, v, strict=True)]
    assert max(ahead) - min(ahead) <= bound


# In the kernel, in virtual time.


async def saturate(
    clock: MockClock,
    *,
    reserve: float,
    seconds: float,
    lows: int = 1,
    step: float = 0.001,
    quantum: float = 0,
) -> list[tuple[str, float]]:
    trace: list[tuple[str, float]] = []

    async def burn(name: str) -> None:
        while True:
            trace.append((name, trio.current_time()))
            clock.jump(step)
            await trio.lowlevel.checkpoint()

    async with (
        open_scheduler(host_level=0, reserve=reserve, quantum=quantum) as scheduler,
        trio.open_nursery() as nursery,
    ):
        with scheduler.context("urgent", level=2):
            nursery.start_soon(burn, "urgent")
        for number in range(lows):
            with scheduler.context(f"low {number}", level=3 + number):
                nursery.start_soon(burn, f"low {number}")
        await trio.sleep(seconds)
        nursery.cancel_scope.cancel()
    return trace


async def test_runaway_daemon_does_not_lock_out_less_urgent_tasks(autojump_clock: MockClock) -> None:
    trace = await saturate(autojump_clock, reserve=0.05, seconds=5)
    low = [at for name, at in trace if name != "urgent"]
    # Strict priorities for 950 ms, and then 5 %.
    assert low[0] == pytest.approx(0.95, abs=0.002)
    for second in (1, 2, 3):
        assert sum(second <= at < second + 1 for at in low) == pytest.approx(50, abs=1)
    # One step at a time: no two in a row.
    names = [name for name, _ in trace]
    assert all("urgent" in pair for pair in itertools.pairwise(names))


async def test_share_is_kept_when_a_pass_runs_several_steps(autojump_clock: MockClock) -> None:
    trace = await saturate(autojump_clock, reserve=0.05, seconds=2, step=0.000015, quantum=0.0001)
    low = [at for name, at in trace if name != "urgent" and at >= 1]
    assert len(low) * 0.000015 == pytest.approx(0.05, rel=0.02)


async def test_without_reserve_priorities_are_strict(autojump_clock: MockClock) -> None:
    trace = await saturate(autojump_clock, reserve=0, seconds=5)
    assert {name for name, at in trace if at < 5} == {"urgent"}


async def test_several_starving_levels_take_turns(autojump_clock: MockClock) -> None:
    trace = await saturate(autojump_clock, reserve=0.1, seconds=4, lows=3)
    low = [name for name, at in trace if name != "urgent" and at > 1.5]
    counts = {name: low.count(name) for name in sorted(set(low))}
    assert list(counts) == ["low 0", "low 1", "low 2"]
    assert max(counts.values()) - min(counts.values()) <= 1


async def test_priorities_are_strict_in_a_busy_loop_that_is_not_saturated(autojump_clock: MockClock) -> None:
    """94 % of urgent work, and a less urgent task that is always ready."""
    trace: list[tuple[str, float]] = []

    async def burst() -> None:
        while True:
            for _ in range(94):
                trace.append(("urgent", trio.current_time()))
                autojump_clock.jump(0.001)
                await trio.lowlevel.checkpoint()
            trace.append(("pause", trio.current_time()))
            await trio.sleep(0.006)

    async def low() -> None:
        while True:
            trace.append(("low", trio.current_time()))
            autojump_clock.jump(0.001)
            await trio.lowlevel.checkpoint()

    async with open_scheduler(host_level=0) as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("urgent", level=2):
            nursery.start_soon(burst)
        with scheduler.context("low", level=5):
            nursery.start_soon(low)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    inside = [
        (before, name, after)
        for (before, _), (name, _), (after, _) in zip(trace, trace[1:], trace[2:], strict=False)
        if name == "low" and before == "urgent"
    ]
    assert inside == []


async def test_starving_task_with_many_short_steps_makes_progress(autojump_clock: MockClock) -> None:
    """It waits for an event after each step; only its first step waits for long."""
    done: list[float] = []

    async def burn() -> None:
        while True:
            autojump_clock.jump(0.001)
            await trio.lowlevel.checkpoint()

    async def operator() -> None:
        for _ in range(20):
            autojump_clock.jump(0.00005)
            await trio.lowlevel.checkpoint()
            event = trio.Event()
            trio.lowlevel.current_trio_token().run_sync_soon(event.set)
            await event.wait()
        done.append(trio.current_time())

    async with open_scheduler(host_level=0) as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("runaway", level=2):
            nursery.start_soon(burn)
        with scheduler.context("operator", level=6):
            nursery.start_soon(operator)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()
    assert done
    # 950 ms until the loop counts as saturated, and then 1 ms of CPU time at 5 %.
    assert done[0] == pytest.approx(0.97, abs=0.005)


@pytest.mark.parametrize("reserve", [-0.1, 1, float("nan")])
async def test_reserve_that_is_not_a_share_is_rejected(reserve: float) -> None:
    with pytest.raises(ValueError, match="is not a share"):
        async with open_scheduler(reserve=reserve):
            pass


async def test_schedulers_of_one_loop_must_have_the_same_reserve() -> None:
    async with open_scheduler(reserve=0.05):
        with pytest.raises(ConfigurationError, match=r"reserve=0\.05"):
            async with open_scheduler(reserve=0):
                pass
