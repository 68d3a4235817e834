"""The workers' side of a port: the loop that takes calls and runs their handlers.

Must not import: ports.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import outcome
import trio
from trio.lowlevel import enable_ki_protection

from rtos.errors import DaemonDown, SchedulerClosed
from rtos.scheduler.calls import states
from rtos.scheduler.calls.core import copy_of
from rtos.scheduler.calls.states import WorkerEvent
from rtos.scheduler.calls.worker import IDLE, SERVING, Worker, handle, wait_for_call
from rtos.scheduler.policy.context import context_variable
from rtos.scheduler.policy.message_queue import HANDLED, State
from rtos.scheduler.policy.overload import CHECKS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.scheduler.calls.call import Call
    from rtos.scheduler.calls.core import PortCore
    from rtos.scheduler.policy.context import SchedulingContext


def check_handler(operation: str, handler: object) -> None:
    """Refuse what cannot be a handler: anything but a callable that may return an awaitable.

    Raises:
      TypeError: it cannot.
    """
    if inspect.isawaitable(handler):
        found = "is a coroutine; pass the function without calling it"
    elif not callable(handler):
        found = "is not callable; pass an async function"
    elif inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
        found = "is a generator function; return the reply instead of yielding it"
    else:
        return
    msg = f"{operation}: handler {handler!r} {found}"
    if inspect.iscoroutine(handler):
        # Or Python warns that it was never awaited.
        handler.close()
    raise TypeError(msg)


@enable_ki_protection
async def serve(core: PortCore, handler: Callable[[Any], Awaitable[Any]], context: SchedulingContext) -> None:
    """Serve calls until cancelled; see ``Port.serve``."""
    operation = f"serve({core.name!r})"
    check_handler(operation, handler)
    if context_variable.get(None) is not context:
        msg = f"{operation}: context {context!r} is not that of the running task; start the task inside it"
        raise ValueError(msg)
    worker = Worker(trio.lowlevel.current_task(), context, handler, core.idle)
    core.add(worker)
    try:
        while True:
            await _raise_failure(core)
            try:
                # Only the end of a call, or a failure of the port, cancels this scope.
                with trio.CancelScope() as worker.scope:
                    await _serve_calls(core, worker)
            except Exception as error:  # noqa: BLE001 - the caller gets it
                # The rest of an exception group, once the scope has taken its cancellations.
                assert worker.call is not None
                core.finish(worker, worker.call, State.FAILED, error=error)
            finally:
                # Also when the worker itself is cancelled: its caller waits for an outcome.
                _finish_revoked(core, worker)
    finally:
        core.remove(worker)


async def _raise_failure(core: PortCore) -> None:
    failure = core.failure
    if isinstance(failure, SchedulerClosed):
        # For every worker, but one that is cancelled as well ends quietly.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise copy_of(failure)
    if failure is not None:
        core.failure = None
        raise failure


async def _serve_calls(core: PortCore, worker: Worker) -> None:
    try:
        while core.failure is None:
            call = None
            if core.queue.statistics.queued and not core.suspended:
                call = await _take(core, worker)
            if call is None and (call := await _wait(core, worker)) is None:
                continue
            if call.revoked is not None:
                await trio.lowlevel.checkpoint_if_cancelled()
            call.started = core.scheduler.now()
            try:
                reply = await handle(worker.handler, call.value)
            except Exception as error:  # noqa: BLE001 - the caller gets it
                core.finish(worker, call, State.FAILED, error=error)
            else:
                core.finish(worker, call, HANDLED, reply)
            # Or an idle worker would keep the request, the reply and the caller's context.
            call = reply = None
    except BaseException:
        if worker.call is not None and worker.call.revoked is None:
            down = DaemonDown(core.name, "it was stopped while it served this call")
            core.finish(worker, worker.call, State.FAILED, error=down)
        raise


async def _take(core: PortCore, worker: Worker) -> Call | None:
    """Take the next call that waits, if any can be answered in time."""
    # The worker inherits from the call that it is about to take (``PortCore.raise_workers``).
    # Otherwise every task between its own level and that of the call would run first.
    #
    # Calls are drained without a pass of the loop in between, for as long as one quantum;
    # the bound on blocking includes it.
    if core.scheduler.may_continue():
        await trio.lowlevel.checkpoint_if_cancelled()
    else:
        await trio.lowlevel.checkpoint()
    call = core.take()
    if call is not None:
        worker.state = SERVING
        if CHECKS:
            states.advance_worker(worker, WorkerEvent.TAKE)
        core.take_up(call, worker)
    return call


async def _wait(core: PortCore, worker: Worker) -> Call | None:
    """Wait for a call. Serve it if its caller has begun to, and return ``None``; otherwise return it."""
    worker.state = IDLE
    if CHECKS:
        states.advance_worker(worker, WorkerEvent.WAIT)
    if worker.context.sources:
        worker.context.disinherit(core)
    worker.wait = wait = wait_for_call(worker.trap)
    worker.has_begun = False
    core.idle.append(worker)
    try:
        result = await wait
    except Exception as error:
        if not worker.has_begun:
            raise
        assert worker.call is not None
        core.finish(worker, worker.call, State.FAILED, error=error)
        return None
    if not worker.has_begun:
        call: Call = result
        return call
    assert worker.call is not None
    core.finish(worker, worker.call, HANDLED, result)
    return None


def _finish_revoked(core: PortCore, worker: Worker) -> None:
    """End the call whose handler was cancelled, if the worker serves one."""
    call = worker.call
    if call is not None:
        assert call.revoked is not None
        # Taken only for a caller that waits for it: it may be a KeyboardInterrupt, which
        # would be lost otherwise.
        waits = call.caller is not None and call.raise_cancel is not None
        # No local variable holds the error, since its traceback holds this frame.
        core.finish(worker, call, State.CANCELLED, error=_error_of(call.raise_cancel) if waits else None)


def _error_of(raise_cancel: Any) -> BaseException:
    raised = outcome.capture(raise_cancel)
    assert isinstance(raised, outcome.Error)
    try:
        return raised.error
    finally:
        # The error's traceback holds this frame.
        del raised
