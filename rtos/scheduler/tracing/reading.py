"""Makes the record classes of ``records`` from raw records.

One raw record may give several: a call is written once, when it has its outcome, and read
as its sending, its start and its end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rtos.scheduler.tracing.raw import BUDGET, CALLED, CPU, MISSED, SLEPT, STEP, nanoseconds
from rtos.scheduler.tracing.records import (
    Budget,
    CpuTime,
    Missed,
    Released,
    Sent,
    Serving,
    Settled,
    Sleep,
    Started,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rtos.scheduler.tracing.raw import Raw
    from rtos.scheduler.tracing.records import Record


def read(raws: Iterable[Raw], epoch: int) -> Iterator[Record]:
    """The records of ``raws``, in that order; ticks + ``epoch`` = nanoseconds of Trio time."""
    return (record for raw in raws for record in _READERS[raw[0]](raw, epoch))


def _read_step(raw: Raw, epoch: int) -> Iterator[Record]:
    _, at, duration, context, name, level, steps, ready = raw
    if ready < at:
        yield Released(ready + epoch, context)
    yield Step(at + epoch, duration, context, name, level, steps, ready + epoch)


def _read_sleep(raw: Raw, epoch: int) -> Iterator[Record]:
    _, at, duration, planned = raw
    yield Sleep(at + epoch, duration, planned)


def _read_cpu(raw: Raw, epoch: int) -> Iterator[Record]:
    _, at, duration, awake, cpu = raw
    yield CpuTime(at + epoch, duration, awake, cpu)


def _read_budget(raw: Raw, epoch: int) -> Iterator[Record]:
    _, at, context, name, remaining = raw
    yield Budget(at + epoch, context, name, remaining)


def _read_call(raw: Raw, _: int) -> Iterator[Record]:
    _, at, call, kind, context, name, port, level, sent, direct, started, server, outcome = raw
    yield Sent(nanoseconds(sent), call, kind, context, name, port, level, server if direct else 0)
    if started is not None:
        yield Started(nanoseconds(started), call, server, port)
    yield Settled(nanoseconds(at), call, outcome)


def _read_miss(raw: Raw, epoch: int) -> Iterator[Record]:
    yield make_missed(raw, epoch)


_READERS: Final[dict[int, Callable[[Raw, int], Iterator[Record]]]] = {
    STEP: _read_step,
    SLEPT: _read_sleep,
    CPU: _read_cpu,
    BUDGET: _read_budget,
    CALLED: _read_call,
    MISSED: _read_miss,
}


def make_missed(raw: Raw, epoch: int) -> Missed:
    """Convert the raw record of a missed call to ``Missed``."""
    _, at, call, kind, context, name, port, level, sent, due, started, answered, serving = raw
    return Missed(
        at=nanoseconds(at),
        call=call,
        kind=kind,
        context=context,
        name=name,
        port=port,
        level=level,
        sent=nanoseconds(sent),
        due=nanoseconds(due),
        started=_optional(started),
        answered=answered,
        serving=tuple(
            Serving(number, server, where, nanoseconds(when), _optional(begun), ready and ready + epoch)
            for number, server, where, when, begun, ready in serving
        ),
    )


def _optional(at: float | None) -> int | None:
    return None if at is None else nanoseconds(at)
