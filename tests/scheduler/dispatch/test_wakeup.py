"""What ends the loop's sleep: both sources, armed, armed anew, disarmed, and gone."""

import ctypes
import math
import os
import sys
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import kernel, open_scheduler
from rtos.scheduler.dispatch import wakeup
from rtos.scheduler.dispatch.wakeup import ClockWakeUp, TimerfdWakeUp, open_wakeup

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="needs a timerfd")


# Trio's clock.


async def test_the_clock_moves_to_what_is_armed(autojump_clock):
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


async def test_what_is_armed_while_it_wakes_is_not_lost(autojump_clock):
    source = ClockWakeUp()
    seen = []

    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        source.arm(5.0)
        await trio.sleep(5.0)
        # It may have run, or be about to: either way the next instant must hold.
        source.arm(8.0)
        await wait_all_tasks_blocked()
        seen.append(source._scope.deadline)
        nursery.cancel_scope.cancel()
    assert seen == [8.0]


async def test_a_wake_up_without_anything_new_sleeps_for_good(autojump_clock):
    source = ClockWakeUp()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run)
        await wait_all_tasks_blocked()
        source.arm(5.0)
        await trio.sleep(6.0)
        assert source._scope.deadline == math.inf
        source.arm(5.0)  # in the past by now: it wakes at once, and only once
        await trio.sleep(1.0)
        assert source._scope.deadline == math.inf
        nursery.cancel_scope.cancel()


async def test_cancelled_together_with_its_instant(autojump_clock):
    source = ClockWakeUp()
    with trio.move_on_after(5.0) as scope:
        source.arm(5.0)
        await source.run()
    assert scope.cancelled_caught


async def test_real_time_without_a_timerfd(monkeypatch):
    """As on another platform: one timer after the other, and nothing else that would wake the loop."""
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
    """A pipe in the place of a timerfd: readable when the test says so."""

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
async def test_armed_only_when_the_instant_changes(autojump_clock, fake):
    source = TimerfdWakeUp(fake.settime, fake.readable)
    for at in (math.inf, 5.0, 5.0, 3.0, math.inf, math.inf, -1.0):
        source.arm(at)
    assert fake.set == [
        5.0,  # that it starts disarmed needs no call
        3.0,
        0.0,  # zero disarms
        1e-9,  # what is due already is due at once, and must not disarm
    ]
    assert source.lazy
    os.close(fake.readable)


@on_linux
async def test_after_it_has_fired_the_same_instant_is_armed_again(autojump_clock, fake):
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
        os.fstat(fake.readable)  # closed by whoever waited for it


@on_linux
async def test_the_real_one_fires_and_is_closed():
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
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has it")
def test_an_error_of_the_system_call_is_raised():
    settime = wakeup._settime_by(ctypes.CDLL(None, use_errno=True))
    with pytest.raises(OSError, match="timerfd_settime"):
        settime(-1, 1.0)


# Which one.


@on_linux
async def test_the_systems_clock_gets_a_timerfd_and_a_virtual_one_does_not():
    source = open_wakeup(trio.lowlevel.current_clock())
    assert isinstance(source, TimerfdWakeUp)
    os.close(source._fd)
    assert isinstance(open_wakeup(MockClock()), ClockWakeUp)


async def test_elsewhere_trios_clock_is_used(monkeypatch):
    monkeypatch.setattr(wakeup.sys, "platform", "darwin")
    assert isinstance(open_wakeup(trio.lowlevel.current_clock()), ClockWakeUp)


@on_linux
@pytest.mark.skipif(sys.version_info >= (3, 13), reason="Python has it")
@pytest.mark.parametrize("missing", ["function", "descriptor"])
async def test_without_a_timerfd_trios_clock_is_used(monkeypatch, missing):
    class Library:
        def __init__(self, *_args, **_kwargs):
            if missing == "descriptor":
                self.timerfd_create = lambda *_: -1

    monkeypatch.setattr(wakeup.ctypes, "CDLL", Library)
    assert isinstance(open_wakeup(trio.lowlevel.current_clock()), ClockWakeUp)


@on_linux
async def test_no_descriptor_is_left_open():
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(20):
        async with open_scheduler():
            await trio.lowlevel.checkpoint()
    assert descriptors() == before
