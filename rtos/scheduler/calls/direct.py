"""The direct path: serve a call within the step of its caller.

The caller of an idle worker donates the rest of its step. If the handler returns within it,
the worker's task is not woken at all. Otherwise the worker's task goes on with the handler
where it has suspended. No task can observe the difference, except by its CPU time.

Must not import: ports.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import outcome
import trio

from rtos.scheduler.calls import states
from rtos.scheduler.calls.states import CallEvent, WorkerEvent
from rtos.scheduler.calls.worker import DIRECT, IDLE, SERVING
from rtos.scheduler.policy.message_queue import HANDLED, State
from rtos.scheduler.policy.overload import CHECKS
from rtos.scheduler.tracing.raw import CALLED

if TYPE_CHECKING:
    from rtos.scheduler.calls.call import Call
    from rtos.scheduler.calls.core import PortCore
    from rtos.scheduler.calls.worker import Worker
    from rtos.scheduler.dispatch.run_queue import RunQueue


def serve_directly(core: PortCore, call: Call, worker: Worker, run_queue: RunQueue) -> None:
    """Serve an assigned call within its caller's step, as a part of a step of the worker's."""
    worker.state = DIRECT
    if CHECKS:
        states.advance_worker(worker, WorkerEvent.DONATE)
    # The timer is added after the step, if the call has no outcome by then. With its position
    # reserved it fires before timers that the handler adds for the same instant.
    place = 0 if call.due == math.inf else core.scheduler.next_timer()
    call.is_direct = True
    failed: BaseException | None = None
    try:
        run_queue.donate(worker.task, worker.begin, call, context=worker.context, abort=call.abort)
    except StopIteration as stop:
        _finish_handled(core, worker, call, stop.value, run_queue)
        return
    except BaseException as error:
        if worker.begun is not None:
            # Not an error of the handler, which has suspended.
            raise
        failed = error
    # Outside the except block, or the error would become the context of other errors.
    if isinstance(failed, Exception):
        _finish(core, worker, call, State.FAILED, run_queue, error=failed)
    else:
        worker.state = SERVING
        if CHECKS:
            states.advance_worker(worker, WorkerEvent.SUSPEND)
        if failed is not None:
            # It ends the worker, in a step of its own.
            trio.lowlevel.reschedule(worker.task, outcome.Error(failed))
        else:
            worker.suspend(run_queue)
            if place and not call.is_answered:
                call.timer = core.scheduler.add_timer(call.due, call.expire, place)
    # Its traceback holds this frame.
    failed = None
    _end(call, run_queue)


def _finish_handled(core: PortCore, worker: Worker, call: Call, reply: Any, run_queue: RunQueue) -> None:
    """End a call whose handler returned; ``_finish`` inlined for the common case: 2.2 µs instead of 3.4."""
    scheduler = core.scheduler
    now = scheduler.now()
    if (
        call.revoked is not None
        or now > call.due
        or call.caller is None
        or core.failure is not None
        or core.blocked is not None
    ):
        _finish(core, worker, call, HANDLED, run_queue, reply=reply)
    else:
        call.statistics.learn_direct(now - call.sent)
        record, sender = scheduler.record, call.sender
        if record is not None:
            # As ``Call.record`` does.
            record((CALLED, now, call.number or scheduler.next_call(), call.statistics.name, sender.number,
                    sender.name, core.name, call.level, call.sent, True, call.started,
                    worker.context.number, "handled"))  # fmt: skip
        _stand_idle(core, worker, run_queue)
        worker.put_down()
        core.queue.settle(call, HANDLED)
        if CHECKS:
            states.advance_call(call, CallEvent.REPLY)
        call.caller = None
        call.is_answered, call.reply = True, reply
        if core.queue.statistics.queued:
            worker.context.disinherit(core)
            core.serve_waiting()
    _end(call, run_queue)


def _finish(
    core: PortCore,
    worker: Worker,
    call: Call,
    state: State,
    run_queue: RunQueue,
    *,
    reply: Any = None,
    error: BaseException | None = None,
) -> None:
    _stand_idle(core, worker, run_queue)
    core.finish(worker, call, state, reply, error)
    worker.context.disinherit(core)
    if core.failure is not None:
        worker.scope.cancel()
    if core.queue.statistics.queued:
        core.serve_waiting()


def _stand_idle(core: PortCore, worker: Worker, run_queue: RunQueue) -> None:
    worker.state = IDLE
    if CHECKS:
        states.advance_worker(worker, WorkerEvent.FINISH)
    core.idle.append(worker)
    # A worker that was cancelled meanwhile is woken here.
    run_queue.park(worker.task, worker.stop_waiting)


def _end(call: Call, run_queue: RunQueue) -> None:
    # A worker that was cancelled runs before the caller goes on, as after a call that was queued.
    call.is_long = call.revoked is not None or run_queue.has_overrun()
    call.is_direct = False
