"""A persona under overload from one noisy sender: what is served in time, and whose.

One server, half an hour. Ten minutes of it, from the fifth on, bring 1.8 times what can be
served, seven tenths of that from one noisy sender; the rest brings six tenths. Nine others
send the remainder. A service takes two seconds on average, with a standard deviation of one
(gamma). A tenth of the messages calls by name and wants an answer within 10 s, three
quarters are chat (20 s), the rest tasks (180 s). No policy is told how long a message
will take; it learns that as a persona does. What a policy answers by one reply takes as long
as the newest of it would alone.

Beside the persona's inbox: the same inbox where each message has its own reply; the one where
besides nobody is charged for what it takes; first come, first served; the reference system's
policy, by priority, of a thousand the lowest dropped; and the inbox without the noisy sender at
all, which is what is left to gain.

A simulation: the same on every machine, six seeds, averaged.
"""

from __future__ import annotations

import math
import random
import sys
from collections import Counter, deque
from functools import cache, partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs

from bench.harness import Benchmark, Sample, Size, Stopwatch
from bench.svg import curve
from rtos.user.hearing import paced
from rtos.user.inbox import InboxItem, PersonaInbox

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.harness import Run

WHOLE: Final = 1800.0
BEGIN: Final = 300.0
END: Final = 900.0
"""Seconds."""
CALM: Final = 0.6
OVERLOAD: Final = 1.8
NOISY: Final = 0.7
MEAN: Final = 2.0
SHAPE: Final = 4.0
"""Of the gamma distribution; its standard deviation is the mean by the root of it."""
QUIET: Final = 9
SEEDS: Final = range(6)
NOISE: Final = "noisy"
MINUTE: Final = 60.0


@attrs.frozen
class Kind:
    """Messages of one kind: how many, how soon to be answered (seconds), how much they matter."""

    share: float
    within: float
    priority: float


KINDS: Final = {
    "mention": Kind(0.10, 10.0, 1.0),
    "chat": Kind(0.75, 20.0, 0.7),
    "task": Kind(0.15, 180.0, 0.5),
}


@attrs.frozen
class Arrival:
    """A message, and the seconds that it takes to serve."""

    item: InboxItem
    service: float


class Policy(Protocol):
    """Who is served next."""

    def offer(self, item: InboxItem, now: float, estimate: float, /) -> None:
        """Something has come."""

    def take(self, now: float, estimate: float, /) -> InboxItem | None:
        """What is served now, if anything is."""

    def charge(self, item: InboxItem, seconds: float, /) -> None:
        """It took so long."""


class Ours:
    """The inbox of a persona; see ``Policy``."""

    def __init__(self) -> None:
        self._inbox = PersonaInbox()

    def offer(self, item: InboxItem, now: float, estimate: float) -> None:
        self._inbox.offer(item, now, estimate=estimate)

    def take(self, now: float, estimate: float) -> InboxItem | None:
        return self._inbox.take(now, estimate=estimate).item

    def charge(self, item: InboxItem, seconds: float) -> None:
        self._inbox.charge(item.sender_id, seconds)


class Single(Ours):
    """The same, where each message has its own reply."""

    def offer(self, item: InboxItem, now: float, estimate: float) -> None:
        # In a room of its own nothing is answered together with another.
        super().offer(attrs.evolve(item, room_id=item.id), now, estimate)


class Uncharged(Single):
    """That one, where nobody is charged for the time that it takes."""

    def charge(self, item: InboxItem, seconds: float) -> None:
        pass


class Arrived:
    """First come, first served; nothing is ever dropped."""

    def __init__(self) -> None:
        self._waiting: deque[InboxItem] = deque()

    def offer(self, item: InboxItem, _now: float, _estimate: float) -> None:
        self._waiting.append(item)

    def take(self, _now: float, _estimate: float) -> InboxItem | None:
        return self._waiting.popleft() if self._waiting else None

    def charge(self, item: InboxItem, seconds: float) -> None:
        pass


class Reference:
    """The reference system's: by priority; of a thousand the lowest is dropped."""

    CAPACITY: Final = 1000

    def __init__(self) -> None:
        self._waiting: list[InboxItem] = []

    def offer(self, item: InboxItem, _now: float, _estimate: float) -> None:
        if len(self._waiting) >= self.CAPACITY:
            self._waiting.remove(min(self._waiting, key=lambda one: one.priority))
        self._waiting.append(item)

    def take(self, _now: float, _estimate: float) -> InboxItem | None:
        if not self._waiting:
            return None
        best = max(self._waiting, key=lambda one: one.priority)
        self._waiting.remove(best)
        return best

    def charge(self, item: InboxItem, seconds: float) -> None:
        pass


POLICIES: Final[dict[str, Callable[[], Policy]]] = {
    "inbox": Ours,
    "a reply to each": Single,
    "nobody is charged": Uncharged,
    "as they come": Arrived,
    "reference": Reference,
}


@cache
def arrivals(seed: int) -> Sequence[Arrival]:
    """What comes in half an hour, in order: a Poisson stream."""
    chance = random.Random(seed)
    found: list[Arrival] = []
    now = 0.0
    while True:
        overloaded = BEGIN <= now < END
        gap = chance.expovariate((OVERLOAD if overloaded else CALM) / MEAN)
        edge = next((edge for edge in (BEGIN, END) if now < edge <= now + gap), None)
        if edge is not None:
            # The rate changes here, and what is left of an exponential wait is exponential.
            now = edge
            continue
        now += gap
        if now >= WHOLE:
            return found
        noisy = overloaded and chance.random() < NOISY
        sender = NOISE if noisy else f"quiet {chance.randrange(QUIET)}"
        found.append(_arrival(chance, f"m{len(found)}", sender, now))


def _arrival(chance: random.Random, name: str, sender: str, now: float) -> Arrival:
    name_of_kind = chance.choices(list(KINDS), [kind.share for kind in KINDS.values()])[0]
    kind = KINDS[name_of_kind]
    item = InboxItem(
        id=name,
        kind="task" if name_of_kind == "task" else "message",
        room_id="room",
        sender_id=sender,
        sender_type="human",
        text=name_of_kind,
        priority=kind.priority,
        arrived=now,
        deadline=now + kind.within,
        mentions=name_of_kind == "mention",
        anybody=name_of_kind == "chat",
    )
    return Arrival(item, chance.gammavariate(SHAPE, MEAN / SHAPE))


@attrs.frozen
class Served:
    """A message that was served, from when to when."""

    item: InboxItem
    begin: float
    end: float

    @property
    def in_time(self) -> bool:
        """Whether the answer was worth anything."""
        return self.end <= self.item.deadline


def simulate(policy: Policy, coming: Sequence[Arrival]) -> list[Served]:
    """What is served, in order."""
    service = {arrival.item.id: arrival.service for arrival in coming}
    queue = deque(coming)
    now = estimate = 0.0
    found: list[Served] = []
    while True:
        while queue and queue[0].item.arrived <= now:
            item = queue.popleft().item
            policy.offer(item, item.arrived, estimate)
        taken = policy.take(now, estimate)
        if taken is None:
            if not queue:
                return found
            now = queue[0].item.arrived
            continue
        begin, now = now, now + service[taken.id]
        estimate = paced(estimate, now - begin)
        policy.charge(taken, now - begin)
        found += [Served(part, begin, now) for part in taken.parts()]


def figures(coming: Sequence[Arrival], served: Sequence[Served]) -> dict[str, float]:
    """Shares of what came that was served in time, how long it waited, and what was in vain."""
    good = Counter(name for one in served if one.in_time for name in _sides(one.item))
    of = Counter(name for one in coming for name in _sides(one.item))
    waits = sorted(one.begin - one.item.arrived for one in served)
    # What was answered by one reply was one piece of work, and in vain if all of it came too late.
    work = {one.begin: one.end - one.begin for one in served}
    useful = {one.begin for one in served if one.in_time}
    busy = sum(work.values())
    late = sum(seconds for begin, seconds in work.items() if begin not in useful)
    return {
        **{f"share_in_time_{name.replace(' ', '_')}": good[name] / of[name] for name in sorted(of)},
        "virtual_wait_p99_ms": 1e3 * waits[math.ceil(0.99 * len(waits)) - 1],
        "share_in_vain": late / busy,
    }


def _sides(item: InboxItem) -> tuple[str, ...]:
    return ("all", item.text, NOISE if item.sender_id == NOISE else "quiet")


def averaged(
    make: Callable[[], Policy], seeds: Sequence[int] = SEEDS, *, noise: bool = True
) -> dict[str, float]:
    """The averages of several seeds."""
    runs = []
    for seed in seeds:
        coming = [one for one in arrivals(seed) if noise or one.item.sender_id != NOISE]
        runs.append(figures(coming, simulate(make(), coming)))
    return {name: sum(run[name] for run in runs) / len(runs) for name in runs[0]}


def _sample(make: Callable[[], Policy], *, noise: bool = True) -> Sample:
    with Stopwatch() as watch:
        found = averaged(make, noise=noise)
    return attrs.evolve(watch.sample(sum(len(arrivals(seed)) for seed in SEEDS)), extra=found)


def variants(_: Size) -> dict[str, Callable[[], Sample]]:
    """Nothing is drawn anew, so once is enough for all rounds."""
    found: dict[str, Callable[[], Sample]] = {
        name: cache(partial(_sample, make)) for name, make in POLICIES.items()
    }
    return found | {"inbox, without the noise": cache(partial(_sample, Ours, noise=False))}


def plots(_: Run) -> dict[str, str]:
    """What comes and what is served in time, minute by minute."""
    coming = [one for seed in SEEDS for one in arrivals(seed)]
    lines = {"what comes": _by_minute([one.item.arrived for one in coming])}
    for name, make in POLICIES.items():
        served = [one for seed in SEEDS for one in simulate(make(), arrivals(seed)) if one.in_time]
        lines[name] = _by_minute([one.item.arrived for one in served])
    axes = ("minute of the simulation", "messages that came in it and were answered in time")
    return {"inbox": curve("A persona under overload", lines, axes=axes)}


def _by_minute(times: Sequence[float]) -> list[tuple[float, float]]:
    counts = Counter(int(at // MINUTE) for at in times)
    return [(float(minute), counts[minute] / len(SEEDS)) for minute in range(int(WHOLE // MINUTE))]


BENCHMARK = Benchmark(
    name="inbox",
    summary="1.8 times what a persona can answer, most from one sender: what is served in time, and whose",
    unit="message",
    variants=variants,
    rounds=1,
    plots=plots,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["inbox", *sys.argv[1:]]))
