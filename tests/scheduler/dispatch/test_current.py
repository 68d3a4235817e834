"""Which context counts for the running task: its own, or the host's in another loop than the context's."""

import contextvars
import math
import threading

import pytest
import trio

from rtos.scheduler import SchedulingContext, open_mailbox, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.dispatch.current import current_context, current_deadline, current_level
from rtos.scheduler.policy.levels import DEFAULT_LEVEL


async def in_thread(main):
    """Run ``main`` in a loop of its own, in a thread that inherits the context variables."""
    return await trio.to_thread.run_sync(lambda: trio.run(main))


async def steps(number):
    for _ in range(number):
        await trio.lowlevel.checkpoint()


@pytest.fixture(params=[True, False], ids=["ordered", "Trio's order"])
def opened(request):
    """Open a scheduler."""
    return lambda: open_scheduler(ordered=request.param)


def test_entered_context_is_current_until_it_is_left():
    def body():
        assert current_context() is None
        assert (current_level(), current_deadline()) == (DEFAULT_LEVEL, math.inf)
        outer, inner = SchedulingContext("outer", level=2), SchedulingContext("inner", level=6)
        outer.job_deadline = 9.0
        with outer:
            assert (current_context(), current_level(), current_deadline()) == (outer, 2, 9.0)
            with inner:
                assert (current_context(), current_level()) == (inner, 6)
            assert current_context() is outer
        assert current_context() is None
        with outer:
            assert current_context() is outer

    contextvars.copy_context().run(body)


async def test_thread_without_loop_sees_the_context_that_started_it(opened):
    async with opened() as scheduler:
        with scheduler.context("starter", level=2) as context:
            assert await trio.to_thread.run_sync(lambda: (current_context(), current_level())) == (context, 2)


async def test_task_of_another_loop_is_billed_to_the_host_of_that_loop(opened):
    async def other_loop():
        async with opened() as scheduler, trio.open_nursery() as nursery:
            nursery.start_soon(steps, 100)
            nursery.start_soon(steps, 100)
            await steps(100)
            seen = current_context(), current_level(), current_deadline()
        return seen, scheduler.host.steps

    async with opened() as scheduler:
        with scheduler.context("starter", level=2, deadline=1e12) as context:
            await trio.lowlevel.checkpoint()
            before = context.steps
            seen, host_steps = await in_thread(other_loop)
            assert seen == (None, DEFAULT_LEVEL, math.inf)
            assert host_steps > 300
            assert context.steps - before <= 2
            assert (current_context(), current_level(), current_deadline()) == (context, 2, 1e12)


async def test_tasks_run_in_the_thread_of_their_own_loop(opened):
    strayed = []

    async def spin(home, stop):
        while not stop.is_set():
            await trio.lowlevel.checkpoint()
            if threading.get_ident() != home:
                strayed.append(home)
                return

    async def other_loop():
        home, stop = threading.get_ident(), trio.Event()
        async with opened(), trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(spin, home, stop)
            await steps(2000)
            stop.set()

    async with opened() as scheduler, trio.open_nursery() as nursery:
        stop = trio.Event()
        with scheduler.context("starter", level=2):
            for _ in range(5):
                nursery.start_soon(spin, threading.get_ident(), stop)
            await in_thread(other_loop)
            stop.set()
    assert strayed == []


async def test_loop_without_scheduler_ignores_a_context_of_another_loop(opened):
    async def other_loop():
        await trio.lowlevel.checkpoint()
        return current_context()

    async with opened() as scheduler:
        with scheduler.context("starter", level=2):
            await trio.lowlevel.checkpoint()
            assert await in_thread(other_loop) is None


async def test_context_of_a_closed_scheduler_counts_as_the_hosts(opened):
    async with opened() as first:
        context = first.context("first", level=1)
    with context:
        assert current_context() is None
        async with opened() as second:
            await steps(10)
            assert current_context() is None
        assert second.host.steps >= 10
        assert context.steps == 0


async def test_context_that_no_scheduler_made_belongs_to_the_first_loop_that_uses_it(opened):
    async def other_loop():
        async with opened():
            await steps(2)
            return current_context()

    async with opened():
        with SchedulingContext("mine", level=1) as context:
            await steps(2)
            assert current_context() is context
            assert await in_thread(other_loop) is None
        assert context.steps >= 2


async def test_call_in_another_loop_is_a_call_of_its_host(opened):
    """Neither the chain of callers nor the level and deadline of the first loop's job get there."""

    async def other_loop():
        async with opened() as scheduler, trio.open_nursery() as nursery:
            port, worker = Port(scheduler, "daemon"), scheduler.context("worker", level=6)

            async def handle(_):
                return current_level(), current_deadline(), worker.payer is scheduler.host

            with worker:
                nursery.start_soon(lambda: port.serve(handle, context=worker))
            served = await port.call(None)
            nursery.cancel_scope.cancel()
        return served

    async with opened() as scheduler:
        with scheduler.context("starter", level=1, deadline=1e12) as context:
            context.chain = ("daemon",)
            assert await in_thread(other_loop) == (DEFAULT_LEVEL, math.inf, True)


async def test_message_in_another_loop_is_a_message_of_its_host(opened):
    async def other_loop():
        async with opened():
            send, receive = open_mailbox(4)
            send.send_nowait("host's")
            send.send_nowait("urgent", level=3)
            return [receive.receive_nowait(), receive.receive_nowait()]

    async with opened() as scheduler:
        with scheduler.context("starter", level=1):
            await trio.lowlevel.checkpoint()
            assert await in_thread(other_loop) == ["urgent", "host's"]
