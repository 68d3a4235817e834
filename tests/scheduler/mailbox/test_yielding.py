"""When an operation on a mailbox gives way, and when it goes on in its step."""

import math

import pytest
import trio
from trio.testing import assert_checkpoints

from rtos.scheduler import open_mailbox, open_scheduler
from rtos.testing import TICK, run_virtual, spend


async def _settle(end_send, end_receive):
    """Whoever gave way last knows what loop this is."""
    await end_send.send(None)
    await end_receive.receive()


async def _turns(operate, *, times, work=0.0):
    """How often another task came to run while ``operate`` was called."""
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


async def test_in_trios_own_order_each_operation_gives_way():
    send, receive = open_mailbox(math.inf)
    for _ in range(3):
        with assert_checkpoints():
            await send.send(1)
    for _ in range(3):
        with assert_checkpoints():
            await receive.receive()


@pytest.mark.parametrize("options", [{"quantum": 0}, {"direct": False}, {"ordered": False}], ids=str)
def test_in_strict_mode_and_where_nothing_is_lent_each_operation_gives_way(options):
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(**options):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                assert await _turns(operate, times=20) >= 19

    run_virtual(main)


def test_under_the_run_queue_a_task_goes_on_for_a_quantum():
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(quantum=10 * TICK, reserve=0):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                # 40 operations of three ticks each; each step ends with the one after the tenth tick.
                assert 9 <= await _turns(operate, times=40, work=3 * TICK) <= 14

    run_virtual(main)


def test_where_time_stands_still_a_task_goes_on_for_64_operations():
    async def main():
        send, receive = open_mailbox(math.inf)
        async with open_scheduler(reserve=0):
            await _settle(send, receive)
            for operate in (lambda: send.send(1), receive.receive):
                assert 9 <= await _turns(operate, times=650) <= 11

    run_virtual(main)


async def test_who_is_cancelled_is_told_so_and_nothing_is_sent_or_taken():
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


async def test_who_wakes_a_receiver_gives_way_to_it(autojump_clock):
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


def test_a_mailbox_outlives_the_scheduler():
    async def main():
        send, receive = open_mailbox(math.inf)
        for _ in range(2):
            async with open_scheduler():
                await _settle(send, receive)
                assert await _turns(lambda: send.send(1), times=20) <= 1
            # The first one to give way notices that the run queue has gone.
            await _turns(lambda: send.send(1), times=65)
            assert await _turns(lambda: send.send(1), times=20) >= 19

    run_virtual(main)
