from __future__ import annotations

import weakref
from functools import partial

import pytest
import trio

from rtos.scheduler import open_scheduler
from rtos.scheduler.supervision.task_group import open_task_group
from rtos.testing import TICK, run_virtual, spend

SLICE = 100


async def test_all_have_ended_when_the_block_ends() -> None:
    ended: list[int] = []

    async def member(number: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(number)

    async with open_scheduler() as scheduler:
        async with open_task_group(scheduler) as crowd:
            for number in range(100):
                crowd.start_soon(member, number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(crowd) == 100
        assert len(crowd) == 0
    assert sorted(ended) == list(range(100))


async def test_a_cancelled_host_stops_them_too() -> None:
    async with open_scheduler() as scheduler:
        with trio.CancelScope() as scope:
            async with open_task_group(scheduler) as crowd:
                for _ in range(100):
                    crowd.start_soon(trio.sleep_forever)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert len(crowd) == 0


async def test_those_that_end_by_themselves_are_forgotten() -> None:
    async with open_scheduler() as scheduler, open_task_group(scheduler) as crowd:
        for _ in range(10):
            crowd.start_soon(trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        assert len(crowd) == 0


async def test_what_one_raises_stops_the_others_and_comes_out() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    async with open_scheduler() as scheduler:
        with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="mine"), flatten_subgroups=True):
            async with open_task_group(scheduler) as crowd:
                crowd.start_soon(trio.sleep_forever)
                crowd.start_soon(fail)
                await trio.sleep_forever()
        assert len(crowd) == 0


async def test_nobody_joins_while_it_is_stopped() -> None:
    async with open_scheduler() as scheduler:
        async with open_task_group(scheduler) as crowd:
            pass
        with pytest.raises(RuntimeError, match="the crowd is being stopped"):
            crowd.start_soon(trio.sleep_forever)


@pytest.mark.parametrize("members", [300, 3000])
async def test_between_two_wake_ups_of_an_urgent_task_one_slice_is_cancelled_and_let_go(
    members: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled = 0
    due = trio.Event()

    def within_the_slice() -> bool:
        nonlocal cancelled
        cancelled += 1
        if cancelled % SLICE == 0:
            due.set()
        return cancelled % SLICE != 0

    seen: list[int] = []
    kept: list[int] = []

    async def urgent() -> None:
        nonlocal due
        while True:
            await due.wait()
            due = trio.Event()
            seen.append(cancelled)
            kept.append(sum(scope() is not None for scope in scopes) - len(crowd))

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        async with open_task_group(scheduler) as crowd:
            for _ in range(members):
                crowd.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scopes = [weakref.ref(scope) for scope in crowd._scopes]
            with scheduler.context("urgent", level=1):
                nursery.start_soon(urgent)
            with monkeypatch.context() as patch:
                # Slices by count, so that neither the machine nor its other users matter.
                patch.setattr(scheduler, "may_continue", within_the_slice)
                await crowd.stop()
        nursery.cancel_scope.cancel()
    assert cancelled == members
    assert seen == list(range(SLICE, members + 1, SLICE))
    # What has ended is not kept until the end, to be freed in one long step.
    assert max(kept) <= 2 * SLICE


MEMBERS = 1000
QUANTUM = TICK
COST = QUANTUM / 4
"""Of the cancellation of one member, in virtual time."""


async def _longest_gap(*, in_slices: bool) -> float:
    """The longest time for which an urgent task could not run while many are stopped."""

    def abort(_: object) -> trio.lowlevel.Abort:
        spend(COST)
        return trio.lowlevel.Abort.SUCCEEDED

    async with open_scheduler(quantum=QUANTUM) as scheduler, trio.open_nursery() as nursery:
        gaps: list[float] = []
        stopped = False

        async def urgent() -> None:
            last = trio.current_time()
            while not stopped:
                await trio.lowlevel.checkpoint()
                now = trio.current_time()
                gaps.append(now - last)
                last = now

        async with open_task_group(scheduler) as crowd:
            for _ in range(MEMBERS):
                crowd.start_soon(trio.lowlevel.wait_task_rescheduled, abort)
            await trio.testing.wait_all_tasks_blocked()
            with scheduler.context("urgent", level=1):
                nursery.start_soon(urgent)
            with scheduler.context("stopping", level=1):
                await trio.lowlevel.checkpoint()
                gaps.clear()
                if in_slices:
                    await crowd.stop()
                else:
                    crowd._nursery.cancel_scope.cancel()
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
            stopped = True
        return max(gaps)


def test_stopping_many_does_not_hold_the_loop() -> None:
    assert run_virtual(partial(_longest_gap, in_slices=False)) == MEMBERS * COST
    assert run_virtual(partial(_longest_gap, in_slices=True)) == QUANTUM
