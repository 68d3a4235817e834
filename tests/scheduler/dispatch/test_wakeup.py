"""Wake-up of the loop: both sources, armed, armed again, disarmed and closed."""

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import kernel, open_scheduler
from rtos.scheduler.dispatch import timerfd, wakeup
from rtos.scheduler.dispatch.wakeup import ClockWakeUp, TimerfdWakeUp, open_wakeup

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a timerfd")


# Trio's clock.


async def test_clock_source_wakes_at_every_armed_instant(autojump_clock):
    source, times = ClockWakeUp(), []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        for at in (5.0, 7.0, 9.0):
            source.arm(at)
            await trio.sleep(at - trio.current_time())
            times.append(trio.current_time())
        source.arm(math.inf)
        await trio.sleep(100)
        nursery.cancel_scope.cancel()
    assert times == [5.0, 7.0, 9.0]
    assert not source.lazy


async def test_instant_armed_during_a_wake_up_is_kept(autojump_clock):
    source = ClockWakeUp()
    seen = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        source.arm(5.0)
        await trio.sleep(5.0)
        # The source may have run already, or be about to; the next instant must hold in both cases.
        source.arm(8.0)
        await wait_all_tasks_blocked()
        seen.append(source._scope.deadline)
        nursery.cancel_scope.cancel()
    assert seen == [8.0]


async def test_clock_source_sleeps_until_armed_again(autojump_clock):
    source = ClockWakeUp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        source.arm(5.0)
        await trio.sleep(6.0)
        assert source._scope.deadline == math.inf
        source.arm(5.0)  # has passed: wakes at once, and only once
        await trio.sleep(1.0)
        assert source._scope.deadline == math.inf
        nursery.cancel_scope.cancel()


async def test_clock_source_is_cancelled_at_its_armed_instant(autojump_clock):
    source = ClockWakeUp()
    with trio.move_on_after(5.0) as scope:
        source.arm(5.0)
        await source.run()
    assert scope.cancelled_caught


async def test_timers_fire_in_real_time_without_timerfd(monkeypatch):
    """As on another platform: only the timers wake the loop."""
    monkeypatch.setattr(kernel, "open_wakeup", lambda _clock: ClockWakeUp())
    async with open_scheduler() as scheduler:
        fired, done = [], trio.Event()
        now = trio.current_time()
        for number in range(3):
            scheduler.add_timer(now + 0.01 * (number + 1), lambda number=number: fired.append(number))
        scheduler.add_timer(now + 0.04, done.set)
        with trio.move_on_after(20) as too_long:
            await done.wait()
        assert not too_long.cancelled_caught
        assert fired == [0, 1, 2]


# A timerfd.


class FakeTimer:
    """A pipe in place of a timerfd, which the test makes readable."""

    def __init__(self):
        self.readable, self._write = os.pipe2(os.O_NONBLOCK)
        self.set = []

    def settime(self, fd, delay):
        assert fd == self.readable
        self.set.append(delay)

    def fire(self):
        os.write(self._write, b"12345678")

    def close(self):
        os.close(self._write)


@pytest.fixture
def fake():
    timer = FakeTimer()
    yield timer
    timer.close()


@on_linux
async def test_timerfd_is_armed_only_when_the_instant_changes(autojump_clock, fake):
    source = TimerfdWakeUp(fake.settime, fake.readable)
    for at in (math.inf, 5.0, 5.0, 3.0, math.inf, math.inf, -1.0):
        source.arm(at)
    assert fake.set == [
        5.0,  # it starts disarmed, so inf makes no call
        3.0,
        0.0,  # zero disarms
        1e-9,  # a time that has passed is due at once, and must not disarm
    ]
    assert source.lazy
    os.close(fake.readable)


@on_linux
async def test_timerfd_is_armed_again_for_the_instant_at_which_it_fired(autojump_clock, fake):
    source = TimerfdWakeUp(fake.settime, fake.readable)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        source.arm(5.0)
        fake.fire()
        await trio.testing.wait_all_tasks_blocked(0.01)
        source.arm(5.0)
        assert fake.set == [5.0, 5.0]
        nursery.cancel_scope.cancel()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fake.readable)  # closed by the waiting task


@on_linux
async def test_real_timerfd_fires_and_is_closed():
    source = open_wakeup(trio.lowlevel.current_clock())
    assert isinstance(source, TimerfdWakeUp)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        at = trio.current_time() + 0.01
        source.arm(at)
        while source._at != math.inf:
            await wait_all_tasks_blocked(0.005)
        assert trio.current_time() >= at
        nursery.cancel_scope.cancel()


@on_linux
def test_error_of_the_system_call_is_raised():
    with pytest.raises(OSError, match="timerfd_settime: Bad file descriptor"):
        timerfd.settime(-1, 1.0)
    with pytest.raises(OSError, match="timerfd_create: Invalid argument"):
        timerfd.timerfd_create(-1, 0)


# Which one.


@on_linux
async def test_system_clock_gets_timerfd_and_virtual_clock_does_not():
    source = open_wakeup(trio.lowlevel.current_clock())
    assert isinstance(source, TimerfdWakeUp)
    os.close(source._fd)
    assert isinstance(open_wakeup(MockClock()), ClockWakeUp)


async def test_another_platform_gets_trios_clock(monkeypatch):
    monkeypatch.setattr(wakeup.sys, "platform", "darwin")
    assert isinstance(open_wakeup(trio.lowlevel.current_clock()), ClockWakeUp)


@on_linux
@pytest.mark.parametrize("error", [OSError, AttributeError], ids=["system call fails", "C library lacks it"])
async def test_without_timerfd_trios_clock_is_used(monkeypatch, error):
    def fail(*_args, **_kwargs):
        raise error("timerfd_create")

    monkeypatch.setattr(timerfd, "timerfd_create", fail)
    monkeypatch.setattr(os, "timerfd_create", fail, raising=False)
    assert isinstance(open_wakeup(trio.lowlevel.current_clock()), ClockWakeUp)


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_every_module_of_the_kernel_is_imported_on_another_platform(platform):
    """As far as a process on this one can tell: without what only POSIX, or only Linux, has."""
    program = f"""
import os, pkgutil, sys, importlib, trio
sys.platform = {platform!r}
for name in dir(os):
    if name.startswith(("O_", "TFD_", "timerfd_", "sched_", "CLOCK_")) and name not in ("O_RDONLY", "O_RDWR"):
        delattr(os, name)
import rtos.scheduler
for module in pkgutil.walk_packages(rtos.scheduler.__path__, "rtos.scheduler."):
    if module.name != "rtos.scheduler.dispatch.timerfd":
        importlib.import_module(module.name)

async def main():
    async with rtos.scheduler.open_scheduler(watchdog=10) as scheduler:
        fired = trio.Event()
        scheduler.add_timer(trio.current_time() + 0.001, fired.set)
        await fired.wait()

trio.run(main)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@on_linux
async def test_closed_scheduler_leaves_no_descriptor_open():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(20):
        async with open_scheduler():
            await trio.lowlevel.checkpoint()
    assert descriptors() == before
