"""Step donation: run a step of a parked task inside the step of the running task.

A caller whose callee is idle donates the rest of its step to the callee: the callee
runs at once, without a pass of the loop in between. While it runs, the caller's task
is parked and the callee's task is the running one for Trio and for the accounts.

A step is donated only where both parts together fit the quantum, and where no task can
observe the difference.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from rtos.scheduler.dispatch.accounting import Accounts
from rtos.scheduler.dispatch.trio_compat import (
    RUN_CONTEXT,
    act_upon,
    has_pending_cancel,
    hooks_of,
    running_loop,
)
from rtos.scheduler.tracing.raw import STEP

if TYPE_CHECKING:
    from collections.abc import Callable

    from trio.lowlevel import Abort, RaiseCancelT, Task

    from rtos.scheduler.policy.context import SchedulingContext

_MOST_DONATIONS: Final = 64
"""Steps that one pass may donate, where time stands still and no quantum ends."""


class StepDonation(Accounts):
    """The accounts of a loop whose tasks may donate steps.

    Args:
      donation_limit_ns: see the attribute.
      accounts: the arguments of ``Accounts``.

    Attributes:
      donation_limit_ns: age of a pass, in nanoseconds, up to which a step may be donated; -1 for never.
    """

    def __init__(self, *, donation_limit_ns: int, **accounts: Any) -> None:
        super().__init__(**accounts)
        self.donation_limit_ns = donation_limit_ns
        self._runner = running_loop()
        self._hooks = hooks_of(self._runner)
        # When the running step began.
        self._step_ns = 0
        # ``donated`` when the pass began.
        self._donated_before = 0
        # Whether the pass ends with the running step.
        self._is_over = False

    def may_donate(self, context: SchedulingContext) -> bool:
        """Whether the next step of ``context`` may run inside the running step.

        The two steps together must be expected to fit the limit, and neither context may
        have a budget. Not while an exception is being handled, which would become the
        context of every exception raised inside, nor while an instrument observes steps.
        """
        outer, hooks = self._running, self._hooks
        return not (
            not context.steps
            or self.ticks_ns() - self._pass_ns + context.step_ns > self.donation_limit_ns
            or self.donated - self._donated_before >= _MOST_DONATIONS
            or context.budget is not None
            or outer is None
            or outer.budget is not None
            or sys.exception() is not None
            or "before_task_step" in hooks
            or "after_task_step" in hooks
        )

    def donate(
        self,
        task: Task,
        step: Callable[[Any], Any],
        value: Any,
        *,
        context: SchedulingContext,
        abort: Callable[[RaiseCancelT], Abort],
    ) -> Any:
        """Call ``step(value)`` inside the running step, as part of a step of a parked task.

        The running task is parked meanwhile; a cancellation calls ``abort``, which must
        not succeed. Each context is billed for its part.

        Args:
          task: parked in ``wait_task_rescheduled``; no other code may reschedule it. The
            caller parks it again (``park``), or lets it wait for something else (``suspend``).
          step: runs in the task's context variables and under its cancel scopes.
          value: argument of ``step``.
          context: scheduling context of ``task``.
          abort: of the running task, as for ``wait_task_rescheduled``.

        Returns:
          What ``step`` returns; its exceptions propagate.
        """
        outer, level, since_ns = self._running, self._level, self._since_ns
        assert outer is not None
        self.donated += 1
        # What ``_account_for`` and ``_learn`` do for two contexts without a budget, inline:
        # with calls this would cost 2.3 µs instead of 1.6.
        if outer.payer is None:
            self._settled_ns = self.ticks_ns()
        else:
            self._settle(outer)
        outer_ns, began_ns, donated_level = self._began_ns, self._settled_ns, context.level
        outer.cpu_ns += began_ns - outer_ns
        record = self.recorder.record
        if record is not None:
            record((STEP, outer_ns, began_ns - outer_ns, outer.number, outer.name, level, 0, since_ns))
        self._running, self._level = context, donated_level
        self._began_ns = self._since_ns = began_ns
        donor = RUN_CONTEXT.task
        donor._abort_func = abort
        RUN_CONTEXT.task = task
        task._abort_func = None
        try:
            return task.context.run(step, value)
        finally:
            RUN_CONTEXT.task = donor
            donor._abort_func = None
            try:
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
                context.step_ns = (
                    length_ns if length_ns > known_ns else known_ns - ((known_ns - length_ns) >> 3)
                )
                if record is not None:
                    record((STEP, went_on_ns, ended_ns - went_on_ns, context.number, context.name,
                            donated_level, 1, began_ns))  # fmt: skip
            finally:
                # Also when the stack is exhausted, or the rest would be billed to ``context``.
                self._running, self._level, self._since_ns = outer, level, since_ns
                self._began_ns = self._settled_ns

    def park(self, task: Any, abort: Callable[[RaiseCancelT], Abort]) -> None:
        """Park a task again after ``donate``; a cancellation that came meanwhile is delivered now."""
        task._abort_func = abort
        task._attempt_delivery_of_any_pending_cancel()

    def suspend(self, task: Task, message: Any) -> None:
        """Let ``task`` wait for what ``message`` asks the loop for; ``donate`` has yielded it."""
        act_upon(self._runner, task, message)

    def end_pass(self) -> bool:
        """End the pass with the running step, if other steps have run in it.

        A donation that does not fit the rest of this quantum may fit the next one.

        Returns:
          Whether the pass will end.
        """
        if self.donation_limit_ns < 0 or (
            self.donated == self._donated_before and self._step_ns == self._pass_ns
        ):
            return False
        self._is_over = True
        return True

    def is_cancelled(self) -> bool:
        """Whether the running task must handle a cancellation; counts as a cancel point.

        Does what ``trio.lowlevel.checkpoint_if_cancelled`` does first, at half its price:
        that one is a coroutine.
        """
        task, runner = RUN_CONTEXT.task, self._runner
        task._cancel_points += 1
        return has_pending_cancel(runner, task)

    def has_overrun(self) -> bool:
        """Whether the pass, up to the end of the latest donation, is older than the limit."""
        # ``_began_ns`` is the clock reading taken at the end of the donated step.
        return self._began_ns - self._pass_ns > self.donation_limit_ns
