"""The ring: which records it keeps, in which order they are read, and what writing costs."""

import gc
import time
import tracemalloc
from timeit import repeat

import attrs
import pytest

from rtos.scheduler.tracing import raw as trace
from rtos.scheduler.tracing.reading import make_missed
from rtos.scheduler.tracing.records import (
    Budget,
    Collection,
    CpuTime,
    Missed,
    Released,
    Sent,
    Serving,
    Settled,
    Sleep,
    Started,
    Step,
)
from rtos.scheduler.tracing.ring import Trace

EPOCH = 5_000


def step(at, duration=10, name="a", context=1, ready=None):
    return (trace.STEP, at, duration, context, name, 4, 1, at if ready is None else ready)


def call(at, sent, started, *, direct=True, outcome="handled"):
    return (trace.CALLED, at, 7, "data/read", 1, "a", "data", 4, sent, direct, started, 2, outcome)


def test_snapshot_has_frozen_records_ordered_by_their_beginning():
    ring = Trace(16)
    ring.record(step(100))
    ring.record((trace.SLEPT, 110, 40, None))
    ring.record(
        step(150, name="b", context=2)
    )  # written at its end, after the records of what happened in it
    records = ring.snapshot()
    assert records == (
        Step(100, 10, 1, "a", 4, 1, 100),
        Sleep(110, 40, None),
        Step(150, 10, 2, "b", 4, 1, 150),
    )
    assert records[0].end == 110
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        records[0].at = 0


def test_call_is_written_once_and_read_as_sent_started_settled():
    ring = Trace(16)
    ring.record(call(30e-9, 10e-9, 20e-9))
    assert ring.snapshot() == (
        Sent(10, 7, "data/read", 1, "a", "data", 4, 2),  # an idle worker got it at once
        Started(20, 7, 2, "data"),
        Settled(30, 7, "handled"),
    )
    ring = Trace(16)
    ring.record(call(30e-9, 10e-9, None, direct=False, outcome="expired"))
    assert ring.snapshot() == (Sent(10, 7, "data/read", 1, "a", "data", 4, 0), Settled(30, 7, "expired"))


def test_step_that_had_to_wait_is_preceded_by_its_release():
    ring = Trace(16)
    ring.record(step(100, ready=80))
    assert ring.snapshot() == (Released(80, 1), Step(100, 10, 1, "a", 4, 1, 80))


def test_ticks_and_trio_times_are_read_as_one_time_line():
    ring = Trace(16, epoch=EPOCH)
    ring.record(call(6.5e-6, 5.95e-6, None))
    ring.record(step(900, ready=890))
    ring.record_collection((2_000, 5, 2))
    assert ring.snapshot() == (
        Released(5_890, 1),
        Step(5_900, 10, 1, "a", 4, 1, 5_890),
        Sent(5_950, 7, "data/read", 1, "a", "data", 4, 2),
        Settled(6_500, 7, "handled"),
        Collection(7_000, 5, 2),
    )


def test_miss_has_all_its_times_in_nanoseconds():
    under_way = ((7, 2, "data", 1e-6, 1.5e-6, None), (8, 3, "store", 1.6e-6, None, 900))
    raw = (trace.MISSED, 3e-6, 7, "data/read", 1, "a", "data", 4, 1e-6, 2e-6, 1.5e-6, False, under_way)
    ring = Trace(4, epoch=EPOCH)
    ring.record(raw)
    serving = (Serving(7, 2, "data", 1000, 1500, None), Serving(8, 3, "store", 1600, None, 5900))
    missed = Missed(
        3000, 7, "data/read", 1, "a", "data", 4, 1000, 2000, 1500, answered=False, serving=serving
    )
    assert ring.snapshot() == (missed,)
    assert make_missed((*raw[:10], None, True, ()), 0).started is None


def test_samples_and_budgets_are_read_as_their_classes():
    ring = Trace(16)
    ring.record((trace.CPU, 0, 100, 90, 80))
    ring.record((trace.BUDGET, 1, 3, "a", -5))
    assert ring.snapshot() == (CpuTime(0, 100, 90, 80), Budget(1, 3, "a", -5))


def test_only_the_newest_records_are_kept():
    ring = Trace(3)
    for at in range(10):
        ring.record(step(at))
    assert [record.at for record in ring.snapshot()] == [7, 8, 9]
    assert len(ring) == 3


def test_ring_of_size_0_keeps_nothing():
    ring = Trace(0)
    ring.record(step(1))
    ring.record_collection((1, 1, 0))
    assert ring.snapshot() == ()


def test_portions_since_have_the_tail_and_one_record_that_shows_it_is_complete():
    ring = Trace(100)
    for at in range(0, 1000, 10):
        ring.record(step(at))
    ring.record_collection((5, 3, 0))
    ring.record_collection((965, 3, 0))

    def since(at, limit):
        return sorted(record.at for portion in ring.portions_since(at, limit=limit) for record in portion)

    assert since(965, 50) == [
        950,  # ended at 960: no later record is missing
        960,  # was running
        965,  # the collection
        970,
        980,
        990,
    ]
    assert since(0, 2) == [5, 965, 980, 990]


def test_numbers_of_calls_are_unique():
    ring = Trace(0)
    assert [ring.next_call() for _ in range(3)] == [1, 2, 3]


def test_collection_during_a_snapshot_is_allowed():
    ring = Trace(50_000)
    for at in range(50_000):
        ring.record(step(at))

    def note(phase, info):
        ring.record_collection((1, 1, 0))

    gc.callbacks.append(note)
    try:
        before = len(ring)
        assert len(ring.snapshot()) >= 50_000
        assert len(ring) > before  # there were collections
    finally:
        gc.callbacks.remove(note)


def test_records_are_untracked_by_the_collector_and_small():
    tracemalloc.start()
    try:
        ring = Trace(10_000)
        for at in range(2**40, 2**40 + 10_000):
            ring.record(step(at, at - 2**40 + 300))
        per_record = tracemalloc.get_traced_memory()[0] / 10_000
    finally:
        tracemalloc.stop()
    gc.collect()
    assert not any(gc.is_tracked(raw) for raw in ring._ring)
    assert per_record < 256


def test_writing_a_record_costs_little_more_than_appending_a_tuple():
    # A ratio of CPU times in one run.
    ring = Trace(1024)
    plain = []

    def record():
        ring.record((trace.STEP, 1, 2, 3, "a", 4, 1, 1))

    def append():
        plain.append((trace.STEP, 1, 2, 3, "a", 4, 1, 1))
        plain.clear()

    def cost(action):
        return min(repeat(action, timer=time.thread_time, number=20_000, repeat=5))

    assert cost(record) < 3 * cost(append)
