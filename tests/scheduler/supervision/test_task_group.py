"""Task groups: cancelled in slices, and empty when their block has ended."""

from __future__ import annotations

import weakref
from functools import partial

import pytest
import trio

from rtos.errors import SchedulerClosed
from rtos.scheduler import open_scheduler
from rtos.scheduler.supervision.task_group import open_task_group
from rtos.testing import TICK, run_virtual, spend

SLICE = 100


async def test_all_tasks_have_ended_when_the_block_ends() -> None:
    ended: list[int] = []

    async def member(number: int) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(number)

    async with open_scheduler() as scheduler:
        async with open_task_group(scheduler) as group:
            for number in range(100):
                group.start_soon(member, number)
            await trio.testing.wait_all_tasks_blocked()
            assert len(group) == 100
        assert len(group) == 0
    assert sorted(ended) == list(range(100))


async def test_cancellation_of_the_host_stops_all_tasks() -> None:
    async with open_scheduler() as scheduler:
        with trio.CancelScope() as scope:
            async with open_task_group(scheduler) as group:
                for _ in range(100):
                    group.start_soon(trio.sleep_forever)
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert len(group) == 0


async def test_task_that_ends_by_itself_leaves_the_group() -> None:
    async with open_scheduler() as scheduler, open_task_group(scheduler) as group:
        for _ in range(10):
            group.start_soon(trio.lowlevel.checkpoint)
        await trio.testing.wait_all_tasks_blocked()
        assert len(group) == 0


async def test_exception_of_a_task_stops_the_others_and_leaves_the_block() -> None:
    async def fail() -> None:
        raise LookupError("mine")

    async with open_scheduler() as scheduler:
        with pytest.RaisesGroup(pytest.RaisesExc(LookupError, match="mine"), flatten_subgroups=True):
            async with open_task_group(scheduler) as group:
                group.start_soon(trio.sleep_forever)
                group.start_soon(fail)
                await trio.sleep_forever()
        assert len(group) == 0


async def test_start_soon_raises_once_the_group_is_being_stopped() -> None:
    async with open_scheduler() as scheduler:
        async with open_task_group(scheduler) as group:
            pass
        with pytest.raises(RuntimeError, match="the task group is being stopped"):
            group.start_soon(trio.sleep_forever)


async def test_closed_scheduler_has_no_task_group() -> None:
    async with open_scheduler() as scheduler:
        pass
    with pytest.raises(SchedulerClosed, match="open_task_group: the scheduler is closed"):
        await open_task_group(scheduler).__aenter__()


@pytest.mark.parametrize("members", [300, 3000])
async def test_one_slice_is_cancelled_and_freed_between_two_steps_of_an_urgent_task(
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
            kept.append(sum(scope() is not None for scope in scopes) - len(group))

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        async with open_task_group(scheduler) as group:
            for _ in range(members):
                group.start_soon(trio.sleep_forever)
            await trio.testing.wait_all_tasks_blocked()
            scopes = [weakref.ref(scope) for scope in group._scopes]
            with scheduler.context("urgent", level=1):
                nursery.start_soon(urgent)
            with monkeypatch.context() as patch:
                # Slices are counted, so that the speed of the machine does not matter.
                patch.setattr(scheduler, "may_continue", within_the_slice)
                await group.stop()
        nursery.cancel_scope.cancel()
    assert cancelled == members
    assert seen == list(range(SLICE, members + 1, SLICE))
    # Ended tasks are freed at once, not in one long step at the end.
    assert max(kept) <= 2 * SLICE


MEMBERS = 1000
QUANTUM = TICK
COST = QUANTUM / 4
"""Virtual time that the cancellation of one task takes."""


async def _longest_gap(*, in_slices: bool) -> float:
    """The longest time that an urgent task waits for a step while many tasks are stopped."""

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

        async with open_task_group(scheduler) as group:
            for _ in range(MEMBERS):
                group.start_soon(trio.lowlevel.wait_task_rescheduled, abort)
            await trio.testing.wait_all_tasks_blocked()
            with scheduler.context("urgent", level=1):
                nursery.start_soon(urgent)
            with scheduler.context("stopping", level=1):
                await trio.lowlevel.checkpoint()
                gaps.clear()
                if in_slices:
                    await group.stop()
                else:
                    group._nursery.cancel_scope.cancel()
                    await trio.lowlevel.checkpoint()
                    await trio.lowlevel.checkpoint()
            stopped = True
        return max(gaps)


def test_stopping_many_tasks_does_not_block_the_loop() -> None:
    assert run_virtual(partial(_longest_gap, in_slices=False)) == MEMBERS * COST
    assert run_virtual(partial(_longest_gap, in_slices=True)) == QUANTUM
