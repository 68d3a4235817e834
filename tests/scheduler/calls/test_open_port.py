"""``open_port``: serving in a few lines, what is refused, and how it ends."""

import gc
import math
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import DaemonDown, SchedulerClosed
from rtos.scheduler import Budget, current_context, open_port, open_scheduler
from rtos.scheduler.calls.call_statistics import CallStatistics
from rtos.scheduler.calls.inspect import inspect
from rtos.scheduler.calls.port import Port


@pytest.fixture
async def scheduler(autojump_clock):
    async with open_scheduler(reserve=0) as opened:
        yield opened


async def echo(request):
    await trio.sleep(1)
    return request


async def test_handler_is_served_until_the_block_ends(scheduler, autojump_clock):
    outcomes = []

    async def call():
        try:
            await port.call("late")
        except DaemonDown as error:
            outcomes.append(str(error))

    async with trio.open_nursery() as nursery, open_port(scheduler, "echo", echo) as port:
        assert await port.call("a") == "a"
        for _ in range(2):  # one is served when the block ends, the other waits
            nursery.start_soon(call)
        await wait_all_tasks_blocked()
    assert len(outcomes) == 2
    with pytest.raises(DaemonDown, match="'echo' .*: its port was closed"):
        await port.call("after")


async def test_waiting_calls_are_served_first_when_the_block_ends_with_a_drain(scheduler, autojump_clock):
    replies = []

    async def call(number):
        replies.append(await port.call(number))

    async with trio.open_nursery() as nursery, open_port(scheduler, "echo", echo) as port:
        for number in range(3):
            nursery.start_soon(call, number)
        await wait_all_tasks_blocked()
        await port.drain()
    assert sorted(replies) == [0, 1, 2]


async def test_workers_serve_at_once_with_their_level_and_share_the_budget(scheduler, autojump_clock):
    contexts = set()

    async def handler(_):
        contexts.add(current_context())
        await trio.sleep(1)

    budget = Budget(1.0, 10.0)
    async with open_port(scheduler, "p", handler, workers=3, level=2, budget=budget, capacity=5) as port:
        await wait_all_tasks_blocked()
        with scheduler.context("caller", level=6):
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(port.call, None)
        assert trio.current_time() == 1
        assert sorted(context.name for context in contexts) == ["p#0", "p#1", "p#2"]
        assert {context.level for context in contexts} == {2}
        assert len({id(context.budget) for context in contexts}) == 1
        assert (inspect(port).workers, port.queue.capacity) == (3, 5)
    contexts.clear()
    gc.collect()  # contexts and the budget that they share refer to each other
    assert "p#0" not in {account.name for account in scheduler.statistics().contexts}


async def test_call_is_recorded_in_the_statistics_of_the_port_or_in_those_given(scheduler, autojump_clock):
    other = CallStatistics("other")
    async with open_port(scheduler, "echo", echo) as port:
        await port.call(1)
        await port.call(1)
        await port.call(1, statistics=other)
    assert (port.statistics.service.count, other.service.count) == (2, 1)
    assert port.statistics.name == "echo"


async def _generator(_):
    yield 1


def _plain_generator(_):
    yield 1


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (None, "None is not callable; pass an async function"),
        (echo("request"), "is a coroutine; pass the function without calling it"),
        (_generator, "is a generator function; return the reply instead of yielding it"),
        (_plain_generator, "is a generator function; return the reply instead of yielding it"),
    ],
    ids=["none", "coroutine", "async generator", "generator"],
)
async def test_handler_that_cannot_be_one_is_refused(scheduler, autojump_clock, handler, message):
    with pytest.raises(TypeError, match=rf"^open_port\('p'\): handler .*{message}$"):
        async with open_port(scheduler, "p", handler):
            pass


@pytest.mark.parametrize("handler", [None, _generator])
async def test_serve_refuses_a_handler_that_cannot_be_one(scheduler, autojump_clock, handler):
    context = scheduler.context("worker")
    with context, pytest.raises(TypeError, match=r"^serve\('p'\): handler"):
        await Port(scheduler, "p").serve(handler, context=context)


@pytest.mark.parametrize("direct", [True, False])
async def test_handler_that_returns_no_awaitable_fails_its_call_alone(autojump_clock, direct):
    def double(number):
        return 2 * number if number else echo(number)

    async with (
        open_scheduler(reserve=0, direct=direct) as scheduler,
        open_port(scheduler, "p", double) as port,
    ):
        await wait_all_tasks_blocked()
        with pytest.raises(
            TypeError, match=r"double returned 8, which is not awaitable; define it with `async def`$"
        ):
            await port.call(4)
        assert await port.call(0) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": 0}, r"open_port\('p'\): 0 workers serve nothing; use 1 or more"),
        ({"level": 8}, "level 8 does not exist"),
        ({"capacity": 0}, r"port\('p'\): capacity 0 leaves no room; use 1 or more, or math.inf"),
        ({"capacity": math.nan}, r"port\('p'\): capacity nan leaves no room"),
    ],
)
async def test_impossible_options_are_refused(scheduler, autojump_clock, options, message):
    with pytest.raises(ValueError, match=message):
        async with open_port(scheduler, "p", echo, **options):
            pass


async def test_port_of_a_closed_scheduler_is_refused(autojump_clock):
    async with open_scheduler() as scheduler:
        pass
    with pytest.raises(SchedulerClosed):
        Port(scheduler, "p")
    with pytest.raises(SchedulerClosed):
        async with open_port(scheduler, "p", echo):
            pass


@pytest.mark.parametrize("direct", [True, False])
async def test_closing_the_scheduler_answers_every_call_and_ends_every_worker(autojump_clock, direct):
    outcomes, stopped = {}, []

    async def handler(request):
        try:
            await trio.sleep(100)
        finally:
            stopped.append(request)

    async def serve(port, context):
        try:
            await port.serve(handler, context=context)
        except SchedulerClosed:
            outcomes[context.name] = "SchedulerClosed"

    async def call(port, name, deadline):
        try:
            await port.call(name, deadline=deadline)
        except SchedulerClosed as error:
            outcomes[name] = str(error)

    async with trio.open_nursery() as nursery:
        async with open_scheduler(reserve=0, direct=direct) as scheduler:
            served, alone = Port(scheduler, "served"), Port(scheduler, "alone")
            for name in ("first", "second"):
                context = scheduler.context(name)
                with context:
                    nursery.start_soon(serve, served, context)
            await wait_all_tasks_blocked()
            nursery.start_soon(call, served, "is served", 60.0)
            nursery.start_soon(call, alone, "waits", 60.0)
            nursery.start_soon(call, alone, "waits for ever", math.inf)
            await trio.sleep(5)
        await wait_all_tasks_blocked()
        assert trio.current_time() == 5
        assert outcomes.pop("first") == outcomes.pop("second") == "SchedulerClosed"
        assert sorted(outcomes) == ["is served", "waits", "waits for ever"]
        assert outcomes["waits"].startswith("port 'alone': the scheduler is closed; use it only inside its")
        assert stopped == ["is served"]
        with pytest.raises(SchedulerClosed):
            await alone.call("afterwards")
        assert all(port.queue.statistics.conserved() for port in (served, alone))
        assert not served.queue.statistics.waiting


async def test_worker_that_is_cancelled_as_its_scheduler_closes_ends_quietly(autojump_clock):
    async with trio.open_nursery() as nursery, open_scheduler() as scheduler:
        context = scheduler.context("worker")
        with context:
            nursery.start_soon(partial(Port(scheduler, "p").serve, echo, context=context))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("own", [None, "another"])
async def test_serving_with_the_context_of_another_task_is_refused(scheduler, autojump_clock, own):
    context = scheduler.context("worker", level=1)
    port = Port(scheduler, "p")

    async def serve():
        with pytest.raises(
            ValueError, match=r"^serve\('p'\): context <.*'worker'.*> is not that of the running task;"
        ):
            await port.serve(echo, context=context)

    async with trio.open_nursery() as nursery:
        if own is None:
            nursery.start_soon(serve)
        else:
            with scheduler.context(own):
                nursery.start_soon(serve)
    assert inspect(port).workers == 0
