"""When a mailbox operation is a checkpoint, and when it goes on within its step."""

import math

import pytest
import trio
from trio.testing import assert_checkpoints

from rtos.scheduler import open_mailbox, open_scheduler
from rtos.testing import TICK, run_virtual, spend


async def _settle(end_send, end_receive):
    """Let the mailbox see the present run queue, which it looks up at each checkpoint."""
    await end_send.send(None)
    await end_receive.receive()


async def _turns(operate, *, times, work=0.0):
    """How many steps another task ran while ``operate`` was called ``times`` times."""
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await trio.lowlevel.checkpoint()
        before = turns
        for _ in range(times):
            if work:
                spend(work)
            await operate()
        found = turns - before
        nursery.cancel_scope.cancel()
    return found


async def test_each_operation_is_a_checkpoint_without_a_scheduler():
    send, receive = open_mailbox(math.inf)
    for _ in range(3):
        with assert_checkpoints():
            await send.send(1)
    for _ in range(3):
        with assert_checkpoints():
            await receive.receive()


@pytest.mark.parametrize("options", [{"quantum": 0}, {"direct": False}, {"ordered": False}], ids=str)
def test_each_operation_is_a_checkpoint_in_strict_mode_and_without_direct_calls(options):
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(**options):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                assert await _turns(operate, times=20) >= 19

    run_virtual(main)


def test_operations_continue_for_a_quantum_under_the_run_queue():
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(quantum=10 * TICK, reserve=0):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                # 40 operations of 3 ticks each; the first operation after the tenth tick ends a step.
                assert 9 <= await _turns(operate, times=40, work=3 * TICK) <= 14

    run_virtual(main)


def test_operations_continue_64_times_if_they_take_no_virtual_time():
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(reserve=0):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                assert 9 <= await _turns(operate, times=650) <= 11

    run_virtual(main)


async def test_cancelled_task_neither_sends_nor_receives_within_its_step():
    send, receive = open_mailbox(math.inf)
    async with open_scheduler():
        await _settle(send, receive)
        for operate in (lambda: send.send(1), receive.receive):
            with trio.CancelScope() as scope:
                send.send_nowait(0)
                scope.cancel()
                await operate()
            assert scope.cancelled_caught
        assert send.statistics().current_buffer_used == 2


async def test_send_that_wakes_a_receiver_is_a_checkpoint(autojump_clock):
    send, receive = open_mailbox(math.inf)
    got = []

    async def take():
        got.append(await receive.receive())

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        await _settle(send, receive)
        with scheduler.context("urgent", level=1):
            nursery.start_soon(take)
        await trio.testing.wait_all_tasks_blocked()
        await send.send("it")
        assert got == ["it"]


def test_mailbox_works_with_the_next_scheduler_and_without_one():
    async def main():
        send, receive = open_mailbox(math.inf)
        for _ in range(2):
            async with open_scheduler():
                await _settle(send, receive)
                assert await _turns(lambda: send.send(1), times=20) <= 1
            # The next checkpoint finds that the run queue was removed.
            await _turns(lambda: send.send(1), times=65)
            assert await _turns(lambda: send.send(1), times=20) >= 19

    run_virtual(main)
