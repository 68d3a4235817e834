"""The two hosts: outcomes, deadlines, cancellation, and the end."""

from __future__ import annotations

import asyncio  # noqa: TID251 - the host under test
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from rtos.errors import DaemonDown
from rtos.host.asyncio import open_in_asyncio
from rtos.host.thread import open_thread
from rtos.scheduler import Scheduler, open_scheduler

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rtos.host.asyncio import AsyncioHost


async def _double(number: int) -> int:
    await trio.lowlevel.checkpoint()
    return 2 * number


async def _fail() -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("nowhere")


@asynccontextmanager
async def _broken() -> AsyncIterator[None]:
    raise OSError("cannot open")
    yield


@asynccontextmanager
async def _breaks_at_the_end() -> AsyncIterator[None]:
    yield
    raise OSError("cannot close")


def test_a_synchronous_program_calls_and_gets_what_it_asked_for() -> None:
    with open_thread(open_scheduler) as host:
        assert isinstance(host.system, Scheduler)
        assert host.call(_double, 4) == 8
        with pytest.raises(LookupError, match="nowhere"):
            host.call(_fail)


def test_a_call_from_a_thread_ends_at_its_timeout_and_is_cancelled() -> None:
    cancelled = threading.Event()

    async def hang() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    with open_thread(open_scheduler) as host:
        with pytest.raises(TimeoutError, match="not done within 0.01 s, and cancelled"):
            host.call(hang, timeout=0.01)
        assert cancelled.is_set()
        assert host.call(_double, 1) == 2


def test_threads_of_the_host_may_call_at_the_same_time() -> None:
    results: list[int] = []
    with open_thread(open_scheduler) as host:
        threads = [
            threading.Thread(target=lambda n=n: results.append(host.call(_double, n))) for n in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [2 * n for n in range(8)]


def test_a_call_after_the_end_is_told_so() -> None:
    with open_thread(open_scheduler) as host:
        pass
    with pytest.raises(DaemonDown, match="it was stopped before this call ended"):
        host.call(_double, 1)


def test_what_opening_and_closing_raise_comes_out() -> None:
    with pytest.raises(OSError, match="cannot open"), open_thread(_broken):
        pytest.fail("it is not open")
    with pytest.raises(OSError, match="cannot close"), open_thread(_breaks_at_the_end):
        pass


def test_two_systems_live_in_one_process() -> None:
    with open_thread(open_scheduler) as one, open_thread(open_scheduler) as two:
        assert one.system is not two.system
        assert (one.call(_double, 1), two.call(_double, 2)) == (2, 4)


def _in_asyncio(body: Callable[[AsyncioHost[Scheduler]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_in_asyncio(open_scheduler) as host:
            await body(host)

    asyncio.run(main())


def test_an_asyncio_program_calls_and_gets_what_it_asked_for() -> None:
    async def body(host: AsyncioHost[Scheduler]) -> None:
        assert await host.call(_double, 4) == 8
        assert await asyncio.gather(*(host.call(_double, n) for n in range(5))) == [0, 2, 4, 6, 8]
        with pytest.raises(LookupError, match="nowhere"):
            await host.call(_fail)
        with pytest.raises(TimeoutError, match="not done within 0.01 s"):
            await host.call(trio.sleep_forever, timeout=0.01)

    _in_asyncio(body)


def test_an_asyncio_cancellation_cancels_the_work() -> None:
    trace: list[str] = []
    started = asyncio.Event()
    loop: asyncio.AbstractEventLoop

    async def hang() -> None:
        trace.append("started")
        loop.call_soon_threadsafe(started.set)
        try:
            await trio.sleep_forever()
        finally:
            trace.append("unwound")

    async def body(host: AsyncioHost[Scheduler]) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(host.call(hang))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        trace.append("cancelled")

    _in_asyncio(body)
    assert trace == ["started", "unwound", "cancelled"]


def test_the_host_loop_goes_on_while_the_system_runs() -> None:
    async def body(host: AsyncioHost[Scheduler]) -> None:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        task = asyncio.create_task(tick())
        await host.call(trio.sleep, 0.01)
        task.cancel()
        assert ticks > 0

    _in_asyncio(body)


def test_what_opening_raises_comes_out_of_asyncio() -> None:
    async def main() -> None:
        async with open_in_asyncio(_broken):
            pytest.fail("it is not open")

    with pytest.raises(OSError, match="cannot open"):
        asyncio.run(main())
