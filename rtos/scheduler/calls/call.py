"""One call: a request under way, its caller's outcome, deadline and cancellation.

The port decides where a call waits and who serves it (``core``). ``states`` lists the states
of a call and every transition between them.

Invariant: the caller of an accepted call gets exactly one outcome.

Must not import: ports, workers, commands, daemons. A request is opaque here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import outcome
import trio
from trio.lowlevel import Abort, enable_ki_protection

from rtos.errors import DeadlineMissed
from rtos.scheduler.calls import states
from rtos.scheduler.calls.states import CallEvent
from rtos.scheduler.policy.message_queue import Message, State
from rtos.scheduler.policy.overload import CHECKS
from rtos.scheduler.tracing.raw import CALLED, MISSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.errors import RtosError
    from rtos.scheduler.calls.call_statistics import CallStatistics
    from rtos.scheduler.calls.states import CallState
    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.scheduler.scheduler import Scheduler

    class CallOwner(Protocol):
        """What a call needs of the port that it was sent to."""

        @property
        def name(self) -> str:
            """The port's name."""

        @property
        def scheduler(self) -> Scheduler:
            """The port's scheduler."""

        def withdraw(self, call: Call, state: State) -> None:
            """Remove a waiting call; ``state`` is its final state."""

        def reprioritise(self, call: Call, level: int, deadline: float) -> None:
            """Order a call by another level and deadline."""

    class CallServer(Protocol):
        """What a call needs of the worker that serves it."""

        context: SchedulingContext
        scope: trio.CancelScope


_REVOKED = {State.EXPIRED: CallEvent.EXPIRE, State.CANCELLED: CallEvent.CANCEL, State.FAILED: CallEvent.CLOSE}
_OUTCOMES = tuple(state.name.lower() for state in State)


class Call(Message):
    """A request under way, made by ``Port.call``.

    Attributes:
      deadline: orders the call, and follows the caller's effective deadline.
      due: the call's own absolute deadline (Trio time); never changes.
      number: identifies it in the trace; 0 until the trace needs it.
      is_blocked: it waits for the end of a drain, outside the queue.
      is_direct: it is being served within its caller's step.
      is_answered: a direct call has its outcome: ``error`` or, if that is ``None``, ``reply``.
      is_long: a direct call took longer than expected.
      revoked: the final state of a served call that must not go on: ``EXPIRED``,
        ``CANCELLED``, or ``FAILED`` if the scheduler was closed; otherwise ``None``.
      raise_cancel: raises the caller's cancellation, if that revoked the call.
      checked: its state in the table of ``states``; set only while checks are enabled.
    """

    __slots__ = ("caller", "chain", "checked", "due", "error", "is_answered", "is_blocked", "is_direct",
                 "is_long", "number", "owner", "payer", "raise_cancel", "reply", "revoked", "sender", "sent",
                 "started", "statistics", "timer", "worker")  # fmt: skip

    def __init__(
        self, owner: CallOwner, statistics: CallStatistics, request: Any, level: int, due: float, sent: float
    ) -> None:
        # As in ``Message``: calling its initialiser would cost a third of this one.
        self.value = request
        self.level = level
        self.deadline = due
        self.key = None
        self.arrival = 0
        self.state = State.WAITING
        self.entry = None
        self.owner = owner
        self.statistics = statistics
        self.due = due
        self.sent = sent
        self.number = 0
        self.checked: CallState
        self.sender: SchedulingContext
        self.caller: Task | None = None
        self.payer: SchedulingContext | None = None
        self.chain: tuple[str, ...] = ()
        self.timer: Timer | None = None
        self.worker: CallServer | None = None
        self.started: float | None = None
        self.is_blocked = False
        self.is_direct = self.is_answered = self.is_long = False
        self.reply: Any = None
        self.error: BaseException | None = None
        self.revoked: State | None = None
        self.raise_cancel: RaiseCancelT | None = None

    @enable_ki_protection
    def reprioritise(self, level: int, deadline: float) -> None:
        """Order the call, and the worker that serves it, by its caller's new level and deadline."""
        self.owner.reprioritise(self, level, min(deadline, self.due))

    def abort(self, raise_cancel: RaiseCancelT) -> Abort:
        """The caller has been cancelled: withdraw a waiting call, stop one that is being served."""
        if self.state is State.WAITING:
            self.owner.withdraw(self, State.CANCELLED)
            # Trio itself resumes the caller.
            self.caller = None
            self.answer()
            return Abort.SUCCEEDED
        self.raise_cancel = raise_cancel
        # A caller that is cancelled during its own step is aborted again when it waits.
        if self.revoked is None:
            self._revoke(State.CANCELLED)
        return Abort.FAILED

    def expire(self) -> None:
        """The deadline has passed without an outcome: answer the caller at once."""
        self.timer = None
        if self.caller is None:
            return
        if self.state is State.WAITING:
            self.owner.withdraw(self, State.EXPIRED)
        else:
            self._revoke(State.EXPIRED)
        self.answer(error=self.missed())

    def close(self, error: RtosError) -> None:
        """The scheduler is closed while the call is being served: answer the caller, stop the handler."""
        if self.revoked is None:
            self._revoke(State.FAILED)
            self.answer(error=error)

    def missed(self) -> DeadlineMissed:
        """Count and report a miss, and return the error for the caller."""
        now = self.owner.scheduler.now()
        self.note_miss(now, answered=False)
        late = max(now - self.due, 0.0)
        return DeadlineMissed(self.statistics.name, started=self.started is not None, late=late)

    def note_miss(self, now: float, *, answered: bool) -> None:
        """Count a miss, and have it reported with its causes."""
        self.statistics.missed += 1
        scheduler, sender = self.owner.scheduler, self.sender
        serving = tuple(self._serving())
        raw = (
            MISSED, now, self.known_as(), self.statistics.name, sender.number, sender.name, self.owner.name,
            self.level, self.sent, self.due, self.started, answered, serving,
        )  # fmt: skip
        if scheduler.record is not None:
            scheduler.record(raw)
        scheduler.miss_log.note(raw)

    def record(self, now: float, state: State) -> None:
        """Write the end of the call, in ``state``, to the trace."""
        owner, sender, worker = self.owner, self.sender, self.worker
        scheduler = owner.scheduler
        record = scheduler.record
        if record is not None:
            record((CALLED, now, self.number or scheduler.next_call(), self.statistics.name, sender.number,
                    sender.name, owner.name, self.level, self.sent, not self.arrival, self.started,
                    0 if worker is None else worker.context.number, _OUTCOMES[state]))  # fmt: skip

    def known_as(self) -> int:
        """Return its number in the trace."""
        self.number = self.number or self.owner.scheduler.next_call()
        return self.number

    def _serving(self) -> Iterator[tuple[Any, ...]]:
        """Yield the worker that serves this call, then the workers of its nested calls."""
        if self.worker is None or self.state is not State.SERVED:
            return
        context = self.worker.context
        ready = context.since if context.entry is not None else None
        yield self.known_as(), context.number, self.owner.name, self.sent, self.started, ready
        for call in context.waits:
            if isinstance(call, Call):
                yield from call._serving()

    def answer(self, reply: Any = None, error: BaseException | None = None) -> None:
        """Give the caller its outcome, unless it has one."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        caller, self.caller = self.caller, None
        if self.is_direct:
            self.is_answered, self.reply, self.error = True, reply, error
        elif caller is not None:
            result: outcome.Outcome[Any] = outcome.Value(reply) if error is None else outcome.Error(error)
            trio.lowlevel.reschedule(caller, result)

    def is_feasible(self, now: float) -> bool:
        """Return whether the call can still be answered in time, by the estimate of its kind."""
        if now + self.statistics.estimate <= self.due:
            return True
        if self.due > now:
            self.statistics.doubt()
        return False

    def _revoke(self, state: State) -> None:
        assert self.worker is not None
        self.revoked = state
        if CHECKS:
            states.advance_call(self, _REVOKED[state])
        self.worker.scope.cancel()
