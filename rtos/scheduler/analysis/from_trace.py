"""Jobs from a trace: what a system was seen to do, taken as what it may do.

Pure: the parsed trace comes in (as ``rtos trace`` writes it), jobs in nanoseconds
go out. Costs are the largest that were seen, so what is proved of them is proved
of the trace and not of the system; a longer run gives a better trace.

Arrivals: ``period`` is the length of the trace over the calls of one kind in it,
and ``jitter`` the least that makes every burst in it fit that.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.errors import ConfigurationError
from rtos.scheduler.analysis.model import Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

NO_DEADLINE: Final = 3_600_000_000_000
"""What stands for the deadline of a command, which a trace does not tell: an hour."""


@attrs.define
class _Kind:
    sent: list[int] = attrs.Factory(list)
    cost: int = 1
    longest: int = 1
    last: int = 1
    level: int = 0


def jobs_of_trace(trace: Mapping[str, Any]) -> list[Job]:
    """The commands in a trace as jobs.

    Raises:
      ConfigurationError: it is no trace, or there is no call in it.
    """
    jobs = jobs_seen(trace)
    if not jobs:
        raise ConfigurationError("there is no call in the trace", "trace while the system is at work")
    return jobs


def jobs_seen(trace: Mapping[str, Any]) -> list[Job]:
    """The commands in a trace as jobs; none if nobody called.

    Raises:
      ConfigurationError: it is no trace.
    """
    events = trace.get("traceEvents") if isinstance(trace, dict) else None
    if not isinstance(events, list):
        raise ConfigurationError("the file is no trace", "write one with `rtos trace --out=trace.json`")
    try:
        kinds = _kinds(events)
        ends = (round((event["ts"] + event.get("dur", 0)) * 1000) for event in events if "ts" in event)
        span = max(ends, default=0)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the trace is not as rtos writes it ({error!r})", "write one with `rtos trace --out=trace.json`"
        ) from None
    return [_job(name, kind, span) for name, kind in sorted(kinds.items())]


def _job(name: str, kind: _Kind, span: int) -> Job:
    period, jitter = _arrivals(sorted(kind.sent), span)
    return Job(
        name=name,
        level=kind.level,
        cost=kind.cost,
        period=period,
        jitter=jitter,
        deadline=NO_DEADLINE,
        longest_step=kind.longest,
        last_step=kind.last,
        in_bursts=True,
    )


def _arrivals(sent: list[int], span: int) -> tuple[int, int]:
    period = max(span // len(sent), 1)
    # The distance of two calls may fall short of so many periods by the jitter.
    jitter, latest = 0, sent[0]
    for index, at in enumerate(sent):
        latest = max(latest, at - index * period)
        jitter = max(jitter, latest - (at - index * period))
    return period, jitter


def _kinds(events: Iterable[Mapping[str, Any]]) -> dict[str, _Kind]:
    steps: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
    calls: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for event in events:
        if event["ph"] == "X" and event.get("cat") == "step":
            at, duration = round(event["ts"] * 1000), round(event["dur"] * 1000)
            steps[event["tid"]].append((at, duration, max(event["args"]["level"], 0)))
        elif event.get("cat") == "call":
            calls[event["id"]][event["ph"]] = event
    kinds: dict[str, _Kind] = defaultdict(_Kind)
    for call in calls.values():
        if "s" in call and "t" in call and "f" in call:
            _note(kinds[call["s"]["name"]], call, steps[call["t"]["tid"]])
    return dict(kinds)


def _note(kind: _Kind, call: Mapping[str, Mapping[str, Any]], steps: list[tuple[int, int, int]]) -> None:
    began, ended = round(call["t"]["ts"] * 1000), round(call["f"]["ts"] * 1000)
    kind.sent.append(round(call["s"]["ts"] * 1000))
    # From the step in which the worker took it up to the last before the reply was taken.
    first = max(bisect_right(steps, began, key=lambda step: step[0]) - 1, 0)
    served = steps[first : max(bisect_left(steps, ended, key=lambda step: step[0]), first + 1)]
    kind.cost = max(kind.cost, sum(duration for _, duration, _ in served), 1)
    kind.longest = max(kind.longest, *(duration for _, duration, _ in served))
    # A short last step would let less in between: the longest bounds every order.
    kind.last = kind.longest
    kind.level = max(kind.level, *(level for _, _, level in served))
