"""The state of a port, and every step that moves a call through it. Nothing here waits.

``port`` is the callers' side, ``server`` the workers' side and ``direct`` the direct path;
all three work on one ``PortCore``. ``states`` has the table of the transitions.

Law: a call is executed at most once, and its caller gets exactly one of: the reply, the
error that the handler raised, ``MailboxFull``, ``DeadlineMissed``, ``DaemonDown``,
``SchedulerClosed``, or its own cancellation. The queue's law of conservation
(``policy/overload.py``) holds at every instant.

Priority inheritance: a worker inherits from the call that it serves. A worker that is not
idle also inherits from the most urgent call that waits, since any of them can be the next
to take it.

Interruptions: a signal cannot interrupt this code (``enable_ki_protection`` on each way in).
An exception, for example ``RecursionError``, can. ``abandon`` then leaves the cleaning-up to
the worker's own step. So everything that can fail comes before ``queue.settle``, which ends
a call.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import outcome
import trio

from rtos.errors import MailboxFull, SchedulerClosed
from rtos.scheduler.calls import states
from rtos.scheduler.calls.call import Call
from rtos.scheduler.calls.states import CallEvent, WorkerEvent, WorkerState
from rtos.scheduler.calls.worker import IDLE, READY, SERVING, Worker
from rtos.scheduler.policy.message_queue import HANDLED, SERVED, WAITING, State, more_urgent
from rtos.scheduler.policy.overload import CHECKS, MailboxQueue

if TYPE_CHECKING:
    from rtos.errors import RtosError
    from rtos.scheduler.scheduler import Scheduler

_WITHDRAWN = {
    State.EXPIRED: CallEvent.EXPIRE,
    State.CANCELLED: CallEvent.CANCEL,
    State.FAILED: CallEvent.CLOSE,
}
_ABANDONED = {
    WorkerState.IDLE: WorkerEvent.ASSIGN,
    WorkerState.DIRECT: WorkerEvent.SUSPEND,
    WorkerState.READY: WorkerEvent.TAKE,
}
_FINISHED = {State.HANDLED: CallEvent.REPLY, State.FAILED: CallEvent.ERROR}


class PortCore:
    """Queue, workers and life cycle of one port.

    Attributes:
      chain: the port's name, as the last part of a chain of calls.
      queue: the calls that wait, and the statistics of all calls.
      blocked: the calls that came since ``drain``; ``None`` unless the port is draining.
      workers: all that serve this port.
      idle: those of them that wait for a call; the last one gets the next call.
      down: why calls are refused; ``None`` while they are accepted.
      suspended: calls are accepted, and not served.
      failure: what the next worker has to raise.
    """

    __slots__ = ("__weakref__", "_quiet", "blocked", "chain", "down", "failure", "idle", "name", "queue",
                 "scheduler", "suspended", "workers")  # fmt: skip

    def __init__(self, scheduler: Scheduler, name: str, capacity: float) -> None:
        self.scheduler = scheduler
        self.name = name
        self.chain = (name,)
        self.queue = MailboxQueue(capacity)
        self.blocked: MailboxQueue | None = None
        self.workers: list[Worker] = []
        self.idle: list[Worker] = []
        self.down: RtosError | None = None
        self.suspended = False
        self.failure: Exception | None = None
        # Set when nothing is being served and nothing waits that would be; made by ``drain``.
        self._quiet: trio.Event | None = None

    # The callers' side.

    def enqueue(self, call: Call) -> None:
        """Let a call wait: in the queue, or blocked while the port is draining.

        Raises:
          MailboxFull: there is no room.
        """
        if self.blocked is not None:
            self._block(call, self.blocked)
        else:
            accepted, _ = self.queue.offer(call)
            if not accepted:
                raise self._full()
            if CHECKS:
                states.advance_call(call, CallEvent.ENQUEUE)
            if self.queue.head() is not call:
                return
        self.raise_workers()

    def _block(self, call: Call, blocked: MailboxQueue) -> None:
        if len(self.queue) + len(blocked) >= self.queue.capacity:
            self.queue.statistics.refused += 1
            raise self._full()
        blocked.offer(call)
        call.is_blocked = True
        if CHECKS:
            states.advance_call(call, CallEvent.BLOCK)

    def _full(self) -> MailboxFull:
        return MailboxFull(self.name, f"its mailbox holds {len(self.queue)} of {self.queue.capacity}")

    def assign(self, call: Call) -> Worker:
        """Accept a call and take it to an idle worker, which is not woken yet.

        Raises:
          DeadlineMissed: the call cannot be answered in time.
        """
        queue = self.queue
        if not call.is_feasible(call.sent):
            queue.accept_served(call)
            queue.settle(call, State.EXPIRED)
            if CHECKS:
                states.advance_call(call, CallEvent.EXPIRE)
            call.record(call.sent, State.EXPIRED)
            raise call.missed()
        queue.accept_served(call)
        # While a worker is idle nothing waits from which it would inherit.
        call.worker = worker = self.idle.pop()
        worker.state = SERVING
        if CHECKS:
            states.advance_call(call, CallEvent.ASSIGN)
        worker.take_up(call)
        return worker

    def abandon(self, call: Call) -> None:
        """Clean up after an exception that interrupted the sending of ``call``.

        Its caller leaves with that exception. What has happened to the call already is
        undone, or is stopped in the worker's own step: here the stack may be exhausted.
        """
        call.caller = None
        call.is_direct = False
        worker = call.worker
        if call.state is SERVED and isinstance(worker, Worker):
            run_queue = self.scheduler.direct
            if worker.begun is not None and run_queue is not None:
                worker.suspend(run_queue)
            # A worker that is ready has been rescheduled, by a cancellation. One that goes on
            # with a handler waits for what the handler waits for.
            must_be_woken = worker.state is not READY and not worker.has_begun
            if worker.state is IDLE:
                self.idle.remove(worker)
            worker.state = SERVING
            worker.call = call
            if CHECKS and (event := _ABANDONED.get(worker.checked)) is not None:
                states.advance_worker(worker, event)
            if call.revoked is None:
                call.revoked = State.CANCELLED
                if CHECKS:
                    states.advance_call(call, CallEvent.CANCEL)
            if must_be_woken:
                trio.lowlevel.reschedule(worker.task, outcome.Value(call))
            worker.scope.cancel()
        elif call.state is SERVED:
            self.queue.settle(call, State.CANCELLED)
        elif call.state is WAITING and call.entry is not None:
            self.withdraw(call, State.CANCELLED)
        elif CHECKS and call.state is WAITING:
            states.advance_call(call, CallEvent.REFUSE)
        if call.timer is not None:
            call.timer.cancel()

    # What moves a call from outside.

    def withdraw(self, call: Call, state: State) -> None:
        """Remove a waiting call; ``state`` is its final state. The caller of this answers the call's."""
        if call.is_blocked:
            assert self.blocked is not None
            self.blocked.withdraw(call, state)
            call.is_blocked = False
        else:
            self.queue.withdraw(call, state)
        if CHECKS:
            states.advance_call(call, _WITHDRAWN[state])
        call.record(self.scheduler.now(), state)
        self.notice_quiet()
        self.raise_workers()

    def reprioritise(self, call: Call, level: int, deadline: float) -> None:
        """Order a call by another level and deadline, wherever it is."""
        queue = self.blocked if call.is_blocked else self.queue
        assert queue is not None
        queue.reprioritise(call, level, deadline)
        if call.state is SERVED:
            assert call.worker is not None
            call.worker.context.inherit(level, deadline)
        elif call.state is WAITING:
            self.raise_workers()

    def raise_workers(self) -> None:
        """Let the workers that are not idle inherit from the most urgent call that waits, if any.

        Called whenever that call or the set of those workers changes. So it waits no longer
        than the shortest rest of their work.
        """
        head = self.queue.head()
        if self.blocked is not None:
            head = more_urgent(head, self.blocked.head())
        for worker in self.workers:
            if worker.state is not IDLE:
                if head is None:
                    worker.context.disinherit(self)
                else:
                    worker.context.inherit_from(self, head.level, head.deadline)

    # The workers' side.

    def take(self) -> Call | None:
        """Take the next call that can be answered in time; answer those before it that cannot."""
        while not self.suspended:
            call = self.queue.head()
            if call is None:
                return None
            assert isinstance(call, Call)
            if not call.is_feasible(self.scheduler.now()):
                self.withdraw(call, State.EXPIRED)
                call.answer(error=call.missed())
                continue
            self.queue.take()
            if CHECKS:
                states.advance_call(call, CallEvent.TAKE)
            return call
        return None

    def take_up(self, call: Call, worker: Worker) -> None:
        """Let a worker serve a call that was taken from the queue."""
        self.scheduler.settle(worker.context)
        worker.take_up(call)
        self.raise_workers()

    def serve_waiting(self) -> None:
        """Hand the calls that wait to the workers that are idle."""
        while self.idle and (call := self.take()) is not None:
            worker = self.idle.pop()
            worker.state = SERVING
            if CHECKS:
                states.advance_worker(worker, WorkerEvent.ASSIGN)
            self.take_up(call, worker)
            trio.lowlevel.reschedule(worker.task, outcome.Value(call))

    def finish(
        self,
        worker: Worker,
        call: Call,
        state: State,
        reply: Any = None,
        error: BaseException | None = None,
    ) -> None:
        """End the service of a call: record it, and answer its caller.

        On the direct path the worker is idle already. Otherwise it is ready for the next call.
        """
        if not call.is_direct:
            worker.state = READY
            if CHECKS:
                states.advance_worker(worker, WorkerEvent.FINISH)
        now = self.scheduler.now()
        event = _FINISHED.get(state, CallEvent.STOP) if CHECKS else CallEvent.STOP
        _learn(call, state, now)
        if call.revoked is State.EXPIRED or call.revoked is State.FAILED:
            state = call.revoked
        elif now > call.due and call.caller is not None:
            # The reply was faster than the timer, and late nevertheless.
            call.note_miss(now, answered=True)
        if self.scheduler.record is not None:
            call.record(now, state)
        if not call.is_direct:
            self.scheduler.settle(worker.context)
        worker.put_down()
        self.queue.settle(call, state)
        if CHECKS:
            states.advance_call(call, event)
        call.answer(reply, error)
        if self._quiet is not None:
            self.notice_quiet()

    def add(self, worker: Worker) -> None:
        """Let a worker serve this port, which accepts calls from here on, also after a drain or a close."""
        if not isinstance(self.down, SchedulerClosed):
            self.down = None
        self.workers.append(worker)
        self._admit()
        self.raise_workers()

    def remove(self, worker: Worker) -> None:
        """Let a worker leave; it is between two calls."""
        self.workers.remove(worker)
        worker.context.disinherit(self)
        worker.state = WorkerState.STOPPED
        if CHECKS:
            states.advance_worker(worker, WorkerEvent.STOP)

    # The life cycle.

    def _admit(self) -> None:
        blocked, self.blocked = self.blocked, None
        for call in sorted(blocked or (), key=lambda call: call.arrival):
            assert isinstance(call, Call)
            assert blocked is not None
            blocked.withdraw(call, State.HANDLED)
            call.is_blocked, call.state = False, WAITING
            self.queue.offer(call)
            if CHECKS:
                states.advance_call(call, CallEvent.ADMIT)

    def close(self, down: RtosError) -> None:
        """Answer every call that waits, and every later one, with a copy of ``down``."""
        self.down = down
        for call in [*self.queue, *(self.blocked or ())]:
            assert isinstance(call, Call)
            self.withdraw(call, State.FAILED)
            call.answer(error=copy_of(down))

    def scheduler_closed(self) -> None:
        """Answer every call with ``SchedulerClosed``, stop the handlers, and raise it in every worker."""
        closed = SchedulerClosed(f"port {self.name!r}")
        self.failure = closed
        self.close(closed)
        for worker in self.workers:
            if worker.call is not None:
                worker.call.close(copy_of(closed))
            worker.scope.cancel()

    def fail(self, error: Exception) -> None:
        """Let the next worker that is between two calls raise ``error``."""
        self.failure = error
        if self.idle:
            self.idle[-1].scope.cancel()

    def start_drain(self) -> None:
        """Block the calls that come from here on, until a worker is added."""
        if self.blocked is None:
            self.blocked = MailboxQueue(math.inf)

    def quiet(self) -> trio.Event | None:
        """Return an event that is set once the port is quiet; ``None`` if it is."""
        if self.is_quiet:
            return None
        if self._quiet is None or self._quiet.is_set():
            self._quiet = trio.Event()
        return self._quiet

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is being served, and nothing waits that would be."""
        counts = self.queue.statistics
        return not counts.served and (self.suspended or not counts.queued)

    def notice_quiet(self) -> None:
        """Wake the tasks that wait for the end of a drain, if the port is quiet."""
        if self._quiet is not None and self.is_quiet:
            self._quiet.set()


def _learn(call: Call, state: State, now: float) -> None:
    statistics, started, sent = call.statistics, call.started, call.sent
    if started is not None and state is HANDLED:
        if call.is_direct:
            statistics.learn_direct(now - sent)
            return
        statistics.learn(now - started)
    elif started is not None and call.revoked is State.EXPIRED:
        statistics.learn_more_than(now - started)
    statistics.learn_response(now - sent)


def copy_of(error: RtosError) -> RtosError:
    """Copy an error for one of several callers: one that many tasks raise collects all their frames."""
    copied = copy.copy(error)
    copied.__cause__ = error.__cause__
    return copied
