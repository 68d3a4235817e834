"""Export to Chrome's trace format: well-formed, and complete."""

import json
from collections import defaultdict
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.diagnosis.attribution import explain
from rtos.scheduler.diagnosis.perfetto import COLLECTOR, LOOP, chrome_trace
from rtos.scheduler.tracing.records import (
    Budget,
    Collection,
    CpuTime,
    Missed,
    Released,
    Sent,
    Settled,
    Sleep,
    Started,
    Step,
)

SLACK = 1e-6  # microseconds; sums of floats
US = 1000


def check(document):
    """Fail unless the document follows Chrome's trace format."""
    assert set(document) == {"traceEvents", "displayTimeUnit"}
    slices, arrows, latest = defaultdict(list), defaultdict(list), {}
    for event in document["traceEvents"]:
        assert {"name", "ph", "ts", "pid"} <= set(event)
        assert isinstance(event["ts"], int | float)
        assert event["ts"] >= 0
        check_phase(event)
        track = (event["pid"], event.get("tid"), event["ph"] == "M" or event["ph"])
        assert latest.get(track, 0) <= event["ts"], "time must not run backwards on a track"
        latest[track] = event["ts"]
        if event["ph"] == "X":
            slices[event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] in "stf":
            arrows[event["cat"], event["name"], event["id"]].append(event)
    for track in slices.values():
        for (_, end), (begin, _) in pairwise(track):
            assert end <= begin + SLACK, "slices of one track must not overlap"
    for ends in arrows.values():
        assert sorted(end["ph"] for end in ends) == ["f", "s", "t"]
        by_phase = {end["ph"]: end["ts"] for end in ends}
        assert by_phase["s"] <= by_phase["t"] <= by_phase["f"]
        for end in ends:
            assert any(a - SLACK <= end["ts"] <= b + SLACK for a, b in slices[end["tid"]]), (
                "no slice to bind to"
            )
    named = {event["tid"] for event in document["traceEvents"] if event["name"] == "thread_name"}
    assert set(slices) <= named
    return document["traceEvents"]


def check_phase(event):
    match event["ph"]:
        case "X":
            assert event["dur"] >= 0
            assert isinstance(event["tid"], int)
        case "i":
            assert event["s"] == "t"
        case "C":
            assert all(isinstance(value, int | float) for value in event["args"].values())
        case "M":
            assert event["name"] in ("process_name", "thread_name", "thread_sort_index")
            assert event["args"]
        case "s" | "t":
            assert "bp" not in event
        case "f":
            assert event["bp"] == "e"
        case other:
            pytest.fail(f"phase {other!r} is none of ours")


RUN = (
    Step(1_000 * US, 50 * US, 1, "client", 4, 1, 1_000 * US),
    Sent(1_040 * US, 7, "data/read", 1, "client", "data", 4, 0),
    Sleep(1_050 * US, 50 * US, None),
    Released(1_100 * US, 2),
    Step(1_100 * US, 100 * US, 2, "data", 2, 1, 1_100 * US),
    Started(1_110 * US, 7, 2, "data"),
    Settled(1_180 * US, 7, "handled"),
    Collection(1_150 * US, 20 * US, 0),
    Budget(1_190 * US, 2, "data", -500),
    CpuTime(1_000 * US, 200 * US, 150 * US, 140 * US),
    Step(1_210 * US, 10 * US, 1, "client", 4, 3, 1_210 * US),
)
MISSED = Missed(
    1_205 * US, 7, "data/read", 1, "client", "data", 4, 1_040 * US, 1_200 * US, 1_110 * US, answered=True
)


def events_of(phase, **wanted):
    events = check(chrome_trace((*RUN, MISSED), reports=[explain(MISSED, RUN)]))
    return [
        event
        for event in events
        if event["ph"] == phase and all(event.get(key) == value for key, value in wanted.items())
    ]


def test_document_is_json_and_well_formed():
    document = json.loads(json.dumps(chrome_trace(RUN, process="test")))
    check(document)
    assert document["traceEvents"][0]["args"] == {"name": "test"}


def test_empty_trace_has_only_titles():
    assert [event["ph"] for event in check(chrome_trace(()))] == ["M"] * 5


def test_each_context_has_a_track_ordered_by_level():
    order = {event["tid"]: event["args"]["sort_index"] for event in events_of("M", name="thread_sort_index")}
    assert sorted(order, key=order.get) == [LOOP, COLLECTOR, 2, 1]
    names = {event["tid"]: event["args"]["name"] for event in events_of("M", name="thread_name")}
    assert names == {LOOP: "loop", COLLECTOR: "garbage collection", 1: "client", 2: "data"}


def test_each_step_is_a_slice_named_after_the_command_it_served():
    steps = [(event["name"], event["tid"], event["ts"], event["dur"]) for event in events_of("X", cat="step")]
    assert steps == [("client", 1, 0, 50), ("data/read", 2, 100, 100), ("client", 1, 210, 10)]
    assert events_of("X", tid=LOOP)[0]["dur"] == 50
    assert events_of("X", tid=COLLECTOR)[0]["name"] == "generation 0"


def test_call_is_an_arrow_from_sender_to_worker_to_sender():
    ends = [*events_of("s"), *events_of("t"), *events_of("f")]
    assert [(end["tid"], end["ts"]) for end in ends] == [
        (1, 40),  # sent
        (2, 110),  # started
        (1, 210),  # the step that takes the reply
    ]


def test_arrow_is_left_out_if_one_of_its_slices_is_gone():
    for gone in range(len(RUN)):
        check(chrome_trace(RUN[gone:]))
        check(chrome_trace((*RUN[:gone], *RUN[gone + 1 :])))
    assert not [event for event in chrome_trace(RUN[:-1])["traceEvents"] if event["ph"] in "stf"]


def test_counters_and_marks_have_their_values():
    waiting = [(event["ts"], event["args"]) for event in events_of("C", name="waiting at data")]
    assert waiting == [(40, {"calls": 1}), (110, {"calls": 0})]  # sent, started
    assert events_of("C", name="budget of data")[0]["args"] == {"µs": -0.5}
    assert events_of("C", name="off the CPU")[0]["args"] == {"µs": 10}
    assert events_of("i", name="ready")[0]["tid"] == 2


def test_miss_is_a_mark_with_its_causes():
    (mark,) = events_of("i", name="missed data/read")
    assert (mark["ts"], mark["tid"]) == (205, 1)
    assert mark["args"]["late_us"] == 5
    assert mark["args"]["why"] == str(explain(MISSED, RUN))


gaps = st.integers(0, 3000)


@given(st.lists(st.tuples(gaps, gaps, st.integers(1, 4), st.integers(0, 3)), max_size=30), st.data())
def test_any_run_is_well_formed(steps, data):
    now, number, records, open_calls = 10_000, 0, [], []
    for gap, duration, context, action in steps:
        now += gap
        records.append(Step(now, duration, context, f"c{context}", context, 1, now))
        at = now + data.draw(st.integers(0, duration))
        if action == 1:
            number += 1
            open_calls.append(number)
            records.append(Sent(at, number, "k", context, f"c{context}", "p", 4, 0))
        elif action == 2 and open_calls:
            records.append(Started(at, open_calls[0], context, "p"))
        elif action == 3 and open_calls:
            records.append(Settled(at, open_calls.pop(0), "handled"))
        now += duration
    kept = records[data.draw(st.integers(0, len(records))) :]
    check(json.loads(json.dumps(chrome_trace(kept))))
