"""The scheduling context: level, deadline and CPU account of a group of tasks.

A context is an object of its own, as in seL4: it orders and is billed for every task that
is started under it, in any nursery and by any library.

Priority inheritance: the effective level and deadline are the most urgent pair among
the context's own, that of the call that it serves (one slot), and those of its sources.
A source is any object that makes tasks wait for this context: a port with waiting calls,
a lock, a mailbox. A change of the effective pair is passed on to everything that the
context's own tasks wait for.

Invariant: the effective pair is that minimum at all times, and tasks are ordered by
nothing else.

Must not know: Trio, the clock, what a message is.
"""

from __future__ import annotations

import math
from collections import deque
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final, Self

from rtos.scheduler.policy.levels import DEFAULT_LEVEL, LEVELS, check_deadline, check_level

if TYPE_CHECKING:
    from collections.abc import Hashable
    from contextvars import Token
    from types import TracebackType
    from typing import Protocol

    from rtos.scheduler.policy.bandwidth_server import BandwidthServer

    class Waited(Protocol):
        """Something that a task waits for, for example a call or a lock."""

        def reprioritise(self, level: int, deadline: float) -> None:
            """Order it by the waiting context's new level and deadline, more urgent or less."""


_NOTHING: Final = (LEVELS, math.inf)

# Numbers tell contexts of one name apart in a trace; 0 stands for none.
_next_number = count(1).__next__


class SchedulingContext:
    """Level, deadline and CPU account of the tasks that run under it.

    Made by ``Scheduler.context``. Enter it with ``with`` to start tasks under it.

    Attributes:
      name: for the statistics and the trace; need not be unique.
      number: unique in this process.
      owner: the loop whose tasks run under it (``dispatch.accounting``); ``None`` until the
        first one does. In every other loop it counts as the host's context.
      base_level: its own level, 0 (most urgent) to ``LEVELS - 1``.
      level: the effective level, after inheritance.
      deadline: the effective absolute deadline (Trio time), ``math.inf`` if none.
      job_deadline: deadline of the job that its tasks work on, which nested calls
        inherit; ``math.inf`` if none.
      cpu_ns: time that its steps took, nanoseconds.
      steps: number of steps that its tasks have run.
      longest_ns: its longest step, nanoseconds.
      billed_ns: time that other contexts spent to serve its calls, nanoseconds.
      jobs: number of calls that it served and of releases of its periodic jobs.
      budget: the server of its budget, which other contexts may share; ``None`` for no limit.
      chain: names of the daemons that wait for this context, outermost first.
    """

    __slots__ = (
        "__weakref__",
        "base_deadline",
        "base_level",
        "billed_ns",
        "budget",
        "chain",
        "cpu_ns",
        "deadline",
        "entry",
        "inherited",
        "is_throttled",
        "job_deadline",
        "jobs",
        "level",
        "longest_ns",
        "moved",
        "name",
        "number",
        "owner",
        "payer",
        "ready",
        "since",
        "sources",
        "sources_place",
        "step_ns",
        "steps",
        "token",
        "waits",
    )

    def __init__(self, name: str, *, level: int = DEFAULT_LEVEL, deadline: float = math.inf) -> None:
        self.name = name
        self.number = _next_number()
        self.base_level = self.level = level
        self.base_deadline = self.deadline = deadline
        self.job_deadline = deadline
        # The level and deadline of the call that is being served.
        self.inherited: tuple[int, float] = _NOTHING
        # What each source asks for, and the most urgent of it. Most contexts have no source.
        self.sources: dict[Hashable, tuple[int, float]] | None = None
        self.sources_place: tuple[int, float] = _NOTHING
        self.cpu_ns = 0
        self.steps = 0
        self.longest_ns = 0
        self.billed_ns = 0
        self.jobs = 0
        self.budget: BandwidthServer | None = None
        self.chain: tuple[str, ...] = ()
        # Who pays for the call that is being served; set by the worker.
        self.payer: SchedulingContext | None = None
        # What its tasks wait for, so that a change of the effective pair travels on.
        self.waits: dict[Waited, None] = {}
        # The accounts of its loop, which its first task sets; elsewhere the host's context stands for it.
        self.owner: object = None
        # The seven below belong to the ready queue.
        self.ready: deque[tuple[int, Any]] = deque()
        self.entry: tuple[int, float, int, SchedulingContext] | None = None
        self.moved: Any = None
        self.is_throttled = False
        self.since = 0
        self.step_ns = 0
        self.token: Token[SchedulingContext] | None = None

    def __repr__(self) -> str:
        return f"<SchedulingContext {self.name!r} level={self.level}>"

    def __enter__(self) -> Self:
        """Put the running task, and the tasks it starts in the block, under this context.

        Raises:
          RuntimeError: the context is entered already.
        """
        if self.token is not None:
            msg = f"scheduling context {self.name!r} is entered already; make one context per `with` block"
            raise RuntimeError(msg)
        self.token = context_variable.set(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self.token is not None
        context_variable.reset(self.token)
        self.token = None

    def rebase(self, level: int, deadline: float = math.inf) -> None:
        """Change the context's own level and deadline; its queued tasks move at once.

        Inherited levels and deadlines stay in effect.

        Args:
          level: 0 (most urgent) to 7.
          deadline: absolute Trio time, seconds; none by default.

        Raises:
          ValueError: ``level`` is not from 0 to 7, or ``deadline`` is NaN.
        """
        check_level("rebase", level)
        check_deadline("rebase", deadline)
        self.base_level, self.base_deadline = level, deadline
        if not self.chain:
            # It serves no call, so nested calls inherit its own deadline.
            self.job_deadline = deadline
        self.reorder()

    def inherit(self, level: int, deadline: float) -> None:
        """Set the level and deadline of the call that is being served, in place of the last call's.

        The most urgent of this pair, the context's own and those of its sources takes
        effect. Deadlines compare only inside a level, so a deadline counts only if its
        level is at least as urgent as all others.
        """
        self.inherited = (level, deadline)
        sources = self.sources_place
        if sources is not _NOTHING and sources < (level, deadline):
            level, deadline = sources
        own_level, own_deadline = self.base_level, self.base_deadline
        if self.budget is not None:
            own_level, own_deadline = self.budget.place(own_level)
        if level > own_level:
            level, deadline = own_level, own_deadline
        elif level == own_level and own_deadline < deadline:
            deadline = own_deadline
        if level == self.level and deadline == self.deadline:
            return
        self.level, self.deadline = level, deadline
        if self.entry is not None:
            self.moved(self)
        for waited in self.waits:
            waited.reprioritise(level, deadline)

    def inherit_from(self, source: Hashable, level: int, deadline: float) -> None:
        """Set the level and deadline that ``source`` asks for, in place of what it asked for before.

        Args:
          source: identifies who asks: the port, lock or mailbox that has waiting tasks.
          level: of its most urgent waiting task.
          deadline: of that task, absolute Trio time.
        """
        if self.sources is None:
            self.sources = {}
        place = (level, deadline)
        if self.sources.get(source) != place:
            self.sources[source] = place
            self._choose_source()

    def disinherit(self, source: Hashable) -> None:
        """Inherit nothing from ``source`` any more. Does nothing if nothing is inherited from it."""
        if self.sources is not None and self.sources.pop(source, None) is not None:
            self._choose_source()

    def _choose_source(self) -> None:
        place = min(self.sources.values()) if self.sources else _NOTHING
        if place != self.sources_place:
            self.sources_place = place
            self.reorder()

    def reorder(self) -> None:
        """Compute the effective level and deadline again, after one of their inputs has changed."""
        self.inherit(*self.inherited)

    def fall_back(self) -> None:
        """Clear the slot of the served call; what the sources ask for stays in effect."""
        if self.level == self.base_level and self.deadline == self.base_deadline and self.budget is None:
            self.inherited = _NOTHING
        else:
            self.inherit(LEVELS, math.inf)


# Every task finds its context through this variable, and the tasks it starts inherit it.
# A task without a context is a task of the host and runs under the host's context.
context_variable: Final[ContextVar[SchedulingContext]] = ContextVar("rtos_scheduling_context")
