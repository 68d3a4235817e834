"""A call: a request under way to a daemon, and what is known of all calls of its kind.

Owns the caller's side: its outcome, its deadline, its cancellation. Where the call
waits and who serves it is the port's business (``calls/port.py``), which has the law.

Must not know: commands, daemons, users. A request is opaque here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
from trio.lowlevel import Abort

from rtos.errors import DeadlineMissed
from rtos.scheduler.policy.histogram import Histogram
from rtos.scheduler.policy.overload import Message, State
from rtos.scheduler.tracing.raw import CALLED, MISSED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.calls.port import Port
    from rtos.scheduler.calls.worker import Worker
    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.policy.timer_heap import Timer

_OUTCOMES = tuple(state.name.lower() for state in State)


_STALE: Final = 16
"""Calls in a row that an estimate may shut out before it is doubted."""


class CallStatistics:
    """What is known of all calls of one kind: their name and how long they take.

    Attributes:
      name: for errors and statistics.
      missed: how many were not answered by their deadline.
      estimate: what one is expected to take, seconds; the mean, slowly forgetting.
    """

    __slots__ = ("_direct", "_response", "_service", "_shut_out", "estimate", "missed", "name")

    def __init__(self, name: str) -> None:
        self._shut_out = 0
        self.name = name
        self._service = Histogram()
        self._response = Histogram()
        # Of calls that were served where they were sent: both at once.
        self._direct = Histogram()
        self.estimate = 0.0
        self.missed = 0

    @property
    def service(self) -> Histogram:
        """From dispatch to reply, nanoseconds; a snapshot."""
        return self._service.merged(self._direct)

    @property
    def response(self) -> Histogram:
        """From sending to reply, nanoseconds; a snapshot."""
        return self._response.merged(self._direct)

    def learn(self, service: float) -> None:
        """Take one service time (seconds) into account."""
        self._expect(service)
        self._service.record(int(service * 1e9))

    def learn_direct(self, service: float) -> None:
        """Take into account one that was served at once; its response was its service."""
        self._expect(service)
        self._direct.record(int(service * 1e9))

    def learn_response(self, response: float) -> None:
        """Take one response time (seconds) into account."""
        self._response.record(int(response * 1e9))

    def _expect(self, service: float) -> None:
        known = self.estimate
        self.estimate = known + (service - known) / 8 if known else service
        self._shut_out = 0

    def learn_more_than(self, service: float) -> None:
        """Take into account that one was cut short after ``service`` seconds."""
        self.estimate = max(self.estimate, service)
        self._shut_out = 0

    def doubt(self) -> None:
        """The estimate has shut out a call; after several in a row it is lowered.

        Under overload a few are shut out between any two that are served, and
        the estimate is right. Only when nothing gets through can it be stale.
        """
        self._shut_out += 1
        if self._shut_out > _STALE:
            self.estimate *= 15 / 16


class Call(Message):
    """A request under way. Made by ``Port.call``; owned by the port.

    Its ``deadline`` orders it and may be made nearer by a promotion; ``due`` is
    its own and never changes.
    """

    __slots__ = ("caller", "chain", "due", "error", "is_answered", "is_direct", "is_long", "kind",
                 "number", "on_porch", "payer", "port", "reply", "revoked", "sender", "sent", "started",
                 "timer", "worker")  # fmt: skip

    def __init__(
        self, port: Port, kind: CallStatistics, request: Any, level: int, due: float, sent: float
    ) -> None:
        # As in ``Message``, whose initialiser would cost a third of this one.
        self.value = request
        self.level = level
        self.deadline = due
        self.key = None
        self.arrival = 0
        self.state = State.WAITING
        self.entry = None
        self.port = port
        self.kind = kind
        self.due = due
        self.sent = sent
        # What the trace knows it by; 0 while it does not.
        self.number = 0
        self.sender: SchedulingContext
        self.caller: Task | None = None
        self.payer: SchedulingContext | None = None
        self.chain: tuple[str, ...] = ()
        self.timer: Timer | None = None
        self.worker: Worker | None = None
        self.started: float | None = None
        self.on_porch = False
        # Whether its caller's step is donated to the worker just now, and what came of
        # it: a reply and no error, or an error; and whether that took unexpectedly long.
        self.is_direct = self.is_answered = self.is_long = False
        self.reply: Any = None
        self.error: BaseException | None = None
        # Why it must not go on: the caller's cancellation, or True for its deadline.
        self.revoked: RaiseCancelT | bool = False

    def reprioritise(self, level: int, deadline: float) -> None:
        """Order the call, and the worker that serves it, by its caller's new level and deadline."""
        self.port.reprioritise(self, level, min(deadline, self.due))

    def abort(self, raise_cancel: RaiseCancelT) -> Abort:
        """The caller has been cancelled."""
        if self.state is State.WAITING:
            self.port.withdraw(self, State.CANCELLED)
            # Trio gives it its outcome.
            self.caller = None
            self.answer()
            return Abort.SUCCEEDED
        self._revoke(raise_cancel)
        return Abort.FAILED

    def expire(self) -> None:
        """The deadline has passed without an outcome: the caller goes on at once."""
        self.timer = None
        if self.caller is None:
            return
        if self.state is State.WAITING:
            self.port.withdraw(self, State.EXPIRED)
        else:
            self._revoke(True)
        self.answer(error=self.missed())

    def missed(self) -> DeadlineMissed:
        """The error for the caller."""
        now = self.port.scheduler.now()
        late = max(now - self.due, 0.0)
        self.note_miss(now, answered=False)
        return DeadlineMissed(self.kind.name, started=self.started is not None, late=late)

    def error_of_miss(self) -> DeadlineMissed:
        """The miss as an error of the daemon's."""
        late = max(self.port.scheduler.now() - self.due, 0.0)
        return DeadlineMissed(self.kind.name, started=self.started is not None, late=late)

    def note_miss(self, now: float, *, answered: bool) -> None:
        """Count it as missed, and have it explained."""
        self.kind.missed += 1
        scheduler, sender = self.port.scheduler, self.sender
        serving = tuple(self._serving())
        raw = (
            MISSED, now, self.known_as(), self.kind.name, sender.number, sender.name, self.port.name,
            self.level, self.sent, self.due, self.started, answered, serving,
        )  # fmt: skip
        if scheduler.record is not None:
            scheduler.record(raw)
        scheduler.miss_log.note(raw)

    def record(self, now: float, state: State) -> None:
        """Tell the trace that it has its outcome."""
        port, sender, worker = self.port, self.sender, self.worker
        record = port.scheduler.record
        if record is not None:
            record((CALLED, now, self.number or self.known_as(), self.kind.name, sender.number, sender.name,
                    port.name, self.level, self.sent, not self.arrival, self.started,
                    0 if worker is None else worker.context.number, _OUTCOMES[state]))  # fmt: skip

    def known_as(self) -> int:
        """Its number in the trace."""
        self.number = self.number or self.port.scheduler.next_call()
        return self.number

    def _serving(self) -> Iterator[tuple[Any, ...]]:
        """Who serves it, and who serves those that do."""
        if self.worker is None or self.state is not State.SERVED:
            return
        context = self.worker.context
        ready = context.since if context.entry is not None else None
        yield self.known_as(), context.number, self.port.name, self.sent, self.started, ready
        for call in context.waits:
            if isinstance(call, Call):
                yield from call._serving()

    def answer(self, reply: Any = None, error: BaseException | None = None) -> None:
        """Give the caller its outcome, unless it has had one."""
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
        """Whether it can still be answered in time, by what is known of its kind.

        A call that is not is to be dropped; the kind may be wrong about it, and is told.
        """
        if now + self.kind.estimate <= self.due:
            return True
        if self.due > now:
            self.kind.doubt()
        return False

    def _revoke(self, why: RaiseCancelT | bool) -> None:
        self.revoked = why
        assert self.worker is not None
        self.worker.scope.cancel()
