from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio

from rtos.errors import SchedulerClosed
from rtos.scheduler import Scheduler, open_scheduler
from rtos.scheduler.periodic_jobs.periodic import Release, periodic
from rtos.scheduler.periodic_jobs.release_times import Overrun

if TYPE_CHECKING:
    from trio.testing import MockClock


async def run(scheduler: Scheduler, costs: list[float], **settings: Any) -> tuple[list[Release], Any]:
    """Run one job for each cost, in virtual seconds, with a period of 10 from time 0 on."""
    releases: list[Release] = []
    job = periodic(scheduler, 10.0, **settings)
    if costs:
        async for release in job:
            releases.append(release)
            await trio.sleep(costs[len(releases) - 1])
            if len(releases) == len(costs):
                break
    return releases, job


async def test_releases_are_on_the_grid(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        releases, job = await run(scheduler, [0.0, 9.0, 0.5, 0.0], offset=5.0)
    assert releases == [
        Release(index=0, due=5.0, late=0.0, deadline=15.0, skipped=0),
        Release(index=1, due=15.0, late=0.0, deadline=25.0, skipped=0),
        Release(index=2, due=25.0, late=0.0, deadline=35.0, skipped=0),
        Release(index=3, due=35.0, late=0.0, deadline=45.0, skipped=0),
    ]
    statistics = job.statistics()
    assert (statistics.released, statistics.done, statistics.missed, statistics.skipped) == (4, 3, 0, 0)
    assert (statistics.jitter.count, statistics.jitter.most, statistics.late) == (4, 0, 0)


# The releases of jobs that take 3, 25, 3 and 3 s: index, due, late.
OVERRUNS = [
    (
        Overrun.SKIP,
        1,
        [
            (0, 0.0, 0.0),  # on time
            (1, 10.0, 0.0),  # runs until 35, over the instants 20 and 30
            (4, 40.0, 0.0),  # the next one to come
            (5, 50.0, 0.0),  # on time
        ],
        (2, 1),  # two were left out, and the long one missed its deadline
    ),
    (
        Overrun.CATCH_UP,
        1,
        [
            (0, 0.0, 0.0),
            (1, 10.0, 0.0),  # until 35
            (3, 30.0, 5.0),  # the latest one only, at once; until 38
            (4, 40.0, 0.0),
        ],
        (1, 1),
    ),
    (
        Overrun.CATCH_UP,
        5,
        [
            (0, 0.0, 0.0),
            (1, 10.0, 0.0),  # until 35
            (2, 20.0, 15.0),  # at once, until 38: a miss too
            (3, 30.0, 8.0),  # at once
        ],
        (0, 2),
    ),
    (
        Overrun.POSTPONE,
        1,
        [
            (0, 0.0, 0.0),
            (1, 10.0, 0.0),  # until 35
            (2, 35.0, 0.0),  # at once, and the grid moves along
            (3, 45.0, 0.0),
        ],
        (0, 1),
    ),
    (
        Overrun.STOP,
        1,
        [
            (0, 0.0, 0.0),
            (1, 10.0, 0.0),  # until 35, and that is the end
        ],
        (0, 1),
    ),
]


@pytest.mark.parametrize(("overrun", "catch_up", "expected", "counts"), OVERRUNS)
async def test_overrun_policies(
    overrun: Overrun, catch_up: int, expected: Any, counts: Any, autojump_clock: MockClock
) -> None:
    async with open_scheduler() as scheduler:
        releases, job = await run(scheduler, [3.0, 25.0, 3.0, 3.0], overrun=overrun, catch_up=catch_up)
    assert [(release.index, release.due, release.late) for release in releases] == expected
    statistics = job.statistics()
    assert (statistics.skipped, statistics.missed) == counts
    assert statistics.stopped == (overrun is Overrun.STOP)


async def test_stopped_loop_stays_stopped(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 10.0, overrun=Overrun.STOP)
        await job.__anext__()
        await trio.sleep(11)
        for _ in range(2):
            with pytest.raises(StopAsyncIteration):
                await job.__anext__()
            await trio.sleep(10)
    assert job.statistics().stopped


async def test_deadline_and_jitter_are_counted(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        releases, job = await run(
            scheduler,
            [1.0, 3.0, 12.0, 0.0, 0.0],  # the second misses, the third too, and makes the fourth late
            deadline=2.0,
            jitter=0.5,
            overrun=Overrun.CATCH_UP,
        )
    assert [release.deadline - release.due for release in releases] == [2.0] * 5
    statistics = job.statistics()
    # The fourth is released 2 s late, and is therefore done exactly at its deadline.
    assert (statistics.missed, statistics.late) == (2, 1)
    assert (statistics.wall.least, statistics.wall.most) == (0.0, 12.0)
    assert statistics.wall.mean == pytest.approx(4.0)
    assert statistics.jitter.most == 2_000_000_000


async def test_cpu_time_counts_the_steps_and_not_the_waits(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 10.0)
        with scheduler.context("periodic", level=2):
            count = 0
            async for _ in job:
                count += 1
                if count == 3:
                    break
                autojump_clock.jump(count)  # a step of one second, then of two
                await trio.sleep(1)  # costs nothing
                autojump_clock.jump(0.5)
    statistics = job.statistics()
    assert statistics.cpu.least == pytest.approx(1.5)
    assert statistics.cpu.most == pytest.approx(2.5)
    assert statistics.wall.most == pytest.approx(3.5)


async def test_loop_wakes_once_per_release(autojump_clock: MockClock) -> None:
    class Instants(trio.abc.Instrument):
        def __init__(self) -> None:
            self.seen: list[float] = []

        def before_task_step(self, task: trio.lowlevel.Task) -> None:
            if not self.seen or self.seen[-1] != trio.current_time():
                self.seen.append(trio.current_time())

    async with open_scheduler() as scheduler:
        instants = Instants()
        trio.lowlevel.add_instrument(instants)
        await run(scheduler, [0.0] * 100)
        trio.lowlevel.remove_instrument(instants)
        assert instants.seen == [10.0 * k for k in range(100)]
        assert scheduler.statistics().timers == 0


async def test_grid_never_drifts(autojump_clock: MockClock) -> None:
    dues = []
    async with open_scheduler() as scheduler:
        async for release in periodic(scheduler, 0.1, start=1000.0):
            dues.append(release.due)
            # Every job takes long, and each a different time.
            await trio.sleep(0.09 * (release.index % 10) / 10)
            if release.index == 5000:
                break
    assert dues == [1000.0 + k * 0.1 for k in range(5001)]


async def test_cancelled_wait_leaves_no_timer_and_keeps_the_count(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 10.0)
        await job.__anext__()
        with trio.move_on_after(3) as scope:
            await job.__anext__()
        assert scope.cancelled_caught
        assert scheduler.statistics().timers == 0
        # It goes on with the grid, and has not lost count.
        release = await job.__anext__()
        assert (release.index, release.due, job.statistics().released) == (1, 10.0, 2)
        # An instant that passes after the wait for it was given up is skipped.
        with trio.move_on_after(3):
            await job.__anext__()
        await trio.sleep(12)
        release = await job.__anext__()
        assert (release.index, release.skipped, job.statistics().skipped) == (3, 1, 1)


async def test_next_release_is_always_a_checkpoint(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 10.0, overrun=Overrun.STOP)
        with trio.testing.assert_checkpoints():
            await job.__anext__()
        await trio.sleep(15)
        with pytest.raises(StopAsyncIteration), trio.testing.assert_checkpoints():
            await job.__anext__()


async def test_grid_that_began_before_is_joined(autojump_clock: MockClock) -> None:
    async with open_scheduler() as scheduler:
        await trio.sleep(23)
        release = await periodic(scheduler, 10.0, start=0.0, offset=1.0).__anext__()
    assert (release.index, release.due, release.skipped) == (3, 31.0, 0)


async def test_context_gets_the_deadline_of_the_release(autojump_clock: MockClock) -> None:
    trace: list[tuple[str, float]] = []

    async def job(scheduler: Scheduler, name: str, period: float, deadline: float) -> None:
        context = scheduler.context(name, level=3)
        with context:
            async for release in periodic(scheduler, period, start=0.0, deadline=deadline, context=context):
                trace.append((name, release.due))
                assert context.deadline == release.deadline
                if release.due >= 12.0:
                    break
        assert scheduler.context("other").deadline == math.inf

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        nursery.start_soon(job, scheduler, "long", 6.0, 6.0)
        nursery.start_soon(job, scheduler, "short", 4.0, 2.0)
    assert trace[2:] == [
        ("short", 4.0),
        ("long", 6.0),
        ("short", 8.0),
        ("short", 12.0),  # due together, and has the nearer deadline
        ("long", 12.0),
    ]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"deadline": 0}, "deadline is 0; use seconds after the release, above 0"),
        ({"deadline": -1.0}, "deadline is -1.0; use"),
        ({"deadline": math.nan}, "deadline is nan; use"),
        ({"jitter": -1.0}, "jitter is -1.0; use seconds, 0 or more"),
        ({"jitter": math.nan}, "jitter is nan; use"),
        ({"period": -1.0}, "period is -1.0; use"),
        ({"period": math.nan}, "period is nan; use"),
        ({"start": math.nan}, "start and offset give nan; use"),
        ({"offset": math.nan}, "start and offset give nan; use"),
        ({"catch_up": 0}, "catch_up is 0; use"),
    ],
)
async def test_wrong_number_is_refused_at_the_call(settings: dict[str, float], text: str) -> None:
    async with open_scheduler() as scheduler:
        with pytest.raises(ValueError, match=f"periodic: {text}"):
            periodic(scheduler, **{"period": 1.0, **settings})


async def test_scheduler_of_another_loop_is_refused() -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 1.0)

        async def elsewhere() -> None:
            async with open_scheduler():
                with pytest.raises(ValueError, match="periodic: the scheduler belongs to another Trio loop"):
                    periodic(scheduler, 1.0)
                with pytest.raises(ValueError, match="periodic: the scheduler belongs to another Trio loop"):
                    await job.__anext__()

        await trio.to_thread.run_sync(trio.run, elsewhere)


async def test_loop_that_waits_when_its_scheduler_closes_raises_at_once(autojump_clock: MockClock) -> None:
    ended: list[tuple[float, int]] = []

    async def loop(scheduler: Scheduler) -> None:
        released = 0
        try:
            async for _ in periodic(scheduler, 2.0):
                released += 1
        except SchedulerClosed:
            ended.append((trio.current_time(), released))

    async with trio.open_nursery() as nursery, open_scheduler() as scheduler:
        for _ in range(2):
            nursery.start_soon(loop, scheduler)
        await trio.sleep(5.0)
    assert ended == [(5.0, 3), (5.0, 3)]


async def test_loop_that_works_when_its_scheduler_closes_raises_at_the_next_release(
    autojump_clock: MockClock,
) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 2.0)
        await job.__anext__()
    with pytest.raises(SchedulerClosed):
        await job.__anext__()


async def test_loop_that_was_cancelled_while_it_waited_is_left_alone_by_the_close(
    autojump_clock: MockClock,
) -> None:
    async with open_scheduler() as scheduler:
        job = periodic(scheduler, 10.0)
        await job.__anext__()
        with trio.move_on_after(1):
            await job.__anext__()
    await trio.sleep(20)


async def test_closed_scheduler_has_no_periodic_jobs() -> None:
    async with open_scheduler() as scheduler:
        pass
    with pytest.raises(SchedulerClosed, match="periodic: the scheduler is closed"):
        periodic(scheduler, 1.0)
