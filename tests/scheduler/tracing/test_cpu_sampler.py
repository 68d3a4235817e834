"""Samples of sleep and CPU time: the arithmetic by hand, the hooks in a real run."""

import gc
from itertools import pairwise
from typing import get_args

import outcome
import pytest
import trio

from rtos.errors import DeadlineMissed
from rtos.scheduler import CallStatistics, SchedulingContext, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.tracing.cpu_sampler import MEASURE_NS, CollectionRecorder, Recorder
from rtos.scheduler.tracing.records import Collection, CpuTime, Record, Sent, Settled, Sleep, Started, Step
from rtos.scheduler.tracing.ring import Trace

MS = 1_000_000


class FakeWatch:
    def __init__(self):
        self.seen = []

    def woke(self, late_ns):
        self.seen.append(("woke", late_ns))

    def ran(self, context, now_ns):
        self.seen.append((context.name, now_ns))


@pytest.fixture
def trace():
    return Trace(64)


def test_sleep_is_recorded_with_its_planned_length(trace):
    recorder = Recorder(trace, now_ns=0, real=False)
    for began, planned, ended in [
        (10, 100e-9, 60),
        (70, 100e-9, 190),
        (200, 86_400.0, 300),
        (310, -1.0, 320),
    ]:
        assert not recorder.asleep
        recorder.fall_asleep(began, planned, None)
        assert recorder.asleep
        recorder.wake_up(ended)
    assert trace.snapshot() == (
        Sleep(10, 50, 100),  # woken early
        Sleep(70, 120, 100),  # woken late
        Sleep(200, 100, None),  # without end
        Sleep(310, 10, 0),  # something was due already
    )


def test_watch_gets_the_last_context_and_the_lateness_of_the_wake_up(trace):
    recorder = Recorder(trace, now_ns=0, real=True)
    recorder.watch = watch = FakeWatch()
    recorder.fall_asleep(10, 100e-9, SchedulingContext("a"))
    recorder.wake_up(150)
    recorder.fall_asleep(200, 86_400.0, None)
    recorder.wake_up(900)
    recorder.measure(1000, SchedulingContext("b"))
    assert watch.seen == [("a", 10), ("woke", 40), ("woke", 0), ("b", 1000)]


def test_cpu_time_is_compared_with_waking_time_only(trace):
    recorder = Recorder(trace, now_ns=0, real=True)
    assert recorder.measure_at == MEASURE_NS
    recorder.fall_asleep(100, 1.0, None)
    recorder.wake_up(5 * MS)
    assert recorder.measure_at == MEASURE_NS + 5 * MS - 100  # sleep does not count
    recorder.measure(7 * MS, SchedulingContext("a"))
    measured = trace.snapshot()[0]
    assert isinstance(measured, CpuTime)
    assert (measured.at, measured.duration, measured.awake) == (0, 7 * MS, 2 * MS + 100)
    assert recorder.measure_at == 8 * MS


def test_nothing_is_recorded_without_a_trace():
    recorder = Recorder(Trace(0), now_ns=0, real=True)
    assert recorder.record is None
    recorder.fall_asleep(1, 1.0, None)
    recorder.wake_up(2)
    recorder.measure(3, SchedulingContext("a"))


def test_collections_are_recorded_between_start_and_stop(trace):
    ticks = iter(range(0, 10_000, 10)).__next__
    recorder = CollectionRecorder(trace, ticks)
    before = len(gc.callbacks)
    recorder.start()
    gc.collect(0)
    gc.collect(1)
    recorder.stop()
    recorder.stop()
    gc.collect()
    assert len(gc.callbacks) == before
    collections = trace.snapshot()
    assert {0, 1} <= {collection.generation for collection in collections}
    assert all(collection.duration == 10 for collection in collections)


# The hooks, in a real run.


async def echo(value):
    if isinstance(value, float):
        await trio.sleep(value)
    return value


async def call_once(scheduler, value=1, **options):
    port, kind = Port(scheduler, "echo"), CallStatistics("echo/say")
    server, client = scheduler.context("server", level=2), scheduler.context("client", level=1)

    async def serve():
        await port.serve(echo, context=server)

    async with trio.open_nursery() as nursery:
        with server:
            nursery.start_soon(serve)
        await trio.testing.wait_all_tasks_blocked()
        with client:
            reply = await outcome.acapture(port.call, value, statistics=kind, **options)
        nursery.cancel_scope.cancel()
    return reply.unwrap()


def of(scheduler, kind):
    return [record for record in scheduler.trace.snapshot() if isinstance(record, kind)]


@pytest.mark.parametrize("direct", [True, False])
async def test_trace_has_sending_start_and_end_of_a_call(direct):
    # With a long quantum, so that the result does not depend on the machine.
    async with open_scheduler(direct=direct, quantum=1.0, trace=4096) as scheduler:
        await call_once(scheduler)
        assert bool(scheduler.statistics().donated) is direct
        (sent,) = of(scheduler, Sent)
        (started,) = of(scheduler, Started)
        (settled,) = of(scheduler, Settled)
        assert (sent.kind, sent.name, sent.port, sent.level) == ("echo/say", "client", "echo", 1)
        assert sent.worker == started.context  # an idle worker got it at once
        assert sent.at <= started.at <= settled.at
        assert settled.outcome == "handled"
        served = [step for step in of(scheduler, Step) if step.context == started.context]
        (serving,) = [step for step in served if sent.at <= step.at <= settled.at]
        assert serving.name == "server"
        assert serving.level == 1  # the level of the call, not the worker's own


async def test_steps_and_sleeps_cover_the_time_between_passes():
    async with open_scheduler(trace=4096) as scheduler:
        await call_once(scheduler, 0.002)
        spans = sorted(of(scheduler, Step) + of(scheduler, Sleep), key=lambda span: span.at)
        assert any(isinstance(span, Sleep) for span in spans)
        for earlier, later in pairwise(spans):
            assert earlier.end <= later.at, "the loop does one thing at a time"


async def test_virtual_time_is_traced_as_virtual_time(autojump_clock):
    async with open_scheduler(trace=4096) as scheduler:
        before = scheduler.now()
        await call_once(scheduler, 5.0)
        (settled,) = of(scheduler, Settled)
        assert settled.at / 1e9 == pytest.approx(before + 5)
        assert sum(sleep.duration for sleep in of(scheduler, Sleep)) == pytest.approx(5e9)
        assert of(scheduler, CpuTime) == []


async def test_refused_withdrawn_and_late_calls_have_an_outcome(autojump_clock):
    async with open_scheduler(trace=4096) as scheduler:
        with pytest.raises(DeadlineMissed):
            await call_once(scheduler, 5.0, deadline=scheduler.now() + 1)
        assert [settled.outcome for settled in of(scheduler, Settled)] == ["expired"]
        assert scheduler.statistics().misses == 1


async def test_trace_can_be_off():
    async with open_scheduler() as scheduler:
        assert await call_once(scheduler) == 1
        assert scheduler.trace.snapshot() == ()
        assert scheduler.record is None


async def test_garbage_collections_are_recorded_while_a_scheduler_with_a_trace_is_open():
    before = list(gc.callbacks)
    async with open_scheduler():
        assert gc.callbacks == before
    async with open_scheduler(trace=4096) as scheduler:
        gc.collect()
        assert of(scheduler, Collection)
    assert gc.callbacks == before


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"trace": -1}, r"trace -1 is not a number of records; use 0 for no trace"),
        ({"watchdog": 0.0}, r"watchdog 0.0 is not a limit; use seconds"),
        ({"watchdog": float("nan")}, r"watchdog nan is not a limit"),
    ],
)
async def test_wrong_settings_are_refused_before_anything_changes(options, match):
    with pytest.raises(ValueError, match=match):
        async with open_scheduler(**options):
            pytest.fail("opened")
    async with open_scheduler(trace=4096):
        pass


def test_every_record_class_is_part_of_the_union():
    assert {Step, Sleep, CpuTime, Sent, Started, Settled, Collection} <= set(get_args(Record))
