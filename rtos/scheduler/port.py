"""Calls: one request, one reply, one deadline, and exactly one outcome.

A port is where the calls to one daemon arrive, wait in order, and are served by
its workers. Priority, deadline and billing travel with the call: a worker is
raised when the call is *sent*, also while it is still busy with another, and
falls back at the reply.

Law: a call is executed at most once, and its caller gets exactly one of: the
reply, the error that the daemon raised, ``MailboxFull`` or ``Overloaded``,
``DeadlineMissed``, ``DaemonDown``, or its own cancellation. The queue's law of
conservation (``order.py``) holds at every instant.

The life of a call, and who moves it::

    offered --submit--> WAITING --take--> SERVED --finish--> HANDLED | FAILED
       |                   |                 |
       | no room           | expire, abort,  | expire, abort: the worker's scope is
       v                   | shed, close     v cancelled, and finish records why
    refused                +--------> EXPIRED | CANCELLED | SHED

Must not know: commands, daemons, users. A request is opaque here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
from trio.lowlevel import Abort

from rtos.errors import CallCycle, DaemonDown, DeadlineMissed, MailboxFull, Overloaded
from rtos.scheduler.context import SchedulingContext, context_variable
from rtos.scheduler.order import MailboxQueue, Message, OverloadPolicy, State
from rtos.scheduler.statistics import Histogram
from rtos.scheduler.trace import CALLED, MISSED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.core import Scheduler
    from rtos.scheduler.timers import Timer

_OUTCOMES = tuple(state.name.lower() for state in State)


_STALE: Final = 16
"""Calls in a row that an estimate may shut out before it is doubted."""


class Kind:
    """What is known of all calls of one kind: their name and how long they take.

    Attributes:
      name: for errors and statistics.
      service: time from dispatch to reply, nanoseconds.
      response: time from sending to reply, nanoseconds.
      estimate: what one is expected to take, seconds; the mean, slowly forgetting.
    """

    __slots__ = ("_shut_out", "estimate", "missed", "name", "response", "service")

    def __init__(self, name: str) -> None:
        self._shut_out = 0
        self.name = name
        self.service = Histogram()
        self.response = Histogram()
        self.estimate = 0.0
        self.missed = 0

    def learn(self, service: float) -> None:
        """Take one service time (seconds) into account."""
        known = self.estimate
        self.estimate = service if not self.service.count else known + (service - known) / 8
        self.service.record(int(service * 1e9))
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

    __slots__ = ("caller", "chain", "due", "kind", "number", "on_porch", "payer", "port", "revoked", "sender",
                 "sent", "started", "timer", "worker")  # fmt: skip

    def __init__(self, port: Port, kind: Kind, request: Any, *, level: int, due: float, sent: float) -> None:
        super().__init__(request, level=level, deadline=due)
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
        self.worker: _Worker | None = None
        self.started: float | None = None
        self.on_porch = False
        # Why it must not go on: the caller's cancellation, or True for its deadline.
        self.revoked: RaiseCancelT | bool = False

    def promote(self, level: int, deadline: float) -> None:
        """The caller has become more urgent: so do this call and whoever serves it."""
        deadline = min(deadline, self.due)
        if (level, deadline) < (self.level, self.deadline):
            self.port.promote(self, level, deadline)

    def abort(self, raise_cancel: RaiseCancelT) -> Abort:
        """The caller has been cancelled."""
        if self.state is State.WAITING:
            self.port.withdraw(self, State.CANCELLED)
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
        self.answer(outcome.Error(self.missed()))

    def missed(self) -> DeadlineMissed:
        """The error for the caller."""
        now = self.port.scheduler.now()
        late = max(now - self.due, 0.0)
        self.note_miss(now, answered=False)
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

    def answer(self, reply: outcome.Outcome[Any]) -> None:
        """Give the caller its outcome, unless it has had one."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        caller, self.caller = self.caller, None
        if caller is not None:
            trio.lowlevel.reschedule(caller, reply)

    def _revoke(self, why: RaiseCancelT | bool) -> None:
        self.revoked = why
        assert self.worker is not None
        self.worker.scope.cancel()


class _Worker:
    """One task that serves a port, one call at a time."""

    __slots__ = ("call", "context", "scope", "task")

    def __init__(self, task: Task, context: SchedulingContext) -> None:
        self.task = task
        self.context = context
        self.scope = trio.CancelScope()
        self.call: Call | None = None

    def take_up(self, call: Call) -> None:
        """Run under the call's priority, deadline and account from here on."""
        self.call = call
        call.worker = self
        context = self.context
        call.port.scheduler.settle(context)
        context.jobs += 1
        context.payer = call.payer
        context.chain = call.chain
        context.job_deadline = call.due
        context.inherit(call.level, call.deadline)

    def put_down(self, call: Call) -> None:
        """Fall back to the worker's own."""
        self.call = None
        context = self.context
        call.port.scheduler.settle(context)
        context.payer = None
        context.chain = ()
        context.job_deadline = context.base_deadline
        context.fall_back()


class Port:
    """Where calls to one daemon arrive, wait and are served.

    Args:
      scheduler: the open scheduler that it belongs to.
      name: of the daemon; unique among those that call each other.
      capacity: most calls that may wait, 1 or more.
      policy: what happens beyond that.

    Raises:
      ValueError: the capacity leaves no room.
    """

    def __init__(
        self,
        scheduler: Scheduler,
        name: str,
        *,
        capacity: float = 1024,
        policy: OverloadPolicy = OverloadPolicy.REJECT,
    ) -> None:
        if not capacity >= 1:
            msg = f"port({name!r}): capacity {capacity!r} leaves no room; use 1 or more, or math.inf"
            raise ValueError(msg)
        self.scheduler = scheduler
        self.name = name
        self.queue = MailboxQueue(capacity, policy)
        self._porch = MailboxQueue(math.inf)
        self._idle: list[_Worker] = []
        # All that are not idle: they serve a call, or are about to take one.
        self._busy: dict[_Worker, None] = {}
        self._down: DaemonDown | None = None
        self._suspended = False
        self._draining = False
        self._quiet = trio.Event()

    async def call(self, kind: Kind, request: Any, *, deadline: float = math.inf, key: object = None) -> Any:
        """Send a request and wait for the reply.

        The call has the level of the running task's context, and the nearer of
        ``deadline`` (absolute Trio time) and the deadline of the job that is
        being served, if any. Of waiting calls with one ``key`` (hashable) only
        the newest is kept where the port's policy is to coalesce.

        Raises:
          ValueError: the deadline is no time at all (NaN).
          MailboxFull: refused at once; the daemon never saw it.
          Overloaded: shed for something more urgent; it never ran.
          DeadlineMissed: not answered by the deadline; ``started`` says whether it ran.
          DaemonDown: nobody serves this port any more.
          CallCycle: the call would wait for itself.
          Exception: whatever the daemon raised.

        Always a checkpoint. After cancellation a queued call never runs, and a
        running one has been cancelled, or has completed before it noticed.
        """
        if math.isnan(deadline):
            msg = f"{kind.name}: deadline {deadline!r} is not a time; use absolute Trio time"
            raise ValueError(msg)
        await trio.lowlevel.checkpoint_if_cancelled()
        scheduler = self.scheduler
        context = context_variable.get(None)
        now = scheduler.now()
        if context is None:
            call = Call(self, kind, request, level=scheduler.host_level, due=deadline, sent=now)
            call.payer = call.sender = scheduler.host
        else:
            call = Call(
                self, kind, request, level=context.level, due=min(deadline, context.job_deadline), sent=now
            )
            call.sender = context
            call.payer = context.payer or context
            call.chain = context.chain
            if self.name in call.chain:
                raise CallCycle(
                    kind.name,
                    "would wait for itself: " + " -> ".join((*call.chain, self.name)),
                    remedy="emit an event, or start a task of its own for it",
                )
        call.chain += (self.name,)
        call.key = key
        self._submit(call, now)
        call.caller = trio.lowlevel.current_task()
        if call.due != math.inf:
            call.timer = scheduler.add_timer(call.due, call.expire)
        if context is None:
            return await trio.lowlevel.wait_task_rescheduled(call.abort)
        context.waits.append(call)
        try:
            return await trio.lowlevel.wait_task_rescheduled(call.abort)
        finally:
            context.waits.remove(call)

    def _submit(self, call: Call, now: float) -> None:
        if self._down is not None:
            raise _copy(self._down)
        if call.due <= now:
            raise call.missed()
        if self._draining:
            self._hold(call)
            return
        if self._idle and not self._suspended:
            worker = self._idle.pop()
            self.queue.accept_served(call)
            self._hand_over(call, worker)
            trio.lowlevel.reschedule(worker.task, outcome.Value(call))
            return
        accepted, shed = self.queue.offer(call)
        if shed is not None:
            self._answer_shed(shed)
        if accepted:
            self._raise_busy(call)
        elif self.queue.policy is OverloadPolicy.BLOCK:
            self._wait_on_porch(call)
        else:
            raise self._full()

    def _hold(self, call: Call) -> None:
        """Keep a call that comes while the daemon finishes what it has, for its next run."""
        held = len(self.queue) + len(self._porch)
        if self.queue.policy is not OverloadPolicy.BLOCK and held >= self.queue.capacity:
            self.queue.statistics.refused += 1
            raise self._full()
        self._wait_on_porch(call)

    def _wait_on_porch(self, call: Call) -> None:
        call.on_porch = True
        self._porch.offer(call)
        self._raise_busy(call)

    def _full(self) -> MailboxFull:
        return MailboxFull(self.name, f"its mailbox holds {len(self.queue)} of {self.queue.capacity}")

    # The workers' side.

    async def serve(self, body: Callable[[Any], Awaitable[Any]], *, context: SchedulingContext) -> None:
        """Serve calls, one at a time, until cancelled. Run several tasks for several at once.

        ``body`` is awaited with each request; what it returns or raises goes to
        the caller. ``context`` must be the one this task runs under. A port that
        was drained or closed takes calls again.

        A cancellation answers the call that was being served with ``DaemonDown``
        and leaves the queued ones to the other workers, or to the next.
        """
        worker = _Worker(trio.lowlevel.current_task(), context)
        self._open()
        while True:
            try:
                # Only a call's own end cancels this scope.
                with trio.CancelScope() as worker.scope:
                    await self._serve(worker, body)
            except Exception as error:  # noqa: BLE001 - it is the caller's to see
                # The rest of a group, once the scope has taken its cancellations.
                assert worker.call is not None
                self._finish(worker, worker.call, State.FAILED, outcome.Error(error))
            finally:
                # Also when the worker itself is cancelled: its caller waits for an outcome.
                self._finish_revoked(worker)

    def _open(self) -> None:
        self._down = None
        if self._draining:
            self._draining = False
            self._admit_from_porch()

    async def _serve(self, worker: _Worker, body: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            while True:
                call = await self._next(worker)
                if call.revoked:
                    await trio.lowlevel.checkpoint_if_cancelled()
                call.started = self.scheduler.now()
                try:
                    value = await body(call.value)
                except Exception as error:  # noqa: BLE001 - it is the caller's to see
                    self._finish(worker, call, State.FAILED, outcome.Error(error))
                else:
                    self._finish(worker, call, State.HANDLED, outcome.Value(value))
        except BaseException:
            if worker.call is not None and not worker.call.revoked:
                down = DaemonDown(self.name, "it was stopped while it served this call")
                self._finish(worker, worker.call, State.FAILED, outcome.Error(down))
            raise

    async def _next(self, worker: _Worker) -> Call:
        if self.queue.statistics.queued and not self._suspended:
            # It runs as urgently as what it is about to take, or everything in
            # between would go first.
            self._busy[worker] = None
            self._raise_for_waiting((worker,))
            # Calls are drained without a pass of the loop in between, for as
            # long as one quantum; the bound on blocking includes it.
            if self.scheduler.may_continue():
                await trio.lowlevel.checkpoint_if_cancelled()
            else:
                await trio.lowlevel.checkpoint()
            call = self._take()
            if call is not None:
                self._hand_over(call, worker)
                return call
            del self._busy[worker]
            worker.context.fall_back()
        self._idle.append(worker)

        def abort(_: RaiseCancelT) -> Abort:
            self._idle.remove(worker)
            return Abort.SUCCEEDED

        served: Call = await trio.lowlevel.wait_task_rescheduled(abort)
        return served

    def _take(self) -> Call | None:
        """The next call that can still be answered in time; others are answered on the way."""
        while not self._suspended:
            call = self.queue.head()
            if call is None:
                return None
            assert isinstance(call, Call)
            if call.due != math.inf and self.scheduler.now() + call.kind.estimate > call.due:
                if call.due > self.scheduler.now():
                    call.kind.doubt()
                self.withdraw(call, State.EXPIRED)
                call.answer(outcome.Error(call.missed()))
                continue
            self.queue.take()
            self._admit_from_porch()
            return call
        return None

    def _hand_over(self, call: Call, worker: _Worker) -> None:
        self._busy[worker] = None
        worker.take_up(call)
        self._raise_for_waiting((worker,))

    def _finish(self, worker: _Worker, call: Call, state: State, reply: outcome.Outcome[Any]) -> None:
        now = self.scheduler.now()
        kind = call.kind
        if call.started is not None and state is State.HANDLED:
            kind.learn(now - call.started)
        elif call.started is not None and call.revoked is True:
            kind.learn_more_than(now - call.started)
        kind.response.record(int((now - call.sent) * 1e9))
        if call.revoked is True:
            state = State.EXPIRED
        elif now > call.due and call.caller is not None:
            # The reply was faster than the timer, and late nevertheless.
            call.note_miss(now, answered=True)
        if self.scheduler.record is not None:
            call.record(now, state)
        self.queue.settle(call, state)
        del self._busy[worker]
        worker.put_down(call)
        call.answer(reply)
        self._notice_quiet()

    def _finish_revoked(self, worker: _Worker) -> None:
        call = worker.call
        if call is None:
            if worker in self._busy:
                # It was cancelled while it was about to take the next call.
                del self._busy[worker]
                worker.context.fall_back()
            return
        why = call.revoked
        if callable(why):
            self._finish(worker, call, State.CANCELLED, outcome.capture(why))
        else:
            self._finish(worker, call, State.EXPIRED, outcome.Value(None))

    # What moves a call from outside.

    def withdraw(self, call: Call, state: State) -> None:
        """Take a waiting call out; the caller's outcome is somebody else's business."""
        call.record(self.scheduler.now(), state)
        if call.on_porch:
            self._porch.withdraw(call, state)
            return
        self.queue.withdraw(call, state)
        self._admit_from_porch()
        self._notice_quiet()

    def promote(self, call: Call, level: int, deadline: float) -> None:
        """Make a call more urgent, wherever it is."""
        queue = self._porch if call.on_porch else self.queue
        queue.promote(call, level, deadline)
        if call.state is State.SERVED:
            assert call.worker is not None
            call.worker.context.inherit_more(level, deadline)
        elif call.state is State.WAITING:
            self._raise_busy(call)

    def close(self, down: DaemonDown) -> None:
        """Nobody serves this port any more: answer what waits, and all that come."""
        self._down = down
        for call in [*self.queue, *self._porch]:
            assert isinstance(call, Call)
            self.withdraw(call, State.FAILED)
            call.answer(outcome.Error(_copy(down)))

    def suspend(self) -> None:
        """Serve nothing new until ``resume``; calls go on waiting, and their deadlines running."""
        self._suspended = True
        self._notice_quiet()

    def resume(self) -> None:
        """Serve again."""
        self._suspended = False
        while self._idle and (call := self._take()) is not None:
            worker = self._idle.pop()
            self._hand_over(call, worker)
            trio.lowlevel.reschedule(worker.task, outcome.Value(call))

    async def drain(self) -> None:
        """Wait until all that has been accepted is settled; then nothing is being served.

        Calls that come from here on are held back, so that a steady stream of them
        cannot keep a daemon from stopping. They go on waiting until the port is
        served anew, or closed, and so does what a suspended port has in its queue.
        Always a checkpoint; a cancellation undoes nothing.
        """
        await trio.lowlevel.checkpoint()
        self._draining = True
        while not self.is_quiet:
            if self._quiet.is_set():
                self._quiet = trio.Event()
            await self._quiet.wait()

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being served, and nothing waits that would be."""
        counts = self.queue.statistics
        return not counts.served and (self._suspended or not counts.queued)

    def _notice_quiet(self) -> None:
        if self._draining and self.is_quiet:
            self._quiet.set()

    def _raise_busy(self, waiting: Message) -> None:
        # Any worker that becomes free can take the head, so all of them are
        # raised: the bound of the head's wait is then that of the shortest rest.
        for worker in self._busy:
            worker.context.inherit_more(waiting.level, waiting.deadline)

    def _raise_for_waiting(self, workers: Iterable[_Worker]) -> None:
        for head in (self.queue.head(), self._porch.head()):
            if head is not None:
                for worker in workers:
                    worker.context.inherit_more(head.level, head.deadline)

    def _admit_from_porch(self) -> None:
        if self._draining:
            return
        while len(self._porch) and len(self.queue) < self.queue.capacity:
            call = self._porch.head()
            assert isinstance(call, Call)
            self._porch.withdraw(call, State.HANDLED)
            call.on_porch = False
            call.state = State.WAITING
            _, shed = self.queue.offer(call)
            if shed is not None:
                # There is room, but only the newest of its key may wait.
                self._answer_shed(shed)

    def _answer_shed(self, shed: Message) -> None:
        assert isinstance(shed, Call)
        shed.record(self.scheduler.now(), State.SHED)
        shed.answer(outcome.Error(Overloaded(self.name, "something more urgent took its place")))


def _copy(down: DaemonDown) -> DaemonDown:
    # One for each caller: an exception that many raise gathers all their frames.
    copy = DaemonDown(down.daemon, down.reason, down.restarts)
    copy.__cause__ = down.__cause__
    return copy
