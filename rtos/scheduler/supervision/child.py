"""The specification of a child, the report of its crash, and its state for operators.

All three are data. A specification is checked when it is made. What a child owns beyond
one run, such as its port and the calls that wait there, belongs to its specification and
survives a restart.

Must not know the supervisor.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import attrs

from rtos.scheduler.policy.levels import DEFAULT_LEVEL, check_level
from rtos.scheduler.supervision.restart_policy import PastIntensity, Restart

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.errors import DaemonDown
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget


def _function(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if inspect.isawaitable(value) or inspect.isasyncgen(value):
        msg = f"ChildSpec({attribute.name}): {value!r} is already called; pass the function itself"
        raise TypeError(msg)
    if not callable(value) or inspect.isasyncgenfunction(value) or inspect.isgeneratorfunction(value):
        msg = (
            f"ChildSpec({attribute.name}): {value!r} is not an async function; use `async def` without yield"
        )
        raise TypeError(msg)


def _callback(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is not None and (not callable(value) or inspect.iscoroutinefunction(value)):
        msg = (
            f"ChildSpec({attribute.name}): {value!r} is not a plain function; use a synchronous one, or None"
        )
        raise TypeError(msg)


def _level(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_level(f"ChildSpec({attribute.name})", value)


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is not a duration; use seconds, or math.inf"
        raise ValueError(msg)


def _intensity(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and not value >= 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is not a number of restarts; use 0 or more, or None"
        raise ValueError(msg)


def _period(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not value > 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is not a period; use seconds above 0, or None"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class ChildSpec:
    """How a child is started, restarted and stopped.

    Attributes:
      name: unique under its supervisor.
      run: the async function of the child. It is called with a function ``ready``, which
        it must call once it can serve. Returning is a normal end, raising is a failure.
      level: base level of its scheduling context, 0 (most urgent) to 7.
      budget: CPU budget of its scheduling context; ``None`` for no limit. All its runs
        share the budget.
      restart: when it is started again.
      stop: called to ask it to finish what it has accepted and to return; ``None`` for a
        child that can only be cancelled. A child that is parked before it is ready, or is
        not ready in time, is cancelled without being asked.
      shutdown: seconds from ``stop`` until it is cancelled.
      start_timeout: seconds from its start until it must be ready. A child that is not
        ready in time is cancelled, and its start has failed.
      on_down: called with the reason when it has ended and is not going to be started
        again, except together with another child or by an operator.
      past_intensity: what happens when it fails too often.
      intensity: most restarts of this child within its ``period``. ``None``: for a child
        that is parked, the supervisor's intensity; for others, no limit of their own.
      period: seconds; ``None`` for the supervisor's period.

    Raises:
      TypeError: ``run`` is not an async function, a callback is not a plain function, or
        ``restart`` or ``past_intensity`` is not of its enumeration.
      ValueError: the level does not exist, or a limit is negative or NaN.
    """

    name: str
    run: Callable[[Callable[[], None]], Awaitable[None]] = attrs.field(validator=_function)
    level: int = attrs.field(default=DEFAULT_LEVEL, validator=_level)
    budget: Budget | BandwidthServer | None = None
    restart: Restart = attrs.field(default=Restart.PERMANENT, validator=attrs.validators.instance_of(Restart))
    stop: Callable[[], None] | None = attrs.field(default=None, validator=_callback)
    shutdown: float = attrs.field(default=5.0, validator=_seconds)
    start_timeout: float = attrs.field(default=30.0, validator=_seconds)
    on_down: Callable[[DaemonDown], None] | None = attrs.field(default=None, validator=_callback)
    past_intensity: PastIntensity = attrs.field(
        default=PastIntensity.ESCALATE, validator=attrs.validators.instance_of(PastIntensity)
    )
    intensity: int | None = attrs.field(default=None, validator=_intensity)
    period: float | None = attrs.field(default=None, validator=_period)

    @property
    def parks(self) -> bool:
        """Whether the child is parked, instead of escalating, when it fails too often."""
        return self.past_intensity is PastIntensity.PARK


@attrs.frozen
class CrashReport:
    """One failure of a child.

    Attributes:
      at: Trio time of the report.
      child: the name of the child.
      error: the exception that it raised.
      restarts: how often the child had been restarted before.
      outcome: ``restarted``, ``parked``, ``gave up`` (the supervisor stops all children),
        or ``left`` (the child stays down, for example because it failed while it was stopped).
    """

    at: float
    child: str
    error: BaseException
    restarts: int
    outcome: str


@attrs.frozen
class ChildState:
    """The state of a child as an operator sees it.

    Attributes:
      name: the name of the child.
      level: the effective level of its scheduling context.
      state: the name of its state: ``running``, ``backing off``, and so on.
      running: whether it has a run that has not ended.
      ready: whether that run has become ready and is not being stopped.
      restarts: how often the supervisor has restarted it.
      ready_after: seconds that its latest successful start took; ``math.inf`` before that.
      reason: why it is parked, ``None`` if it is not.
    """

    name: str
    level: int
    state: str
    running: bool
    ready: bool
    restarts: int
    ready_after: float
    reason: str | None = None

    @property
    def parked(self) -> bool:
        """Whether it stays stopped until an operator unparks it."""
        return self.reason is not None
