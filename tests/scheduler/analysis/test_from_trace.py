from __future__ import annotations

import pytest
import trio

from rtos.errors import ConfigurationError
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.analysis import Job, analyse, response
from rtos.scheduler.analysis.from_trace import NO_DEADLINE, jobs_of_trace
from rtos.scheduler.calls.port import Port
from rtos.scheduler.diagnosis.perfetto import chrome_trace


def test_bursts_are_bounded_from_their_release() -> None:
    # Three at once every 300: the last of them waits for two others.
    jobs = [
        Job(name="burst", level=0, cost=10, period=100, jitter=200, in_bursts=True),
        Job(name="below", level=1, cost=7, period=1000, in_bursts=True),
    ]
    assert response(jobs[0], jobs) == 6 + 3 * 10
    assert response(jobs[1], jobs) == 3 * 10 + 7


def _step(at: float, length: float, track: int, level: int) -> dict[str, object]:
    return {"ph": "X", "cat": "step", "ts": at, "dur": length, "tid": track, "args": {"level": level}}


def _call(id: int, name: str, sent: float, began: float, ended: float) -> list[dict[str, object]]:
    common = {"cat": "call", "id": id, "name": name}
    return [
        {**common, "ph": "s", "ts": sent, "tid": 1},
        {**common, "ph": "t", "ts": began, "tid": 2},
        {**common, "ph": "f", "ts": ended, "tid": 1},
    ]


def test_costs_steps_and_arrivals_are_read_off_a_trace() -> None:
    trace = {
        "traceEvents": [
            _step(0, 5, 1, 4),
            _step(10, 30, 2, 2),  # serves the first: in two steps,
            _step(50, 20, 2, 3),  # the second of them less urgent
            *_call(1, "a/b", 4, 11, 75),
            _step(75, 5, 1, 4),
            _step(80, 45, 2, 2),  # serves the second in one
            *_call(2, "a/b", 78, 81, 130),
            _step(130, 170, 1, 4),
        ]
    }
    assert jobs_of_trace(trace) == [
        Job(
            name="a/b",
            level=3,  # the least urgent that it was served at
            cost=50_000,  # 30 and 20
            period=150_000,  # two in 300
            jitter=76_000,  # and the second 74 after the first
            deadline=NO_DEADLINE,
            longest_step=45_000,
            last_step=45_000,
            in_bursts=True,
        )
    ]


def test_a_real_trace_can_be_read() -> None:
    async def main() -> dict[str, object]:
        async with open_scheduler(trace=4096) as scheduler, trio.open_nursery() as nursery:
            port, kind = Port(scheduler, "server"), CallStatistics("server/work")
            context = scheduler.context("server", level=2)

            async def work(_: object) -> None:
                await trio.lowlevel.checkpoint()

            with context:
                nursery.start_soon(lambda: port.serve(work, context=context))
            for _ in range(20):
                await port.call(kind, None)
                # The costliest one counts as the cost of all: it has to fit the mean distance.
                await trio.sleep(0.005)
            nursery.cancel_scope.cancel()
            return chrome_trace(scheduler.trace.snapshot())

    (job,) = jobs_of_trace(trio.run(main))
    assert job.name == "server/work"
    assert job.level == 2
    assert analyse([job]).feasible


@pytest.mark.parametrize(
    ("trace", "text"),
    [
        ([], "the file is no trace"),
        ({"traceEvents": 1}, "the file is no trace"),
        ({"traceEvents": [{"ph": "M", "ts": 0}]}, "there is no call in the trace"),
        ({"traceEvents": [{"ph": "X", "cat": "step"}]}, "not as rtos writes it"),
        ({"traceEvents": [1]}, "not as rtos writes it"),
    ],
)
def test_what_is_no_trace_is_refused(trace: object, text: str) -> None:
    with pytest.raises(ConfigurationError, match=text):
        jobs_of_trace(trace)
