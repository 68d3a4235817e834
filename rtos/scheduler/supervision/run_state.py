"""The states of a child, the table of transitions between them, and the child's record.

::

                  START            READY
    STOPPED ──────────────> STARTING ──> RUNNING
      │ ^ ^                  │    │       │   │
      │ │ └──── END ─────────┼────┼───────┘   │
      │ └────── END ─────────┘    │ STOP      │ STOP
      │                           v           v
      │ <────── END ───────────  STOPPING <───┘
      │
      ├── BACK_OFF ─> BACKING_OFF ── START ─> STARTING
      ├── PARK ─────> PARKED ── UNPARK ─> STOPPED
      └── LEAVE ────> DOWN ── START ─> STARTING

A child that is ``STOPPED`` waits for a decision or for its turn in a group. Pure: no
Trio, no clock.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from rtos.errors import KernelBug
from rtos.scheduler.supervision.restart_policy import RestartWindow

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Protocol

    from rtos.scheduler.supervision.child import ChildSpec

    class Timer(Protocol):
        """A timer that was set."""

        def cancel(self) -> None:
            """Never fire."""


class State(enum.Enum):
    """What a child is doing. It has a run in ``STARTING``, ``RUNNING`` and ``STOPPING`` only."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKING_OFF = "backing off"
    PARKED = "parked"
    DOWN = "down"


class Event(enum.Enum):
    """What changes the state of a child."""

    START = "a run is started"
    READY = "the run says that it is ready"
    STOP = "the run is asked to stop, or cancelled; or the backoff is cut short"
    END = "the run has ended"
    BACK_OFF = "its restart has to wait"
    PARK = "it stays stopped until an operator unparks it"
    UNPARK = "an operator wants it started"
    LEAVE = "it is not started again"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.STOPPED, Event.START): State.STARTING,
    (State.STOPPED, Event.BACK_OFF): State.BACKING_OFF,
    (State.STOPPED, Event.PARK): State.PARKED,
    (State.STOPPED, Event.LEAVE): State.DOWN,
    (State.STARTING, Event.READY): State.RUNNING,
    (State.STARTING, Event.STOP): State.STOPPING,
    (State.STARTING, Event.END): State.STOPPED,
    (State.RUNNING, Event.STOP): State.STOPPING,
    (State.RUNNING, Event.END): State.STOPPED,
    (State.STOPPING, Event.END): State.STOPPED,
    (State.BACKING_OFF, Event.START): State.STARTING,
    (State.BACKING_OFF, Event.STOP): State.STOPPED,
    (State.BACKING_OFF, Event.PARK): State.PARKED,
    (State.BACKING_OFF, Event.LEAVE): State.DOWN,
    (State.PARKED, Event.UNPARK): State.STOPPED,
    (State.DOWN, Event.START): State.STARTING,
    (State.DOWN, Event.PARK): State.PARKED,
}
"""Every transition that exists; any other one is a bug of the supervisor."""


class AfterStop(enum.Enum):
    """Why a child is being stopped, which says what follows when its run has ended."""

    RESTART = "it is restarted with its group"
    FAILED_START = "it was not ready in time"
    PARK = "it is parked"
    CLOSE = "the supervisor closes"


class Operation(enum.Enum):
    """What an operator can order."""

    PARK = "park"
    UNPARK = "unpark"


class Order:
    """An operator's order for one child, and its outcome. It has exactly one outcome.

    Args:
      operation: what to do.
      child: the child to do it to.
      notify: called once, when there is an outcome.
    """

    def __init__(self, operation: Operation, child: Child, notify: Callable[[], None]) -> None:
        self.operation = operation
        self.child = child
        self.is_settled = False
        self.error: Exception | None = None
        self._notify = notify

    def settle(self, error: Exception | None = None) -> None:
        """Set the outcome: done, or an error. Without effect if there is one already."""
        if not self.is_settled:
            self.is_settled, self.error = True, error
            self._notify()


class Child:
    """The record of one child: its state, its current or latest run, and its failures.

    Attributes:
      state: changed by ``move`` only.
      run: number of the current or latest run, from 1; 0 before the first.
      error: the exception that ended the latest run, if any.
      timer: limit of the current start or stop.
      after: what follows the stop under way.
      parked: why it is parked, or why it is going to be parked again if the unpark under
        way fails; ``None`` if it is not parked.
      is_unparking: whether an operator wants it started, and it is not ready yet.
      orders: operators' orders for it that have no outcome yet, in order of arrival.
      restarts: how often it was restarted.
      consecutive: how many of these restarts came without a good run in between.
      ready_at: when the latest run became ready; ``math.inf`` if it did not.
      took: seconds that its latest successful start took; ``math.inf`` before that.
    """

    def __init__(self, spec: ChildSpec, shared: RestartWindow) -> None:
        self.spec = spec
        self._shared = shared
        self._window = self._new_window()
        self.state = State.STOPPED
        self.run = 0
        self.error: BaseException | None = None
        self.timer: Timer | None = None
        self.after: AfterStop | None = None
        self.parked: str | None = None
        self.is_unparking = False
        self.orders: deque[Order] = deque()
        self.restarts = 0
        self.consecutive = 0
        self.began = 0.0
        self.ready_at = self.took = math.inf
        self.is_reported = False
        self.is_down = False

    def __repr__(self) -> str:
        return f"<Child {self.spec.name!r} {self.state.value}>"

    @property
    def has_run(self) -> bool:
        """Whether it has a run that has not ended."""
        return self.state in (State.STARTING, State.RUNNING, State.STOPPING)

    @property
    def is_parking(self) -> bool:
        """Whether it is being stopped in order to be parked."""
        return self.state is State.STOPPING and self.after is AfterStop.PARK

    def move(self, event: Event) -> None:
        """Change the state.

        Raises:
          KernelBug: the event cannot happen in this state.
        """
        target = TRANSITIONS.get((self.state, event))
        if target is None:
            raise KernelBug(f"child {self.spec.name!r} is {self.state.value}, and {event.value}")
        self.state = target

    def begin(self, now: float) -> None:
        """Begin a new run."""
        self.move(Event.START)
        self.run += 1
        self.began = now
        self.ready_at = math.inf
        self.error = None
        self.is_reported = self.is_down = False

    def become_ready(self, now: float) -> None:
        """Note that the start was successful."""
        self.move(Event.READY)
        self.ready_at, self.took = now, now - self.began
        self.parked, self.is_unparking = None, False

    def admit_restart(self, now: float) -> bool:
        """Count a restart; return whether it is within every intensity that applies.

        A child that parks has a window of its own and is not counted in the
        supervisor's: a crash loop of it must not use up the restarts of the others.
        """
        own = self._window is None or self._window.admit(now, self.spec.name)
        shared = self.spec.parks or self._shared.admit(now, self.spec.name)
        return own and shared

    def exclude_failed_restart(self, seconds: float) -> None:
        """Leave the time of a restart that failed out of the period."""
        for window in (self._window, self._shared):
            if window is not None:
                window.exclude(seconds, self.spec.name)

    def count_restart(self, now: float) -> None:
        """Count a restart for the backoff; after a run longer than the period it is the first in a row."""
        period = self.spec.period or self._shared.period
        if now - self.ready_at > period:
            self.consecutive = 0
        self.restarts += 1
        self.consecutive += 1

    def forgive(self) -> None:
        """Forget the failures so far."""
        self._window = self._new_window()
        self.consecutive = 0

    def _new_window(self) -> RestartWindow | None:
        spec, shared = self.spec, self._shared
        if spec.intensity is None and not spec.parks:
            return None
        intensity = shared.intensity if spec.intensity is None else spec.intensity
        return RestartWindow(intensity, spec.period or shared.period)
