"""The one place that touches Trio's internals: the run queue inside its loop.

What it relies on, and checks before it changes anything:

* the running loop is ``trio._core._run.GLOBAL_RUN_CONTEXT.runner``, and its ready
  queue is ``runner.runq``, a ``collections.deque`` that is looked up anew each time;
* of that queue only ``append``, truth, length, iteration and ``clear`` are used, and
  each pass of the loop copies it with ``list()`` and clears it right after (Trio's
  statistics take the length for the number of runnable tasks; while the ready order
  holds some it is too low, and ``Scheduler.statistics`` has the right one);
* ``runner.init_task`` is the root of the task tree, ``runner.main_task`` the host's
  first task, and ``runner.system_context`` what new system tasks start from.

Everything else is public: instruments, a task's context, ``reschedule``.

Arrivals stay C appends; what is ordered is ordered once per pass. Trio shuffles
what one pass hands it. A pass is therefore one step, or several steps of one
single context, whose tasks have no order among themselves. Ordering on every
append, and a hook around every step, were tried: 50 to 200 % dearer per step
than Trio alone, where this costs about 10 %.

Invariant: a released task is in exactly one place: among the arrivals (the deque
itself) or in the ready order. While the ready order holds tasks the deque is not
empty (a placeholder stands in it), so the loop never sleeps on released tasks.
"""

from __future__ import annotations

import math
from collections import deque
from time import perf_counter, perf_counter_ns
from typing import TYPE_CHECKING, Any, Final

import trio
from trio._core import _run as trio_run

from rtos.errors import UnsupportedTrio
from rtos.scheduler.allowance import Allowances
from rtos.scheduler.context import SYSTEM_LEVEL, SchedulingContext, context_variable
from rtos.scheduler.ready import ReadyQueue
from rtos.scheduler.recorder import Recorder
from rtos.scheduler.reserve import Reserve
from rtos.scheduler.trace import BUDGET, STEP, Trace, nanoseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextvars import Context, Token

    from rtos.scheduler.budget import Reservation
    from rtos.scheduler.timers import TimerHeap

TESTED: Final = ("0.30.0", "0.35.0")
"""The oldest and the newest Trio release that the suite has been run with."""

_PLACEHOLDER: Final = None
_SYSTEM_PASSES: Final = 8
"""Passes in a row that system tasks may take while others wait."""
_length = deque.__len__
_arrivals = deque.__iter__
_clear = deque.clear


class RunQueue(deque[Any]):
    """Trio's ready queue, ordered by scheduling context.

    Attributes:
      host: the context of tasks that have none of their own.
      system: the context of Trio's system tasks and the kernel's own.
      passes: passes of the loop that ran at least one step.
      is_real: whether that is the system's; otherwise time is virtual.
      clock: reads the Trio time of this loop.
      ticks_ns: reads what steps are timed and billed by; in virtual time a step
        costs what it moves the clock by.
      quantum_ns: how long a pass may go on with short steps of one context;
        0, one step per pass, in virtual time, where a measured batch would make
        a run depend on the machine.
      wake_timers: called when a timer is due.
      allowances: the budgets of contexts that have one.
      trace: what the loop did lately, ``records`` of it.
      recorder: what is told of sleep and of the CPU.
    """

    def __init__(
        self, *, quantum_ns: int, host_level: int, timers: TimerHeap, records: int, reserve: float
    ) -> None:
        super().__init__()
        self.host = SchedulingContext("host", level=host_level)
        self.system = SchedulingContext("system")
        self.system.base_level = self.system.level = SYSTEM_LEVEL
        self.passes = 0
        self.wake_timers: Callable[[], None] = _nothing
        self._timers = timers
        clock = _runner().clock
        self.is_real = _is_real(clock)
        self.clock = _clock_reader(clock)
        self.quantum_ns = quantum_ns if _is_real(clock) else 0
        self.ticks_ns = perf_counter_ns if _is_real(clock) else _ticks_of(clock)
        self._ready = ReadyQueue()
        self.allowances = Allowances(self._hold, self._let_go, self.clock)
        self._reserve = Reserve(reserve) if reserve else None
        # How often in a row system tasks went before others that waited.
        self._system_passes = 0
        # Whether the running step goes first on the reserve.
        self._lent = False
        # The last to have run, and the one whose step or batch is being run.
        self._last: SchedulingContext | None = None
        self._running: SchedulingContext | None = None
        # The level that it was chosen with, and since when it was ready.
        self._level = 0
        self._since_ns = 0
        self._batch = 1
        self._began_ns = self._settled_ns = self.ticks_ns()
        self._marked: list[tuple[Context, Token[SchedulingContext]]] = []
        epoch = nanoseconds(clock.offset) if self.is_real else 0
        self.trace = Trace(records, epoch=epoch)
        self.recorder = Recorder(self.trace, now_ns=self._began_ns, real=self.is_real)
        # This thread's part of Trio's thread-local state, for reading from another.
        self._locals = vars(trio_run.GLOBAL_RUN_CONTEXT)

    def __repr__(self) -> str:
        # The inherited one iterates, and would take the next tasks off the queue.
        return f"<RunQueue of {len(self.tasks())} tasks>"

    # What the loop calls: list(queue), then queue.clear().

    def __iter__(self) -> Iterator[Any]:
        """Choose what this pass runs. The loop calls it once a pass, before ``clear``."""
        self._began_ns = self.ticks_ns()
        if self.recorder.asleep:
            self.recorder.wake_up(self._began_ns)
        at = self._timers.next_at()
        ready = self._ready
        if at != math.inf and at <= self.clock():
            self.wake_timers()
        if not ready.waiting and _length(self) == 1:
            # The common case of a calm system, kept out of the ready order.
            task = self[0]
            context = task.context.get(context_variable, self.host)
            if context.budget is not None:
                self.allowances.arrive(context.budget)
            if not context.is_held and not ready.waiting:
                self._running = context
                self._level = context.level
                self._since_ns = self._began_ns
                self._batch = 1
                self.passes += 1
                return iter((task,))
        self._order_arrivals()
        if not ready.waiting:
            self._running = None
            return iter(())
        return iter(self._choose())

    def clear(self) -> None:
        """Drop the arrivals, which ``__iter__`` has taken over. The loop calls it once a pass."""
        _clear(self)
        if self._ready.waiting:
            self.append(_PLACEHOLDER)

    def _order_arrivals(self) -> None:
        push, host = self._ready.push, self.host
        self._ready.now = self._began_ns
        for task in _arrivals(self):
            if task is not _PLACEHOLDER:
                context = task.context.get(context_variable, host)
                if context.budget is not None:
                    self.allowances.arrive(context.budget)
                push(context, task)
        _clear(self)

    def _choose(self) -> list[Any]:
        head = self._ready.head()
        assert head is not None
        self.passes += 1
        reserve = self._reserve
        # Timers and callbacks are nobody's to wait for: what they release may be urgent.
        if reserve is not None and reserve.look_at <= self._began_ns and head is not self.system:
            borrower = reserve.pick(head.level, self._ready.contexts(), self._began_ns)
            if borrower is not None:
                return self._lend(borrower)
        if head is not self.system:
            self._system_passes = 0
        elif self._ready.waiting > len(head.ready):
            self._system_passes += 1
            if self._system_passes > _SYSTEM_PASSES:
                return self._give_way(head)
        fitting = self.quantum_ns // head.step_ns if head.step_ns else 1
        self._level, self._since_ns = head.level, head.since
        self._running, tasks = self._ready.pop(max(fitting, 1))
        self._batch = len(tasks)
        return tasks

    def _give_way(self, system: SchedulingContext) -> list[Any]:
        # Timers that are always due again, and callbacks that ask for themselves again,
        # stand above every level: now and then the others get a step, or nobody else
        # would ever run.
        self._system_passes = 0
        self._ready.hold(system)
        self._level = self._ready.head().level  # type: ignore[union-attr]
        self._running, tasks = self._ready.pop(1)
        self._ready.let_go(system)
        self._batch = 1
        return tasks

    def _lend(self, borrower: SchedulingContext) -> list[Any]:
        self._lent = True
        self._batch = 1
        self._running, self._level, self._since_ns = borrower, borrower.level, borrower.since
        return [self._ready.pop_from(borrower)]

    # What the kernel calls.

    def close_pass(self) -> None:
        """Bill the pass that has just ended. Called before the loop waits for I/O."""
        context = self._running
        if context is None:
            return
        self._settle(context)
        self._running, self._last = None, context
        spent_ns, steps = self._settled_ns - self._began_ns, self._batch
        context.cpu_ns += spent_ns
        context.steps += steps
        mean_ns, known_ns = spent_ns // steps, context.step_ns
        if mean_ns > context.longest_ns:
            context.longest_ns = mean_ns
        # Rises at once and falls slowly, so that one lucky step does not make
        # the next batch long.
        context.step_ns = mean_ns if mean_ns > known_ns else known_ns - ((known_ns - mean_ns) >> 3)
        if context.budget is not None:
            self._charge(context, context.budget, spent_ns)
        reserve = self._reserve
        if reserve is not None and reserve.is_saturated:
            reserve.ran(self._level, spent_ns, lent=self._lent)
            self._lent = False
        recorder = self.recorder
        if recorder.record is not None:
            recorder.record((STEP, self._began_ns, spent_ns, context.number, context.name, self._level, steps,
                             self._since_ns))  # fmt: skip
        if self._settled_ns >= recorder.measure_at:
            recorder.measure(self._settled_ns, context)

    def fall_asleep(self, timeout: float) -> None:
        """The loop will sleep, for ``timeout`` seconds at most. Called after ``close_pass``."""
        # Virtual time is never late.
        planned = min(timeout, self._timers.next_at() - self.clock()) if self.is_real else math.inf
        self.recorder.fall_asleep(self.ticks_ns(), planned, self._last)

    def settle(self, context: SchedulingContext) -> None:
        """Bill what was spent up to here. Called before the payer of ``context`` changes.

        A step may serve many calls, each for somebody else, and ends with none.
        """
        if context is self._running:
            self._settle(context)

    def _settle(self, context: SchedulingContext) -> None:
        now_ns = self.ticks_ns()
        payer = context.payer
        if payer is not None:
            spent_ns = now_ns - max(self._settled_ns, self._began_ns)
            payer.billed_ns += spent_ns
            # Who has a budget of its own serves on that.
            if payer.budget is not None and context.budget is None:
                self.allowances.charge_payer(payer.budget, spent_ns)
        self._settled_ns = now_ns

    def _charge(self, context: SchedulingContext, budget: Reservation, spent_ns: int) -> None:
        self.allowances.charge_own(budget, spent_ns, self._level)
        if self.recorder.record is not None:
            name = context.name
            self.recorder.record((BUDGET, self._settled_ns, context.number, name, budget.remaining))
        budget.is_active = self._goes_on(budget)

    def _goes_on(self, budget: Reservation) -> bool:
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

    def step_age_ns(self) -> int:
        """How long the running step, or batch of steps, has run so far."""
        return self.ticks_ns() - self._began_ns

    def cpu_ns(self, context: SchedulingContext) -> int:
        """What ``context`` has used so far, the running step included."""
        return context.cpu_ns + (self.step_age_ns() if context is self._running else 0)

    @property
    def running(self) -> SchedulingContext | None:
        """The context whose step, or batch, is being run; ``None`` between passes."""
        return self._running

    @property
    def asleep(self) -> bool:
        """Whether the loop sleeps."""
        return self.recorder.asleep

    def running_task(self) -> str:
        """The name of the task that is running, from any thread."""
        task = self._locals.get("task")
        return "none" if task is None else str(task.name)

    def tasks(self) -> list[Any]:
        """Every released task that waits here, in no particular order."""
        return [*self._ready, *(task for task in _arrivals(self) if task is not _PLACEHOLDER)]

    def take_over(self) -> None:
        """Replace the queue of the running loop, with everything that waits."""
        runner = _runner()
        for context in _system_contexts(runner):
            self._marked.append((context, context.run(context_variable.set, self.system)))
        self.extend(runner.runq)
        runner.runq = self

    def hand_back(self) -> None:
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


def check_trio() -> None:
    """Check that the running loop is shaped as the run queue needs it.

    Raises:
      UnsupportedTrio: it is not; nothing has been changed.
    """
    runner: Any = getattr(getattr(trio_run, "GLOBAL_RUN_CONTEXT", None), "runner", None)
    missing = [
        name for name in ("runq", "init_task", "main_task", "system_context") if not hasattr(runner, name)
    ]
    if missing or type(runner.runq) is not deque:
        found = f"runner lacks {missing}" if missing else f"runq is {type(runner.runq)!r}"
        raise UnsupportedTrio(
            f"trio {trio.__version__} is not shaped as the run queue needs it ({found})",
            f"use a version from {TESTED[0]} to {TESTED[1]}, and say which one this is",
        )


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


def _nothing() -> None:
    """Stand in until the kernel's timer task is there."""
