"""Ports: request and reply between tasks, with priority, deadline and billing that travel along.

``open_port`` serves a handler; ``Port.call`` sends it a request and waits for the reply. A
worker inherits the priority of a call when the call is *sent*, also while it still serves
another, and returns to its own at the reply. ``core`` has the law that every call obeys.

Must not import: commands, daemons, users. A request is opaque here.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from rtos.errors import CallCycle, DaemonDown
from rtos.scheduler.calls import states
from rtos.scheduler.calls.call import Call
from rtos.scheduler.calls.call_statistics import CallStatistics
from rtos.scheduler.calls.core import PortCore, copy_of
from rtos.scheduler.calls.direct import serve_directly
from rtos.scheduler.calls.server import check_handler, serve
from rtos.scheduler.calls.states import WorkerEvent
from rtos.scheduler.diagnosis import miss_log  # noqa: F401 - so that no missed deadline waits for the import
from rtos.scheduler.policy.context import context_variable
from rtos.scheduler.policy.levels import DEFAULT_LEVEL, deadline_error
from rtos.scheduler.policy.overload import CHECKS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

    from rtos.scheduler.calls.worker import Worker
    from rtos.scheduler.dispatch.run_queue import RunQueue
    from rtos.scheduler.policy.bandwidth_server import BandwidthServer, Budget
    from rtos.scheduler.policy.context import SchedulingContext
    from rtos.scheduler.scheduler import Scheduler

RequestT = TypeVar("RequestT")
ReplyT = TypeVar("ReplyT")


@asynccontextmanager
async def open_port(
    scheduler: Scheduler,
    name: str,
    handler: Callable[[RequestT], Awaitable[ReplyT]],
    *,
    workers: int = 1,
    level: int = DEFAULT_LEVEL,
    budget: Budget | BandwidthServer | None = None,
    capacity: float = 1024,
) -> AsyncIterator[Port[RequestT, ReplyT]]:
    """Serve ``handler`` until the block ends, and yield the port to call.

    On leaving, calls that are being served or wait are answered with ``DaemonDown``, and so
    is every later one; ``await port.drain()`` as the last statement serves them first.

    Args:
      scheduler: an open scheduler.
      name: of the port, in errors and statistics; unique among ports that call each other.
      handler: is awaited with each request; what it returns or raises goes to the caller.
      workers: how many calls are served at once, 1 or more.
      level: own level of the workers, 0 (most urgent) to 7.
      budget: CPU budget that the workers share.
      capacity: most calls that may wait, 1 or more, or ``math.inf``.

    Raises:
      TypeError: the handler cannot be one.
      ValueError: the level does not exist, or there is no worker, or no capacity.
      SchedulerClosed: the scheduler is closed.

    Entering is not a checkpoint; leaving is one. Exceptions of the block leave in an
    exception group, as from every nursery.
    """
    check_handler(f"open_port({name!r})", handler)
    if workers < 1:
        msg = f"open_port({name!r}): {workers!r} workers serve nothing; use 1 or more"
        raise ValueError(msg)
    port = Port[RequestT, ReplyT](scheduler, name, capacity=capacity)
    contexts = []
    for number in range(workers):
        worker = name if workers == 1 else f"{name}#{number}"
        contexts.append(scheduler.context(worker, level=level, budget=budget))
        budget = contexts[-1].budget
    async with trio.open_nursery() as nursery:
        try:
            for context in contexts:
                with context:
                    serve_calls = partial(port.serve, handler, context=context)
                    nursery.start_soon(serve_calls, name=f"{context.name} worker")
            yield port
        finally:
            port.close(DaemonDown(name, "its port was closed"))
            nursery.cancel_scope.cancel()


class Port(Generic[RequestT, ReplyT]):
    """Where calls arrive, wait and are served, in order of level, deadline and arrival.

    ``open_port`` makes one that serves; make one yourself to serve it from tasks of your own.

    Args:
      scheduler: the open scheduler that it belongs to.
      name: used in errors and statistics; unique among ports that call each other.
      capacity: most calls that may wait, 1 or more, or ``math.inf``.

    Attributes:
      queue: the calls that wait; ``queue.statistics`` counts all calls.

    Raises:
      ValueError: the capacity is below 1.
      SchedulerClosed: the scheduler is closed.
    """

    __slots__ = ("_core", "_statistics", "name", "queue", "scheduler")

    def __init__(self, scheduler: Scheduler, name: str, *, capacity: float = 1024) -> None:
        scheduler.check_open(f"port({name!r})")
        if not capacity >= 1:
            msg = f"port({name!r}): capacity {capacity!r} leaves no room; use 1 or more, or math.inf"
            raise ValueError(msg)
        self.scheduler = scheduler
        self.name = name
        self._core = PortCore(scheduler, name, capacity)
        scheduler.on_close(self._core)
        self._statistics: CallStatistics | None = None
        self.queue = self._core.queue

    @property
    def statistics(self) -> CallStatistics:
        """Durations of the calls that gave no statistics of their own."""
        if self._statistics is None:
            self._statistics = CallStatistics(self.name)
        return self._statistics

    @enable_ki_protection
    async def call(
        self, request: RequestT, *, deadline: float = math.inf, statistics: CallStatistics | None = None
    ) -> ReplyT:
        """Send a request and wait for the reply.

        The call has the level of the running task's context. Its deadline is the earlier of
        ``deadline`` and the deadline of the job that the task serves, if any.

        Args:
          request: for the handler.
          deadline: absolute Trio time.
          statistics: where the duration of the call is recorded; the port's own by default.

        Raises:
          ValueError: the deadline is NaN.
          MailboxFull: refused at once; the handler never saw it.
          DeadlineMissed: not answered by the deadline; ``started`` says whether it ran.
          DaemonDown: the port is closed, or its worker was stopped while it served the call.
          CallCycle: the call would wait for itself.
          SchedulerClosed: the scheduler is closed, or was while the call waited.
          TypeError: the handler returned something that is not awaitable.
          Exception: what the handler raised.

        Checks for cancellation. Lets other tasks run unless the worker is idle and answers
        within the quantum; then the call is served within this very step, and a loop of such
        calls lets others run after each quantum. After a cancellation a waiting call never
        runs, and a running one has been cancelled, or has ended before it noticed.
        """
        if statistics is None:
            statistics = self._statistics or self.statistics
        if math.isnan(deadline):
            raise deadline_error(statistics.name, deadline)
        core, direct = self._core, self.scheduler.direct
        idle, donates = core.idle, False
        if direct is None:
            await trio.lowlevel.checkpoint_if_cancelled()
        else:
            donates = bool(idle) and direct.may_donate(idle[-1].context)
            if direct.is_cancelled() or (idle and not donates and direct.end_pass()):
                # Cancelled; or the next step may go the direct path again.
                await trio.lowlevel.checkpoint()
                donates = bool(idle) and direct.may_donate(idle[-1].context)
        context, accounts = context_variable.get(None), self.scheduler.accounts
        if context is not None and context.owner is not accounts and not accounts.owns(context):
            # A context of another loop: here the caller is a task of the host.
            context = None
        call = self._make(statistics, request, deadline, context)
        if context is not None:
            context.waits[call] = None
        try:
            try:
                self._submit(call, direct if donates else None)
            except BaseException:
                core.abandon(call)
                raise
            if not call.is_answered:
                reply: ReplyT = await trio.lowlevel.wait_task_rescheduled(call.abort)
                return reply
        finally:
            if context is not None:
                del context.waits[call]
        if call.is_long:
            # It took longer than expected: what the caller does next is a new step.
            await trio.lowlevel.cancel_shielded_checkpoint()
        error, call.error = call.error, None
        if error is None:
            return call.reply  # type: ignore[no-any-return] # what the handler returned
        try:
            raise error
        finally:
            # Its traceback holds this frame.
            del error

    def _submit(self, call: Call, direct: RunQueue | None) -> None:
        core = self._core
        if core.down is not None:
            raise copy_of(core.down)
        if call.due <= call.sent:
            raise call.missed()
        worker = None
        if not core.idle or core.suspended or core.blocked is not None:
            core.enqueue(call)
        else:
            worker = core.assign(call)
            if direct is not None:
                serve_directly(core, call, worker, direct)
                return
        if call.due != math.inf:
            call.timer = self.scheduler.add_timer(call.due, call.expire)
        if worker is not None:
            # The last step: nothing can undo it.
            if CHECKS:
                states.advance_worker(worker, WorkerEvent.ASSIGN)
            trio.lowlevel.reschedule(worker.task, outcome.Value(call))

    def _make(
        self,
        statistics: CallStatistics,
        request: RequestT,
        deadline: float,
        context: SchedulingContext | None,
    ) -> Call:
        core, scheduler = self._core, self.scheduler
        now = scheduler.now()
        if context is None:
            host = scheduler.host
            call = Call(core, statistics, request, host.base_level, deadline, now)
            call.payer = call.sender = host
            call.chain = core.chain
        else:
            due = context.job_deadline
            call = Call(core, statistics, request, context.level, min(deadline, due), now)
            # As ``Call.reprioritise`` does when it changes.
            if context.deadline < call.due:
                call.deadline = context.deadline
            call.sender = context
            call.payer = context.payer or context
            chain = context.chain
            if self.name in chain:
                raise CallCycle(
                    statistics.name,
                    "would wait for itself: " + " -> ".join((*chain, self.name)),
                    remedy="emit an event, or start a task of its own for it",
                )
            call.chain = chain + core.chain if chain else core.chain
        call.caller = trio.lowlevel.current_task()
        return call

    # Not a coroutine function itself: its frame would be resumed with each call.
    def serve(
        self, handler: Callable[[RequestT], Awaitable[ReplyT]], *, context: SchedulingContext
    ) -> Coroutine[Any, Any, None]:
        """Serve calls, one at a time, until cancelled. Run several tasks to serve several at once.

        Ctrl-C can interrupt the handler, and nothing else here. A port that was drained or
        closed accepts calls again.

        Args:
          handler: is awaited with each request; what it returns or raises goes to the caller.
          context: the context of the running task; each worker needs one of its own.

        Raises:
          TypeError: the handler cannot be one.
          ValueError: ``context`` is not that of the running task.
          SchedulerClosed: the scheduler is closed.
          Exception: what ``fail`` was given.

        A cancellation answers the call that is being served with ``DaemonDown``, and leaves
        the waiting ones to other workers, or to the next one.
        """
        return serve(self._core, handler, context)

    @enable_ki_protection
    def close(self, down: DaemonDown) -> None:
        """Answer every call that waits, and every later one, with a copy of ``down``.

        Calls that are being served go on. ``serve`` opens the port again.
        """
        self._core.close(down)

    @enable_ki_protection
    def fail(self, error: Exception) -> None:
        """Let ``serve`` raise ``error`` in the next worker that is between two calls.

        Not a checkpoint. Calls that are being served go on.
        """
        self._core.fail(error)

    @enable_ki_protection
    def suspend(self) -> None:
        """Serve no further call until ``resume``. Calls wait meanwhile, and can miss their deadlines."""
        self._core.suspended = True
        self._core.notice_quiet()

    @enable_ki_protection
    def resume(self) -> None:
        """Serve again after ``suspend``."""
        self._core.suspended = False
        self._core.serve_waiting()

    async def drain(self) -> None:
        """Wait until every accepted call is settled and none is being served.

        Calls that come from here on are blocked, so that a steady stream of them cannot
        keep a daemon from stopping. They wait until the port is served anew, or closed. So do
        the waiting calls of a suspended port.

        Always a checkpoint. After a cancellation calls stay blocked.
        """
        await trio.lowlevel.checkpoint()
        self._core.start_drain()
        while (quiet := self._core.quiet()) is not None:
            await quiet.wait()

    @property
    def workers(self) -> tuple[Worker, ...]:
        """The workers that serve this port now."""
        return tuple(self._core.workers)

    @property
    def state(self) -> str:
        """``serving``, ``suspended``, ``draining`` or ``down``."""
        core = self._core
        if core.down is not None:
            return "down"
        return "draining" if core.blocked is not None else "suspended" if core.suspended else "serving"
