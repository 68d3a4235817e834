"""Enforcement of CPU budgets: charges contexts, throttles or demotes them, and times refills.

Connects the run queue, which knows what runs and what becomes ready, to the rules of
one budget (``policy/bandwidth_server.py``). Must not know Trio.

Order of events: before a task is queued its budget has woken up; the time used is
charged when the account of the step is closed. A refill has a timer only while a task
waits for it, so a system whose budgets are used up and that has no task to run sleeps
without any wake-up.

Invariant: a context is throttled exactly while its budget is exhausted and throttles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from rtos.scheduler.policy.bandwidth_server import Exhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.policy.bandwidth_server import BandwidthServer
    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.policy.timer_heap import Timer


class BudgetEnforcement:
    """The CPU budgets of one loop.

    Args:
      throttle: keep the tasks of a context out of the ready order; whether it has any.
      unthrottle: order the tasks of a context again; does nothing if it is not throttled.
      clock: reads the Trio time, in seconds.
      add_timer: ``add_timer(at, action)`` calls ``action`` at a Trio time.
      notify: calls a budget's ``notify`` function soon, outside of the run queue's own work.
    """

    def __init__(
        self,
        *,
        throttle: Callable[[SchedulingContext], bool],
        unthrottle: Callable[[SchedulingContext], None],
        clock: Callable[[], float],
        add_timer: Callable[[float, Callable[[], None]], Timer],
        notify: Callable[[Callable[[], None]], None],
    ) -> None:
        self._throttle = throttle
        self._unthrottle = unthrottle
        self._clock = clock
        self._add_timer = add_timer
        self._notify = notify
        self._timers: dict[BandwidthServer, Timer] = {}
        # Weak: a context refers to its budget and goes with its last task.
        self._members: WeakKeyDictionary[BandwidthServer, WeakKeyDictionary[SchedulingContext, None]] = (
            WeakKeyDictionary()
        )

    def join(self, context: SchedulingContext, server: BandwidthServer) -> None:
        """Put a context under a budget, which it shares with the other contexts under it."""
        context.budget = server
        self._members.setdefault(server, WeakKeyDictionary())[context] = None
        if server.is_exhausted and server.budget.on_exhausted is Exhausted.THROTTLE:
            self._throttle(context)
        context.reorder()

    def contexts(self, server: BandwidthServer) -> list[SchedulingContext]:
        """The contexts under a budget, in the order in which they joined."""
        return list(self._members.get(server, ()))

    def arrive(self, server: BandwidthServer) -> None:
        """Account for a task that is about to be queued in one of the budget's contexts."""
        if not server.is_active:
            server.is_active = True
            self._wake(server, _nanoseconds(self._clock()))
        if server.is_exhausted:
            self._await_refill(server)

    def charge_own(self, server: BandwidthServer, spent: int, level: int) -> None:
        """Charge ``spent`` nanoseconds that one of the budget's contexts ran at ``level``."""
        # Demoted, it runs on time that no other context wants.
        if not server.penalty or level < server.penalty:
            self._charge(server, spent)

    def charge_payer(self, server: BandwidthServer, spent: int) -> None:
        """Charge ``spent`` nanoseconds of a daemon without a budget, which served one of its contexts."""
        if not server.is_active:
            # All its contexts wait for such calls: its activity began with the service.
            self._wake(server, _nanoseconds(self._clock()) - spent)
        self._charge(server, spent)

    def _wake(self, server: BandwidthServer, now: int) -> None:
        was_exhausted = server.is_exhausted
        changed = server.wake(now)
        if was_exhausted and not server.is_exhausted:
            self._release(server)
        elif changed:
            self._reorder(server)

    def _charge(self, server: BandwidthServer, spent: int) -> None:
        # If a task waits for the refill the timer brings it: the loop may have decided to
        # sleep, and must not find more to run now.
        if server.is_exhausted and server not in self._timers and server.refill(_nanoseconds(self._clock())):
            self._release(server)
        if server.charge(spent):
            if server.refill(_nanoseconds(self._clock())):
                self._reorder(server)
            else:
                self._exhaust(server)

    def _exhaust(self, server: BandwidthServer) -> None:
        budget, contexts = server.budget, self.contexts(server)
        waits = any(context.ready for context in contexts)
        if budget.on_exhausted is Exhausted.DEMOTE:
            server.penalty = budget.level
            self._reorder(server)
        elif budget.on_exhausted is Exhausted.THROTTLE:
            for context in contexts:
                waits |= self._throttle(context)
        if budget.notify is not None:
            self._notify(budget.notify)
        if waits:
            self._await_refill(server)

    def _await_refill(self, server: BandwidthServer) -> None:
        if server not in self._timers and server.budget.on_exhausted is not Exhausted.CANCEL:

            def refill() -> None:
                del self._timers[server]
                if server.refill(_nanoseconds(self._clock())):
                    self._release(server)
                elif server.is_exhausted:
                    # It has gone deeper into debt since, for calls that it makes.
                    self._await_refill(server)

            self._timers[server] = self._add_timer(server.refill_at() / 1e9, refill)

    def _release(self, server: BandwidthServer) -> None:
        timer = self._timers.pop(server, None)
        if timer is not None:
            timer.cancel()
        server.penalty = 0
        self._reorder(server)
        for context in self.contexts(server):
            self._unthrottle(context)

    def _reorder(self, server: BandwidthServer) -> None:
        for context in self.contexts(server):
            context.reorder()


def _nanoseconds(seconds: float) -> int:
    # Rounded, since a refill must find that the instant it waited for has come.
    return round(seconds * 1e9)
