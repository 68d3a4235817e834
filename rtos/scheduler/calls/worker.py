"""A worker: one task that serves a port, and what it takes on from the call it serves.

Owns the worker's place in the order while it serves: it runs under the call's level
and deadline, on the account of whoever pays for it, and falls back at the reply.
"""

from __future__ import annotations

from types import CoroutineType
from typing import TYPE_CHECKING, Any

import trio
from trio.lowlevel import Abort

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator

    from trio.lowlevel import RaiseCancelT, Task

    from rtos.scheduler.calls.call import Call
    from rtos.scheduler.policy.context import SchedulingContext


class Begun:
    """The rest of what a worker has been begun to do in the step of somebody else.

    Awaiting it gives the loop what it was to get, and then goes on.

    Args:
      job: the coroutine, suspended, or ended by ``error``.
      message: what it has yielded.
      error: what it has raised.
    """

    __slots__ = ("_error", "_job", "_message")

    def __init__(self, job: Any, *, message: Any = None, error: BaseException | None = None) -> None:
        self._job = job
        self._message = message
        self._error = error

    def __await__(self) -> Generator[Any, Any, Any]:
        if self._error is not None:
            raise self._error
        job, message = self._job, self._message
        thrown: BaseException | None
        while True:
            try:
                value = yield message
            except GeneratorExit:
                job.close()
                raise
            except BaseException as error:  # noqa: BLE001 - it is for the coroutine
                thrown = error
            else:
                thrown = None
            try:
                message = job.send(value) if thrown is None else job.throw(thrown)
            except StopIteration as stop:
                return stop.value


class Worker:
    """One task that serves a port, one call at a time."""

    __slots__ = ("_idle", "begun", "body", "call", "context", "job", "level", "scope", "task")

    def __init__(
        self, task: Task, context: SchedulingContext, body: Callable[[Any], Any], idle: list[Worker]
    ) -> None:
        self.task = task
        self.context = context
        self.level = context.base_level
        self.body = body
        # What a caller has begun for it, of the call that it gets next.
        self.begun: Begun | None = None
        self.job: Any = None
        # Where it stands while it waits for a call.
        self._idle = idle
        self.scope = trio.CancelScope()
        self.call: Call | None = None

    def take_up(self, call: Call) -> None:
        """Run under the call's priority, deadline and account from here on."""
        call.port.scheduler.settle(self.context)
        self.take_up_idle(call)

    def begin(self, call: Call) -> Any:
        """Run the body up to where it suspends, and return what it yields to the loop.

        Raises:
          StopIteration: it is done; with its value.
        """
        call.started = call.port.scheduler.now()
        try:
            job = self.body(call.value)
        except StopIteration as error:
            # Not the end of a coroutine, but an error of a body that is none.
            job = _failed(error)
        if type(job) is not CoroutineType:
            job = _awaited(job)
        self.job = job
        return job.send(None)

    def take_up_idle(self, call: Call) -> None:
        """``take_up`` by a worker that is not running: there is nothing to bill before."""
        self.call = call
        call.worker = self
        context = self.context
        context.jobs += 1
        context.payer = call.payer
        context.chain = call.chain
        context.job_deadline = call.due
        context.inherit(call.level, call.deadline)

    def put_down(self) -> None:
        """Fall back to the worker's own. What was spent up to here has been billed."""
        self.call = None
        context = self.context
        context.payer = None
        context.chain = ()
        context.job_deadline = context.base_deadline
        context.fall_back()

    def stop_waiting(self, _: RaiseCancelT) -> Abort:
        """It has been cancelled while it waited for a call."""
        self._idle.remove(self)
        return Abort.SUCCEEDED


async def _awaited(job: Awaitable[Any]) -> Any:
    return await job


async def _failed(error: Exception) -> None:
    raise error
