"""A child: how it is declared, its present run, and how an operator sees it.

Specifications are data, and are checked when they are made. What a child owns
beyond its run (its port, with what waits in it) belongs to the specification
and survives a restart.

Must not know: who starts and stops it, and when.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import attrs
import trio

from rtos.scheduler.policy.levels import DEFAULT_LEVEL, check_level
from rtos.scheduler.supervision.restart_policy import PastIntensity, Restart, RestartWindow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.errors import DaemonDown
    from rtos.scheduler.policy.context import SchedulingContext


def _level(_: object, attribute: attrs.Attribute[int], value: int) -> None:
    check_level(f"ChildSpec({attribute.name})", value)


def _seconds(_: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not value >= 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is no length of time; use seconds, or math.inf"
        raise ValueError(msg)


def _intensity(_: object, attribute: attrs.Attribute[int | None], value: int | None) -> None:
    if value is not None and not value >= 0:
        msg = f"ChildSpec({attribute.name}): {value!r} restarts are impossible; use 0 or more, or None"
        raise ValueError(msg)


def _period(_: object, attribute: attrs.Attribute[float | None], value: float | None) -> None:
    if value is not None and not value > 0:
        msg = f"ChildSpec({attribute.name}): {value!r} is no period; use seconds above 0, or None"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class ChildSpec:
    """How a child is started, restarted and stopped.

    Attributes:
      name: unique under its supervisor.
      run: the child. Called with a function that it calls once it is ready;
        returning is a normal end, raising a failure.
      level: base level of the context that it runs under.
      restart: when it is started again.
      stop: asks it to finish what it has accepted and return; ``None`` if it
        can only be cancelled.
      shutdown: seconds from ``stop`` until it is cancelled.
      start_timeout: seconds until it must be ready.
      on_down: told when it has ended and will not be started again, unless
        together with another child, or by an operator.
      past_intensity: what happens when it fails too often.
      intensity: most restarts of this child alone within its ``period``; ``None``:
        the supervisor's for a child that parks, no limit of its own for another.
      period: seconds; ``None``: the supervisor's.

    Raises:
      ValueError: the level does not exist, or a limit is negative.
    """

    name: str
    run: Callable[[Callable[[], None]], Awaitable[None]]
    level: int = attrs.field(default=DEFAULT_LEVEL, validator=_level)
    restart: Restart = Restart.PERMANENT
    stop: Callable[[], None] | None = None
    shutdown: float = attrs.field(default=5.0, validator=_seconds)
    start_timeout: float = attrs.field(default=30.0, validator=_seconds)
    on_down: Callable[[DaemonDown], None] | None = None
    past_intensity: PastIntensity = PastIntensity.ESCALATE
    intensity: int | None = attrs.field(default=None, validator=_intensity)
    period: float | None = attrs.field(default=None, validator=_period)

    @property
    def parks(self) -> bool:
        """Whether it is parked when it fails too often."""
        return self.past_intensity is PastIntensity.PARK


@attrs.frozen
class CrashReport:
    """What is known of one failure.

    Attributes:
      at: Trio time.
      child: its name.
      error: what it raised.
      restarts: how often it had been restarted before.
      outcome: ``restarted``, ``parked``, ``gave up`` or ``left``, as when it failed while it was stopped.
    """

    at: float
    child: str
    error: BaseException
    restarts: int
    outcome: str


class Child:
    """A child's present run, or the last one."""

    def __init__(self, spec: ChildSpec, context: SchedulingContext, shared: RestartWindow) -> None:
        self.spec = spec
        self.context = context
        self._shared = shared
        self.window = self._fresh_window()
        # Why it is parked; ``None`` when it is not.
        self.parked: str | None = None
        self.ready_at = self.took = math.inf
        self.scope = trio.CancelScope()
        self.ready = trio.Event()
        self.ended = trio.Event()
        self.ended.set()
        self.is_stopping = False
        self.error: BaseException | None = None
        self.is_reported = False
        self.is_down = False
        self.restarts = 0
        self.consecutive = 0
        self.became_ready = False

    def begin(self) -> None:
        """Forget the last run."""
        self.ready, self.ended = trio.Event(), trio.Event()
        self.scope = trio.CancelScope()
        self.error = None
        self.is_stopping = self.is_reported = self.is_down = self.became_ready = False

    @property
    def running(self) -> bool:
        """Whether it has a run that has not ended."""
        return not self.ended.is_set()

    def admit(self, now: float) -> bool:
        """Count a restart, and say whether it is within every limit that there is for it.

        A child that parks has a limit of its own and leaves the supervisor's
        alone: one that loops must not use up what the others are allowed.
        """
        own = self.window is None or self.window.admit(now)
        shared = self.spec.parks or self._shared.admit(now)
        return own and shared

    def settled(self, now: float) -> bool:
        """Whether its last run was so long that its next failure is the first in a row."""
        period = self.spec.period or self._shared.period
        return self.became_ready and now - self.ready_at > period

    def forgive(self) -> None:
        """Forget how often it has failed."""
        self.window = self._fresh_window()
        self.consecutive = 0

    def state(self) -> ChildState:
        """What an operator sees."""
        return ChildState(
            name=self.spec.name,
            level=self.context.level,
            running=self.running,
            ready=self.became_ready and self.running,
            restarts=self.restarts,
            ready_after=self.took,
            reason=self.parked,
        )

    def _fresh_window(self) -> RestartWindow | None:
        spec, shared = self.spec, self._shared
        if spec.intensity is None and not spec.parks:
            return None
        intensity = shared.intensity if spec.intensity is None else spec.intensity
        return RestartWindow(intensity, spec.period or shared.period)

    def become_ready(self) -> None:
        """What the child calls once it serves."""
        self.became_ready = True
        self.ready.set()


@attrs.frozen
class ChildState:
    """A child as an operator sees it; times in seconds of Trio time. ``reason``: why it is parked."""

    name: str
    level: int
    running: bool
    ready: bool
    restarts: int
    ready_after: float
    reason: str | None = None

    @property
    def parked(self) -> bool:
        """Whether it stays stopped until an operator unparks it."""
        return self.reason is not None
