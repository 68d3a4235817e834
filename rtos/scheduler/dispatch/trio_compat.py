"""Access to Trio's internals: the only module that imports Trio's private modules.

Relies on the following, and checks that the names exist (``check_trio``) and that the
functions imitated here are those of a tested release (``is_tested``):

* ``trio._core._run.GLOBAL_RUN_CONTEXT`` is the thread's state: ``runner`` is the loop
  that runs in this thread, ``task`` the task whose step is running.
* ``runner.runq`` is the ready queue, a ``collections.deque`` that is looked up anew
  each time. Only ``append``, truth, length, iteration and ``clear`` are used, and each
  pass of the loop copies it with ``list()`` and clears it right after. Trio's
  statistics report its length as the number of runnable tasks; this is too low while
  the ready order holds tasks, and ``Scheduler.statistics`` reports the right number.
* ``runner.init_task`` is the root of the task tree, ``runner.main_task`` the task of
  ``trio.run``'s argument, and new system tasks start from ``runner.system_context``.
* A step of a task is ``task.context.run(task._next_send_fn, task._next_send)``. It
  yields one of the messages of ``trio._core._traps``, on which the loop acts as
  ``act_upon`` does. A parked task has an ``_abort_func``; ``runner.task_exited`` is
  called for a task that has ended.
* A cancellation, or Ctrl-C for the main task, calls a task's ``_abort_func`` once, also
  while the task is released and waits to run. If that returns ``Abort.FAILED``, Trio
  does nothing more.
* ``runner.is_guest`` tells guest mode, where ``runner.force_guest_tick_asap()`` ends the
  sleep of the loop.
* Between two passes the loop cancels the scopes whose deadline has passed;
  ``runner.deadlines.next_deadline()`` is the next deadline.

``run_queue`` and ``donation`` read these attributes of runners and tasks inline where a
call each would cost more than the work itself. Everything else that the kernel uses of
Trio is public: instruments, a task's context, ``reschedule``.
"""

from __future__ import annotations

import inspect
import logging
import sys
from collections import deque
from contextlib import suppress
from functools import cache
from hashlib import sha256
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
from trio._core import _run as trio_run
from trio._core import _traps as trio_traps
from trio.lowlevel import Abort

from rtos.scheduler.dispatch.trio_versions import SOURCES, TESTED, unsupported

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context
    from types import TracebackType

    from trio.lowlevel import RaiseCancelT

log = logging.getLogger("rtos.scheduler")

RUN_CONTEXT: Final[Any] = trio_run.GLOBAL_RUN_CONTEXT
"""Trio's thread-local state: the loop that runs in this thread, and the running task."""

# Frames that ``Context.run`` adds to a traceback; none on CPython.
_FRAMES: Final[int] = getattr(trio_run, "CONTEXT_RUN_TB_FRAMES", 0)
_PARKED: Final = getattr(trio_traps, "WaitTaskRescheduled", None)
_YIELDED: Final = getattr(trio_traps, "CancelShieldedCheckpoint", None)

_RUNNER: Final = (
    "runq",
    "init_task",
    "main_task",
    "system_context",
    "instruments",
    "task_exited",
    "ki_pending",
    "deadlines",
    "is_guest",
    "force_guest_tick_asap",
)
_TRAPS: Final = ("CancelShieldedCheckpoint", "WaitTaskRescheduled", "PermanentlyDetachCoroutineObject")
_TASK: Final = (
    "_abort_func",
    "_next_send_fn",
    "_schedule_points",
    "_cancel_points",
    "_attempt_delivery_of_any_pending_cancel",
    "_attempt_delivery_of_pending_ki",
    "_cancel_status",
)


def check_trio() -> None:
    """Check that the running loop has the attributes that the run queue needs.

    Raises:
      UnsupportedTrio: an attribute is missing, or the ready queue is not a plain deque;
        nothing has been changed.
    """
    runner: Any = getattr(getattr(trio_run, "GLOBAL_RUN_CONTEXT", None), "runner", None)
    missing = [name for name in _RUNNER if not hasattr(runner, name)]
    missing += [] if hasattr(getattr(runner, "instruments", None), "data") else ["instruments.data"]
    missing += (
        [] if hasattr(getattr(runner, "deadlines", None), "next_deadline") else ["deadlines.next_deadline"]
    )
    missing += [name for name in _TRAPS if not hasattr(trio_traps, name)]
    missing += [name for name in _TASK if not hasattr(getattr(runner, "init_task", None), name)]
    missing += [] if hasattr(trio_run, "unrolled_run") else ["unrolled_run"]
    if missing or type(runner.runq) is not deque:
        found = f"it lacks {missing}" if missing else f"runq is {type(runner.runq)!r}"
        raise unsupported(found)
    used = inspect.unwrap(trio_run.unrolled_run).__code__.co_names
    if not {"runq", "list", "clear"} <= set(used):
        raise unsupported("its loop does not copy and clear runq")


@cache
def is_tested() -> bool:
    """Whether the functions of Trio that are imitated here are those of a tested release.

    Reads the source of Trio, which takes a millisecond, once per process; logs a warning
    if a function is not known, or has no source.
    """
    changed = changed_functions()
    if changed:
        log.warning(
            "trio %s differs from the tested releases (%s to %s) in %s: the loop runs one step per pass,"
            " and no call is served inside its caller's step",
            trio.__version__,
            *TESTED,
            ", ".join(changed),
        )
    return not changed


def changed_functions() -> dict[str, str]:
    """The digests of the imitated functions that no tested release has in this form, by name."""
    files: dict[str, list[str]] = {}
    digests = {name: digest_of(_function(name), files) for name in SOURCES}
    return {name: digest for name, digest in digests.items() if digest not in SOURCES[name]}


def _function(name: str) -> Any:
    for module in (trio_run, trio_traps):
        with suppress(AttributeError):
            return attrgetter(name)(module)
    return None


def digest_of(function: Callable[..., Any] | None, files: dict[str, list[str]]) -> str:
    """A digest of the source of a function, without comments and indentation.

    The source and not the bytecode, which each Python release compiles differently.

    Args:
      function: any function of Python, a wrapper counts as what it wraps; ``None`` for a
        function that does not exist.
      files: the lines of the files read so far, by path.

    Returns:
      16 hexadecimal digits; "missing" without a function, "no source" if the file cannot be read.
    """
    if function is None:
        return "missing"
    code = inspect.unwrap(function).__code__
    try:
        if code.co_filename not in files:
            text = Path(code.co_filename).read_text(encoding="utf-8")
            files[code.co_filename] = text.splitlines()
    except OSError:
        return "no source"
    lines = files[code.co_filename][code.co_firstlineno - 1 :]
    return sha256("\n".join(_block(lines)).encode()).hexdigest()[:16]


def _block(lines: list[str]) -> Iterator[str]:
    """The lines of the function that begins with the first line, stripped, without comments."""
    width = len(lines[0]) - len(lines[0].lstrip())
    has_begun = False
    for line in lines:
        text = line.strip()
        if text and not text.startswith("#"):
            if len(line) - len(line.lstrip()) > width:
                has_begun = True
            elif has_begun and not text.startswith(")"):
                # Neither a decorator, nor the first or the last line of the header.
                return
            yield text


def running_loop() -> Any:
    """The loop (Trio's ``Runner``) that runs in this thread."""
    return RUN_CONTEXT.runner


def hooks_of(runner: Any) -> dict[str, Any]:
    """The instruments of a loop by hook name.

    Trio's own mapping takes ten times as long to look up as the dict that it wraps.
    """
    hooks: dict[str, Any] = runner.instruments.data
    return hooks


def thread_state() -> dict[str, Any]:
    """This thread's part of Trio's thread-local state, readable from any thread."""
    state: dict[str, Any] = vars(RUN_CONTEXT)
    return state


def run_step(runner: Any, task: Any) -> None:
    """Run one step of ``task`` as the loop does, and act on what it yields."""
    RUN_CONTEXT.task = task
    send, value = task._next_send_fn, task._next_send
    task._next_send_fn = task._next_send = None
    ended: outcome.Outcome[Any] | None = None
    message: Any = None
    try:
        message = task.context.run(send, value)
    except StopIteration as stop:
        ended = outcome.Value(stop.value)
    except BaseException as error:  # noqa: BLE001 - the task's nursery gets it
        ended = outcome.Error(error.with_traceback(_without_our_frames(error.__traceback__)))
    # Outside the except blocks, or the error would become the context of others.
    if ended is None:
        if type(message) is _PARKED:
            # As ``act_upon`` does, without the call.
            task._schedule_points += 1
            task._cancel_points += 1
            task._abort_func = message.abort_func
            if runner.ki_pending and task is runner.main_task:
                task._attempt_delivery_of_pending_ki()
            task._attempt_delivery_of_any_pending_cancel()
        else:
            act_upon(runner, task, message)
    else:
        runner.task_exited(task, ended)
        # The traceback of an error may keep this frame, which must keep nothing else alive.
        task = send = value = ended = None


def act_upon(runner: Any, task: Any, message: Any) -> None:
    """Do what the loop does with the message that a step has yielded."""
    task._schedule_points += 1
    if type(message) is _PARKED:
        task._cancel_points += 1
        task._abort_func = message.abort_func
        if runner.ki_pending and task is runner.main_task:
            task._attempt_delivery_of_pending_ki()
        task._attempt_delivery_of_any_pending_cancel()
    elif message is _YIELDED:
        runner.reschedule(task)
    elif type(message) is trio_traps.PermanentlyDetachCoroutineObject:
        runner.task_exited(task, message.final_outcome)
    else:
        # Thrown in directly: a foreign library does not unwrap the value sent in.
        error = TypeError(f"trio.run received unrecognized yield message {message!r}")
        runner.reschedule(task, error)
        task._next_send_fn = task.coro.throw


def has_pending_cancel(runner: Any, task: Any) -> bool:
    """Whether the next checkpoint of ``task`` raises ``Cancelled`` or ``KeyboardInterrupt``."""
    return task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task)


def watch_cancellation(task: Any, on_cancel: Callable[[], None]) -> None:
    """Call ``on_cancel`` once when a released task is cancelled before it runs.

    Trio calls the abort function of a task to cancel it, and a released task has none.
    This one leaves what the task has been rescheduled with as it is.
    """

    def abort(_: RaiseCancelT) -> Abort:
        on_cancel()
        return Abort.FAILED

    task._abort_func = abort


def unwatch_cancellation(task: Any) -> None:
    """Undo ``watch_cancellation``."""
    task._abort_func = None


def wake_host(runner: Any) -> None:
    """In guest mode, end the sleep of the loop; elsewhere a loop that runs this does not sleep."""
    if runner.is_guest:
        runner.force_guest_tick_asap()


def system_contexts(runner: Any) -> Iterator[Context]:
    """The contexts that Trio's system tasks run in, and the one that new ones are copied from."""
    yield runner.system_context
    here = trio.lowlevel.current_task()
    spawned = [task for nursery in runner.init_task.child_nurseries for task in nursery.child_tasks]
    for task in (runner.init_task, *spawned):
        if task is not runner.main_task and task is not here:
            yield task.context


def clock_reader(clock: trio.abc.Clock) -> Callable[[], float]:
    """A function that reads ``clock``, inlined for Trio's own."""
    if not is_real(clock):
        return clock.current_time
    offset: float = clock.offset  # type: ignore[attr-defined]  # SystemClock has it, its base class not
    return lambda: offset + perf_counter()


def is_real(clock: trio.abc.Clock) -> bool:
    """Whether ``clock`` is Trio's own, which follows the system's; otherwise time is virtual."""
    return type(clock) is trio_run.SystemClock


def _without_our_frames(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames between the loop and the task, as the loop leaves it."""
    for _ in range(1 + _FRAMES):
        if traceback is not None:
            traceback = traceback.tb_next
    return traceback


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}: {digest}\n" for name, digest in changed_functions().items())
