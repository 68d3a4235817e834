"""The life cycle of a supervisor's children: who is started, stopped, restarted or parked, and when.

Pure: no Trio. ``Tasks`` runs children and timers and calls back when something happens.
No method waits: what depends on a child or a timer goes on in its callback. A child that
hangs while it starts or stops therefore delays nothing but the restart of its own group.

A restart is a ``Recovery`` of a group of children::

    failure ─> stopping, last first ─> backing off ─> starting, first first ─> over

A failure while the group of the child recovers begins the recovery anew. The children of
two recoveries never overlap.

Parking and unparking concern one child, whatever the strategy. The rest of its group goes
on, and its callers get ``DaemonDown``. A child that cannot do without a parked one fails
by itself and is judged by its own specification. If the whole group were parked, ``one for
all`` would make parking the same as giving up, and the first child of ``rest for one``
would take along the operator's access.

Invariants:
  A child has at most one run at a time.
  A child is restarted at most ``intensity`` times within any ``period``. The time of
  restarts that failed, from the failure to the failed start, does not count towards the
  period. Children that escalate share one such limit.
  A parked child is started by an operator only.
  Every order has exactly one outcome.
"""

from __future__ import annotations

import enum
import math
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from rtos.errors import DaemonDown, Refused
from rtos.scheduler.supervision.restart_policy import Backoff, Restart, Strategy, affected, wants_restart
from rtos.scheduler.supervision.run_state import AfterStop, Child, Event, Operation, Order, State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rtos.scheduler.supervision.child import ChildSpec
    from rtos.scheduler.supervision.run_state import Timer

BY_HAND: Final = "by hand"
CLOSING: Final = "its supervisor is stopping"
GROUP: Final = "children are being stopped, to be restarted together"


class Tasks(Protocol):
    """Runs children and timers for a ``Lifecycle``. Every method returns at once."""

    def now(self) -> float:
        """Return the current time, in seconds."""

    def call_at(self, at: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` at a time, unless the timer has been cancelled."""

    def start(
        self, spec: ChildSpec, ready: Callable[[], None], ended: Callable[[BaseException | None], None]
    ) -> None:
        """Start a run. Call ``ready`` when it is ready, and ``ended`` once, with its error if any."""

    def cancel(self, spec: ChildSpec) -> None:
        """Cancel the run of a child. May be called again for the same run."""

    def report(self, child: Child, error: BaseException, outcome: str) -> None:
        """Keep a report of a failure."""

    def on_ready(self, child: Child) -> None:
        """Take note that a child has become ready."""


class Phase(enum.Enum):
    """The phase of a supervisor."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"
    CLOSED = "closed"


class Step(enum.Enum):
    """The step of a recovery."""

    STOPPING = "stopping"
    BACKING_OFF = "backing off"
    STARTING = "starting"


class Recovery:
    """The restart of a group of children, or their first start.

    Args:
      members: the children, in start order.
      failed: the child whose failure began it; ``None`` for the first start.
      began: when.
      until: no child is started before this time.
    """

    def __init__(self, members: Iterable[Child], *, failed: Child | None, began: float, until: float) -> None:
        self.waiting = deque(members)
        """Children that have not been started yet, the next one first."""
        self.to_stop = [] if failed is None else list(self.waiting)
        """Children that have not been stopped yet, the next one last."""
        self.current: Child | None = None
        """The child that is being started."""
        self.failed = failed
        self.began = began
        self.until = until
        self.step = Step.STARTING if failed is None else Step.STOPPING
        self.timer: Timer | None = None

    def __contains__(self, child: Child) -> bool:
        return child is self.current or child in self.waiting

    def cancel(self) -> None:
        """Stop its timer."""
        if self.timer is not None:
            self.timer.cancel()


class Lifecycle:
    """Decides about all children of one supervisor.

    Args:
      children: in start order.
      tasks: runs them.
      strategy: which children are restarted together.
      backoff: waits before restarts.

    Attributes:
      phase: ``OPENING`` until every child was ready once.
      failure: why the supervisor gave up, or could not be opened; ``None`` if it did not.
    """

    def __init__(
        self, children: Iterable[Child], tasks: Tasks, *, strategy: Strategy, backoff: Backoff
    ) -> None:
        self._children = {child.spec.name: child for child in children}
        self._tasks = tasks
        self._strategy = strategy
        self._backoff = backoff
        self._recoveries: list[Recovery] = []
        # Children that failed while others were being started for the first time.
        self._failed_early: list[Child] = []
        self._to_close: list[Child] = []
        self.phase = Phase.OPENING
        self.failure: DaemonDown | None = None

    def open(self) -> None:
        """Start all children, each when the one before it is ready."""
        if self.phase is Phase.OPENING:
            now = self._tasks.now()
            self._begin(Recovery(self._children.values(), failed=None, began=now, until=now))

    def close(self) -> None:
        """Stop all children, the last one first. Orders are refused from now on."""
        if self.phase in (Phase.CLOSING, Phase.CLOSED):
            return
        self.phase = Phase.CLOSING
        for recovery in self._recoveries:
            recovery.cancel()
        self._recoveries.clear()
        for child in self._children.values():
            self._refuse(child, CLOSING)
            child.orders.clear()
        self._to_close = list(self._children.values())
        self._close_next()

    def place(self, order: Order) -> None:
        """Carry out an operator's order as soon as possible.

        A park is carried out at once, and overrides the unparks before it. An unpark
        waits for the orders before it, and for its turn in a group that is being started.
        """
        child = order.child
        if self.phase is not Phase.OPEN:
            order.settle(Refused(child.spec.name, CLOSING))
            return
        if order.operation is Operation.PARK:
            for other in child.orders:
                if other.operation is Operation.UNPARK:
                    other.settle(_parked_down(child, BY_HAND))
        child.orders.append(order)
        self._go_on(child)

    # Ends and starts.

    def _ready(self, child: Child, run: int) -> None:
        """Run number ``run`` of a child says that it is ready; late and repeated calls have no effect."""
        if child.run != run or child.state is not State.STARTING:
            return
        _clear_timer(child)
        child.become_ready(self._tasks.now())
        self._tasks.on_ready(child)
        self._go_on(child)

    def _ended(self, child: Child, error: BaseException | None) -> None:
        """The run of a child has ended: with an error, or because it returned."""
        _clear_timer(child)
        was, child.error = child.state, error
        child.move(Event.END)
        if self.phase is Phase.CLOSING:
            self._close_next()
            return
        if was is State.STOPPING:
            self._stopped(child)
        elif was is State.STARTING:
            self._start_failed(child, _describe(error))
        elif self.phase is Phase.OPENING:
            self._failed_early.append(child)
        elif self._recovery_of(child) is None:
            self._failed(child)
        # Else it ended before its turn to be stopped with its group.
        self._go_on(child)

    # Orders.

    def _go_on(self, child: Child) -> None:
        """Take the recovery of a child, and then its orders, as far as possible."""
        recovery = self._recovery_of(child)
        if recovery is not None:
            self._advance(recovery)
        while child.orders and (child.orders[0].is_settled or self._carry_out(child.orders[0])):
            child.orders.popleft()
        recovery = self._recovery_of(child)
        if recovery is not None:
            self._advance(recovery)

    def _carry_out(self, order: Order) -> bool:
        """Do what can be done for an order now; return whether it has its outcome."""
        child = order.child
        recovery = self._recovery_of(child)
        if child.is_parking:
            return False
        if recovery is not None and recovery.step is Step.STOPPING:
            # The child that serves this order may be one of those that have to end.
            order.settle(Refused(child.spec.name, GROUP))
            return True
        if order.operation is Operation.PARK:
            return self._park_by_hand(order)
        if child.is_unparking:
            return False
        if child.parked is None:
            order.settle()
            return True
        child.forgive()
        child.is_unparking = True
        child.move(Event.UNPARK)
        if recovery is None:
            self._start(child)
        return False

    def _park_by_hand(self, order: Order) -> bool:
        child = order.child
        if not child.has_run:
            if child.state is not State.PARKED:
                self._park(child, BY_HAND)
            order.settle()
            return True
        if child.is_unparking:
            child.parked = BY_HAND
        if child.state is not State.STOPPING:
            self._stop(child, AfterStop.PARK)
        # Also if it is being stopped because it was not ready in time.
        child.after = AfterStop.PARK
        return False

    def _refuse(self, child: Child, reason: str) -> None:
        for order in child.orders:
            order.settle(Refused(child.spec.name, reason))

    def _take_back_unpark(self, child: Child) -> None:
        """Refuse the unpark of a child whose group is restarted, and park it again."""
        if not child.is_unparking:
            return
        for order in child.orders:
            if order.operation is Operation.UNPARK:
                order.settle(Refused(child.spec.name, GROUP))
        child.is_unparking = False
        if child.state is State.STOPPED:
            self._park(child, child.parked or BY_HAND)
        elif child.state is State.STOPPING:
            child.after = AfterStop.PARK
        else:
            self._stop(child, AfterStop.PARK)

    # Failures.

    def _stopped(self, child: Child) -> None:
        """Go on after the end of a run that was being stopped."""
        if child.after is AfterStop.PARK:
            self._park(child, child.parked or BY_HAND)
        elif child.after is AfterStop.FAILED_START:
            self._start_failed(child, f"not ready after {child.spec.start_timeout} s")

    def _start_failed(self, child: Child, reason: str) -> None:
        down = DaemonDown(child.spec.name, f"it did not start: {reason}", child.restarts)
        down.__cause__ = child.error
        child.error = child.error or down
        if self.phase is Phase.OPENING:
            self._give_up(child, down)
        elif child.is_unparking:
            self._park(child, down.reason)
            for order in child.orders:
                if not order.is_settled:
                    order.settle(down)
                    break
        else:
            recovery = self._recovery_of(child)
            if recovery is not None:
                child.exclude_failed_restart(self._tasks.now() - recovery.began)
            self._failed(child)

    def _failed(self, child: Child) -> None:
        """Restart a child that has ended and its group, or do what its specification says instead."""
        spec, error = child.spec, child.error
        now = self._tasks.now()
        if not wants_restart(spec.restart, failed=error is not None):
            child.move(Event.LEAVE)
            self._report(child, "left")
            _declare_down(child, "it has ended, and is not restarted")
        elif child.admit_restart(now):
            self._report(child, "restarted")
            child.count_restart(now)
            self._recover(child, now)
        elif spec.parks:
            self._park(child, _describe(error))
        else:
            down = DaemonDown(spec.name, _describe(error), child.restarts)
            down.__cause__ = error
            self._give_up(child, down)

    def _give_up(self, child: Child, down: DaemonDown) -> None:
        self._report(child, "gave up")
        self.failure = down
        self.close()

    def _park(self, child: Child, why: str) -> None:
        child.move(Event.PARK)
        child.parked, child.is_unparking = why, False
        self._report(child, "parked")
        _declare_down(child, _parked_down(child, why).reason)

    def _report(self, child: Child, outcome: str) -> None:
        if child.error is not None and not child.is_reported:
            child.is_reported = True
            self._tasks.report(child, child.error, outcome)

    # Recoveries.

    def _recovery_of(self, child: Child) -> Recovery | None:
        return next((recovery for recovery in self._recoveries if child in recovery), None)

    def _recover(self, failed: Child, now: float) -> None:
        """Begin the recovery of a group. It replaces the recoveries that it overlaps.

        Whatever still waits in one of those is in the group: it comes after a child of the group.
        """
        names = affected(self._strategy, tuple(self._children), failed.spec.name)
        members = [self._children[name] for name in names]
        until = now + self._backoff.delay(failed.consecutive)
        for recovery in [each for each in self._recoveries if any(child in each for child in members)]:
            until = max(until, recovery.until)
            self._drop(recovery)
        if len(members) > 1:
            for child in members:
                self._take_back_unpark(child)
        self._begin(Recovery(members, failed=failed, began=now, until=until))

    def _begin(self, recovery: Recovery) -> None:
        self._recoveries.append(recovery)
        self._advance(recovery)

    def _drop(self, recovery: Recovery) -> None:
        self._recoveries.remove(recovery)
        recovery.cancel()
        if recovery.failed is not None and recovery.failed.state is State.BACKING_OFF:
            recovery.failed.move(Event.STOP)

    def _advance(self, recovery: Recovery) -> None:
        """Take a recovery as far as possible. Without effect while a child or the backoff is awaited."""
        if recovery.step is Step.STOPPING:
            self._stop_members(recovery)
        if recovery.step is Step.BACKING_OFF and not self._is_backing_off(recovery):
            recovery.cancel()
            recovery.step = Step.STARTING
        if recovery.step is Step.STARTING:
            self._start_members(recovery)

    def _stop_members(self, recovery: Recovery) -> None:
        while recovery.to_stop:
            child = recovery.to_stop[-1]
            if child.has_run and not child.is_parking:
                if child.state is not State.STOPPING:
                    self._stop(child, AfterStop.RESTART)
                child.after = AfterStop.RESTART
                return
            recovery.to_stop.pop()
            self._leave_if_temporary(child)
        recovery.step = Step.BACKING_OFF
        failed = recovery.failed
        if failed is not None and recovery.until > self._tasks.now():
            failed.move(Event.BACK_OFF)
            recovery.timer = self._tasks.call_at(recovery.until, partial(self._advance, recovery))

    def _leave_if_temporary(self, child: Child) -> None:
        """Report a member that has been stopped; a temporary one does not come back."""
        if child.spec.restart is not Restart.TEMPORARY:
            self._report(child, "restarted")
            return
        self._report(child, "left")
        if child.state is State.STOPPED:
            child.move(Event.LEAVE)
            _declare_down(child, "it was stopped with another, and is not restarted")

    def _is_backing_off(self, recovery: Recovery) -> bool:
        """Whether the backoff goes on. It ends early if its child is parked meanwhile."""
        failed = recovery.failed
        return failed is not None and failed.state is State.BACKING_OFF and recovery.until > self._tasks.now()

    def _start_members(self, recovery: Recovery) -> None:
        current = recovery.current
        if current is not None and current.state in (State.STARTING, State.STOPPING):
            return
        while recovery.waiting:
            child = recovery.current = recovery.waiting.popleft()
            if _may_start(child):
                self._start(child)
                return
        if recovery in self._recoveries:
            self._recoveries.remove(recovery)
        if self.phase is Phase.OPENING:
            self._opened()

    def _opened(self) -> None:
        self.phase = Phase.OPEN
        for child in self._failed_early:
            # Unless it has been restarted, or the supervisor has given up, because of another one.
            if child.state is State.STOPPED and self.phase is Phase.OPEN and self._recovery_of(child) is None:
                self._failed(child)
        self._failed_early.clear()

    # Runs.

    def _start(self, child: Child) -> None:
        child.begin(self._tasks.now())
        self._set_timer(child, child.spec.start_timeout)
        self._tasks.start(child.spec, partial(self._ready, child, child.run), partial(self._ended, child))

    def _stop(self, child: Child, after: AfterStop) -> None:
        """Ask a child to stop, or cancel it if it cannot be asked.

        A child that is parked before it is ready, or is not ready in time, may hang. It has
        accepted nothing yet, and is cancelled without being asked.
        """
        may_hang = child.state is State.STARTING and after in (AfterStop.PARK, AfterStop.FAILED_START)
        child.move(Event.STOP)
        child.after = after
        _clear_timer(child)
        if child.spec.stop is not None and not may_hang:
            try:
                child.spec.stop()
            except Exception as error:  # noqa: BLE001 - reported; the child is cancelled instead
                self._tasks.report(child, error, "left")
            else:
                self._set_timer(child, child.spec.shutdown)
                return
        self._tasks.cancel(child.spec)

    def _set_timer(self, child: Child, seconds: float) -> None:
        if seconds < math.inf:
            child.timer = self._tasks.call_at(self._tasks.now() + seconds, partial(self._time_is_up, child))

    def _time_is_up(self, child: Child) -> None:
        if child.state is State.STARTING:
            self._stop(child, AfterStop.FAILED_START)
        elif child.state is State.STOPPING:
            self._tasks.cancel(child.spec)

    def _close_next(self) -> None:
        """Stop the last child that has not been stopped; when there is none, the supervisor is closed."""
        while self._to_close:
            child = self._to_close[-1]
            if child.has_run:
                if child.state is not State.STOPPING:
                    self._stop(child, AfterStop.CLOSE)
                return
            self._to_close.pop()
            self._report(child, "left")
            if child.state in (State.STOPPED, State.BACKING_OFF):
                child.move(Event.LEAVE)
            _declare_down(child, "it has been stopped")
        self.phase = Phase.CLOSED


def _may_start(child: Child) -> bool:
    """Whether a member of a recovery is started when its turn comes."""
    if child.state is State.DOWN:
        return child.spec.restart is not Restart.TEMPORARY
    return child.state in (State.STOPPED, State.BACKING_OFF)


def _clear_timer(child: Child) -> None:
    if child.timer is not None:
        child.timer.cancel()
        child.timer = None


def _parked_down(child: Child, why: str) -> DaemonDown:
    name = child.spec.name
    return DaemonDown(name, f"it is parked until `daemon/unpark {name}` ({why})", child.restarts)


def _declare_down(child: Child, reason: str) -> None:
    if child.spec.on_down is not None and not child.is_down:
        child.is_down = True
        child.spec.on_down(DaemonDown(child.spec.name, reason, child.restarts))


def _describe(error: BaseException | None) -> str:
    if isinstance(error, DaemonDown):
        return error.reason
    if isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        # The group that a nursery puts around a single error says nothing.
        return _describe(error.exceptions[0])
    return "it returned" if error is None else f"{type(error).__name__}: {error}"
