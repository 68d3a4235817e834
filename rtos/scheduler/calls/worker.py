"""A worker: one task that serves a port, and its scheduling context while it serves a call.

While it serves, a worker has the level and deadline of the call, and its CPU time is billed
to the payer of the call. ``states`` lists its states and every transition between them.

Must not import: ports.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Abort, disable_ki_protection

from rtos.scheduler.calls import states
from rtos.scheduler.calls.states import WorkerEvent, WorkerState
from rtos.scheduler.policy.overload import CHECKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.calls.call import Call
    from rtos.scheduler.dispatch.run_queue import RunQueue
    from rtos.scheduler.policy.context import SchedulingContext

# A look-up in the enumeration takes longer than the rest of what sets a state.
READY, IDLE, SERVING, DIRECT = WorkerState.READY, WorkerState.IDLE, WorkerState.SERVING, WorkerState.DIRECT


class CallWait:
    """What an idle worker awaits: a call, or the rest of a handler that its caller has begun.

    The task of the worker is parked in the meantime, and ``go_on_with`` exchanges the
    coroutine that it will resume. ``Task.iter_await_frames`` finds the frames of that
    coroutine through ``cr_frame`` and ``cr_await``.

    Args:
      abort: as for ``trio.lowlevel.wait_task_rescheduled``.

    Attributes:
      has_begun: awaiting this returns the handler's reply; otherwise it returns a call.
    """

    __slots__ = ("_coroutine", "has_begun")

    def __init__(self, abort: Callable[[RaiseCancelT], Abort]) -> None:
        # Awaited through this object.
        self._coroutine: Any = trio.lowlevel.wait_task_rescheduled(abort)  # noqa: ASYNC105
        self.has_begun = False

    def go_on_with(self, job: Coroutine[Any, Any, Any]) -> None:
        """Resume ``job``, which is suspended, when the task is rescheduled."""
        self._coroutine, self.has_begun = job, True

    def __await__(self) -> Any:
        return self

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        return self._coroutine.send(None)

    def send(self, value: Any) -> Any:
        """Resume the coroutine."""
        return self._coroutine.send(value)

    def throw(self, *error: Any) -> Any:
        """Resume the coroutine with an exception."""
        return self._coroutine.throw(*error)

    def close(self) -> None:
        """Close the coroutine."""
        self._coroutine.close()

    @property
    def cr_frame(self) -> Any:
        """The frame of the coroutine."""
        return self._coroutine.cr_frame

    @property
    def cr_await(self) -> Any:
        """What the coroutine awaits."""
        return self._coroutine.cr_await


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
      wait: what its task awaits while it is idle, or was when a call was begun for it.
      begun: the coroutine of a handler that has suspended in its caller's step, and what it
        has yielded for the loop.
      scope: cancelled to stop the call that it serves.
      checked: its state in the table; set only while checks are enabled.
    """

    __slots__ = ("_idle", "begun", "call", "checked", "context", "handler", "scope", "state", "task", "wait")

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
        self.wait: CallWait
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
        job, message = self.begun
        self.wait.go_on_with(job)
        run_queue.suspend(self.task, message)
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
