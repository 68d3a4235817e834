"""The one place that touches Trio's internals: the run queue inside its loop.

What it relies on, and checks before it changes anything:

* the running loop is ``trio._core._run.GLOBAL_RUN_CONTEXT.runner``, and its ready
  queue is ``runner.runq``, a ``collections.deque`` that is looked up anew each time;
* of that queue only ``append``, truth, length, iteration and ``clear`` are used, and
  each pass of the loop copies it with ``list()`` and clears it right after (Trio's
  statistics take the length for the number of runnable tasks; while the ready order
  holds some it is too low, and ``Scheduler.statistics`` has the right one);
* ``runner.init_task`` is the root of the task tree, ``runner.main_task`` the host's
  first task, and ``runner.system_context`` what new system tasks start from;
* a step of a task is ``task.context.run(task._next_send_fn, task._next_send)`` with the
  task in ``GLOBAL_RUN_CONTEXT.task``, and what it yields is one of the messages of
  ``trio._core._traps``, which are acted upon as ``_act_upon`` does; a task that is
  parked has an ``_abort_func``, and one that has ended is told to ``task_exited``;
* between two passes the loop cancels the scopes whose deadline has passed, of which
  ``runner.deadlines.next_deadline()`` is the next.

Everything else is public: instruments, a task's context, ``reschedule``.

A pass runs its steps itself, inside the ``list()`` of the loop, the most urgent first
and each by what is ready by then, until a quantum is over; the loop is left with an
empty batch. So what is ordered is ordered exactly, and I/O is looked at once a quantum
and not once a step: CPU, one throw of a ball between two tasks and back by Trio's
channels: 17 to 20 µs in plain Trio, 22 so, 27 with a pass for each step. Where
somebody watches single steps, and where time is strictly virtual, the loop runs them,
one a pass, or several of one single context: Trio shuffles what it is handed. Ordering
on every append, and a hook around every step, were tried: 50 to 200 % dearer per step
than Trio alone.

Invariant: a released task is in exactly one place: among the arrivals (the deque
itself) or in the ready order. While the ready order holds tasks the deque is not
empty (a placeholder stands in it), so the loop never sleeps on released tasks.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import outcome
import trio
from trio._core import _run as trio_run
from trio._core import _traps as trio_traps

from rtos.scheduler.budgets.enforcement import BudgetEnforcement
from rtos.scheduler.budgets.starvation_guard import StarvationGuard
from rtos.scheduler.dispatch.accounting import Accounts
from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.dispatch.trio_versions import unsupported
from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.tracing.ring import STEP, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextvars import Context, Token
    from types import TracebackType

    from trio.lowlevel import Abort, RaiseCancelT, Task

    from rtos.scheduler.budgets.bandwidth_server import BandwidthServer
    from rtos.scheduler.policy.timer_heap import TimerHeap

_PLACEHOLDER: Final = None
_SYSTEM_STEPS: Final = 8
"""Steps in a row that system tasks may take while others wait."""
_STEPS: Final = 64
"""Steps that one pass may run, where time stands still and no quantum ends."""
_LENT_STEPS: Final = 64
"""Steps that one pass may lend, where time stands still and no quantum ends."""
_FRAMES: Final[int] = getattr(trio_run, "CONTEXT_RUN_TB_FRAMES", 0)
_MANY: Final = 8
"""Steps of one context that are worth a pass of their own."""
_PARKED: Final = getattr(trio_traps, "WaitTaskRescheduled", None)
_GIVES_WAY: Final = getattr(trio_traps, "CancelShieldedCheckpoint", None)
_length = deque.__len__
_arrivals = deque.__iter__
_clear = deque.clear


class RunQueue(Accounts, deque[Any]):
    """Trio's ready queue, ordered by scheduling context.

    Attributes:
      lend_ns: until when in a pass a step may be lent to another task (``lend``);
        -1 for never.
    """

    def __init__(
        self,
        *,
        quantum_ns: int,
        host_level: int,
        timers: TimerHeap,
        records: int,
        reserve: float,
        lend_ns: int,
    ) -> None:
        clock = _runner().clock
        real = _is_real(clock)
        super().__init__(
            quantum_ns=quantum_ns,
            host_level=host_level,
            timers=timers,
            records=records,
            clock=_clock_reader(clock),
            ticks_ns=perf_counter_ns if real else _ticks_of(clock),
            epoch=nanoseconds(clock.offset) if real else 0,
            real=real,
        )
        self.lend_ns = lend_ns
        self._ready = ReadyQueue()
        self.enforcement = BudgetEnforcement(self._hold, self._let_go, self.clock)
        self._reserve = StarvationGuard(reserve) if reserve else None
        # How often in a row system tasks went before others that waited.
        self._system_steps = 0
        # Whether this pass runs its steps itself, and when the one that runs began.
        self._runs_steps = False
        self._step_ns = self._opened_ns = 0
        # Whether the pass is to end with the step that runs.
        self._is_over = False
        # Whether the running step goes first on the reserve.
        self._lent = False
        self._batch = 1
        self._lent_before = 0
        self._runner = _runner()
        # Trio's own mapping of hooks is ten times as slow to ask as the dict that it wraps.
        self._hooks: dict[str, Any] = self._runner.instruments.data
        self._marked: list[tuple[Context, Token[SchedulingContext]]] = []
        # This thread's part of Trio's thread-local state, for reading from another.
        self._locals = vars(trio_run.GLOBAL_RUN_CONTEXT)

    def __repr__(self) -> str:
        # The inherited one iterates, and would take the next tasks off the queue.
        return f"<RunQueue of {len(self.tasks())} tasks>"

    # What the loop calls: list(queue), then queue.clear().

    def __iter__(self) -> Iterator[Any]:
        """Run what this pass is for; what is returned is left to the loop to run. Called once a pass."""
        self._pass_ns = self._step_ns = self._began_ns = self._opened_ns = self.ticks_ns()
        self._lent_before = self.lent
        if self.recorder.asleep:
            self.recorder.wake_up(self._began_ns)
        at = self._timers.next_at()
        if at != math.inf and at <= self.clock():
            self.wake_timers()
        self._runs_steps = self.quantum_ns > 0 and not self._is_watched() and not self._has_many()
        if not self._runs_steps:
            return iter(self._hand_out())
        self._run_steps()
        # The last scheduler may have been closed in one of the steps. The loop is about to
        # drop what is in its queue by now, unless it is given it here.
        return iter(()) if self._runner.runq is self else iter(tuple(self._runner.runq))

    def clear(self) -> None:
        """Drop the arrivals that ``__iter__`` has taken over. The loop calls it once a pass."""
        if not self._runs_steps:
            _clear(self)
        if self._ready.waiting and not _length(self):
            self.append(_PLACEHOLDER)

    def _is_watched(self) -> bool:
        """Whether somebody wants to be told of each step, which is the loop's to do."""
        return "before_task_step" in self._hooks or "after_task_step" in self._hooks

    def _has_many(self) -> bool:
        """Whether what goes next are many short steps of one context.

        A pass of the loop for all of them costs less than what is looked at after each.
        """
        if self._ready.waiting + _length(self) < _MANY:
            return False
        self._order_arrivals()
        head = self._ready.head()
        return head is not None and len(head.ready) >= _MANY and head.step_ns * _MANY <= self.quantum_ns

    def _hand_out(self) -> Sequence[Any]:
        """One step for the loop to run, or several of one context."""
        self._order_arrivals()
        if not self._ready.waiting:
            self._running = None
            return ()
        self.passes += 1
        self._batch = 0
        context, level, since_ns, tasks = self._choose(self.quantum_ns)
        self._running, self._level, self._since_ns = context, level, since_ns
        self._batch = len(tasks)
        return tasks

    def _run_steps(self) -> None:
        """Run steps, the most urgent first, until the quantum is over or nobody is ready.

        A step is run as the loop runs it. A pass of the loop after each, with its look at
        the I/O and its hooks, cost 4.8 µs in plain Trio and 9.5 under this order.
        """
        here, runner, hooks, ticks_ns = trio_run.GLOBAL_RUN_CONTEXT, self._runner, self._hooks, self.ticks_ns
        known, end_ns = len(hooks), self._pass_ns + self.quantum_ns
        timers, deadlines = self._timers, runner.deadlines
        self._is_over = False
        context = None
        for _ in range(_STEPS):
            task = self._next()
            if task is None:
                break
            if context is None:
                self.passes += 1
            context = self._running
            assert context is not None
            here.task = task
            send, value = task._next_send_fn, task._next_send
            task._next_send_fn = task._next_send = None
            ended: outcome.Outcome[Any] | None = None
            message: Any = None
            try:
                message = task.context.run(send, value)
            except StopIteration as stop:
                ended = outcome.Value(stop.value)
            except BaseException as error:  # noqa: BLE001 - it is its nursery's to see
                ended = outcome.Error(error.with_traceback(_without_ours(error.__traceback__)))
            # Outside the except blocks, or the error would become the context of others.
            if ended is None:
                _act_upon(runner, task, message)
            else:
                runner.task_exited(task, ended)
            ended_ns = ticks_ns()
            # As ``_learn`` does.
            length_ns, known_ns = ended_ns - self._step_ns, context.step_ns
            if length_ns > context.longest_ns:
                context.longest_ns = length_ns
            context.step_ns = length_ns if length_ns > known_ns else known_ns - ((known_ns - length_ns) >> 3)
            self._step_ns = ended_ns
            if ended_ns >= end_ns or self._is_over or runner.runq is not self or len(hooks) != known:
                break
            at = timers.next_at()
            if at != math.inf and at <= self.clock():
                self.wake_timers()
            # The loop cancels what is due, between two passes.
            at = deadlines.next_deadline()
            if at != math.inf and at <= self.clock():
                break
        # A traceback may keep this frame, which must keep nothing alive then.
        task = send = value = message = ended = None
        if context is not None:
            del here.task
            self.close_pass()

    def _next(self) -> Any:
        """The task to run next, its account opened; ``None`` if there is none."""
        ready = self._ready
        if not ready.waiting and _length(self) == 1 and self[0] is not _PLACEHOLDER:
            # The common case of a calm system, kept out of the ready order.
            task = self[0]
            context = task.context.get(context_variable, self.host)
            if context.budget is not None:
                self.enforcement.arrive(context.budget)
            if not context.is_held and not ready.waiting:
                _clear(self)
                self._open_account(context, context.level, self._step_ns)
                return task
        if _length(self):
            self._order_arrivals()
        if not ready.waiting:
            return None
        reserve, system = self._reserve, self.system
        if (reserve is not None and reserve.look_at <= self._step_ns) or self._system_steps >= _SYSTEM_STEPS:
            # Before it is said whether the next step is lent: the account is of those that were not.
            self._close_account()
            context, level, since_ns, (task,) = self._choose(0)
        else:
            context, since_ns, task = ready.take()
            level = context.level
            if context is not system:
                self._system_steps = 0
            elif ready.waiting > len(system.ready):
                self._system_steps += 1
        self._open_account(context, level, since_ns)
        return task

    def _open_account(self, context: SchedulingContext, level: int, since_ns: int) -> None:
        """Bill the next step to ``context``; steps of one in a row are one entry."""
        reserve = self._reserve
        if (
            context is not self._running
            or level != self._level
            or context.budget is not None
            or (reserve is not None and reserve.is_saturated)
        ):
            self._close_account()
            self._running, self._level, self._since_ns, self._batch = context, level, since_ns, 0
            self._opened_ns = self._step_ns
        self._batch += 1

    def _order_arrivals(self) -> None:
        push, host = self._ready.push, self.host
        self._ready.now = self._step_ns
        for task in _arrivals(self):
            if task is not _PLACEHOLDER:
                context = task.context.get(context_variable, host)
                if context.budget is not None:
                    self.enforcement.arrive(context.budget)
                push(context, task)
        _clear(self)

    def _choose(self, most_ns: int) -> tuple[SchedulingContext, int, int, list[Any]]:
        """What goes next: one task, or several of a context that fit into so many nanoseconds.

        Returns:
          Their context, the level it was chosen with, since when it was ready, and they.
        """
        head = self._ready.head()
        assert head is not None
        reserve = self._reserve
        # Timers and callbacks are nobody's to wait for: what they release may be urgent.
        if reserve is not None and reserve.look_at <= self._step_ns and head is not self.system:
            borrower = reserve.pick(head.level, self._ready.contexts(), self._step_ns)
            if borrower is not None:
                self._lent = True
                return borrower, borrower.level, borrower.since, [self._ready.pop_from(borrower)]
        if head is not self.system:
            self._system_steps = 0
        elif self._ready.waiting > len(head.ready):
            self._system_steps += 1
            if self._system_steps > _SYSTEM_STEPS:
                return self._give_way(head)
        fitting = most_ns // head.step_ns if head.step_ns else 1
        level, since_ns = head.level, head.since
        context, tasks = self._ready.pop(max(fitting, 1))
        return context, level, since_ns, tasks

    def _give_way(self, system: SchedulingContext) -> tuple[SchedulingContext, int, int, list[Any]]:
        # Timers that are always due again, and callbacks that ask for themselves again,
        # stand above every level: now and then the others get a step, or nobody else
        # would ever run.
        self._system_steps = 0
        self._ready.hold(system)
        head = self._ready.head()
        assert head is not None
        level, since_ns = head.level, head.since
        context, tasks = self._ready.pop(1)
        self._ready.let_go(system)
        return context, level, since_ns, tasks

    # What the kernel calls.

    def close_pass(self) -> None:
        """Bill what has run. Called before the loop waits for I/O, and when steps have been run."""
        context, recorder = self._running, self.recorder
        if context is None:
            return
        self._close_account()
        if self._settled_ns >= recorder.measure_at:
            recorder.measure(self._settled_ns, context)

    def _close_account(self) -> None:
        context = self._running
        if context is None:
            return
        self._account_for(context, self._batch)
        self._running, self._last = None, context
        self._began_ns = self._settled_ns
        if not self._runs_steps:
            self._learn(context, (self._settled_ns - self._pass_ns) // self._batch)
        reserve = self._reserve
        if reserve is not None and reserve.is_saturated:
            reserve.ran(self._level, self._settled_ns - self._opened_ns, lent=self._lent)
            self._lent = False

    # A step inside the running one.

    def may_lend(self, context: SchedulingContext) -> bool:
        """Whether the next step of ``context`` may run inside the running one.

        Only where the two together are known to be as short as a batch may be, and
        where nobody could tell: not while an exception is being handled, which
        would become the context of every one raised inside, and not while
        somebody wants to be told of each step.
        """
        outer, hooks = self._running, self._hooks
        return not (
            not context.steps
            or self.ticks_ns() - self._pass_ns + context.step_ns > self.lend_ns
            or self.lent - self._lent_before >= _LENT_STEPS
            or context.budget is not None
            or outer is None
            or outer.budget is not None
            or sys.exception() is not None
            or "before_task_step" in hooks
            or "after_task_step" in hooks
        )

    def lend(
        self,
        task: Task,
        step: Callable[[Any], Any],
        value: Any,
        *,
        context: SchedulingContext,
        abort: Callable[[RaiseCancelT], Abort],
    ) -> Any:
        """Call ``step(value)`` inside the running step, as a part of a step of a parked task.

        The running task is parked meanwhile, and can be aborted: by ``abort``,
        which must not succeed. Each context is billed for its part.

        Args:
          task: parked in ``wait_task_rescheduled``, and not to be rescheduled by anybody
            else; to be parked anew (``park``), or resumed (``run_step``).
          step: runs in its context variables and under its cancel scopes.
          value: for ``step``.
          context: the one that ``task`` runs under.
          abort: as for ``wait_task_rescheduled``, of the running task.

        Returns:
          What ``step`` returns; what it raises is raised.
        """
        outer, level, since_ns = self._running, self._level, self._since_ns
        assert outer is not None
        self.lent += 1
        # What ``_account_for`` and ``_learn`` do, of two who have no budget: with the calls
        # this would cost 2.3 µs and not 1.6.
        if outer.payer is None:
            self._settled_ns = self.ticks_ns()
        else:
            self._settle(outer)
        outer_ns, began_ns, lent_level = self._began_ns, self._settled_ns, context.level
        outer.cpu_ns += began_ns - outer_ns
        record = self.recorder.record
        if record is not None:
            record((STEP, outer_ns, began_ns - outer_ns, outer.number, outer.name, level, 0, since_ns))
        self._running, self._level = context, lent_level
        self._began_ns = self._since_ns = began_ns
        here = trio_run.GLOBAL_RUN_CONTEXT
        borrower = here.task
        borrower._abort_func = abort
        here.task = task
        task._abort_func = None
        try:
            return task.context.run(step, value)
        finally:
            here.task = borrower
            borrower._abort_func = None
            if context.payer is None:
                self._settled_ns = self.ticks_ns()
            else:
                self._settle(context)
            ended_ns, went_on_ns = self._settled_ns, self._began_ns
            context.cpu_ns += ended_ns - went_on_ns
            context.steps += 1
            length_ns, known_ns = ended_ns - began_ns, context.step_ns
            if length_ns > context.longest_ns:
                context.longest_ns = length_ns
            context.step_ns = length_ns if length_ns > known_ns else known_ns - ((known_ns - length_ns) >> 3)
            if record is not None:
                record((STEP, went_on_ns, ended_ns - went_on_ns, context.number, context.name, lent_level, 1,
                        began_ns))  # fmt: skip
            self._running, self._level, self._since_ns = outer, level, since_ns
            self._began_ns = ended_ns

    def park(self, task: Any, abort: Callable[[RaiseCancelT], Abort]) -> None:
        """Have a task that was lent a step wait as before; it is cancelled if it was meanwhile."""
        task._abort_func = abort
        task._attempt_delivery_of_any_pending_cancel()

    def run_step(
        self,
        task: Task,
        value: Any,
        *,
        context: SchedulingContext,
        abort: Callable[[RaiseCancelT], Abort],
    ) -> None:
        """``lend`` a whole step: that of ``task`` once it has been rescheduled with ``value``."""
        ended: outcome.Outcome[Any] | None = None
        message: Any = None
        # Unlike Trio when it reschedules, its ``custom_sleep_data`` is left as it is: what has been
        # begun for it in an earlier ``lend`` has left it there, and is looking for it when it is aborted.
        try:
            message = self.lend(task, task.coro.send, outcome.Value(value), context=context, abort=abort)
        except StopIteration as stop:
            ended = outcome.Value(stop.value)
        except BaseException as error:  # noqa: BLE001 - it is its nursery's to see
            ended = outcome.Error(error)
        # Outside the except blocks, or the error would become the context of others.
        if ended is None:
            _act_upon(self._runner, task, message)
        else:
            self._runner.task_exited(task, ended)

    def start_afresh(self) -> bool:
        """Whether the running pass has run or lent other steps; if so it ends with this one.

        What does not fit into the rest of its quantum may fit into the next one's.
        """
        if self.lend_ns < 0 or (self.lent == self._lent_before and self._step_ns == self._pass_ns):
            return False
        self._is_over = True
        return True

    def must_check_in(self) -> bool:
        """Whether the running task has been cancelled; what ``checkpoint_if_cancelled`` looks at.

        That costs twice as much, for the coroutine that it is.
        """
        task, runner = trio_run.GLOBAL_RUN_CONTEXT.task, self._runner
        task._cancel_points += 1
        return task._cancel_status.effectively_cancelled or (runner.ki_pending and task is runner.main_task)

    def has_overrun(self) -> bool:
        """Whether the running step, with all that it has lent, is longer than it may lend."""
        # The last reading is that of the end of what was lent.
        return self._began_ns - self._pass_ns > self.lend_ns

    def _charge(self, context: SchedulingContext, budget: BandwidthServer, spent_ns: int) -> None:
        super()._charge(context, budget, spent_ns)
        budget.is_active = self._goes_on(budget)

    def _goes_on(self, budget: BandwidthServer) -> bool:
        """Whether something of it is ready by now; what I/O wakes later is a new start."""
        for member in budget.members:
            if member.ready:
                return True
        for task in _arrivals(self):
            if task is not _PLACEHOLDER and task.context.get(context_variable, self.host).budget is budget:
                return True
        return False

    def _hold(self, context: SchedulingContext) -> None:
        self._ready.hold(context)
        # The loop must be able to sleep while all that waits is held back.
        if not self._ready.waiting and _length(self) and self[0] is _PLACEHOLDER:
            self.popleft()

    def _let_go(self, context: SchedulingContext) -> None:
        self._ready.let_go(context)
        if self._ready.waiting and not _length(self):
            self.append(_PLACEHOLDER)

    def running_task(self) -> str:
        """The name of the task that is running, from any thread."""
        task = self._locals.get("task")
        return "none" if task is None else str(task.name)

    def tasks(self) -> list[Any]:
        """Every released task that waits here, in no particular order."""
        return [*self._ready, *(task for task in _arrivals(self) if task is not _PLACEHOLDER)]

    def waiting(self) -> int:
        """How many released tasks wait here."""
        return len(self.tasks())

    def install(self) -> None:
        """Replace the queue of the running loop, with everything that waits."""
        runner = _runner()
        for context in _system_contexts(runner):
            self._marked.append((context, context.run(context_variable.set, self.system)))
        self.extend(runner.runq)
        runner.runq = self

    def uninstall(self) -> None:
        """Put a plain queue back, with everything that waits."""
        runner = _runner()
        here = trio.lowlevel.current_task().context
        for context, token in self._marked:
            # Whoever closes the last scheduler need not have opened the first, and
            # may be one of Trio's system tasks, whose context is in use just now.
            if context is here:
                context_variable.reset(token)
            else:
                context.run(context_variable.reset, token)
        self._marked.clear()
        plain = deque(self.tasks())
        self._ready.clear()
        _clear(self)
        runner.runq = plain


_RUNNER: Final = (
    "runq",
    "init_task",
    "main_task",
    "system_context",
    "instruments",
    "task_exited",
    "ki_pending",
    "deadlines",
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
    """Check that the running loop is shaped as the run queue needs it.

    Raises:
      UnsupportedTrio: it is not; nothing has been changed.
    """
    runner: Any = getattr(getattr(trio_run, "GLOBAL_RUN_CONTEXT", None), "runner", None)
    missing = [name for name in _RUNNER if not hasattr(runner, name)]
    missing += [] if hasattr(getattr(runner, "instruments", None), "data") else ["instruments.data"]
    missing += (
        [] if hasattr(getattr(runner, "deadlines", None), "next_deadline") else ["deadlines.next_deadline"]
    )
    missing += [name for name in _TRAPS if not hasattr(trio_traps, name)]
    missing += [name for name in _TASK if not hasattr(getattr(runner, "init_task", None), name)]
    if missing or type(runner.runq) is not deque:
        found = f"it lacks {missing}" if missing else f"runq is {type(runner.runq)!r}"
        raise unsupported(found)


def _without_ours(traceback: TracebackType | None) -> TracebackType | None:
    """A traceback without the frames between the loop and the task, as the loop leaves it."""
    for _ in range(1 + _FRAMES):
        if traceback is not None:
            traceback = traceback.tb_next
    return traceback


def _act_upon(runner: Any, task: Any, message: Any) -> None:
    """What the loop does with what a step has yielded."""
    task._schedule_points += 1
    if type(message) is _PARKED:
        task._cancel_points += 1
        task._abort_func = message.abort_func
        if runner.ki_pending and task is runner.main_task:
            task._attempt_delivery_of_pending_ki()
        task._attempt_delivery_of_any_pending_cancel()
    elif message is _GIVES_WAY:
        runner.reschedule(task)
    elif type(message) is trio_traps.PermanentlyDetachCoroutineObject:
        runner.task_exited(task, message.final_outcome)
    else:
        # Thrown in directly: a foreign library does not unwrap what is sent in.
        error = TypeError(f"trio.run received unrecognized yield message {message!r}")
        runner.reschedule(task, error)
        task._next_send_fn = task.coro.throw


def _runner() -> Any:
    return trio_run.GLOBAL_RUN_CONTEXT.runner


def _system_contexts(runner: Any) -> Iterator[Context]:
    """The contexts that Trio's system tasks run in, and that new ones are copied from."""
    yield runner.system_context
    here = trio.lowlevel.current_task()
    spawned = [task for nursery in runner.init_task.child_nurseries for task in nursery.child_tasks]
    for task in (runner.init_task, *spawned):
        if task is not runner.main_task and task is not here:
            yield task.context


def _clock_reader(clock: trio.abc.Clock) -> Callable[[], float]:
    """A function that reads ``clock``, inlined for Trio's own."""
    if not _is_real(clock):
        return clock.current_time
    offset: float = clock.offset  # type: ignore[attr-defined]
    return lambda: offset + perf_counter()


def _ticks_of(clock: trio.abc.Clock) -> Callable[[], int]:
    return lambda: round(clock.current_time() * 1e9)


def _is_real(clock: trio.abc.Clock) -> bool:
    return type(clock) is trio_run.SystemClock
