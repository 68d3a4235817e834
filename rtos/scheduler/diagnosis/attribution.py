"""Why a call missed its deadline: where its time went, to the last nanosecond.

Pure. Owned here: the rules by which the window of a miss, from the sending to the
moment at which it was noticed, is given to causes. Must not know: where records
come from, who reads reports.

Law: the shares of a report add up to its window exactly, and none is negative.
That holds for any records, also for contradictory ones: time is walked through
once, from cut to cut, and each piece is given to one cause.

What the records cannot tell is decided so:

* The loop sees once a pass who has become ready. A step during which the awaited
  worker became ready is counted as having blocked it for the whole of the step,
  since the worker cannot have become ready in a later one. That is an upper bound.
* Who is ready is known per context, not per task.
* Stolen time is measured over a stretch of several steps; it is taken from the
  longest of them, as a theft is what makes a step long.
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
"""Pieces of time that are explained in one go."""

THEFT: Final = 50_000
"""Nanoseconds off the CPU, over one measurement, below which clocks merely disagree."""


class Part(enum.Enum):
    """A cause."""

    LATE_RELEASE = "late wake-up"
    """The loop should have been woken, and was not."""
    INTERFERENCE = "interference"
    """As urgent or more: what ran first, other calls of the same daemon included."""
    BLOCKING = "blocking step"
    """Less urgent, or under way when the call was sent, and not to be cut short."""
    OWN = "own run"
    """The call was being served, here or in a daemon that its server called."""
    COLLECTION = "garbage collection"
    STOLEN = "off the CPU"
    """The loop's thread did not run: other processes, other threads, a blocking call."""
    SUSPENDED = "waiting by itself"
    """The server waited for something else: an offload, a timer, the network."""
    QUEUED = "no worker free"
    """It waited in the mailbox while every worker of the daemon waited by itself."""
    KERNEL = "kernel"
    """The remainder: the loop and the kernel between steps, polling for I/O, timers."""
    UNRECORDED = "not recorded"
    """The trace did not reach back so far, or was off."""


@attrs.frozen
class Share:
    """What one cause took of a window; nanoseconds.

    Attributes:
      who: the name of the context, where there is one.
      longest: the longest single piece of it.
    """

    part: Part
    who: str | None
    ns: int
    longest: int


@attrs.frozen
class MissReport:
    """A missed call, and where its time went.

    Attributes:
      missed: the facts.
      shares: the greatest first; they add up to ``window`` exactly.
    """

    missed: Missed
    shares: tuple[Share, ...]

    @property
    def window(self) -> int:
        """From the sending to the notice, nanoseconds."""
        return max(self.missed.at - self.missed.sent, 0)

    @property
    def offender(self) -> Share | None:
        """The share to look at first; ``None`` when there was no time to lose.

        The greatest of those with somebody or something to blame; the call's own
        run and the remainder only if there is no other.
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
    """Say where the time of a missed call went.

    Args:
      missed: the miss.
      records: in any order; those that lie outside the window do no harm.
    """
    for report in explain_by_and_by(missed, tuple(records)):
        if report is not None:
            return report
    raise AssertionError


def explain_by_and_by(missed: Missed, records: Sequence[Record]) -> Generator[MissReport | None]:
    """As ``explain``, in portions: yields ``None`` after each, and the report at last.

    A portion is about 0.1 ms, so that explaining never becomes a cause itself.
    """
    sweep = _Sweep(missed, records)
    for number, _ in enumerate(sweep.walk(), start=1):
        if number % STRIDE == 0:
            yield None
    sweep.take_thefts()
    yield MissReport(missed, sweep.shares())


class _Sweep:
    """One walk through the window of a miss."""

    def __init__(self, missed: Missed, records: Sequence[Record]) -> None:
        self._missed = missed
        self._begin, self._end = missed.sent, max(missed.at, missed.sent)
        kinds: defaultdict[type[Record], list[Any]] = defaultdict(list)
        for record in records:
            kinds[type(record)].append(record)
        # Collections and measurements are remembered longer than, or begin before, the rest.
        known = [record.at for kind in (Step, Sleep, *_POINTS) for record in kinds[kind]]
        self._known_from = min(known, default=self._end)
        # Steps and sleeps never overlap in a true trace; in any other the first one wins.
        spans = sorted([*kinds[Step], *kinds[Sleep]], key=_beginning)
        self._spans: list[_Span] = [span for span in spans if span.end > self._begin and span.at < self._end]
        self._collections: deque[Collection] = deque(sorted(kinds[Collection], key=_beginning))
        self._measurements: list[CpuTime] = kinds[CpuTime]
        points = [point for kind in _POINTS for point in kinds[kind]]
        points += _under_way(missed)
        # On one instant a release comes first: what is sent or begun then, is so in the step after.
        self._points: deque[_Point] = deque(sorted(points, key=_beginning))
        # Calls made on behalf of the missed one, itself first, and who serves each.
        self._calls = {missed.call, *(serving.call for serving in missed.serving)}
        self._servers: dict[int, int] = {}
        self._serving: defaultdict[int, int] = defaultdict(int)
        self._started = False
        self._direct = False
        # Contexts that must run for the call to go on; those of them that are ready.
        self._awaited = _possible_servers(missed, self._points)
        self._ready: set[int] = set()
        # What each span was given to; -1 is for the time between spans.
        self._given: defaultdict[int, defaultdict[_Key, int]] = defaultdict(lambda: defaultdict(int))
        # Pieces of the latest span, and two causes: the second one if it turns out
        # that what is awaited became ready meanwhile, else the first.
        self._doubtful: list[tuple[int, _Key, _Key, int]] = []

    def walk(self) -> Generator[None]:
        """Give every piece of the window to a cause; yields after each."""
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
        """The result, the greatest first."""
        total: defaultdict[_Key, int] = defaultdict(int)
        longest: defaultdict[_Key, int] = defaultdict(int)
        for given in self._given.values():
            for key, ns in given.items():
                total[key] += ns
                longest[key] = max(longest[key], ns)
        shares = [Share(part, who, ns, longest[part, who]) for (part, who), ns in total.items() if ns]
        return tuple(sorted(shares, key=lambda share: -share.ns))

    def take_thefts(self) -> None:
        """Move what was not spent on the CPU from the longest steps to STOLEN."""
        for measured in self._measurements:
            stolen = measured.awake - measured.cpu
            if stolen >= THEFT:
                self._take_theft(measured, stolen)

    def _take_theft(self, measured: CpuTime, stolen: int) -> None:
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
            # Where in the step it happened is not known: in proportion, if it was cut.
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
        """Give one span, or the time between two, piece by piece."""
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
        """Where the piece that begins at ``start`` ends, and whether it is a collection."""
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
        """The cause, and the one that it is instead if the awaited became ready in this span."""
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
    """What is known of calls that had no outcome yet, and so have left no record."""
    for serving in missed.serving:
        worker = serving.context if serving.started is None else 0
        yield Sent(serving.sent, serving.call, "", 0, "", serving.port, 0, worker)
        if serving.started is not None:
            yield Started(serving.started, serving.call, serving.context, serving.port)
        if serving.ready is not None:
            yield Released(serving.ready, serving.context)


def _possible_servers(missed: Missed, points: Iterable[Record]) -> set[int]:
    """Who may be about to serve the call: who did, or else whoever serves that port."""
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
