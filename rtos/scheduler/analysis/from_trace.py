"""Jobs from a trace: what a system did, taken as what it may do.

Pure: records of the trace, or the file that ``rtos trace`` writes, come in; jobs in
nanoseconds go out. Costs are the largest that were seen, so a proof about these jobs is
a proof about the trace and not about the system; a longer trace is a better model.

Arrivals: ``period`` is the length of the trace divided by the calls of one command in
it, and ``jitter`` is the least that makes every burst in it fit that. A trace does not
tell deadlines, so these jobs have none.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import attrs

from rtos.errors import ConfigurationError
from rtos.scheduler.analysis.model import NO_DEADLINE, Job
from rtos.scheduler.tracing.records import Collection, CpuTime, Sent, Settled, Sleep, Started, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from rtos.scheduler.tracing.records import Record

_LASTING = (Step, Sleep, CpuTime, Collection)


def jobs_of_trace(trace: Mapping[str, Any]) -> list[Job]:
    """The commands in a trace file as jobs.

    Args:
      trace: the parsed JSON, in Chrome's trace format as ``rtos trace`` writes it.

    Raises:
      ConfigurationError: it is not such a trace, or there is no call in it.
    """
    events = trace.get("traceEvents") if isinstance(trace, dict) else None
    if not isinstance(events, list):
        raise ConfigurationError("the file is not a trace", "write one with `rtos trace --out=trace.json`")
    try:
        records = list(_records_of(events))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ConfigurationError(
            f"the trace does not have the format of `rtos trace` ({error!r})",
            "write one with `rtos trace --out=trace.json`",
        ) from None
    jobs = jobs_of_records(records)
    if not jobs:
        raise ConfigurationError("there is no call in the trace", "trace while the system is working")
    return jobs


def jobs_of_records(records: Sequence[Record]) -> list[Job]:
    """The commands in the records of a trace as jobs, by name; none if there was no call.

    A call counts if the trace still holds its end, and the step in which it was started.
    """
    steps: defaultdict[int, list[Step]] = defaultdict(list)
    sent: dict[int, Sent] = {}
    started: dict[int, Started] = {}
    settled: dict[int, Settled] = {}
    for record in sorted(records, key=lambda record: record.at):
        match record:
            case Step():
                steps[record.context].append(record)
            case Sent():
                sent[record.call] = record
            case Started():
                started[record.call] = record
            case Settled():
                settled[record.call] = record
            case _:
                pass
    commands: defaultdict[str, _Command] = defaultdict(_Command)
    for call in sent.keys() & started.keys() & settled.keys():
        began, ended = started[call], settled[call].at
        served = _served(steps[began.context], began.at, ended)
        if served:
            commands[sent[call].kind].note(sent[call].at, served, ended)
    length = _length(records)
    return [command.job(name, length) for name, command in sorted(commands.items())]


def _length(records: Iterable[Record]) -> int:
    begin = end = None
    for record in records:
        ended = record.at + (record.duration if isinstance(record, _LASTING) else 0)
        begin = record.at if begin is None else min(begin, record.at)
        end = ended if end is None else max(end, ended)
    return 0 if begin is None or end is None else end - begin


def _served(steps: Sequence[Step], began: int, ended: int) -> Sequence[Step]:
    """The worker's steps from the one in which it took the call to the last that began before the end."""
    first = bisect_right(steps, began, key=lambda step: step.at) - 1
    if first < 0 or steps[first].end < began:
        return ()
    return steps[first : max(bisect_left(steps, ended, key=lambda step: step.at), first + 1)]


@attrs.define
class _Command:
    """What was seen of one command."""

    sent: list[int] = attrs.Factory(list)
    cost: int = 1
    longest: int = 1
    # The shortest that was seen: the later the last step begins, the more urgent jobs go before it.
    last: int = 1 << 80
    level: int = 0

    def note(self, sent: int, served: Sequence[Step], ended: int) -> None:
        self.sent.append(sent)
        self.cost = max(self.cost, sum(step.duration for step in served))
        self.longest = max(self.longest, *(step.duration for step in served))
        self.last = min(self.last, max(min(served[-1].end, ended) - served[-1].at, 1))
        self.level = max(self.level, *(step.level for step in served))

    def job(self, name: str, length: int) -> Job:
        period, jitter = _arrivals(sorted(self.sent), length)
        return Job(
            name=name,
            level=self.level,
            cost=self.cost,
            period=period,
            jitter=jitter,
            deadline=NO_DEADLINE,
            longest_step=self.longest,
            last_step=self.last,
            in_bursts=True,
        )


def _arrivals(sent: list[int], length: int) -> tuple[int, int]:
    period = max(length // len(sent), 1)
    # The distance of two calls may fall short of that many periods by the jitter.
    jitter, latest = 0, sent[0]
    for index, at in enumerate(sent):
        latest = max(latest, at - index * period)
        jitter = max(jitter, latest - (at - index * period))
    return period, jitter


def _records_of(events: Iterable[Mapping[str, Any]]) -> Iterator[Record]:
    """The records behind the events of a trace file, as far as jobs need them.

    Raises:
      KeyError, TypeError, ValueError, OverflowError: the events are not as ``rtos trace`` writes them.
    """
    # The times of a trace file count from its first record.
    yield Sleep(0, 0, None)
    for event in events:
        phase, category = event["ph"], event.get("cat")
        if phase == "M":
            continue
        at = _ns(event["ts"])
        if category == "step" and phase == "X":
            level = int(event["args"]["level"])
            yield Step(at, _ns(event["dur"]), int(event["tid"]), "", level, 1, at)
        elif category == "call" and phase == "s":
            yield Sent(at, int(event["id"]), str(event["name"]), 0, "", "", 0, 0)
        elif category == "call" and phase == "t":
            yield Started(at, int(event["id"]), int(event["tid"]), "")
        elif category == "call" and phase == "f":
            yield Settled(at, int(event["id"]), "")
        else:
            # Any other event matters only for the length of the trace.
            yield Sleep(at, _ns(event.get("dur", 0)), None)


def _ns(us: float) -> int:
    return round(us * 1000)
