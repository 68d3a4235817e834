"""The snapshot of a port that an operator gets, in each state of the port."""

import math

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import DaemonDown, RtosError
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.calls.inspect import inspect
from rtos.scheduler.calls.port import Port


@pytest.fixture
async def scheduler(autojump_clock):
    async with open_scheduler(reserve=0, trace=4096) as opened:
        yield opened


async def _sleep(seconds):
    await trio.sleep(seconds)
    return seconds


async def _call(port, kind, seconds, deadline=math.inf):
    try:
        await port.call(seconds, deadline=deadline, statistics=kind)
    except RtosError:
        return


async def test_snapshot_lists_served_next_and_latest_calls(scheduler, autojump_clock):
    port, kind = Port(scheduler, "daemon"), CallStatistics("work")
    worker = scheduler.context("worker", level=2)
    async with trio.open_nursery() as nursery:
        with worker:
            nursery.start_soon(lambda: port.serve(_sleep, context=worker))
        await wait_all_tasks_blocked()
        await _call(port, kind, 1)
        await _call(port, kind, 4, trio.current_time() + 2)
        now = trio.current_time()
        with scheduler.context("client", level=5):
            for seconds, deadline in ((10, math.inf), (2, now + 300), (3, now + 100)):
                nursery.start_soon(_call, port, kind, seconds, deadline)
                await wait_all_tasks_blocked()
        await trio.sleep(1)
        state = inspect(port, limit=2)
        assert (state.state, state.workers, state.idle) == ("serving", 1, 0)
        assert [(call.sender, call.age, call.state) for call in state.serving] == [("client", 1, "served")]
        assert [(call.level, call.left) for call in state.head] == [(5, 99), (5, 299)]
        assert [(call.kind, call.age, call.state) for call in state.latest] == [
            ("work", 2, "expired"),
            ("work", 1, "handled"),
        ]
        assert state.statistics.queued == 2
        assert [len(inspect(port, limit=1).head), len(inspect(port, limit=0).latest)] == [1, 0]
        nursery.cancel_scope.cancel()


async def test_snapshot_names_the_state_of_the_port(scheduler, autojump_clock):
    port = Port(scheduler, "daemon")
    worker = scheduler.context("worker", level=2)
    async with trio.open_nursery() as nursery:
        with worker:
            nursery.start_soon(lambda: port.serve(_sleep, context=worker))
        await wait_all_tasks_blocked()
        seen = [inspect(port).state]
        port.suspend()
        seen.append(inspect(port).state)
        port.resume()
        await port.drain()
        seen.append(inspect(port).state)
        nursery.cancel_scope.cancel()
    port.close(DaemonDown("daemon", "it has been stopped", 0))
    seen.append(inspect(port).state)
    assert seen == ["serving", "suspended", "draining", "down"]
    assert inspect(port).workers == 0


async def test_snapshot_changes_nothing(scheduler, autojump_clock):
    port, kind = Port(scheduler, "daemon"), CallStatistics("work")
    async with trio.open_nursery() as nursery:
        for seconds in range(5):
            nursery.start_soon(_call, port, kind, seconds)
        await wait_all_tasks_blocked()
        first = inspect(port)
        assert inspect(port) == first
        first.statistics.queued = 77
        assert port.queue.statistics.queued == 5
        nursery.cancel_scope.cancel()


async def test_limit_below_zero_raises_value_error(scheduler, autojump_clock):
    with pytest.raises(ValueError, match="limit -1 is not a number of calls; use 0 or more"):
        inspect(Port(scheduler, "daemon"), limit=-1)
