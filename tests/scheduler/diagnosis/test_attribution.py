"""Attribution of a miss: the invariant of the shares, then an example of each cause."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.scheduler.diagnosis.attribution import Part, explain, explain_in_portions
from rtos.scheduler.tracing.records import (
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

MS = 1_000_000
CLIENT, SERVER, HOG, LOW, OTHER, SYSTEM = 1, 2, 3, 4, 5, 6
NAMES = {CLIENT: "client", SERVER: "data", HOG: "hog", LOW: "low", OTHER: "store", SYSTEM: "system"}
LEVELS = {CLIENT: 2, SERVER: 2, HOG: 1, LOW: 6, OTHER: 2, SYSTEM: -1}


def miss(at, *, sent=0, due=None, started=None, call=1, serving=()):
    due = at if due is None else due
    return Missed(at, call, "data/read", CLIENT, "client", "data", 2, sent, due, started, False, serving)


def step(context, at, end):
    return Step(at, end - at, context, NAMES[context], LEVELS[context], 1, at)


def sent(at, *, worker=0, call=1, context=CLIENT, port="data"):
    return Sent(at, call, "data/read", context, NAMES[context], port, 2, worker)


def started(at, *, call=1, context=SERVER, port="data"):
    return Started(at, call, context, port)


def parts(missed, *records):
    report = explain(missed, sorted(records, key=lambda record: record.at))
    assert sum(share.ns for share in report.shares) == report.window
    return {(share.part, share.who): share.ns for share in report.shares}


BEFORE = step(CLIENT, -10, 0)

times = st.integers(-50, 250)
lengths = st.integers(0, 120)
contexts = st.integers(1, 5)
calls = st.integers(1, 3)
records = st.lists(
    st.one_of(
        st.builds(
            Step, times, lengths, contexts, st.sampled_from("abc"), st.integers(-1, 7), st.just(1), times
        ),
        st.builds(Released, times, contexts),
        st.builds(Sleep, times, lengths, st.none() | lengths),
        st.builds(CpuTime, times, lengths, st.integers(0, 200_000), st.integers(0, 100_000)),
        st.builds(Collection, times, lengths, st.integers(0, 2)),
        st.builds(
            Sent,
            times,
            calls,
            st.just("k"),
            contexts,
            st.just("a"),
            st.sampled_from(["data", "x"]),
            st.integers(0, 7),
            st.integers(0, 5),
        ),
        st.builds(Started, times, calls, contexts, st.sampled_from(["data", "x"])),
        st.builds(Settled, times, calls, st.just("handled")),
    ),
    max_size=40,
)
servings = st.builds(
    Serving, calls, contexts, st.sampled_from(["data", "x"]), times, st.none() | times, st.none() | times
)
misses = st.builds(
    Missed, times, calls, st.just("k"), contexts, st.just("a"), st.just("data"), st.integers(0, 7),
    st.integers(0, 100), times, st.none() | times, st.booleans(), st.lists(servings, max_size=3).map(tuple),
)  # fmt: skip


@given(misses, records, st.booleans())
def test_shares_add_up_to_the_window_for_any_records(missed, stream, in_order):
    if in_order:
        stream.sort(key=lambda record: record.at)
    report = explain(missed, stream)
    assert sum(share.ns for share in report.shares) == report.window == max(missed.at - missed.sent, 0)
    assert all(share.ns > 0 for share in report.shares)
    assert all(0 <= share.longest <= share.ns for share in report.shares)
    assert str(report)


def test_time_without_records_is_unrecorded():
    assert parts(miss(5 * MS)) == {(Part.UNRECORDED, None): 5 * MS}


def test_time_before_the_oldest_record_is_unrecorded():
    shares = parts(miss(10), step(HOG, 4, 10))
    assert shares == {(Part.UNRECORDED, None): 4, (Part.INTERFERENCE, "hog"): 6}


def test_more_urgent_steps_and_other_calls_of_the_daemon_interfere():
    assert parts(
        miss(100),
        BEFORE,
        sent(0),
        step(HOG, 10, 40),
        step(SERVER, 40, 70),  # serves another call
        step(HOG, 75, 95),
    ) == {
        (Part.INTERFERENCE, "hog"): 50,
        (Part.INTERFERENCE, "data"): 30,
        (Part.KERNEL, None): 20,  # the loop between the steps
    }


def test_step_that_runs_when_the_call_is_sent_blocks_it():
    shares = parts(miss(100), step(LOW, -20, 90), sent(0, worker=SERVER))
    assert shares == {(Part.BLOCKING, "low"): 90, (Part.KERNEL, None): 10}


def test_less_urgent_step_blocks_a_ready_worker():
    shares = parts(miss(60), BEFORE, sent(0, worker=SERVER), step(LOW, 0, 60))
    assert shares == {(Part.BLOCKING, "low"): 60}


def test_own_run_and_own_wait_are_separate_shares():
    assert parts(
        miss(100, started=10),
        BEFORE,
        sent(0, worker=SERVER),
        step(SERVER, 10, 30),
        started(10),
        step(LOW, 40, 60),  # others may run meanwhile: they are not to blame
        Sleep(60, 40, None),
    ) == {(Part.OWN, "data"): 20, (Part.SUSPENDED, None): 60, (Part.KERNEL, None): 20}


def test_step_in_which_the_worker_became_ready_blocks_it():
    assert parts(
        miss(100, started=10),
        BEFORE,
        sent(0, worker=SERVER),
        step(SERVER, 10, 20),
        started(10),
        Sleep(20, 10, None),
        step(LOW, 30, 80),
        Released(80, SERVER),  # seen after the step, which is as soon as the loop can see it
        step(HOG, 80, 90),  # it is ready, so this keeps it waiting
        step(SERVER, 90, 100),
    ) == {
        (Part.BLOCKING, "low"): 50,
        (Part.OWN, "data"): 20,
        (Part.INTERFERENCE, "hog"): 10,
        (Part.SUSPENDED, None): 10,
        (Part.KERNEL, None): 10,
    }


def test_step_blocks_a_worker_that_then_runs_at_once():
    shares = parts(miss(90, started=0), BEFORE, sent(0), started(0), step(LOW, 10, 60), step(SERVER, 60, 90))
    assert shares == {(Part.BLOCKING, "low"): 50, (Part.OWN, "data"): 30, (Part.KERNEL, None): 10}


def test_step_that_runs_past_the_deadline_is_blamed_for_the_late_notice():
    shares = parts(
        miss(100, due=40, started=0), BEFORE, sent(0, worker=SERVER), started(0), step(LOW, 10, 100)
    )
    assert shares == {
        (Part.KERNEL, None): 10,
        (Part.SUSPENDED, None): 30,  # until the deadline the server was suspended
        (Part.BLOCKING, "low"): 60,
    }


def test_call_waits_while_no_worker_is_free():
    shares = parts(miss(100), BEFORE, sent(0), step(LOW, 10, 30), Sleep(30, 70, None))
    assert shares == {(Part.QUEUED, None): 90, (Part.KERNEL, None): 10}


def test_nested_call_counts_as_own_run():
    assert parts(
        miss(100, started=0),
        BEFORE,
        sent(0, worker=SERVER),
        step(SERVER, 0, 20),
        started(0),
        sent(15, call=2, context=SERVER, port="store", worker=OTHER),
        step(OTHER, 20, 60),
        started(20, call=2, context=OTHER, port="store"),
        Settled(50, 2, "handled"),  # from here on the store serves another call
        step(SERVER, 60, 100),
    ) == {
        (Part.OWN, "data"): 60,
        (Part.OWN, "store"): 30,
        # The reply made the server ready while the rest of the step ran.
        (Part.INTERFERENCE, "store"): 10,
    }


def test_calls_in_progress_are_read_from_the_miss():
    # A call is recorded when it has its outcome; these have none yet.
    serving = (
        Serving(1, SERVER, "data", 0, 0, None),
        Serving(2, OTHER, "store", 15, 20, 70),  # ready since 70, and kept from running
    )
    assert parts(
        miss(100, started=0, serving=serving),
        BEFORE,
        step(SERVER, 0, 20),
        step(OTHER, 20, 60),
        Sleep(60, 10, None),
        step(LOW, 70, 100),
    ) == {
        (Part.OWN, "data"): 20,
        (Part.OWN, "store"): 40,
        (Part.SUSPENDED, None): 10,
        (Part.BLOCKING, "low"): 30,
    }


def test_worker_that_got_the_call_and_never_ran_counts_as_ready():
    shares = parts(miss(50, serving=(Serving(1, SERVER, "data", 0, None, 0),)), BEFORE, step(LOW, 0, 50))
    assert shares == {(Part.BLOCKING, "low"): 50}


def test_late_wake_up_is_separate_from_planned_sleep():
    shares = parts(miss(100, started=0), BEFORE, sent(0), started(0), Sleep(0, 100, 80))
    assert shares == {(Part.SUSPENDED, None): 80, (Part.LATE_RELEASE, None): 20}


def test_collection_is_a_share_of_its_own_in_any_span():
    shares = parts(miss(100), BEFORE, sent(0), step(HOG, 0, 80), Collection(70, 20, 2))
    assert shares == {
        (Part.INTERFERENCE, "hog"): 70,
        (Part.COLLECTION, None): 20,
        (Part.KERNEL, None): 10,
    }


def test_stolen_time_is_taken_from_the_longest_step():
    assert parts(
        miss(20 * MS),
        BEFORE,
        sent(0),
        step(HOG, 0, 2 * MS),
        step(OTHER, 2 * MS, 20 * MS),
        CpuTime(-10, 20 * MS + 10, 20 * MS, 5 * MS),
    ) == {
        (Part.STOLEN, "store"): 15 * MS,
        (Part.INTERFERENCE, "store"): 3 * MS,
        (Part.INTERFERENCE, "hog"): 2 * MS,
    }


def test_stolen_time_partly_outside_the_window_counts_in_proportion():
    shares = parts(miss(10 * MS), step(HOG, -10 * MS, 10 * MS), CpuTime(-10 * MS, 20 * MS, 20 * MS, 10 * MS))
    assert shares == {(Part.STOLEN, "hog"): 5 * MS, (Part.BLOCKING, "hog"): 5 * MS}


def test_difference_of_clocks_is_not_stolen_time():
    shares = parts(
        miss(10 * MS), BEFORE, step(HOG, 0, 10 * MS), CpuTime(0, 10 * MS, 10 * MS, 10 * MS - 49_999)
    )
    assert shares == {(Part.INTERFERENCE, "hog"): 10 * MS}


def test_timers_and_tasks_of_the_kernel_count_as_kernel():
    shares = parts(miss(10), BEFORE, sent(0), step(SYSTEM, 2, 10))
    assert shares == {(Part.KERNEL, None): 10}


def test_text_names_the_offender():
    report = explain(
        miss(12 * MS, due=10 * MS),
        [BEFORE, sent(0, worker=SERVER), step(HOG, 0, 9 * MS), step(LOW, 9 * MS, 12 * MS)],
    )
    assert report.offender is not None
    assert report.offender.who == "hog"
    headline, *shares = str(report).splitlines()
    assert headline == (
        "data/read (to 'data', from 'client', level 2) missed its deadline by 2.000 ms,"
        " 12.000 ms after it was sent; it had not been started"
    )
    assert shares == [
        "   75.0 %  interference by 'hog': 9.000 ms",
        "   25.0 %  blocking step by 'low': 3.000 ms",
        "  look at: interference by 'hog': 9.000 ms",
    ]


def test_the_call_itself_is_the_offender_only_if_there_is_no_other():
    assert (
        explain(miss(10, started=0), [BEFORE, sent(0), started(0), step(SERVER, 1, 10)]).offender.part
        is Part.OWN
    )
    assert explain(miss(0), [BEFORE]).offender is None


@pytest.mark.parametrize("count", [10, 1000])
def test_long_window_is_explained_in_portions(count):
    stream = [BEFORE, *(step(HOG, at, at + 5) for at in range(0, count * 10, 10))]
    portions = list(explain_in_portions(miss(count * 10), stream))
    assert portions[-1].window == count * 10
    assert len(portions) == 1 + count * 2 // 64
    assert not any(portions[:-1])
