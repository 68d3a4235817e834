"""Calls: one request, one reply, one deadline, and exactly one outcome.

A port is where the calls to one daemon arrive, wait in order, and are served by
its workers. Priority, deadline and billing travel with the call: a worker is
raised when the call is *sent*, also while it is still busy with another, and
falls back at the reply.

Law: a call is executed at most once, and its caller gets exactly one of: the
reply, the error that the daemon raised, ``MailboxFull`` or ``Overloaded``,
``DeadlineMissed``, ``DaemonDown``, or its own cancellation. The queue's law of
conservation (``policy/overload.py``) holds at every instant.

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
from typing import TYPE_CHECKING, Any

import outcome
import trio

from rtos.errors import CallCycle, DaemonDown, MailboxFull, Overloaded
from rtos.scheduler.calls.call import Call, CallStatistics
from rtos.scheduler.calls.worker import Begun, Worker
from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.policy.overload import MailboxQueue, Message, OverloadPolicy, State
from rtos.scheduler.tracing.raw import CALLED

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from trio.lowlevel import RaiseCancelT

    from rtos.scheduler.dispatch.run_queue import RunQueue
    from rtos.scheduler.scheduler import Scheduler


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
        self._chain = (name,)
        self._porch = MailboxQueue(math.inf)
        self._idle: list[Worker] = []
        # All that are not idle: they serve a call, or are about to take one.
        self._busy: dict[Worker, None] = {}
        self._down: DaemonDown | None = None
        self._suspended = False
        self._draining = False
        self._quiet = trio.Event()
        # Why the daemon has to fail.
        self._failure: Exception | None = None

    async def call(
        self, kind: CallStatistics, request: Any, *, deadline: float = math.inf, key: object = None
    ) -> Any:
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

        Checks for cancellation, and lets others run unless the daemon is idle and
        answers within the quantum; then it is served within this very step, and a
        loop of such calls gives way after each quantum. After cancellation a queued
        call never runs, and a running one has been cancelled, or has completed
        before it noticed.
        """
        if math.isnan(deadline):
            msg = f"{kind.name}: deadline {deadline!r} is not a time; use absolute Trio time"
            raise ValueError(msg)
        idle, direct = self._idle, self.scheduler.direct
        donates = False
        if direct is None:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            donates = bool(idle) and direct.may_donate(idle[-1].context)
            if direct.is_cancelled() or (idle and not donates and direct.end_pass()):
                # Cancelled; or the next one may go the direct way again, in a step of its own.
                await trio.lowlevel.checkpoint()
                donates = bool(idle) and direct.may_donate(idle[-1].context)
        context, accounts = context_variable.get(None), self.scheduler.accounts
        if context is not None and context.owner is not accounts and not accounts.owns(context):
            # Of another loop: here the caller is a task of the host.
            context = None
        call = self._make(kind, request, deadline, context)
        call.key = key
        if context is not None:
            context.waits[call] = None
        try:
            self._submit(call, donates=donates)
            if not call.is_answered:
                return await trio.lowlevel.wait_task_rescheduled(call.abort)
        finally:
            if context is not None:
                del context.waits[call]
        if call.is_long:
            # It took longer than was to be expected: what the caller does next is a new step.
            await trio.lowlevel.cancel_shielded_checkpoint()
        error, call.error = call.error, None
        if error is None:
            return call.reply
        try:
            raise error
        finally:
            # Its traceback holds this frame.
            del error

    def _make(
        self, kind: CallStatistics, request: Any, deadline: float, context: SchedulingContext | None
    ) -> Call:
        scheduler = self.scheduler
        now = scheduler.now()
        if context is None:
            call = Call(self, kind, request, scheduler.host_level, deadline, now)
            call.payer = call.sender = scheduler.host
            call.chain = self._chain
        else:
            due = context.job_deadline
            call = Call(self, kind, request, context.level, min(deadline, due), now)
            call.sender = context
            call.payer = context.payer or context
            chain = context.chain
            if self.name in chain:
                raise CallCycle(
                    kind.name,
                    "would wait for itself: " + " -> ".join((*chain, self.name)),
                    remedy="emit an event, or start a task of its own for it",
                )
            call.chain = chain + self._chain if chain else self._chain
        call.caller = trio.lowlevel.current_task()
        return call

    def _submit(self, call: Call, *, donates: bool) -> None:
        if self._down is not None:
            raise _copy(self._down)
        if call.due <= call.sent:
            raise call.missed()
        if self._draining:
            self._hold(call)
        elif self._idle and not self._suspended:
            self._serve_at_once(call, donates=donates)
        else:
            self._enqueue(call)
        if call.due != math.inf and call.timer is None and not call.is_answered:
            call.timer = self.scheduler.add_timer(call.due, call.expire)

    def _serve_at_once(self, call: Call, *, donates: bool) -> None:
        self.queue.accept_served(call)
        if not call.is_feasible(call.sent):
            self.queue.settle(call, State.EXPIRED)
            call.record(call.sent, State.EXPIRED)
            raise call.missed()
        # While a worker is idle nothing waits that could raise it further.
        worker = self._idle.pop()
        self._busy[worker] = None
        worker.take_up_idle(call)
        direct = self.scheduler.direct
        if donates and direct is not None:
            self._serve_directly(call, worker, queue=direct)
        else:
            trio.lowlevel.reschedule(worker.task, outcome.Value(call))

    def _serve_directly(self, call: Call, worker: Worker, *, queue: RunQueue) -> None:
        """Begin to serve a call in its caller's step, as a part of the worker's.

        The worker is not woken if that is all there is to do. Else it is handed
        what has begun, and goes on with it.
        """
        # Its timer is added once the step is over and it has no outcome; it fires in the
        # order of now, before what the daemon adds for the same instant.
        place = 0 if call.due == math.inf else self.scheduler.next_timer()
        call.is_direct = True
        failed: BaseException | None = None
        try:
            message = queue.donate(worker.task, worker.begin, call, context=worker.context, abort=call.abort)
        except StopIteration as stop:
            self._finish_directly(worker, call, stop.value, queue=queue)
            return
        except Exception as error:  # noqa: BLE001 - it is the caller's to see
            failed = error
        except BaseException as error:  # noqa: BLE001 - it is raised again where it belongs
            worker.begun = Begun(worker.job, error=error)
        else:
            worker.begun = Begun(worker.job, message=message)
        # Outside the except blocks, or what is raised would become the context of other errors.
        if failed is not None:
            self._finish(worker, call, State.FAILED, error=failed)
            self._stand_idle(worker, queue=queue)
            # Its traceback holds this frame.
            failed = None
        else:
            queue.donate_step(worker.task, call, context=worker.context, abort=call.abort)
            if place and not call.is_answered:
                call.timer = self.scheduler.add_timer(call.due, call.expire, place)
        call.is_long = bool(call.revoked) or queue.has_overrun()
        call.is_direct = False

    def _finish_directly(self, worker: Worker, call: Call, reply: Any, *, queue: RunQueue) -> None:
        """``_finish`` and ``_stand_idle`` of what nothing has happened to, in one: 2.2 µs instead of 3.4."""
        now = self.scheduler.now()
        if call.revoked or now > call.due or call.caller is None or self._failure or self._draining:
            self._finish(worker, call, State.HANDLED, reply)
            self._stand_idle(worker, queue=queue)
        else:
            call.kind.learn_direct(now - call.sent)
            record, sender = self.scheduler.record, call.sender
            if record is not None:
                # As ``Call.record`` does.
                record((CALLED, now, call.number or self.scheduler.next_call(), call.kind.name, sender.number,
                        sender.name, self.name, call.level, call.sent, True, call.started,
                        worker.context.number, "handled"))  # fmt: skip
            self.queue.settle(call, State.HANDLED)
            del self._busy[worker]
            worker.put_down()
            call.caller = None
            call.is_answered, call.reply = True, reply
            self._idle.append(worker)
            queue.park(worker.task, worker.stop_waiting)
            if self.queue.statistics.queued:
                worker.context.disinherit(self)
                self.serve_waiting()
        # A worker that was cancelled comes to itself first, as after a call that was queued.
        call.is_long = bool(call.revoked) or queue.has_overrun()
        call.is_direct = False

    def _stand_idle(self, worker: Worker, *, queue: RunQueue) -> None:
        worker.context.disinherit(self)
        self._idle.append(worker)
        queue.park(worker.task, worker.stop_waiting)
        if self._failure is not None:
            worker.scope.cancel()
        if self.queue.statistics.queued:
            self.serve_waiting()

    def _enqueue(self, call: Call) -> None:
        accepted, shed = self.queue.offer(call)
        if shed is not None:
            self._answer_shed(shed)
        if accepted:
            if self.queue.head() is call:
                self._raise_workers()
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
        self._raise_workers()

    def _full(self) -> MailboxFull:
        return MailboxFull(self.name, f"its mailbox holds {len(self.queue)} of {self.queue.capacity}")

    # The workers' side.

    async def serve(self, body: Callable[[Any], Awaitable[Any]], *, context: SchedulingContext) -> None:
        """Serve calls, one at a time, until cancelled. Run several tasks for several at once.

        ``body`` is awaited with each request; what it returns or raises goes to
        the caller. What ``fail`` was told is raised here. ``context`` must be the one
        this task runs under. A port that was drained or closed takes calls again.

        A cancellation answers the call that was being served with ``DaemonDown``
        and leaves the queued ones to the other workers, or to the next.
        """
        worker = Worker(trio.lowlevel.current_task(), context, body, self._idle)
        self._open()
        while True:
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            try:
                # Only a call's own end cancels this scope.
                with trio.CancelScope() as worker.scope:
                    await self._serve(worker, body)
            except Exception as error:  # noqa: BLE001 - it is the caller's to see
                # The rest of a group, once the scope has taken its cancellations.
                assert worker.call is not None
                self._finish(worker, worker.call, State.FAILED, error=error)
            finally:
                # Also when the worker itself is cancelled: its caller waits for an outcome.
                self._finish_revoked(worker)

    def _open(self) -> None:
        self._down = None
        if self._draining:
            self._draining = False
            self._admit_from_porch()

    async def _serve(self, worker: Worker, body: Callable[[Any], Awaitable[Any]]) -> None:
        try:
            while True:
                call = await self._next(worker)
                begun, worker.begun = worker.begun, None
                if begun is None:
                    if call.revoked:
                        await trio.lowlevel.checkpoint_if_cancelled()
                    call.started = self.scheduler.now()
                try:
                    value = await (begun or body(call.value))
                except Exception as error:  # noqa: BLE001 - it is the caller's to see
                    self._finish(worker, call, State.FAILED, error=error)
                else:
                    self._finish(worker, call, State.HANDLED, value)
                if self._failure is not None:
                    return
        except BaseException:
            if worker.call is not None and not worker.call.revoked:
                down = DaemonDown(self.name, "it was stopped while it served this call")
                self._finish(worker, worker.call, State.FAILED, error=down)
            raise

    async def _next(self, worker: Worker) -> Call:
        if self.queue.statistics.queued and not self._suspended:
            # It runs as urgently as what it is about to take, or everything in
            # between would go first.
            self._busy[worker] = None
            self._raise_workers()
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
        worker.context.disinherit(self)
        self._idle.append(worker)
        served: Call = await trio.lowlevel.wait_task_rescheduled(worker.stop_waiting)
        return served

    def _take(self) -> Call | None:
        """The next call that can still be answered in time; others are answered on the way."""
        while not self._suspended:
            call = self.queue.head()
            if call is None:
                return None
            assert isinstance(call, Call)
            if not call.is_feasible(self.scheduler.now()):
                self.withdraw(call, State.EXPIRED)
                call.answer(error=call.missed())
                continue
            self.queue.take()
            self._admit_from_porch()
            return call
        return None

    def _hand_over(self, call: Call, worker: Worker) -> None:
        self._busy[worker] = None
        worker.take_up(call)
        self._raise_workers()

    def _finish(
        self,
        worker: Worker,
        call: Call,
        state: State,
        reply: Any = None,
        error: BaseException | None = None,
    ) -> None:
        now = self.scheduler.now()
        self._learn(call, state, now)
        if call.revoked is True:
            state = State.EXPIRED
        elif now > call.due and call.caller is not None:
            # The reply was faster than the timer, and late nevertheless.
            call.note_miss(now, answered=True)
        if self.scheduler.record is not None:
            call.record(now, state)
        self.queue.settle(call, state)
        del self._busy[worker]
        if not call.is_direct:
            self.scheduler.settle(worker.context)
        worker.put_down()
        call.answer(reply, error)
        if self._draining:
            self._notice_quiet()

    def _learn(self, call: Call, state: State, now: float) -> None:
        kind, started, sent = call.kind, call.started, call.sent
        if started is not None and state is State.HANDLED:
            if call.is_direct:
                kind.learn_direct(now - sent)
                return
            kind.learn(now - started)
        elif started is not None and call.revoked is True:
            kind.learn_more_than(now - started)
        kind.learn_response(now - sent)

    def _finish_revoked(self, worker: Worker) -> None:
        worker.context.disinherit(self)
        call = worker.call
        if call is None:
            if worker in self._busy:
                # It was cancelled while it was about to take the next call.
                del self._busy[worker]
            return
        why = call.revoked
        if callable(why):
            self._finish(worker, call, State.CANCELLED, error=_error_of(why))
        else:
            self._finish(worker, call, State.EXPIRED)

    # What moves a call from outside.

    def withdraw(self, call: Call, state: State) -> None:
        """Take a waiting call out; the caller's outcome is somebody else's business."""
        call.record(self.scheduler.now(), state)
        if call.on_porch:
            self._porch.withdraw(call, state)
        else:
            self.queue.withdraw(call, state)
            self._admit_from_porch()
            self._notice_quiet()
        self._raise_workers()

    def reprioritise(self, call: Call, level: int, deadline: float) -> None:
        """Give a call another level and deadline, wherever it is."""
        queue = self._porch if call.on_porch else self.queue
        queue.reprioritise(call, level, deadline)
        if call.state is State.SERVED:
            assert call.worker is not None
            call.worker.context.inherit(level, deadline)
        elif call.state is State.WAITING:
            self._raise_workers()

    def close(self, down: DaemonDown) -> None:
        """Nobody serves this port any more: answer what waits, and all that come."""
        self._down = down
        for call in [*self.queue, *self._porch]:
            assert isinstance(call, Call)
            self.withdraw(call, State.FAILED)
            call.answer(error=_copy(down))

    def fail(self, error: Exception) -> None:
        """Have the daemon fail with ``error``: the next worker that comes to itself raises it.

        Not a checkpoint. What is being served goes on; it is dropped with the daemon.
        """
        self._failure = error
        if self._idle:
            self._idle[-1].scope.cancel()

    def workers(self) -> tuple[Worker, ...]:
        """Those that serve this port now."""
        return (*self._busy, *self._idle)

    @property
    def state(self) -> str:
        """``serving``, ``suspended``, ``draining`` or ``down``."""
        if self._down is not None:
            return "down"
        return "draining" if self._draining else "suspended" if self._suspended else "serving"

    def suspend(self) -> None:
        """Serve nothing new until ``resume``; calls go on waiting, and their deadlines running."""
        self._suspended = True
        self._notice_quiet()

    def resume(self) -> None:
        """Serve again."""
        self._suspended = False
        self.serve_waiting()

    def serve_waiting(self) -> None:
        """Hand what waits to workers that are idle."""
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

    def _raise_workers(self) -> None:
        """Have the busy workers inherit from the most urgent call that waits, or from none.

        Any worker that becomes free can take that call, so all of them inherit: it
        waits no longer than the shortest rest of their work.
        """
        head = self.queue.head()
        if len(self._porch):
            blocked = self._porch.head()
            assert blocked is not None
            if head is None or (blocked.level, blocked.deadline) < (head.level, head.deadline):
                head = blocked
        if head is None:
            for worker in self._busy:
                worker.context.disinherit(self)
        else:
            for worker in self._busy:
                worker.context.inherit_from(self, head.level, head.deadline)

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
        shed.answer(error=Overloaded(self.name, "something more urgent took its place"))


def _error_of(raise_cancel: RaiseCancelT) -> BaseException:
    raised = outcome.capture(raise_cancel)
    assert isinstance(raised, outcome.Error)
    return raised.error


def _copy(down: DaemonDown) -> DaemonDown:
    # One for each caller: an exception that many raise gathers all their frames.
    copy = DaemonDown(down.daemon, down.reason, down.restarts)
    copy.__cause__ = down.__cause__
    return copy
