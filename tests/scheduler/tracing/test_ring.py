"""The ring: what is kept, in what order it is read, and at what price it is written."""

import gc
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


def test_records_come_out_frozen_and_in_the_order_in_which_they_began():
    ring = Trace(16)
    ring.record(step(100))
    ring.record((trace.SLEPT, 110, 40, None))
    ring.record(step(150, name="b", context=2))  # written when it ends, after what happened in it
    records = ring.snapshot()
    assert records == (
        Step(100, 10, 1, "a", 4, 1, 100),
        Sleep(110, 40, None),
        Step(150, 10, 2, "b", 4, 1, 150),
    )
    assert records[0].end == 110
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        records[0].at = 0


def test_a_call_is_written_once_and_read_as_its_life():
    ring = Trace(16)
    ring.record(call(30e-9, 10e-9, 20e-9))
    assert ring.snapshot() == (
        Sent(10, 7, "data/read", 1, "a", "data", 4, 2),  # handed to the worker at once
        Started(20, 7, 2, "data"),
        Settled(30, 7, "handled"),
    )
    ring.clear()
    ring.record(call(30e-9, 10e-9, None, direct=False, outcome="expired"))
    assert ring.snapshot() == (Sent(10, 7, "data/read", 1, "a", "data", 4, 0), Settled(30, 7, "expired"))


def test_a_step_that_had_to_wait_says_since_when():
    ring = Trace(16)
    ring.record(step(100, ready=80))
    assert ring.snapshot() == (Released(80, 1), Step(100, 10, 1, "a", 4, 1, 80))


def test_ticks_and_trio_times_become_one_time_line():
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


def test_a_miss_carries_all_its_times_in_nanoseconds():
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


def test_every_other_mark_is_read_as_its_class():
    ring = Trace(16)
    ring.record((trace.CPU, 0, 100, 90, 80))
    ring.record((trace.BUDGET, 1, 3, "a", -5))
    assert ring.snapshot() == (CpuTime(0, 100, 90, 80), Budget(1, 3, "a", -5))


def test_only_the_newest_are_kept():
    ring = Trace(3)
    for at in range(10):
        ring.record(step(at))
    assert [record.at for record in ring.snapshot()] == [7, 8, 9]
    assert len(ring) == 3
    ring.clear()
    assert ring.snapshot() == ()


def test_a_ring_of_nothing_keeps_nothing():
    ring = Trace(0)
    ring.record(step(1))
    ring.record_collection((1, 1, 0))
    assert ring.snapshot() == ()


def test_since_gives_the_tail_and_one_more_that_shows_it_to_be_whole():
    ring = Trace(100)
    for at in range(0, 1000, 10):
        ring.record(step(at))
    ring.record_collection((5, 3, 0))
    ring.record_collection((965, 3, 0))
    tail = ring.since(965, limit=50)
    assert [record.at for record in tail] == [
        950,  # had ended at 960: so nothing of what came later is missing
        960,  # was under way
        965,  # the collection
        970,
        980,
        990,
    ]
    assert [record.at for record in ring.since(0, limit=2)] == [5, 965, 980, 990]


def test_numbers_of_calls_never_repeat():
    ring = Trace(0)
    assert [ring.next_call() for _ in range(3)] == [1, 2, 3]


def test_a_collection_during_a_snapshot_does_no_harm():
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


def test_records_weigh_nothing_in_collections_and_little_in_memory():
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


def test_a_record_is_dearer_than_a_tuple_only_by_a_call():
    # A ratio in one run: the ring may cost no more than appending to a plain list of one.
    ring = Trace(1024)
    plain = []

    def record():
        ring.record((trace.STEP, 1, 2, 3, "a", 4, 1, 1))

    def append():
        plain.append((trace.STEP, 1, 2, 3, "a", 4, 1, 1))
        plain.clear()

    assert min(repeat(record, number=20_000, repeat=5)) < 3 * min(repeat(append, number=20_000, repeat=5))
