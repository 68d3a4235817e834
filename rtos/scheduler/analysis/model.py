"""The model: sporadic jobs, cut into steps that nobody can interrupt.

All times are integers of one unit, nanoseconds by habit; ``EPSILON`` is the
smallest difference there is. A job that started cannot be stopped within a step,
and gives way only between two.
"""

from __future__ import annotations

from typing import Final

import attrs

EPSILON: Final = 1


def _positive(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or value <= 0:
        msg = f"job: {field.name} is {value!r}; give a whole number above 0"
        raise ValueError(msg)


def _not_negative(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or value < 0:
        msg = f"job: {field.name} is {value!r}; give a whole number, 0 or more"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Job:
    """What a daemon does for one command, or at every release of a timer.

    Attributes:
      name: unique in its set.
      level: 0 is the most urgent.
      cost: the most processor time that one run takes.
      period: the least time between two releases.
      deadline: from release to the end; the period by default, may be longer.
      jitter: how late after its arrival it may be released.
      longest_step: the longest of its steps; the whole cost by default.
      last_step: the last of its steps; the longest by default.
      in_bursts: whether ``jitter`` stands for bursts rather than for late
        releases: up to so much sooner than the period says may one follow
        another. Responses then count from the release.
    """

    name: str
    level: int = attrs.field(validator=_not_negative)
    cost: int = attrs.field(validator=_positive)
    period: int = attrs.field(validator=_positive)
    deadline: int = attrs.field(
        default=attrs.Factory(lambda self: self.period, takes_self=True), validator=_positive
    )
    jitter: int = attrs.field(default=0, validator=_not_negative)
    longest_step: int = attrs.field(
        default=attrs.Factory(lambda self: self.cost, takes_self=True), validator=_positive
    )
    last_step: int = attrs.field(
        default=attrs.Factory(lambda self: self.longest_step, takes_self=True), validator=_positive
    )
    in_bursts: bool = False

    def __attrs_post_init__(self) -> None:
        if not self.last_step <= self.longest_step <= self.cost:
            msg = (
                f"job {self.name!r}: steps of {self.longest_step} and {self.last_step} do not fit a cost of"
                f" {self.cost}; the last is at most the longest, and that at most the cost"
            )
            raise ValueError(msg)


@attrs.frozen(kw_only=True)
class JobReport:
    """What is proved of one job; times in the set's unit, ``None`` for no bound.

    Attributes:
      response: from arrival to the end, at worst.
      slack: how much sooner than its deadline that is.
      step_budget: the longest step of anything less urgent with which it still
        meets its deadline; ``None`` if it does not even without any.
      offender: the job that costs it most when it is late: the longest step
        below it, or whoever more urgent takes the most time.
    """

    job: Job
    response: int | None
    slack: int | None
    step_budget: int | None
    offender: str | None

    @property
    def feasible(self) -> bool:
        """Whether it always meets its deadline."""
        return self.slack is not None and self.slack >= 0


@attrs.frozen
class SetReport:
    """What is proved of a set.

    Attributes:
      jobs: most urgent first.
      utilisation: processor time asked for, per time.
      step_bounds: by job, the longest step that it may have so that everything
        more urgent keeps its deadline; ``None`` where nothing bounds it.
    """

    jobs: tuple[JobReport, ...]
    utilisation: float
    step_bounds: dict[str, int | None]

    @property
    def feasible(self) -> bool:
        """Whether all jobs always meet their deadlines."""
        return all(report.feasible for report in self.jobs)
