from __future__ import annotations

import pytest
import trio

from rtos.errors import NotAdmitted
from rtos.scheduler import CallStatistics, open_scheduler
from rtos.scheduler.analysis import Job
from rtos.scheduler.analysis.online import admit_now, verdict_now
from rtos.scheduler.calls.port import Port

MS = 1_000_000
URGENT = Job(name="urgent", level=0, cost=2 * MS, period=20 * MS, deadline=7 * MS)


def _new(step: int) -> Job:
    return Job(name="new", level=1, cost=step * MS, period=100 * MS)


async def test_a_running_system_admits_a_job_or_names_the_job_that_prevents_it() -> None:
    async with open_scheduler(reserve=0) as scheduler:
        verdict = await admit_now(scheduler, [URGENT], _new(5))
        assert verdict.bounds == {"urgent": 7 * MS - 1, "new": 7 * MS}
        with pytest.raises(
            NotAdmitted, match="job 'new' refused: 'urgent' could miss .* mostly because of 'new'; short"
        ):
            await admit_now(scheduler, [URGENT], _new(6))


async def test_the_reserve_of_the_scheduler_counts() -> None:
    async with open_scheduler(reserve=0.05) as scheduler:
        assert scheduler.reserve == 0.05
        with pytest.raises(NotAdmitted, match="'urgent' could miss"):
            await admit_now(scheduler, [URGENT], _new(4))


async def test_commands_in_the_trace_count() -> None:
    async with open_scheduler(trace=4096) as scheduler, trio.open_nursery() as nursery:
        port, kind = Port(scheduler, "server"), CallStatistics("server/work")
        context = scheduler.context("server", level=2)

        async def work(_: object) -> None:
            await trio.lowlevel.checkpoint()

        with context:
            nursery.start_soon(lambda: port.serve(work, context=context))
        for _ in range(20):
            await port.call(None, statistics=kind)
        verdict = await verdict_now(scheduler, [URGENT], _new(1))
        assert set(verdict.bounds) == {"urgent", "new", "server/work"}
        nursery.cancel_scope.cancel()


async def test_two_jobs_with_the_same_name_are_refused() -> None:
    async with open_scheduler(trace=4096) as scheduler:
        with pytest.raises(ValueError, match="two jobs are named 'urgent'"):
            await verdict_now(scheduler, [URGENT], URGENT)
