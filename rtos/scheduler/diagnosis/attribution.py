"""Attribution of a missed deadline: splits the time of the call by cause, to the nanosecond.

Pure. Holds the rules that assign each piece of a miss's window, from the sending of the
call to the moment at which the miss was noticed, to one cause. Must not depend on where
records come from, or on who reads reports.

Invariant: the shares of a report add up to its window exactly, and none is negative. That
holds for any records, contradictory ones included: the window is walked through once, from
cut to cut, and each piece is assigned to one cause.

Where the records are not exact, these rules hold:

* The loop checks once per pass which contexts became ready. A step in which the awaited
  worker became ready counts as blocking for its whole length, since the worker cannot have
  become ready in a later step. That is an upper bound.
* Readiness is known per context, not per task.
* Time off the CPU is sampled over several steps. It is taken from the longest of them,
  because losing the CPU is what makes a step long.
"""

from __future__ import annotations

import enum
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.scheduler.tracing.records import Collection, CpuTime, Released, Sent, Settled, Sleep, Started, Step

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from rtos.scheduler.tracing.records import Missed, Record

STRIDE: Final = 64
"""How many pieces of time one portion of an explanation assigns."""

CLOCK_NOISE: Final = 50_000
"""Less time off the CPU than this in one sample, in nanoseconds, is a difference of clocks."""


class Part(enum.Enum):
    """A cause of delay."""

    LATE_RELEASE = "late wake-up"
    """The loop slept longer than planned."""
    INTERFERENCE = "interference"
    """Steps that were as urgent or more, other calls of the same daemon included."""
    BLOCKING = "blocking step"
    """A less urgent step, or the step that was running when the call was sent."""
    OWN = "own run"
    """The call was being served, by its daemon or by one that this daemon called."""
    COLLECTION = "garbage collection"
    STOLEN = "off the CPU"
    """The loop's thread did not run: other processes, other threads, or a blocking call."""
    SUSPENDED = "server suspended"
    """The worker waited for something else: a thread, a timer, the network."""
    QUEUED = "no worker free"
    """The call was queued while every worker of the daemon waited for something else."""
    KERNEL = "kernel"
    """The rest: the loop and the kernel between steps, polling for I/O, timers."""
    UNRECORDED = "not recorded"
    """The trace did not reach back that far, or was off."""


@attrs.frozen
class Share:
    """The part of a window that one cause took.

    Attributes:
      part: the cause.
      who: the name of the context that caused it; ``None`` where there is none.
      ns: how long, in all; nanoseconds.
      longest: the longest single piece; nanoseconds.
    """

    part: Part
    who: str | None
    ns: int
    longest: int


@attrs.frozen
class MissReport:
    """A missed call, and the causes of its delay.

    Attributes:
      missed: the record of the miss.
      shares: the causes, the greatest share first; they add up to ``window`` exactly.
    """

    missed: Missed
    shares: tuple[Share, ...]

    @property
    def window(self) -> int:
        """The time from sending the call to noticing the miss, nanoseconds."""
        return max(self.missed.at - self.missed.sent, 0)

    @property
    def offender(self) -> Share | None:
        """The share to look at first; ``None`` if the window is empty.

        The greatest share, except for the call's own run, the kernel and time without
        records: these only if there is no other.
        """
        blamed = [share for share in self.shares if share.part not in _BLAMELESS]
        return next(iter(blamed or self.shares), None)

    def __str__(self) -> str:
        missed, window = self.missed, self.window
        progress = "had been started" if missed.started is not None else "had not been started"
        outcome = "was answered late" if missed.answered else progress
        call = f"{missed.kind} (to {missed.port!r}, from {missed.name!r}, level {missed.level})"
        late, after = _ms(missed.at - missed.due), _ms(window)
        lines = [f"{call} missed its deadline by {late}, {after} after it was sent; it {outcome}"]
        lines += [f"  {100 * share.ns / window:5.1f} %  {_describe(share)}" for share in self.shares]
        if self.offender is not None:
            lines.append(f"  look at: {_describe(self.offender)}")
        return "\n".join(lines)


_BLAMELESS: Final = (Part.OWN, Part.KERNEL, Part.UNRECORDED)

_Key = tuple[Part, str | None]
_Span = Step | Sleep
_Point = Released | Sent | Started | Settled
_POINTS: Final = (Released, Sent, Started, Settled)


def explain(missed: Missed, records: Iterable[Record]) -> MissReport:
    """Split the time of a missed call by cause.

    Args:
      missed: the miss.
      records: the records of the trace, in any order; records outside the window are ignored.
    """
    for report in explain_in_portions(missed, tuple(records)):
        if report is not None:
            return report
    raise AssertionError


def explain_in_portions(missed: Missed, records: Sequence[Record]) -> Generator[MissReport | None]:
    """As ``explain``, in portions: yields ``None`` after each, and the report at the end.

    A portion takes about 0.1 ms, so that explaining a miss does not cause another.
    """
    sweep = _Sweep(missed, records)
    for number, _ in enumerate(sweep.walk(), start=1):
        if number % STRIDE == 0:
            yield None
    sweep.assign_stolen_time()
    yield MissReport(missed, sweep.shares())


class _Sweep:
    """One walk through the window of a miss."""

    def __init__(self, missed: Missed, records: Sequence[Record]) -> None:
        self._missed = missed
        self._begin, self._end = missed.sent, max(missed.at, missed.sent)
        kinds: defaultdict[type[Record], list[Any]] = defaultdict(list)
        for record in records:
            kinds[type(record)].append(record)
        # Collections and samples may begin before all other records that are kept.
        known = [record.at for kind in (Step, Sleep, *_POINTS) for record in kinds[kind]]
        self._known_from = min(known, default=self._end)
        # Steps and sleeps of a correct trace never overlap; of an incorrect one the first one counts.
        spans = sorted([*kinds[Step], *kinds[Sleep]], key=_beginning)
        self._spans: list[_Span] = [span for span in spans if span.end > self._begin and span.at < self._end]
        self._collections: deque[Collection] = deque(sorted(kinds[Collection], key=_beginning))
        self._measurements: list[CpuTime] = kinds[CpuTime]
        points = [point for kind in _POINTS for point in kinds[kind]]
        points += _under_way(missed)
        # At the same instant a release comes first: sending and starting happen in the step after it.
        self._points: deque[_Point] = deque(sorted(points, key=_beginning))
        # The missed call and the calls made to serve it, and the context that serves each.
        self._calls = {missed.call, *(serving.call for serving in missed.serving)}
        self._servers: dict[int, int] = {}
        self._serving: defaultdict[int, int] = defaultdict(int)
        self._started = False
        self._direct = False
        # The contexts that must run for the call to make progress, and those of them that are ready.
        self._awaited = _possible_servers(missed, self._points)
        self._ready: set[int] = set()
        # How each span was assigned, by its index; -1 is the time between spans.
        self._given: defaultdict[int, defaultdict[_Key, int]] = defaultdict(lambda: defaultdict(int))
        # Pieces of the latest span with two causes: the second one holds if it turns out
        # that an awaited context became ready in the span.
        self._doubtful: list[tuple[int, _Key, _Key, int]] = []

    def walk(self) -> Generator[None]:
        """Assign every piece of the window to a cause; yields after each."""
        cursor = self._begin
        for index, span in enumerate(self._spans):
            start, end = max(span.at, cursor), min(span.end, self._end)
            if start > cursor:
                yield from self._cut(-1, None, cursor, start)
                cursor = start
            self._pass_points(start)
            self._settle(awaited=isinstance(span, Step) and span.context in self._awaited)
            if isinstance(span, Step):
                self._ready.discard(span.context)
            if end > cursor:
                yield from self._cut(index, span, cursor, end)
                cursor = end
        yield from self._cut(-1, None, cursor, self._end)
        self._pass_points(self._end)
        self._settle(awaited=False)

    def shares(self) -> tuple[Share, ...]:
        """The time that each cause took, the longest first."""
        total: defaultdict[_Key, int] = defaultdict(int)
        longest: defaultdict[_Key, int] = defaultdict(int)
        for given in self._given.values():
            for key, ns in given.items():
                total[key] += ns
                longest[key] = max(longest[key], ns)
        shares = [Share(part, who, ns, longest[part, who]) for (part, who), ns in total.items() if ns]
        return tuple(sorted(shares, key=lambda share: -share.ns))

    def assign_stolen_time(self) -> None:
        """Move the time off the CPU from the longest steps to STOLEN."""
        for measured in self._measurements:
            stolen = measured.awake - measured.cpu
            if stolen >= CLOCK_NOISE:
                self._take_from_steps(measured, stolen)

    def _take_from_steps(self, measured: CpuTime, stolen: int) -> None:
        end = measured.at + measured.duration
        within = [
            (span.duration, index)
            for index, span in enumerate(self._spans)
            if isinstance(span, Step) and span.at < end and span.end > measured.at
        ]
        for duration, index in sorted(within, reverse=True):
            if stolen <= 0:
                return
            given = self._given[index]
            inside = sum(given.values())
            taken = min(stolen, duration)
            stolen -= taken
            # Where in the step it happened is not known: a step that the window cuts counts in proportion.
            self._move_to_stolen(given, taken * inside // duration if duration else 0)

    @staticmethod
    def _move_to_stolen(given: defaultdict[_Key, int], amount: int) -> None:
        for key in sorted(given, key=lambda key: -given[key]):
            if key[0] not in (Part.COLLECTION, Part.STOLEN):
                taken = min(amount, given[key])
                given[key] -= taken
                given[Part.STOLEN, key[1]] += taken
                amount -= taken

    def _cut(self, index: int, span: _Span | None, start: int, end: int) -> Generator[None]:
        """Assign one span, or the time between two, piece by piece."""
        while start < end:
            self._pass_points(start)
            stop, collecting = self._next_cut(start, end)
            if isinstance(span, Sleep) and span.planned is not None and start < span.at + span.planned < stop:
                stop = span.at + span.planned
            if start < self._missed.due < stop:
                stop = self._missed.due
            if collecting:
                self._given[index][Part.COLLECTION, None] += stop - start
            else:
                self._give(index, span, start, stop)
            start = stop
            yield

    def _next_cut(self, start: int, end: int) -> tuple[int, bool]:
        """The end of the piece that begins at ``start``, and whether it is a garbage collection."""
        collections = self._collections
        while collections and collections[0].end <= start:
            collections.popleft()
        if self._points and self._points[0].at < end:
            end = self._points[0].at
        if start < self._known_from < end:
            end = self._known_from
        if collections and collections[0].at <= start:
            return min(end, collections[0].end), True
        return (min(end, collections[0].at) if collections else end), False

    def _give(self, index: int, span: _Span | None, start: int, stop: int) -> None:
        key, otherwise = self._judge(span, start)
        if otherwise is None:
            self._given[index][key] += stop - start
        else:
            self._doubtful.append((index, key, otherwise, stop - start))

    def _judge(self, span: _Span | None, start: int) -> tuple[_Key, _Key | None]:
        """The cause, and the cause that holds instead if an awaited context became ready in the span."""
        if start < self._known_from:
            return (Part.UNRECORDED, None), None
        if span is None or (isinstance(span, Step) and span.level < 0):
            return (Part.KERNEL, None), None
        idle = Part.SUSPENDED if self._started else Part.QUEUED
        if isinstance(span, Sleep):
            late = span.planned is not None and start >= span.at + span.planned
            return (Part.LATE_RELEASE if late else idle, None), None
        if self._serving[span.context]:
            return (Part.OWN, span.name), None
        if span.at < self._begin:
            return (Part.BLOCKING, span.name), None
        urgent = span.level <= self._missed.level
        ran_first = (Part.INTERFERENCE if urgent else Part.BLOCKING, span.name)
        if self._is_pending() or start >= self._missed.due or (urgent and not self._started):
            return ran_first, None
        return (idle, None), ran_first

    def _is_pending(self) -> bool:
        return bool(self._ready) or (self._direct and not self._started)

    def _settle(self, *, awaited: bool) -> None:
        for index, key, otherwise, ns in self._doubtful:
            self._given[index][otherwise if awaited else key] += ns
        self._doubtful.clear()

    def _pass_points(self, now: int) -> None:
        while self._points and self._points[0].at <= now:
            self._pass_point(self._points.popleft())

    def _pass_point(self, point: _Point) -> None:
        match point:
            case Released(context=context):
                if context in self._awaited:
                    self._settle(awaited=True)
                    self._ready.add(context)
            case Sent():
                self._pass_sent(point)
            case Started(call=call, context=context) if call in self._calls and call not in self._servers:
                self._servers[call] = context
                self._serving[context] += 1
                self._awaited.add(context)
                self._ready.discard(context)
                self._started = self._started or call == self._missed.call
            case Settled(call=call) if call in self._servers:
                self._serving[self._servers.pop(call)] -= 1
            case _:
                pass

    def _pass_sent(self, sent: Sent) -> None:
        if sent.call == self._missed.call:
            self._direct = bool(sent.worker)
        elif self._serving[sent.context]:
            self._calls.add(sent.call)
        elif sent.call not in self._calls:
            return
        if sent.worker:
            self._awaited.add(sent.worker)
            self._ready.add(sent.worker)


def _under_way(missed: Missed) -> Iterator[_Point]:
    """Records for the calls in progress, which have no outcome and so no records yet."""
    for serving in missed.serving:
        worker = serving.context if serving.started is None else 0
        yield Sent(serving.sent, serving.call, "", 0, "", serving.port, 0, worker)
        if serving.started is not None:
            yield Started(serving.started, serving.call, serving.context, serving.port)
        if serving.ready is not None:
            yield Released(serving.ready, serving.context)


def _possible_servers(missed: Missed, points: Iterable[Record]) -> set[int]:
    """The contexts that may serve the call: the one that did, or else all that serve its port."""
    started = [point for point in points if isinstance(point, Started) and point.port == missed.port]
    return {s.context for s in started if s.call == missed.call} or {s.context for s in started}


def _describe(share: Share) -> str:
    who = f" by {share.who!r}" if share.who is not None else ""
    longest = f", at most {_ms(share.longest)} at once" if who and share.longest < share.ns else ""
    return f"{share.part.value}{who}: {_ms(share.ns)}{longest}"


def _beginning(record: Record) -> int:
    return record.at


def _ms(ns: int) -> str:
    return f"{ns / 1e6:.3f} ms"
