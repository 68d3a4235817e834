"""The task model: sporadic jobs made of steps that cannot be interrupted, and the reports on them.

All times are integers of one unit, nanoseconds by convention; ``EPSILON`` is the
smallest difference between two times. A job that has started cannot be stopped within a
step, and gives way to other jobs only between two steps.
"""

from __future__ import annotations

from typing import Final

import attrs

EPSILON: Final = 1
"""The smallest difference between two times."""

ONCE: Final = 1 << 80
"""The period of a job that is released only once."""

NO_DEADLINE: Final = 1 << 80
"""The deadline of a job that has none. It is later than every deadline in its level."""


def _positive(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or value <= 0:
        msg = f"job: {field.name} is {value!r}; use a whole number above 0"
        raise ValueError(msg)


def _not_negative(_: object, field: attrs.Attribute[int], value: object) -> None:
    if not isinstance(value, int) or value < 0:
        msg = f"job: {field.name} is {value!r}; use a whole number, 0 or more"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class Job:
    """The work of a daemon for one command, or at each release of a timer.

    Attributes:
      name: unique in its set.
      level: 0 is the most urgent.
      cost: the most CPU time that one run takes.
      period: the least time between two releases.
      deadline: from the release to the end; the period by default, may be longer.
        ``NO_DEADLINE`` for a job that may take as long as it takes.
      jitter: how long after its arrival it may be released.
      longest_step: the longest of its steps; the whole cost by default.
      last_step: the last of its steps; the longest by default.
      in_bursts: what ``jitter`` means: bursts, and not late releases. A release may
        follow another by up to ``jitter`` sooner than the period says. Responses then
        count from the release.
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
                f"job {self.name!r}: last_step {self.last_step}, longest_step {self.longest_step},"
                f" cost {self.cost}; use last_step <= longest_step <= cost"
            )
            raise ValueError(msg)

    @property
    def has_deadline(self) -> bool:
        """Whether the job can miss a deadline at all."""
        return self.deadline < NO_DEADLINE

    def meets_deadline(self, response: int | None) -> bool:
        """Whether a response time is in time; ``None``, which is no bound, is so only without a deadline."""
        return not self.has_deadline or (response is not None and response <= self.deadline)


@attrs.frozen(kw_only=True)
class JobReport:
    """What is proved of one job; times in the unit of the set.

    Attributes:
      response: the longest time from arrival to end; ``None`` if there is no bound, or
        if it was too complex to find.
      step_budget: the longest step that a less urgent job may have, so that this one
        still meets its deadline; ``None`` if it misses it even without any, or has none.
      offender: of a job that may be late, the job that costs it the most time: the
        longest less urgent step, or the more urgent job with the highest cost.
      too_complex: whether the analysis of this job was given up.
    """

    job: Job
    response: int | None
    step_budget: int | None
    offender: str | None
    too_complex: bool = False

    @property
    def slack(self) -> int | None:
        """How long before its deadline the job ends at worst; ``None`` without a bound or a deadline."""
        if self.response is None or not self.job.has_deadline:
            return None
        return self.job.deadline - self.response

    @property
    def feasible(self) -> bool:
        """Whether it always meets its deadline; true for a job without a deadline."""
        return self.job.meets_deadline(self.response)


@attrs.frozen
class SetReport:
    """The result of the analysis of a set of jobs.

    Attributes:
      jobs: the reports, the most urgent first.
      utilisation: the share of the CPU that the jobs ask for.
      step_bounds: by job, the longest step that it may have so that every more urgent
        job keeps its deadline; ``None`` where nothing bounds it.
    """

    jobs: tuple[JobReport, ...]
    utilisation: float
    step_bounds: dict[str, int | None]

    @property
    def feasible(self) -> bool:
        """Whether all jobs always meet their deadlines."""
        return all(report.feasible for report in self.jobs)
