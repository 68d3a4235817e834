from __future__ import annotations

import json
from typing import TYPE_CHECKING

import attrs
import pytest
import trio

from rtos.errors import ConfigurationError
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.analysis import NO_DEADLINE, Job, analyse, response
from rtos.scheduler.analysis.from_trace import jobs_of_records, jobs_of_trace
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.perfetto import chrome_trace
from rtos.scheduler.tracing.records import Sent, Settled, Sleep, Started, Step

if TYPE_CHECKING:
    from rtos.scheduler.tracing.records import Record


def test_bursts_are_bounded_from_their_release() -> None:
    # Three at once every 300: the last of them waits for two others.
    jobs = [
        Job(name="burst", level=0, cost=10, period=100, jitter=200, in_bursts=True),
        Job(name="below", level=1, cost=7, period=1000, in_bursts=True),
    ]
    assert response(jobs[0], jobs) == 6 + 3 * 10
    assert response(jobs[1], jobs) == 3 * 10 + 7


CLIENT, WORKER = 1, 2


def _step(at: int, duration: int, context: int, level: int) -> Step:
    return Step(at * 1000, duration * 1000, context, "", level, 1, at * 1000)


def _call(number: int, sent: int, began: int, ended: int) -> list[Record]:
    return [
        Sent(sent * 1000, number, "a/b", CLIENT, "", "a", 4, 0),
        Started(began * 1000, number, WORKER, "a"),
        Settled(ended * 1000, number, "handled"),
    ]


# Two calls. The first is served in two steps, the second of them less urgent.
RECORDS: list[Record] = [
    _step(0, 5, CLIENT, 4),
    _step(10, 30, WORKER, 2),
    _step(50, 20, WORKER, 3),
    *_call(1, 4, 11, 66),
    _step(75, 5, CLIENT, 4),
    _step(80, 45, WORKER, 2),
    *_call(2, 78, 81, 124),
    _step(130, 170, CLIENT, 4),
]
JOB = Job(
    name="a/b",
    level=3,  # the least urgent level of a step that served it
    cost=50_000,  # 30 and 20
    period=150_000,  # two in 300
    jitter=76_000,  # and the second 74 after the first
    deadline=NO_DEADLINE,
    longest_step=45_000,
    last_step=16_000,  # from 50 to 66
    in_bursts=True,
)


def test_records_give_costs_steps_and_arrivals() -> None:
    assert jobs_of_records(RECORDS) == [JOB]
    assert jobs_of_records(list(reversed(RECORDS))) == [JOB]
    assert jobs_of_records([]) == []


def test_a_call_whose_first_step_has_left_the_trace_does_not_count() -> None:
    for lost in (RECORDS[1], RECORDS[3], RECORDS[4], RECORDS[5]):
        (job,) = jobs_of_records([record for record in RECORDS if record is not lost])
        assert (job.cost, job.jitter) == (45_000, 0)


def test_a_trace_file_gives_the_jobs_of_its_records() -> None:
    trace = json.loads(json.dumps(chrome_trace(RECORDS)))
    # A file draws the end of a call where its client goes on, so the last step counts in full.
    assert jobs_of_trace(trace) == [attrs.evolve(JOB, last_step=20_000)]


def test_the_shortest_last_step_bounds_every_run() -> None:
    """A run with a short last step waits longer than one whose last step is the longest."""
    urgent = Job(name="urgent", level=0, cost=20, period=50)
    seen = Job(name="seen", level=1, cost=50, period=500, longest_step=45, last_step=16)
    too_long = attrs.evolve(seen, last_step=45)
    assert (response(seen, [urgent, seen]), response(too_long, [urgent, too_long])) == (90, 70)


def test_a_trace_of_an_idle_system_misses_no_deadline() -> None:
    """One burst, and then a long sleep: the costliest call is longer than the mean distance of two."""
    burst: list[Record] = []
    for number in range(1, 11):
        at = 100 * number
        burst += [_step(at, 90 if number == 1 else 1, WORKER, 2), *_call(number, at - 1, at, at + 1)]
    jobs = jobs_of_records([*burst, Sleep(1_100_000, 1_000, None)])
    report = analyse(jobs)
    assert report.utilisation > 0.8
    assert report.feasible
    assert [(one.feasible, one.slack) for one in report.jobs] == [(True, None)]
    # Nor if more was asked for than there is time for.
    saturated = analyse([attrs.evolve(jobs[0], period=jobs[0].cost // 2)])
    assert saturated.jobs[0].response is None
    assert saturated.feasible


def test_jobs_can_be_read_from_a_real_trace() -> None:
    async def main() -> list[list[Job]]:
        async with open_scheduler(trace=10_000) as scheduler, trio.open_nursery() as nursery:
            port, kind = Port(scheduler, "server"), CallStatistics("server/work")
            context = scheduler.context("server", level=2)

            async def work(_: object) -> None:
                await trio.lowlevel.checkpoint()

            with context:
                nursery.start_soon(lambda: port.serve(work, context=context))
            for _ in range(20):
                await port.call(None, statistics=kind)
                # The cost of all is that of the costliest: it has to fit the mean distance.
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
            records = scheduler.trace.snapshot()
            return [jobs_of_records(records), jobs_of_trace(json.loads(json.dumps(chrome_trace(records))))]

    for (job,) in trio.run(main):
        assert job.name == "server/work"
        assert job.level == 2
        assert not job.has_deadline
        assert analyse([job]).jobs[0].response is not None


@pytest.mark.parametrize(
    ("trace", "text"),
    [
        ([], "the file is not a trace"),
        ({"traceEvents": 1}, "the file is not a trace"),
        ({"traceEvents": [{"ph": "M", "ts": 0}]}, "there is no call in the trace"),
        ({"traceEvents": [{"ph": "X", "cat": "step"}]}, "does not have the format"),
        ({"traceEvents": [1]}, "does not have the format"),
        ({"traceEvents": [{"ph": "C", "ts": float("nan")}]}, "does not have the format"),
        ({"traceEvents": [{"ph": "C", "ts": float("inf")}]}, "does not have the format"),
        (
            {"traceEvents": [{"ph": "t", "cat": "call", "ts": 0, "id": [], "tid": 1}]},
            "does not have the format",
        ),
    ],
)
def test_a_file_that_is_not_a_trace_is_refused(trace: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        jobs_of_trace(trace)
