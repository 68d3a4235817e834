"""A worker: one task that serves a port, and its scheduling context while it serves a call.

While it serves, a worker has the level and deadline of the call, and its CPU time is billed
to the payer of the call. ``states`` lists its states and every transition between them.

Must not import: ports.
"""

from __future__ import annotations

import types
from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Abort, disable_ki_protection

from rtos.scheduler.calls import states
from rtos.scheduler.calls.states import WorkerEvent, WorkerState
from rtos.scheduler.policy.overload import CHECKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Generator

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.calls.call import Call
    from rtos.scheduler.dispatch.run_queue import RunQueue
    from rtos.scheduler.policy.context import SchedulingContext

# A look-up in the enumeration takes longer than the rest of what sets a state.
READY, IDLE, SERVING, DIRECT = WorkerState.READY, WorkerState.IDLE, WorkerState.SERVING, WorkerState.DIRECT


class Begun:
    """A suspended handler, to be awaited by another coroutine than the one that has begun it.

    ``Task.iter_await_frames`` finds the frames of the handler through ``cr_frame`` and
    ``cr_await``. A generator that delegates could not show them: ``yield from`` always
    starts what it delegates to.

    Args:
      job: the coroutine of the handler.
      message: what it has yielded.
    """

    __slots__ = ("_is_new", "_job", "_message", "close", "send", "throw")

    def __init__(self, job: Coroutine[Any, Any, Any], message: Any) -> None:
        self._job: Any = job
        self._message = message
        self._is_new = True
        self.send = job.send
        self.throw = job.throw
        self.close = job.close

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if self._is_new:
            self._is_new = False
            return self._message
        return self.send(None)

    @property
    def cr_frame(self) -> Any:
        """The frame of the coroutine."""
        return self._job.cr_frame

    @property
    def cr_await(self) -> Any:
        """What the coroutine awaits."""
        return self._job.cr_await


@types.coroutine
def wait_for_call(trap: Any) -> Generator[Any, Any, Any]:
    """Wait for a call and return it; or go on with a handler that its caller has begun.

    This does what ``trio.lowlevel.wait_task_rescheduled`` does. ``Worker.suspend`` sends a
    ``Begun`` into it, in which case it returns the reply of that handler.

    Args:
      trap: what that function yields to the loop.
    """
    received = yield trap
    if type(received) is Begun:
        return (yield from received)
    return received.unwrap()


def _trap_of(abort: Callable[[RaiseCancelT], Abort]) -> Any:
    waiting = trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105 - only its first step runs, here
    try:
        return waiting.send(None)
    finally:
        waiting.close()


@disable_ki_protection
async def handle(handler: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
    """Run a handler. Ctrl-C may interrupt it, but not the code of the port around it.

    Raises:
      TypeError: the handler returned something that cannot be awaited.
    """
    reply = handler(request)
    if type(reply) is not CoroutineType and not hasattr(reply, "__await__"):
        name = getattr(handler, "__qualname__", None) or repr(handler)
        msg = f"handler {name} returned {reply!r}, which is not awaitable; define it with `async def`"
        raise TypeError(msg)
    return await reply


class Worker:
    """One task that serves a port, one call at a time.

    Attributes:
      state: written by whoever makes a transition of ``states.WORKER``.
      call: the call that it serves.
      trap: see ``wait_for_call``.
      wait: what its task awaits while it is idle, or was idle when a caller began a handler.
      has_begun: ``wait`` returns the reply of such a handler, and not a call.
      begun: the coroutine of a handler that has suspended in its caller's step, and what it
        has yielded for the loop.
      scope: cancelled to stop the call that it serves.
      checked: its state in the table; set only while checks are enabled.
    """

    __slots__ = ("_idle", "begun", "call", "checked", "context", "handler", "has_begun", "scope", "state",
                 "task", "trap", "wait")  # fmt: skip

    def __init__(
        self,
        task: Task,
        context: SchedulingContext,
        handler: Callable[[Any], Awaitable[Any]],
        idle: list[Worker],
    ) -> None:
        self.task = task
        self.context = context
        self.handler = handler
        self.state = READY
        self.checked: WorkerState
        self.wait: Generator[Any, Any, Any]
        self.trap = _trap_of(self.stop_waiting)
        self.has_begun = False
        self.begun: tuple[Coroutine[Any, Any, Any], Any] | None = None
        self.scope = trio.CancelScope()
        self.call: Call | None = None
        # The idle workers of its port.
        self._idle = idle

    def take_up(self, call: Call) -> None:
        """Take on the level, deadline and payer of ``call``.

        What the worker has spent before must have been billed.
        """
        self.call = call
        call.worker = self
        context = self.context
        context.jobs += 1
        context.payer = call.payer
        context.chain = call.chain
        context.job_deadline = call.due
        context.inherit(call.level, call.deadline)

    def begin(self, call: Call) -> None:
        """Run the handler up to where it suspends, and keep the rest in ``begun``.

        Raises:
          StopIteration: the handler returned; with its value.
        """
        call.started = call.owner.scheduler.now()
        job = handle(self.handler, call.value)
        message = job.send(None)
        # Nothing in between can fail, or the message would be lost.
        self.begun = (job, message)

    def suspend(self, run_queue: RunQueue) -> None:
        """Let the worker's task go on with the handler that ``begin`` has left."""
        assert self.begun is not None
        if not self.has_begun:
            # Made first: if that fails, the next attempt must not skip it.
            rest = Begun(*self.begun)
            self.has_begun = True
            self.wait.send(rest)
        run_queue.suspend(self.task, self.begun[1])
        self.begun = None

    def put_down(self) -> None:
        """Return to the worker's own level, deadline and account.

        What the worker has spent before must have been billed.
        """
        self.call = None
        context = self.context
        context.payer = None
        context.chain = ()
        context.job_deadline = context.base_deadline
        context.fall_back()

    def stop_waiting(self, _: RaiseCancelT) -> Abort:
        """The worker has been cancelled while it waited for a call."""
        self._idle.remove(self)
        self.state = READY
        if CHECKS:
            states.advance_worker(self, WorkerEvent.WAKE)
        return Abort.SUCCEEDED
