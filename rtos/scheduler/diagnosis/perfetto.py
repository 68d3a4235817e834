"""Export of the trace in Chrome's trace format, for Perfetto.

Pure: records in, plain builtins out. There is one track per scheduling context, in order
of level, with a slice for each step; an arrow for each call, from the step that sent it
through the step that started to serve it to the step that took the reply; counters for
waiting calls and for budgets; and a mark for each miss, with its causes.

Events are sorted by time. An arrow is drawn only if all its ends lie in slices that the
trace still holds, because Perfetto attaches an end without a slice to any slice nearby.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

from rtos.scheduler.tracing.records import (
    Budget,
    Collection,
    CpuTime,
    Missed,
    Released,
    Sent,
    Settled,
    Sleep,
    Started,
    Step,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rtos.scheduler.diagnosis.attribution import MissReport
    from rtos.scheduler.tracing.records import Record

Event = dict[str, Any]

PROCESS: Final = 1
LOOP: Final = 0
"""The track of the loop's sleep. The numbers of contexts begin at 1."""
COLLECTOR: Final = 2**31 - 1
"""The track of garbage collections, which may run in another thread and begin in a sleep."""


def chrome_trace(
    records: Iterable[Record], *, reports: Iterable[MissReport] = (), process: str = "rtos"
) -> dict[str, Any]:
    """The trace in Chrome's format, as plain builtins. Takes about 5 µs a record.

    Args:
      records: the records, as ``Trace.snapshot`` returns them.
      reports: reports on the misses among them; their marks then show the causes.
      process: the title of the trace.

    Returns:
      ``{"traceEvents": [...], "displayTimeUnit": "ns"}``; times in microseconds
      since the first record.
    """
    picture = _Picture(sorted(records, key=lambda record: record.at), reports)
    events = sorted(picture.events(), key=lambda event: event["ts"])
    return {"traceEvents": [*picture.titles(process), *events], "displayTimeUnit": "ns"}


class _Picture:
    def __init__(self, records: Sequence[Record], reports: Iterable[MissReport]) -> None:
        self._records = records
        self._reasons = {report.missed.call: str(report) for report in reports}
        self._origin = records[0].at if records else 0
        self._steps = [record for record in records if isinstance(record, Step)]
        self._starts = [step.at for step in self._steps]
        self._by_context: defaultdict[int, list[Step]] = defaultdict(list)
        for step in self._steps:
            self._by_context[step.context].append(step)
        self._sent = {record.call: record for record in records if isinstance(record, Sent)}
        self._started = {record.call: record for record in records if isinstance(record, Started)}
        self._titles = self._served()
        # The calls that wait, and their number at each port.
        self._queued: set[int] = set()
        self._depth: defaultdict[str, int] = defaultdict(int)

    def titles(self, process: str) -> Iterator[Event]:
        """The names and the order of the tracks."""
        yield _title("process_name", LOOP, name=process)
        yield from _track(LOOP, "loop", 0)
        yield from _track(COLLECTOR, "garbage collection", 1)
        for context, steps in sorted(self._by_context.items()):
            # The least urgent level is the context's own; the others were inherited.
            level = max(step.level for step in steps)
            yield from _track(context, steps[0].name, (level + 2) * 1_000_000 + context)

    def events(self) -> Iterator[Event]:
        """All events that have a time, in no order."""
        for record in self._records:
            match record:
                case Step():
                    yield self._step(record)
                case Sleep() | Collection():
                    yield self._pause(record)
                case Sent() | Started():
                    yield from self._waiting(record.call, record.at, began=isinstance(record, Sent))
                case Budget():
                    yield self._counter(f"budget of {record.name}", record.at, "µs", record.remaining / 1000)
                case CpuTime():
                    off = max(record.awake - record.cpu, 0) / 1000
                    yield self._counter("off the CPU", record.at + record.duration, "µs", off)
                case Missed():
                    yield self._miss(record)
                case Settled():
                    yield from self._waiting(record.call, record.at, began=False)
                    yield from self._arrow(record)
                case Released():
                    yield self._instant("ready", record.at, record.context, {})

    def _served(self) -> dict[int, str]:
        """By the beginning of a step, the command that it served."""
        served: dict[int, str] = {}
        kinds = {call: sent.kind for call, sent in self._sent.items()}
        for record in self._records:
            if isinstance(record, Started) and record.call in kinds:
                step = self._step_at(record.at)
                if step is not None and step.context == record.context:
                    served.setdefault(step.at, kinds[record.call])
        return served

    def _waiting(self, call: int, at: int, *, began: bool) -> Iterator[Event]:
        """The counter of a port, when a call begins or ends to wait there."""
        sent = self._sent.get(call)
        if sent is None or sent.worker or began == (call in self._queued):
            return
        self._queued ^= {call}
        self._depth[sent.port] += 1 if began else -1
        yield self._counter(f"waiting at {sent.port}", at, "calls", self._depth[sent.port])

    def _step(self, step: Step) -> Event:
        return {
            "name": self._titles.get(step.at, step.name),
            "cat": "step",
            "ph": "X",
            "ts": self._us(step.at),
            "dur": step.duration / 1000,
            "pid": PROCESS,
            "tid": step.context,
            "args": {"level": step.level, "steps": step.steps},
        }

    def _pause(self, pause: Sleep | Collection) -> Event:
        return {
            "name": f"generation {pause.generation}" if isinstance(pause, Collection) else "sleep",
            "cat": "loop",
            "ph": "X",
            "ts": self._us(pause.at),
            "dur": pause.duration / 1000,
            "pid": PROCESS,
            "tid": COLLECTOR if isinstance(pause, Collection) else LOOP,
        }

    def _counter(self, name: str, at: int, unit: str, value: float) -> Event:
        return {"name": name, "ph": "C", "ts": self._us(at), "pid": PROCESS, "args": {unit: value}}

    def _instant(self, name: str, at: int, context: int, args: dict[str, Any]) -> Event:
        return {
            "name": name,
            "cat": "mark",
            "ph": "i",
            "s": "t",
            "ts": self._us(at),
            "pid": PROCESS,
            "tid": context,
            "args": args,
        }

    def _miss(self, missed: Missed) -> Event:
        args = {
            "call": missed.call,
            "port": missed.port,
            "level": missed.level,
            "late_us": (missed.at - missed.due) / 1000,
            "waited_us": (missed.at - missed.sent) / 1000,
            "started": missed.started is not None,
        }
        if missed.call in self._reasons:
            args["why"] = self._reasons[missed.call]
        return self._instant(f"missed {missed.kind}", missed.at, missed.context, args)

    def _arrow(self, settled: Settled) -> Iterator[Event]:
        sent, started = self._sent.get(settled.call), self._started.get(settled.call)
        if sent is None or started is None:
            return
        sending, serving = self._step_at(sent.at), self._step_at(started.at)
        taking = self._step_after(sent.context, settled.at)
        if (
            sending is None
            or serving is None
            or taking is None
            or sending.context != sent.context
            or serving.context != started.context
        ):
            return
        yield self._end("s", sent, sent.at, sent.context)
        yield self._end("t", sent, started.at, started.context)
        yield self._end("f", sent, taking.at, sent.context)

    def _end(self, phase: str, sent: Sent, at: int, context: int) -> Event:
        event = {
            "name": sent.kind,
            "cat": "call",
            "ph": phase,
            "id": sent.call,
            "ts": self._us(at),
            "pid": PROCESS,
            "tid": context,
        }
        if phase == "f":
            # Bind the end to the slice that it lies in, not to the next one.
            event["bp"] = "e"
        return event

    def _step_at(self, at: int) -> Step | None:
        index = bisect_right(self._starts, at) - 1
        return self._steps[index] if index >= 0 and self._steps[index].end >= at else None

    def _step_after(self, context: int, at: int) -> Step | None:
        steps = self._by_context.get(context, [])
        index = bisect_left(steps, at, key=lambda step: step.at)
        return steps[index] if index < len(steps) else None

    def _us(self, at: int) -> float:
        return (at - self._origin) / 1000


def _title(what: str, track: int, **args: object) -> Event:
    return {"name": what, "ph": "M", "ts": 0, "pid": PROCESS, "tid": track, "args": args}


def _track(track: int, name: str, order: int) -> Iterator[Event]:
    yield _title("thread_name", track, name=name)
    yield _title("thread_sort_index", track, sort_index=order)
