"""Budgets at work: who pays, who is held back, and when the next refill is.

Stands between the run queue, which knows what runs and what becomes ready, and the
rules of one budget (``budgets/bandwidth_server.py``). Must not know Trio.

Order of things: what becomes ready has woken its budget before it is queued; what
was used is charged at the end of the pass. A refill has a timer only while something
waits for it, so a system whose budgets are used up and that has nothing to run
sleeps on: no tick.

Invariant: contexts are held back in the ready order exactly while their budget is
exhausted and throttles.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.scheduler.budgets.bandwidth_server import BandwidthServer, Exhausted

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.policy.timer_heap import Timer


class BudgetEnforcement:
    """The budgets of one loop.

    Args:
      hold, let_go: keep a context out of the ready order, and end that.
      clock: the current Trio time, seconds.

    Attributes:
      add_timer: how a refill is waited for; the kernel's.
      tell: how an owner is told, outside of the run queue's own work; the kernel's.
    """

    add_timer: Callable[[float, Callable[[], None]], Timer]
    tell: Callable[[Callable[[], None]], None]

    def __init__(
        self,
        hold: Callable[[SchedulingContext], None],
        let_go: Callable[[SchedulingContext], None],
        clock: Callable[[], float],
    ) -> None:
        self._hold = hold
        self._let_go = let_go
        self._clock = clock
        self._timers: dict[BandwidthServer, Timer] = {}

    def join(self, context: SchedulingContext, reservation: BandwidthServer) -> None:
        """Put a context under a budget, with the others that are under it."""
        context.budget = reservation
        reservation.add(context)
        if reservation.is_exhausted and reservation.budget.on_exhausted is Exhausted.THROTTLE:
            self._hold(context)
        context.reorder()

    def arrive(self, reservation: BandwidthServer) -> None:
        """A task of one of its contexts is about to be queued."""
        if not reservation.is_active:
            reservation.is_active = True
            self._wake(reservation, _nanoseconds(self._clock()))
        if reservation.is_exhausted:
            self._await_refill(reservation)

    def charge_own(self, reservation: BandwidthServer, spent: int, level: int) -> None:
        """A pass of one of its contexts, which ran at ``level``, has ended."""
        # Demoted, it runs on time that nobody else wants.
        if not reservation.penalty or level < reservation.penalty:
            self._charge(reservation, spent)

    def charge_payer(self, reservation: BandwidthServer, spent: int) -> None:
        """Somebody without a budget has served a call for one of its contexts."""
        if not reservation.is_active:
            # Its contexts all wait for such calls; it has begun when the service did.
            self._wake(reservation, _nanoseconds(self._clock()) - spent)
        self._charge(reservation, spent)

    def _wake(self, reservation: BandwidthServer, now: int) -> None:
        was_exhausted = reservation.is_exhausted
        changed = reservation.wake(now)
        if was_exhausted and not reservation.is_exhausted:
            self._release(reservation)
        elif changed:
            _reorder(reservation)

    def _charge(self, reservation: BandwidthServer, spent: int) -> None:
        # Where something waits for the refill its timer brings it: the loop may have
        # decided to sleep, and must not find more to run now.
        if (
            reservation.is_exhausted
            and reservation not in self._timers
            and reservation.refill(_nanoseconds(self._clock()))
        ):
            self._release(reservation)
        if reservation.charge(spent):
            if reservation.refill(_nanoseconds(self._clock())):
                _reorder(reservation)
            else:
                self._exhaust(reservation)

    def _exhaust(self, reservation: BandwidthServer) -> None:
        budget = reservation.budget
        if budget.on_exhausted is Exhausted.DEMOTE:
            reservation.penalty = budget.level
            _reorder(reservation)
        elif budget.on_exhausted is Exhausted.THROTTLE:
            for context in reservation.contexts():
                self._hold(context)
        if budget.told is not None:
            self.tell(budget.told)
        if any(context.ready for context in reservation.contexts()):
            self._await_refill(reservation)

    def _await_refill(self, reservation: BandwidthServer) -> None:
        if reservation not in self._timers and reservation.budget.on_exhausted is not Exhausted.CANCEL:

            def refill() -> None:
                del self._timers[reservation]
                if reservation.refill(_nanoseconds(self._clock())):
                    self._release(reservation)
                elif reservation.is_exhausted:
                    # It has gone deeper into debt since, for calls that it makes.
                    self._await_refill(reservation)

            self._timers[reservation] = self.add_timer(reservation.refill_at() / 1e9, refill)

    def _release(self, reservation: BandwidthServer) -> None:
        timer = self._timers.pop(reservation, None)
        if timer is not None:
            timer.cancel()
        reservation.penalty = 0
        _reorder(reservation)
        for context in reservation.contexts():
            self._let_go(context)


def _reorder(reservation: BandwidthServer) -> None:
    for context in reservation.contexts():
        context.reorder()


def _nanoseconds(seconds: float) -> int:
    # Rounded, since a refill must find that the instant it waited for has come.
    return round(seconds * 1e9)
