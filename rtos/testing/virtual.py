"""Virtual time: run the real scheduler on a clock that moves only when the program moves it.

A step calls ``spend`` to say how much time it takes. Timers that become due meanwhile fire when
the step ends, as on a real loop. So a schedule is exact, and the same in every run.

Times are in seconds. Whole multiples of ``TICK`` add up without rounding.
"""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import trio
import trio.testing

from rtos.scheduler import Budget, Exhausted, open_scheduler

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from rtos.scheduler import BandwidthServer, Scheduler
    from rtos.scheduler.analysis import Job, Limit

TICK: Final = 2.0**-9
"""A unit of time, in seconds, that adds up exactly in floating point and is a whole number of nanoseconds."""
_Result = TypeVar("_Result")


def run_virtual(main: Callable[..., Awaitable[_Result]], *args: Any) -> _Result:
    """Run the async function ``main(*args)`` in a new Trio loop, in virtual time.

    The clock stands still while tasks run, and jumps to the next deadline when all tasks wait.

    Returns:
      What ``main`` returns.
    """
    return trio.run(main, *args, clock=trio.testing.MockClock(autojump_threshold=0))


def spend(seconds: float) -> None:
    """Let the running step take ``seconds``. Not a checkpoint.

    Raises:
      RuntimeError: the loop does not run in virtual time.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        msg = "spend: this loop runs in real time; run it with run_virtual or with a MockClock"
        raise RuntimeError(msg)  # noqa: TRY004 - the loop is wrong, not an argument
    clock.jump(seconds)


@attrs.frozen(kw_only=True)
class Run:
    """One observed run of a job. Times are absolute, in units of ``TICK``.

    Attributes:
      job: the name of the job.
      arrival: time of arrival, before jitter.
      end: time at which the last step ended.
      deadline: absolute deadline.
    """

    job: str
    arrival: int
    end: int
    deadline: int

    @property
    def response(self) -> int:
        """Time from arrival to end, in units of ``TICK``."""
        return self.end - self.arrival


def simulate(
    jobs: Sequence[Job],
    *,
    horizon: int,
    seed: int = 0,
    offsets: Sequence[int] | None = None,
    sporadic: bool = False,
    limits: Sequence[Limit] = (),
    reserve: float = 0.0,
    quantum: int = 0,
) -> list[Run]:
    """Run a set of jobs on the real scheduler in virtual time, and observe every run.

    Args:
      jobs: the jobs; their times are in units of ``TICK``.
      horizon: time after which no job arrives, in units of ``TICK``. Runs that have arrived are finished.
      seed: seed of the random jitter, pauses and default offsets.
      offsets: time of the first arrival of each job; random by default. 0 for all jobs is not
        always the worst case.
      sporadic: whether the time between two arrivals may exceed the period.
      limits: CPU budgets. A limit with the name of a job applies to that job. Any other limit
        adds a task under that budget that takes all the time it can get.
      reserve: share of the time that is reserved for less urgent levels.
      quantum: how long a pass of the loop runs steps, in units of ``TICK``; 0 for one step per pass.

    Returns:
      All runs, in the order in which they ended.
    """
    chance = random.Random(seed)  # noqa: S311 - draws have to be the same again
    arrivals = []
    for index, job in enumerate(jobs):
        time = offsets[index] if offsets is not None else chance.randrange(job.period)
        while time < horizon:
            release = time + (chance.randint(0, job.jitter) if job.jitter else 0)
            arrivals.append((release, time, job))
            time += job.period + (chance.randrange(job.period) if sporadic and chance.random() < 0.3 else 0)
    ordered = sorted(arrivals, key=lambda row: row[:2])
    return run_virtual(partial(_simulate, ordered, limits, chance, reserve, quantum * TICK))


async def _simulate(
    arrivals: Sequence[tuple[int, int, Job]],
    limits: Sequence[Limit],
    chance: random.Random,
    reserve: float,
    quantum: float,
) -> list[Run]:
    runs: list[Run] = []
    # This task belongs to the host and must be able to stop tasks that never end by themselves.
    opened = open_scheduler(quantum=quantum, host_level=0, reserve=reserve)
    async with opened as scheduler, trio.open_nursery() as nursery:
        origin = trio.current_time()
        done = trio.Event()
        left = len(arrivals)
        names = {job.name for _, _, job in arrivals}
        budgets: dict[str, Budget | BandwidthServer] = {limit.name: budget_of(limit) for limit in limits}

        def release(arrival: int, job: Job) -> None:
            due = origin + (arrival + job.deadline) * TICK
            # Each run has a context of its own, which carries its deadline.
            budget = budgets.get(job.name)
            context = scheduler.context(job.name, level=job.level, deadline=due, budget=budget)
            if context.budget is not None:
                budgets[job.name] = context.budget
            with context:
                nursery.start_soon(run, arrival, job)

        async def run(arrival: int, job: Job) -> None:
            nonlocal left
            await _steps(job)
            end = round((trio.current_time() - origin) / TICK)
            runs.append(Run(job=job.name, arrival=arrival, end=end, deadline=arrival + job.deadline))
            left -= 1
            if not left:
                done.set()

        _release_at(scheduler, origin, arrivals, release)
        for limit in limits:
            if limit.name not in names:
                with scheduler.context(limit.name, level=limit.level, budget=budgets[limit.name]):
                    nursery.start_soon(_take_all, limit, chance)
        if arrivals:
            await done.wait()
        nursery.cancel_scope.cancel()
    return runs


def budget_of(limit: Limit) -> Budget:
    """The budget in seconds of virtual time that corresponds to a limit of the analysis."""
    seconds, period = limit.granted * TICK, limit.period * TICK
    if limit.falls_to is None:
        return Budget(seconds, period, Exhausted.THROTTLE)
    return Budget(seconds, period, level=limit.falls_to)


async def _take_all(limit: Limit, chance: random.Random) -> None:
    """Run whenever possible, with occasional pauses that are long enough for a refill."""
    pausing = chance.choice([0.0, 0.05, 0.5])
    while True:
        spend(chance.choice([limit.longest_step, chance.randint(1, limit.longest_step)]) * TICK)
        await trio.lowlevel.checkpoint()
        if chance.random() < pausing:
            await trio.sleep(chance.randint(1, 2 * limit.period) * TICK)


def _release_at(
    scheduler: Scheduler,
    origin: float,
    arrivals: Sequence[tuple[int, int, Job]],
    release: Callable[[int, Job], None],
) -> None:
    for at, arrival, job in arrivals:
        scheduler.add_timer(origin + at * TICK, partial(release, arrival, job))


async def _steps(job: Job) -> None:
    """The steps of one run: steps of the longest length first, then the last step."""
    left = job.cost - job.last_step
    while left:
        step = min(job.longest_step, left)
        spend(step * TICK)
        left -= step
        await trio.lowlevel.cancel_shielded_checkpoint()
    spend(job.last_step * TICK)
