"""The record classes of the trace, as readers see them; times in integer nanoseconds.

``ring.py`` has how records are written and kept.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Step:
    """One run of a task between two checkpoints, or a batch of short ones of one context.

    Attributes:
      at: when it began; in every record nanoseconds of Trio time.
      duration: wall-clock time, nanoseconds.
      context: number of the scheduling context.
      name: name of the scheduling context.
      level: the effective level that it ran at; negative for the kernel itself.
      steps: how many steps the batch holds.
      ready: when it became ready; equal to ``at`` if it ran at once.
    """

    at: int
    duration: int
    context: int
    name: str
    level: int
    steps: int
    ready: int

    @property
    def end(self) -> int:
        """When it ended."""
        return self.at + self.duration


@attrs.frozen
class Released:
    """A context was found ready, and could not run at once.

    The loop looks once per pass, so the context became ready during the pass before.
    """

    at: int
    context: int


@attrs.frozen
class Sleep:
    """The loop slept, because no task was ready.

    Attributes:
      planned: how long it was going to sleep at most, nanoseconds; ``None`` for without end.
    """

    at: int
    duration: int
    planned: int | None

    @property
    def end(self) -> int:
        """When it ended."""
        return self.at + self.duration


@attrs.frozen
class CpuTime:
    """A sample of the CPU time of the loop's thread, about one per waking millisecond.

    Attributes:
      duration: time from ``at`` to the sample.
      awake: the part of it in which the loop was not asleep.
      cpu: CPU time of the thread in it. In ``awake - cpu`` the thread did not run.
    """

    at: int
    duration: int
    awake: int
    cpu: int


@attrs.frozen
class Budget:
    """The remaining budget of a context, nanoseconds; negative when it is overdrawn."""

    at: int
    context: int
    name: str
    remaining: int


@attrs.frozen
class Sent:
    """A port accepted a call.

    Attributes:
      call: its number, unique in this trace.
      kind: the name of the command.
      context: number of the caller's context.
      name: name of the caller's context.
      port: name of the port.
      level: the level of the call.
      worker: context of the idle worker that got it at once; 0 if the call had to wait.
    """

    at: int
    call: int
    kind: str
    context: int
    name: str
    port: str
    level: int
    worker: int


@attrs.frozen
class Started:
    """A worker started to serve a call; ``context`` is the worker's."""

    at: int
    call: int
    context: int
    port: str


@attrs.frozen
class Settled:
    """A call got its outcome: handled, failed, expired, shed or cancelled."""

    at: int
    call: int
    outcome: str


@attrs.frozen
class Serving:
    """A call in progress at the moment of a miss: the missed call, or a call made to serve it.

    Attributes:
      call: its number.
      context: number of the worker's context.
      port: name of the port.
      sent: when it was sent.
      started: when the worker started to serve it; ``None`` if it has not.
      ready: when the worker became ready; ``None`` if it is not ready, or is running.
    """

    call: int
    context: int
    port: str
    sent: int
    started: int | None
    ready: int | None


@attrs.frozen
class Missed:
    """A call had no reply by its deadline; ``at`` is when that was noticed.

    Attributes:
      call: its number.
      kind: the name of the command.
      context: number of the caller's context.
      name: name of the caller's context.
      port: name of the port.
      level: the level of the call.
      sent: when it was sent.
      due: its deadline.
      started: when a worker started to serve it; ``None`` if none did.
      answered: whether a reply came, late.
      serving: the call as it was in progress at that moment, and the calls made to serve it.
    """

    at: int
    call: int
    kind: str
    context: int
    name: str
    port: str
    level: int
    sent: int
    due: int
    started: int | None
    answered: bool
    serving: tuple[Serving, ...] = ()


@attrs.frozen
class Collection:
    """The garbage collector ran, and the whole process waited for it."""

    at: int
    duration: int
    generation: int

    @property
    def end(self) -> int:
        """When it ended."""
        return self.at + self.duration


Record = Step | Released | Sleep | CpuTime | Budget | Sent | Started | Settled | Missed | Collection
