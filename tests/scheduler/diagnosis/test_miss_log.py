"""From a miss to its report: counted at once, explained in bounded portions."""

import logging
import math
from itertools import pairwise

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import DeadlineMissed
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.attribution import Part
from rtos.scheduler.diagnosis.miss_log import KEPT, PAUSE, PENDING, MissLog, log_miss
from rtos.scheduler.policy.timer_heap import TimerHeap
from rtos.scheduler.tracing import raw as marks
from rtos.scheduler.tracing.ring import Trace

RAW = (marks.MISSED, 3e-6, 7, "data/read", 1, "a", "data", 4, 1e-6, 2e-6, None, False, ())


class Loop:
    """A clock that every reading advances, and timers."""

    def __init__(self, tick=0.0):
        self.time = 0.0
        self.tick = tick
        self.heap = TimerHeap()
        self.fired = []

    def now(self):
        self.time += self.tick
        return self.time

    def run(self):
        while (at := self.heap.next_at()) < math.inf:
            self.time = max(self.time, at)
            for action in self.heap.due(self.time):
                self.fired.append(at)
                action()

    def log(self, trace=None, on_miss=None):
        return MissLog(trace or Trace(0), now=self.now, add_timer=self.heap.add, on_miss=on_miss)


def test_miss_is_counted_at_once_and_explained_later():
    loop, reported = Loop(), []
    misses = loop.log(on_miss=reported.append)
    misses.note(RAW)
    assert (misses.count, list(misses.reports)) == (1, [])
    loop.run()
    (report,) = misses.reports
    assert reported == [report]
    assert report.window == 2000
    assert [share.part for share in report.shares] == [Part.UNRECORDED]


def test_all_misses_of_a_flood_are_counted_and_the_first_explained():
    loop = Loop()
    misses = loop.log()
    for _ in range(PENDING + 5):
        misses.note(RAW)
    loop.run()
    assert (misses.count, misses.unexplained, len(misses.reports)) == (PENDING + 5, 5, PENDING)
    for _ in range(KEPT):
        misses.note(RAW)
        loop.run()
    assert len(misses.reports) == KEPT


def test_explaining_takes_at_most_a_tenth_of_the_time():
    loop = Loop(tick=1.0)  # each reading of the clock costs a second: a portion takes one
    misses = loop.log()
    misses.note(RAW)
    misses.note(RAW)
    loop.run()
    pauses = [later - earlier for earlier, later in pairwise(loop.fired)]
    assert len(misses.reports) == 2
    assert all(pause >= PAUSE for pause in pauses)


def test_exception_in_on_miss_is_logged_and_the_next_miss_explained(caplog):
    loop = Loop()

    def fail(_):
        msg = "no"
        raise RuntimeError(msg)

    misses = loop.log(on_miss=fail)
    misses.note(RAW)
    misses.note(RAW)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="no"):
            loop.run()
    loop.run()
    assert len(misses.reports) == 2


def test_misses_that_wait_at_close_count_as_unexplained():
    loop = Loop()
    misses = loop.log()
    misses.note(RAW)
    misses.close()
    loop.run()
    assert (misses.count, misses.unexplained, len(misses.reports)) == (1, 1, 0)


# With the kernel, in virtual time.


async def serve_one(scheduler, nursery, body, level=2):
    port, context = Port(scheduler, "data"), scheduler.context("server", level=level)

    async def serve():
        await port.serve(body, context=context)

    with context:
        nursery.start_soon(serve)
    await wait_all_tasks_blocked()
    return port


async def test_report_names_the_context_in_the_way(mock_clock):
    reports = []
    async with (
        open_scheduler(on_miss=reports.append, trace=4096) as scheduler,
        trio.open_nursery() as nursery,
    ):

        async def body(_):
            await trio.sleep(0.002)

        port = await serve_one(scheduler, nursery, body)

        async def hog():
            await trio.sleep(0.001)
            mock_clock.jump(0.05)  # one step of 50 ms

        with scheduler.context("hog", level=6):
            nursery.start_soon(hog)
        await wait_all_tasks_blocked()
        mock_clock.autojump_threshold = 0
        with scheduler.context("client", level=3), pytest.raises(DeadlineMissed):
            await port.call(1, deadline=scheduler.now() + 0.01, statistics=CallStatistics("data/read"))
        await trio.sleep(1)
        assert list(scheduler.misses) == reports
        assert scheduler.statistics().misses == 1
        offender = reports[0].offender
        assert (offender.part, offender.who, offender.ns) == (Part.BLOCKING, "hog", 50_000_000)
        assert sum(share.ns for share in reports[0].shares) == reports[0].window
        nursery.cancel_scope.cancel()


async def test_misses_can_be_logged(autojump_clock, caplog):
    async with open_scheduler(on_miss=log_miss, trace=4096) as scheduler, trio.open_nursery() as nursery:
        port = await serve_one(scheduler, nursery, trio.sleep)
        with caplog.at_level(logging.WARNING, "rtos.misses"), pytest.raises(DeadlineMissed):
            await port.call(5, deadline=scheduler.now() + 1, statistics=CallStatistics("data/read"))
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert "data/read (to 'data', from 'host', level 4) missed its deadline" in caplog.text
    assert "100.0 %  server suspended: 1000.000 ms" in caplog.text


async def test_late_reply_is_a_miss(mock_clock):
    async with open_scheduler(trace=4096) as scheduler, trio.open_nursery() as nursery:

        async def body(_):
            mock_clock.jump(2)  # a step that runs past the deadline, so that no timer can fire first

        port, kind = await serve_one(scheduler, nursery, body), CallStatistics("data/read")
        await port.call(1, deadline=scheduler.now() + 1, statistics=kind)
        mock_clock.autojump_threshold = 0
        await trio.sleep(1)
        (report,) = scheduler.misses
        assert report.missed.answered
        assert kind.missed == 1
        assert report.offender.part is Part.OWN
        assert "it was answered late" in str(report)
        nursery.cancel_scope.cancel()
