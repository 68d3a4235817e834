"""The run queue: replaces Trio's ready queue and runs tasks by level and deadline.

A pass of the loop runs its steps itself, inside the loop's ``list(runq)``: the most
urgent first, each chosen among the tasks that are ready by then, until a quantum is
over. The loop gets an empty batch. So tasks are ordered exactly, and the loop polls for
I/O once per quantum instead of once per step. CPU time for one message to another task
and back through Trio's channels: 17 to 20 µs in plain Trio, 22 with this queue, 27 with
a pass for each step.

The loop runs the steps, one per pass, in four cases: an instrument observes single
steps, time is virtual, the quantum is 0 (strict mode), or this Trio is not a tested
release. Ordering on every append, and a hook around every step, were tried: 50 to 200 %
more per step than Trio alone.

Fairness among tasks of one level and one deadline is stated in ``ready_queue``.

Invariant: a released task is in exactly one place: among the arrivals (the deque
itself) or in the ready order. While the ready order holds tasks the deque is not empty
(it holds a placeholder), so the loop never sleeps on released tasks.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Any, Final

import trio

from rtos.scheduler.budgets.starvation_guard import StarvationGuard
from rtos.scheduler.dispatch.current import accounts_variable
from rtos.scheduler.dispatch.donation import StepDonation
from rtos.scheduler.dispatch.ready_queue import ReadyQueue
from rtos.scheduler.dispatch.trio_compat import (
    RUN_CONTEXT,
    clock_reader,
    has_pending_cancel,
    is_real,
    is_tested,
    run_step,
    running_loop,
    system_contexts,
    thread_state,
    unwatch_cancellation,
    wake_host,
    watch_cancellation,
)
from rtos.scheduler.policy.context import SchedulingContext, context_variable
from rtos.scheduler.tracing.raw import nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context, Token

    from rtos.scheduler.policy.bandwidth_server import BandwidthServer
    from rtos.scheduler.policy.timer_heap import Timer, TimerHeap

_PLACEHOLDER: Final = None
_MOST_SYSTEM_STEPS: Final = 8
"""Steps in a row that system tasks may take while other tasks wait."""
_MOST_STEPS: Final = 64
"""Steps that one pass may run, where time stands still and no quantum ends."""
_MANY: Final = 8
"""Waiting tasks of one context from which on they run in a row, without a look at the arrivals."""
_length = deque.__len__
_arrivals = deque.__iter__
_clear = deque.clear


class RunQueue(StepDonation, deque[Any]):
    """Trio's ready queue, ordered by scheduling context.

    Attributes:
      imitates_trio: whether it does what only Trio's loop would do otherwise: runs steps itself,
        and donates steps. Not with an untested release of Trio.
    """

    def __init__(
        self,
        *,
        quantum_ns: int,
        host_level: int,
        timers: TimerHeap,
        reserve: float,
        donation_limit_ns: int,
    ) -> None:
        clock = running_loop().clock
        real = is_real(clock)
        self.imitates_trio = is_tested()
        if not self.imitates_trio:
            quantum_ns, donation_limit_ns = 0, -1
        super().__init__(
            donation_limit_ns=donation_limit_ns,
            quantum_ns=quantum_ns,
            host_level=host_level,
            timers=timers,
            clock=clock_reader(clock),
            epoch=nanoseconds(clock.offset) if real else 0,
            real=real,
        )
        self._ready = ReadyQueue()
        self._guard = StarvationGuard(reserve) if reserve else None
        # How many steps in a row system tasks took while others waited.
        self._system_steps = 0
        # Whether this pass runs its steps itself.
        self._runs_steps = False
        # When the account of the running context was opened.
        self._opened_ns = 0
        # Whether the running step goes first on the starvation guard's share.
        self._is_lent = False
        # Steps of the running context since its account was opened.
        self._steps = 1
        # How many more tasks of the running context follow without a look at the arrivals.
        self._following = 0
        self._marked: list[tuple[Context, Token[SchedulingContext]]] = []
        self._thread_state = thread_state()

    def __repr__(self) -> str:
        # The inherited one iterates, which would take the next tasks off the queue.
        return f"<RunQueue of {len(self.tasks())} tasks>"

    # What the loop calls: list(queue), then queue.clear().

    def __iter__(self) -> Iterator[Any]:
        """Run the steps of this pass; return those that the loop has to run. Called once per pass."""
        self._pass_ns = self._step_ns = self._began_ns = self._opened_ns = self.ticks_ns()
        self._donated_before = self.donated
        if self.recorder.asleep:
            self.recorder.wake_up(self._began_ns)
        if self._timers.entries and self._timers.next_at() <= self.clock():
            self.wake_timers()
        self._runs_steps = self.quantum_ns > 0 and not self._is_watched()
        if not self._runs_steps:
            return iter(self._next_for_loop())
        self._run_steps()
        # The last scheduler may have been closed in one of the steps. The loop is about to
        # drop what its queue holds by now, unless it gets that here.
        return iter(()) if self._runner.runq is self else iter(tuple(self._runner.runq))

    def clear(self) -> None:
        """Drop the arrivals that ``__iter__`` has taken over. The loop calls it once per pass."""
        if not self._runs_steps:
            _clear(self)
        if self._ready.waiting and not _length(self):
            self.append(_PLACEHOLDER)

    def _is_watched(self) -> bool:
        """Whether an instrument observes single steps, which the loop has to report."""
        return "before_task_step" in self._hooks or "after_task_step" in self._hooks

    def _next_for_loop(self) -> tuple[Any, ...]:
        """The next task for the loop to run, if there is one."""
        self._order_arrivals()
        if not self._ready.waiting:
            self._running = None
            return ()
        self.passes += 1
        context, since_ns, task = self._choose()
        self._running, self._level, self._since_ns, self._steps = context, context.level, since_ns, 1
        return (task,)

    def _run_steps(self) -> None:
        """Run steps, the most urgent first, until the quantum is over or no task is ready.

        A pass of the loop after each step, with its look at the I/O and its hooks, cost
        4.8 µs in plain Trio and 9.5 under this order.
        """
        runner, hooks, ticks_ns, ready = self._runner, self._hooks, self.ticks_ns, self._ready
        known, end_ns = len(hooks), self._pass_ns + self.quantum_ns
        timers, deadlines = self._timers, runner.deadlines
        entries = timers.entries
        self._is_over = False
        self._following = 0
        context = None
        for _ in range(_MOST_STEPS):
            if self._following:
                self._following -= 1
                self._steps += 1
                task = ready.take_current()
            else:
                task = self._next()
                if task is None:
                    break
                if context is None:
                    self.passes += 1
                context = self._running
            assert context is not None
            run_step(runner, task)
            ended_ns = ticks_ns()
            # As ``_learn`` does.
            length_ns, known_ns = ended_ns - self._step_ns, context.step_ns
            if length_ns > context.longest_ns:
                context.longest_ns = length_ns
            context.step_ns = length_ns if length_ns > known_ns else known_ns - ((known_ns - length_ns) >> 3)
            self._step_ns = ended_ns
            if ended_ns >= end_ns or self._is_over or runner.runq is not self or len(hooks) != known:
                break
            if self._following:
                if ready.current is context:
                    continue
                self._following = 0
            if entries and timers.next_at() <= self.clock():
                self.wake_timers()
            # Between two passes the loop cancels the scopes whose deadline has passed.
            at = deadlines.next_deadline()
            if at != math.inf and at <= self.clock():
                break
        # A traceback may keep this frame, which must keep no task alive.
        task = None
        if context is not None:
            del RUN_CONTEXT.task
            self.close_pass()

    def _next(self) -> Any:
        """The task to run next, its account opened; ``None`` if no task is ready."""
        ready = self._ready
        if not ready.waiting and _length(self) == 1 and self[0] is not _PLACEHOLDER:
            # The common case of a system without load, kept out of the ready order.
            task = self[0]
            context = task.context.get(context_variable, self.host)
            if context.owner is not self and not self.owns(context):
                context = self.host
            if context.budget is not None:
                self.enforcement.arrive(context.budget)
            if not context.is_throttled and not ready.waiting:
                _clear(self)
                self._open_account(context, self._step_ns)
                return task
        if _length(self):
            self._order_arrivals()
        if not ready.waiting:
            return None
        guard, system = self._guard, self.system
        if (guard is None or guard.look_at > self._step_ns) and self._system_steps < _MOST_SYSTEM_STEPS:
            # As ``_choose`` does, without the call: 2 % of a queued call among a hundred.
            context, since_ns, task = ready.take()
            if context is not system:
                self._system_steps = 0
            elif ready.waiting > len(system.ready):
                self._system_steps += 1
        else:
            context, since_ns, task = self._choose()
        self._open_account(context, since_ns)
        if len(context.ready) >= _MANY and self._may_run_many(context):
            self._following = ready.following(_MOST_STEPS)
        return task

    def _may_run_many(self, context: SchedulingContext) -> bool:
        """Whether tasks of ``context`` may run in a row, without a look at the arrivals after each.

        The look costs a fifth of such a step. The row ends with the quantum, which is
        the longest that an urgent arrival waits for it.
        """
        guard = self._guard
        return (
            context.budget is None
            and context is not self.system
            and context.step_ns * _MANY <= self.quantum_ns
            and not (guard is not None and guard.is_saturated)
            and context is self._ready.current
        )

    def _open_account(self, context: SchedulingContext, since_ns: int) -> None:
        """Bill the next step to ``context``; steps of one context in a row are one entry."""
        guard = self._guard
        if (
            context is not self._running
            or context.level != self._level
            or context.budget is not None
            or (guard is not None and guard.is_saturated)
        ):
            self._close_account()
            self._running, self._level, self._since_ns, self._steps = context, context.level, since_ns, 0
            # The step begins where the account of the one before it ends: what the loop does in between,
            # or the operating system, is billed to that one and must not make this one longer.
            self._step_ns = self._opened_ns = self._began_ns
        self._steps += 1

    def _order_arrivals(self) -> None:
        push, host = self._ready.push, self.host
        self._ready.now = self._step_ns
        for task in _arrivals(self):
            if task is not _PLACEHOLDER:
                context = task.context.get(context_variable, host)
                if context.owner is not self and not self.owns(context):
                    context = host
                if context.budget is not None:
                    self.enforcement.arrive(context.budget)
                    if context.is_throttled:
                        push(context, task)
                        self._watch(context, task)
                        continue
                push(context, task)
        _clear(self)

    def _choose(self) -> tuple[SchedulingContext, int, Any]:
        """Take the next task off the ready order: its context, since when that was ready, and the task."""
        ready, guard, system = self._ready, self._guard, self.system
        if guard is not None and guard.look_at <= self._step_ns:
            # Before the next step is marked as lent: the open account is of steps that were not.
            self._close_account()
            head = ready.head()
            assert head is not None
            # The guard lends nothing of the time of timers and callbacks: they may release urgent tasks.
            if head is not system:
                borrower = guard.pick(head.level, ready.contexts(), self._step_ns)
                if borrower is not None:
                    self._is_lent = True
                    return borrower, borrower.since, ready.take_from(borrower)
        if self._system_steps >= _MOST_SYSTEM_STEPS and ready.head() is system:
            # Timers that are always due again, and callbacks that schedule themselves again,
            # are more urgent than every level: without this no other task would ever run.
            self._system_steps = 0
            if ready.waiting > len(system.ready):
                return ready.take_behind(system)
        context, since_ns, task = ready.take()
        if context is not system:
            self._system_steps = 0
        elif ready.waiting > len(system.ready):
            self._system_steps += 1
        return context, since_ns, task

    # What the kernel calls.

    def close_pass(self) -> None:
        """Bill what has run. Called before the loop waits for I/O, and after steps have run."""
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
        self._account_for(context, self._steps)
        self._running, self._last = None, context
        self._began_ns = self._settled_ns
        if not self._runs_steps:
            self._learn(context, self._settled_ns - self._pass_ns)
        guard = self._guard
        if guard is not None and guard.is_saturated:
            guard.ran(self._level, self._settled_ns - self._opened_ns, lent=self._is_lent)
            self._is_lent = False

    def enforce_budgets(
        self,
        add_timer: Callable[[float, Callable[[], None]], Timer],
        notify: Callable[[Callable[[], None]], None],
    ) -> None:
        """Start to enforce CPU budgets in this loop; called before the first context gets one."""
        # Not imported before it is needed: most programs have no budgets.
        from rtos.scheduler.budgets.enforcement import BudgetEnforcement

        self.enforcement = BudgetEnforcement(
            throttle=self._throttle,
            unthrottle=self._unthrottle,
            clock=self.clock,
            add_timer=add_timer,
            notify=notify,
        )

    def fall_asleep(self, timeout: float) -> None:
        """See ``Accounts.fall_asleep``. Keeps no reference to a context without tasks."""
        super().fall_asleep(timeout)
        self._ready.head()

    def _charge(self, context: SchedulingContext, budget: BandwidthServer, spent_ns: int) -> None:
        super()._charge(context, budget, spent_ns)
        budget.is_active = self._has_ready(budget)

    def _has_ready(self, budget: BandwidthServer) -> bool:
        """Whether a context of ``budget`` has a released task; one that I/O wakes later is a new start."""
        for member in self.enforcement.contexts(budget):
            if member.ready or self._ready.set_aside(member):
                return True
        for task in _arrivals(self):
            if task is not _PLACEHOLDER and self.context_of(task).budget is budget:
                return True
        return False

    def _throttle(self, context: SchedulingContext) -> bool:
        ready = self._ready
        ready.throttle(context)
        tasks = ready.set_aside(context)
        for task in tasks:
            self._watch(context, task)
        # The loop must be able to sleep while every waiting task is throttled.
        if not ready.waiting and _length(self) and self[0] is _PLACEHOLDER:
            self.popleft()
        return bool(tasks)

    def _unthrottle(self, context: SchedulingContext) -> None:
        for task in self._ready.set_aside(context):
            unwatch_cancellation(task)
        self._ready.unthrottle(context)
        self._wake_loop()

    def _watch(self, context: SchedulingContext, task: Any) -> None:
        """Release a task that is set aside as soon as it is cancelled: no cancellation is throttled."""

        def release() -> None:
            self._ready.release(context, task)
            self._wake_loop()

        if has_pending_cancel(self._runner, task):
            release()
        else:
            watch_cancellation(task, release)

    def _wake_loop(self) -> None:
        """Make the loop run another pass, if tasks are ready and it would sleep."""
        if self._ready.waiting and not _length(self):
            self.append(_PLACEHOLDER)
            wake_host(self._runner)

    def running_task(self) -> str:
        """The name of the running task, readable from any thread."""
        task = self._thread_state.get("task")
        return "none" if task is None else str(task.name)

    def tasks(self) -> list[Any]:
        """Every released task that waits here, in no particular order."""
        return [*self._ready, *(task for task in _arrivals(self) if task is not _PLACEHOLDER)]

    def waiting(self) -> int:
        """How many released tasks wait here."""
        return len(self.tasks())

    def install(self) -> None:
        """Replace the ready queue of the running loop, with every task that waits in it."""
        runner = self._runner
        for context in system_contexts(runner):
            self._marked.append((context, context.run(context_variable.set, self.system)))
        self.extend(runner.runq)
        runner.runq = self
        accounts_variable.set(self)

    def uninstall(self) -> None:
        """Put a plain queue back, with every task that waits."""
        here = trio.lowlevel.current_task().context
        for context, token in self._marked:
            # The task that closes the last scheduler need not have opened the first, and
            # may be one of Trio's system tasks, whose context is in use right now.
            if context is here:
                context_variable.reset(token)
            else:
                context.run(context_variable.reset, token)
        self._marked.clear()
        for task in self._ready.all_set_aside():
            unwatch_cancellation(task)
        plain = deque(self.tasks())
        self._ready.clear()
        _clear(self)
        self._runner.runq = plain
        accounts_variable.set(None)
