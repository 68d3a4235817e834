"""The records of the trace, as readers see them: frozen classes, times in integer nanoseconds.

How they are written and kept is in ``ring.py``.
"""

from __future__ import annotations

import attrs


@attrs.frozen
class Step:
    """One run between two suspensions, or a batch of short ones of one context.

    Attributes:
      at: when it began, nanoseconds of Trio time, as in every record.
      duration: nanoseconds of wall time.
      context: number of the scheduling context.
      name: its name.
      level: the effective level that it ran with; negative for the kernel itself.
      steps: how many steps the batch held.
      ready: since when it could have run; ``at``, if it was run at once.
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
    """A context was seen to be ready, and could not run at once.

    The loop looks once a pass, so it became ready during the pass before.
    """

    at: int
    context: int


@attrs.frozen
class Sleep:
    """The loop had nothing to do.

    Attributes:
      planned: how long it meant to sleep, nanoseconds; ``None`` if without end.
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
    """What the loop's thread was given of the CPU, measured now and then.

    Attributes:
      duration: from ``at`` to the measurement.
      awake: how much of that the loop did not sleep.
      cpu: CPU time of the thread. ``awake - cpu`` is time in which it was not run.
    """

    at: int
    duration: int
    awake: int
    cpu: int


@attrs.frozen
class Budget:
    """What is left of a context's budget, nanoseconds; negative when it is overdrawn."""

    at: int
    context: int
    name: str
    remaining: int


@attrs.frozen
class Sent:
    """A call was accepted by a port.

    Attributes:
      call: its number, unique in this trace.
      kind: the name of the command.
      context: who sent it.
      name: the name of who sent it.
      port: where to.
      level: its level.
      worker: context of the idle worker that got it at once; 0 if it has to wait.
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
    """A worker began to serve a call; ``context`` is the worker's."""

    at: int
    call: int
    context: int
    port: str


@attrs.frozen
class Settled:
    """A call has its outcome: handled, failed, expired, shed or cancelled."""

    at: int
    call: int
    outcome: str


@attrs.frozen
class Serving:
    """A call under way, at the moment of a miss: the missed one, or one that serves it.

    Attributes:
      sent: when it was sent.
      context: the worker's.
      started: when the worker began to serve it; ``None`` if it has not yet.
      ready: since when the worker has been ready and not run; ``None`` if it is not.
    """

    call: int
    context: int
    port: str
    sent: int
    started: int | None
    ready: int | None


@attrs.frozen
class Missed:
    """A call was not answered by its deadline; ``at`` is when that was noticed.

    Attributes:
      sent: when it was sent, nanoseconds of Trio time.
      due: its deadline, likewise.
      started: when a worker began to serve it; ``None`` if none did.
      answered: whether the reply came nevertheless, late.
      serving: who was serving it when that was noticed, and who served those.
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
    """The garbage collector ran; everything stood still."""

    at: int
    duration: int
    generation: int

    @property
    def end(self) -> int:
        """When it ended."""
        return self.at + self.duration


Record = Step | Released | Sleep | CpuTime | Budget | Sent | Started | Settled | Missed | Collection
