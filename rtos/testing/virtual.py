"""Virtual time: the real kernel, on a clock that only moves when somebody says so.

A step *spends* time by moving the clock while it runs, as a real step would by
running; what becomes due meanwhile is released when the step ends, as on a real
loop. A schedule is then exact, and the same every time.

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
"""A unit of time that sums exactly in floating point, and is a whole number of nanoseconds."""
_Result = TypeVar("_Result")


def run_virtual(body: Callable[..., Awaitable[_Result]], *args: Any) -> _Result:
    """Run ``body(*args)`` in a Trio loop of its own, in virtual time.

    The clock stands still while tasks run and jumps when all of them wait.
    """
    return trio.run(body, *args, clock=trio.testing.MockClock(autojump_threshold=0))


def spend(seconds: float) -> None:
    """Let the running step cost ``seconds``. Not a checkpoint.

    Raises:
      RuntimeError: time is not virtual here.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, trio.testing.MockClock):
        msg = "spend: time is real here; run under run_virtual, or with a MockClock"
        raise RuntimeError(msg)  # noqa: TRY004 - it is the situation that is wrong, and no argument
    clock.jump(seconds)


@attrs.frozen(kw_only=True)
class Run:
    """One run of a job, as it was seen; times in units of ``TICK``.

    Attributes:
      job: its name.
      arrival: when it arrived, before jitter.
      end: when its last step ended.
      deadline: its absolute deadline.
    """

    job: str
    arrival: int
    end: int
    deadline: int

    @property
    def response(self) -> int:
        """From arrival to the end."""
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
    """Run a set of jobs on the real kernel, and see how long each run takes.

    Args:
      jobs: their times are in units of ``TICK``.
      horizon: no arrivals from this time on; what has arrived is run to its end.
      seed: draws jitter, pauses and, where none are given, offsets.
      offsets: the first arrival of each; 0 for all is not always the worst.
      sporadic: whether arrivals may be farther apart than the period.
      limits: budgets. One with the name of a job is that job's. Behind any other
        run tasks that want all they can get, until the jobs are done.
      reserve: share of the time that is kept for less urgent levels.
      quantum: how long a pass of the loop goes on with steps; 0 for one step a pass.

    Returns:
      Every run, in the order in which they ended.
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
    # This task is the host's, and has to come round to ending what never ends by itself.
    opened = open_scheduler(quantum=quantum, host_level=0, reserve=reserve)
    async with opened as scheduler, trio.open_nursery() as nursery:
        origin = trio.current_time()
        done = trio.Event()
        left = len(arrivals)
        names = {job.name for _, _, job in arrivals}
        budgets: dict[str, Budget | BandwidthServer] = {limit.name: budget_of(limit) for limit in limits}

        def release(arrival: int, job: Job) -> None:
            due = origin + (arrival + job.deadline) * TICK
            # A context of its own for each run: that is what carries its deadline.
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
    """The budget that a limit of the analysis stands for, in virtual time."""
    seconds, period = limit.granted * TICK, limit.period * TICK
    if limit.falls_to is None:
        return Budget(seconds, period, Exhausted.THROTTLE)
    return Budget(seconds, period, level=limit.falls_to)


async def _take_all(limit: Limit, chance: random.Random) -> None:
    """Run whenever it may, but for pauses now and then, after which a budget could be granted anew."""
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
    """The steps of one run: long ones first, and the last one at the end."""
    left = job.cost - job.last_step
    while left:
        step = min(job.longest_step, left)
        spend(step * TICK)
        left -= step
        await trio.lowlevel.cancel_shielded_checkpoint()
    spend(job.last_step * TICK)
