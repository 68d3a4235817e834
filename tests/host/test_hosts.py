"""The asyncio host and the thread host: outcomes, timeouts, cancellation, start-up and shutdown."""

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
async def _fails_to_open() -> AsyncIterator[None]:
    raise OSError("cannot open")
    yield


@asynccontextmanager
async def _fails_to_close() -> AsyncIterator[None]:
    yield
    raise OSError("cannot close")


def test_thread_call_returns_result_or_raises_error() -> None:
    with open_thread(open_scheduler) as host:
        assert isinstance(host.system, Scheduler)
        assert host.call(_double, 4) == 8
        with pytest.raises(LookupError, match="nowhere"):
            host.call(_fail)


def test_thread_call_is_cancelled_at_its_timeout() -> None:
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


async def _too_slow() -> None:
    with trio.fail_after(0):
        await trio.sleep_forever()


@pytest.mark.parametrize("timeout", [None, 60])
def test_too_slow_error_of_the_function_comes_out_unchanged(timeout: float | None) -> None:
    async def main() -> None:
        async with open_in_asyncio(open_scheduler) as host:
            await host.call(_too_slow, timeout=timeout)

    with open_thread(open_scheduler) as host, pytest.raises(trio.TooSlowError, match="^$"):
        host.call(_too_slow, timeout=timeout)
    with pytest.raises(trio.TooSlowError, match="^$"):
        asyncio.run(main())


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_impossible_timeout_is_rejected_and_the_system_goes_on(timeout: float) -> None:
    async def use(host: AsyncioHost[Scheduler]) -> None:
        with pytest.raises(ValueError, match="call: timeout .* is not a duration"):
            await host.call(_double, 1, timeout=timeout)
        assert await host.call(_double, 1) == 2

    with open_thread(open_scheduler) as host:
        with pytest.raises(ValueError, match="call: timeout .* is not a duration"):
            host.call(_double, 1, timeout=timeout)
        assert host.call(_double, 1) == 2
    _in_asyncio(use)


def test_thread_call_from_inside_the_system_is_rejected() -> None:
    async def call_again() -> None:
        await trio.lowlevel.checkpoint()
        host.call(_double, 1)

    with (
        open_thread(open_scheduler) as host,
        pytest.raises(RuntimeError, match="call: called from the system's own thread"),
    ):
        host.call(call_again)


def test_several_threads_can_call_at_once() -> None:
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


def test_call_after_close_raises_daemon_down() -> None:
    with open_thread(open_scheduler) as host:
        pass
    with pytest.raises(DaemonDown, match="it was stopped before this call ended"):
        host.call(_double, 1)


def test_errors_of_opening_and_closing_come_out_of_open_thread() -> None:
    with pytest.raises(OSError, match="cannot open"), open_thread(_fails_to_open):
        pytest.fail("opened")
    with pytest.raises(OSError, match="cannot close"), open_thread(_fails_to_close):
        pass


def test_two_systems_in_one_process() -> None:
    with open_thread(open_scheduler) as one, open_thread(open_scheduler) as two:
        assert one.system is not two.system
        assert (one.call(_double, 1), two.call(_double, 2)) == (2, 4)


def _in_asyncio(function: Callable[[AsyncioHost[Scheduler]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with open_in_asyncio(open_scheduler) as host:
            await function(host)

    asyncio.run(main())


def test_asyncio_call_returns_result_or_raises_error() -> None:
    async def use(host: AsyncioHost[Scheduler]) -> None:
        assert await host.call(_double, 4) == 8
        assert await asyncio.gather(*(host.call(_double, n) for n in range(5))) == [0, 2, 4, 6, 8]
        with pytest.raises(LookupError, match="nowhere"):
            await host.call(_fail)
        with pytest.raises(TimeoutError, match="not done within 0.01 s"):
            await host.call(trio.sleep_forever, timeout=0.01)

    _in_asyncio(use)


def test_asyncio_cancellation_cancels_the_function_and_waits_for_it() -> None:
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

    async def use(host: AsyncioHost[Scheduler]) -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        task = asyncio.create_task(host.call(hang))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        trace.append("cancelled")

    _in_asyncio(use)
    assert trace == ["started", "unwound", "cancelled"]


def test_asyncio_loop_runs_while_a_call_is_under_way() -> None:
    async def use(host: AsyncioHost[Scheduler]) -> None:
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

    _in_asyncio(use)


def test_timer_that_asyncio_adds_while_the_system_sleeps_wakes_it() -> None:
    async def use(host: AsyncioHost[Scheduler]) -> None:
        scheduler = host.system
        for _ in range(2):  # the first timer starts system tasks, which alone would wake the loop
            while not scheduler._kernel.queue.asleep:  # noqa: ASYNC110 - a sleep makes no event
                await asyncio.sleep(0)
            fired = asyncio.Event()
            scheduler.add_timer(scheduler.now() + 0.01, fired.set)
            await asyncio.wait_for(fired.wait(), 60)

    _in_asyncio(use)


def test_error_of_opening_comes_out_of_open_in_asyncio() -> None:
    async def main() -> None:
        async with open_in_asyncio(_fails_to_open):
            pytest.fail("opened")

    with pytest.raises(OSError, match="cannot open"):
        asyncio.run(main())


class _SlowToOpen:
    """A system that never finishes opening, and takes a while to unwind."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.opening = threading.Event()
        self.unwinding = threading.Event()
        self.may_end = threading.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        async with open_scheduler():
            try:
                self.trace.append("opening")
                self.opening.set()
                await trio.sleep_forever()
                yield
            finally:
                self.unwinding.set()
                with trio.CancelScope(shield=True):
                    await trio.to_thread.run_sync(self.may_end.wait)
                self.trace.append("closed")


async def _open(system: _SlowToOpen) -> None:
    async with open_in_asyncio(system.open):
        pytest.fail("opened")


def test_asyncio_cancellation_while_opening_cancels_the_guest_run_and_waits_for_it() -> None:
    system = _SlowToOpen()

    async def main() -> None:
        task = asyncio.create_task(_open(system))
        await asyncio.to_thread(system.opening.wait)
        task.cancel()
        await asyncio.to_thread(system.unwinding.wait)
        task.cancel()  # once more, while the system unwinds
        await asyncio.sleep(0)
        assert not task.done()
        system.may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert system.trace == ["opening", "closed"]

    asyncio.run(main())


def test_asyncio_cancellation_before_the_guest_run_has_begun_ends_it() -> None:
    system = _SlowToOpen()
    system.may_end.set()

    async def main() -> None:
        task = asyncio.create_task(_open(system))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert system.trace in ([], ["opening", "closed"])

    asyncio.run(main())


def test_second_asyncio_cancellation_of_a_call_still_waits_until_it_has_unwound() -> None:
    trace: list[str] = []
    started, unwinding, may_end = threading.Event(), threading.Event(), threading.Event()

    async def hang() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            unwinding.set()
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(may_end.wait)
            trace.append("unwound")

    async def use(host: AsyncioHost[Scheduler]) -> None:
        task = asyncio.create_task(host.call(hang))
        await asyncio.to_thread(started.wait)
        task.cancel()
        await asyncio.to_thread(unwinding.wait)
        task.cancel()
        await asyncio.sleep(0)
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert trace == ["unwound"]
        assert await host.call(_double, 1) == 2

    _in_asyncio(use)


def test_interrupt_while_open_thread_waits_cancels_the_opening(monkeypatch: pytest.MonkeyPatch) -> None:
    system = _SlowToOpen()
    system.may_end.set()

    def interrupt(_: object) -> None:
        system.opening.wait()
        raise KeyboardInterrupt

    monkeypatch.setattr("rtos.host.thread.Future.exception", interrupt)
    with pytest.raises(KeyboardInterrupt), open_thread(system.open):
        pytest.fail("opened")
    assert system.trace == ["opening", "closed"]
