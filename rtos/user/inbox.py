"""The inbox of a persona: what waits, what comes next, what has to give way.

Pure: no Trio, no clock. Time is handed in, in seconds on any one clock, and
whatever is not served is handed back with a reason, so that it can be answered.

Order: virtual deadline `arrived + (1 - priority) * patience`, then the order of
offering. Ageing every item by `1 / patience` a second gives the same order at
every instant, but it would move the keys; these never move, so a heap will do.

Bound: an item that arrived at `t` with priority `p` is overtaken, or pushed
out, by nothing that arrives later than `t + (1 - p) * patience`, as long as
thresholds are at most 1. A stream of more important messages delays it; it
cannot starve it.

Law: `offered = taken + shed + coalesced + waiting`, after every call.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from heapq import heapify, heappop, heappush, nsmallest
from typing import TYPE_CHECKING, Final, Literal

import attrs

if TYPE_CHECKING:
    from collections.abc import Collection

ShedReason = Literal["full", "infeasible", "loop", "cleared", "failed"]
PATIENCE: Final = 60.0
"""In so many seconds of waiting, what does not matter at all comes to matter fully."""
_SLACK: Final = 64


def _number(_: object, field: attrs.Attribute[float], value: float) -> None:
    if math.isnan(value):
        raise ValueError(f"{field.name} is {value!r}; give a number")


@attrs.frozen(kw_only=True)
class InboxItem:
    """A message that waits for a persona."""

    id: str
    """The message's id: what comes twice under one id is served once."""
    room_id: str
    sender_id: str
    sender_type: str
    text: str
    priority: float = attrs.field(validator=[attrs.validators.ge(0.0), attrs.validators.le(1.0)])
    """0..1; more matters more. Not a level."""
    arrived: float = attrs.field(validator=[attrs.validators.gt(-math.inf), attrs.validators.lt(math.inf)])
    deadline: float = attrs.field(default=math.inf, validator=_number)
    """Absolute, on the clock of `arrived`; an answer after it is worth nothing."""
    causal_depth: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    mentions: bool = False
    """Calls the persona by name, and is served whatever the threshold."""
    anybody: bool = False
    """One answers it for all; see `rtos.user.coordination`."""


@attrs.frozen
class Shed:
    """An item that will not be served, and why.

    `full`: others matter more and there was no room. `infeasible`: it cannot be
    answered before its deadline any more. `loop`: too many replies led to it.
    `cleared`: the inbox was emptied. `failed`: it was served, and that failed again and again.
    """

    item: InboxItem
    reason: ShedReason


@attrs.frozen
class Offered:
    """What became of an offered item, and who gave way; `shed` may be that very item."""

    outcome: Literal["accepted", "coalesced", "refused"]
    shed: tuple[Shed, ...] = ()


@attrs.frozen
class Taken:
    """The item to serve now, if any, and those found to be hopeless on the way."""

    item: InboxItem | None
    shed: tuple[Shed, ...] = ()


@attrs.frozen
class InboxStatistics:
    """Counts since the inbox was made; `waiting` is now. See the module's law."""

    offered: int
    taken: int
    shed: int
    coalesced: int
    waiting: int
    capacity: int
    shed_by_reason: dict[ShedReason, int]


class PersonaInbox:
    """What waits for one persona, bounded and in order.

    Args:
      capacity: The most items that wait.
      patience: Seconds in which waiting makes up for having no priority at all.
      remembered: How many ids are known again when they come a second time.
      max_depth: Items of a greater causal depth are shed, or personas that answer
        each other would never stop.
    """

    def __init__(
        self, capacity: int = 100, *, patience: float = PATIENCE, remembered: int = 4096, max_depth: int = 8
    ) -> None:
        if capacity < 1 or remembered < 1 or max_depth < 0 or not 0 < patience < math.inf:
            raise ValueError(
                f"inbox of capacity {capacity!r}, patience {patience!r}, remembered {remembered!r},"
                f" max_depth {max_depth!r}; give positive, finite numbers"
            )
        self._capacity = capacity
        self._patience = patience
        self._remembered = remembered
        self._max_depth = max_depth
        # One counter gives every item its place among equals and names it in the heaps.
        self._waiting: dict[int, InboxItem] = {}
        self._calling = _Heap(self._waiting)
        self._others = _Heap(self._waiting)
        self._worst = _Heap(self._waiting)
        self._hopeless = _Heap(self._waiting)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._places: dict[str, int] = {}
        self._offered = self._taken = self._coalesced = 0
        self._shed: dict[ShedReason, int] = {"full": 0, "infeasible": 0, "loop": 0, "cleared": 0, "failed": 0}

    def __len__(self) -> int:
        return len(self._waiting)

    def offer(self, item: InboxItem, now: float, *, estimate: float = 0.0) -> Offered:
        """Put an item in line, once per id.

        A newcomer pushes out the last in line only if it goes before it. An id
        that was shed is forgotten, so that its sender may try again.

        Args:
          item: What has come.
          now: Seconds.
          estimate: Seconds that serving an item takes; what cannot meet its
            deadline with that is shed at once.
        """
        self._offered += 1
        if item.id in self._places or item.id in self._seen:
            self._coalesced += 1
            return Offered(outcome="coalesced")
        if item.causal_depth > self._max_depth:
            return Offered(outcome="refused", shed=(self._give_up(item, "loop"),))
        if now + estimate > item.deadline:
            return Offered(outcome="refused", shed=(self._give_up(item, "infeasible"),))
        shed = self._shed_infeasible(now + estimate) if len(self) >= self._capacity else ()
        if len(self) < self._capacity:
            self._insert(item)
            return Offered(outcome="accepted", shed=shed)
        worst, place = self._worst.first()
        if self._key(item) >= -worst:
            return Offered(outcome="refused", shed=(*shed, self._give_up(item, "full")))
        out = self._give_up(self._remove(place), "full")
        self._insert(item)
        return Offered(outcome="accepted", shed=(*shed, out))

    def take(self, now: float, threshold: float = 0.0, *, estimate: float = 0.0) -> Taken:
        """Take the next item that is worth attending to.

        An item is, when its priority and its waiting together reach the
        threshold, or when it calls the persona by name. One that is not never
        holds up one that is.

        Args:
          now: Seconds.
          threshold: From 0, everything, to 1, only what matters most.
          estimate: Seconds that serving an item takes; what cannot meet its
            deadline with that is shed now.
        """
        shed = self._shed_infeasible(now + estimate)
        fronts = [self._calling.first(), self._others.first()]
        # Nobody needs to be looked at behind the front: who is due first reaches the threshold first.
        if fronts[1][0] > self._horizon(now, threshold):
            fronts.pop()
        key, place = min(fronts)
        if key == math.inf:
            return Taken(item=None, shed=shed)
        item = self._remove(place)
        self._taken += 1
        return Taken(item=item, shed=shed)

    def next_eligible_at(self, now: float, threshold: float = 0.0) -> float:
        """When `take` will have an item if nothing else comes: `now`, later, or never (`math.inf`)."""
        if self._calling.first()[0] < math.inf:
            return now
        key = self._others.first()[0]
        if key == math.inf or key <= self._horizon(now, threshold):
            return key if key == math.inf else now
        at = max(now, key - (1.0 - threshold) * self._patience)
        # Rounding must not name an instant at which there is still nothing to take.
        while key > self._horizon(at, threshold) and at < math.inf:
            at = math.nextafter(at, math.inf)
        return at

    def next_infeasible_at(self, estimate: float = 0.0) -> float:
        """The last instant at which every waiting item can still meet its deadline, or `math.inf`."""
        return self._hopeless.first()[0] - estimate

    def peek(self, limit: int = 10) -> list[InboxItem]:
        """The items that are due first, in order, without taking them."""
        first = nsmallest(limit, self._waiting, key=lambda place: (self._key(self._waiting[place]), place))
        return [self._waiting[place] for place in first]

    def forget(self, id: str) -> None:
        """Do not know again what was taken and given back, so that it may come once more."""
        self._seen.pop(id, None)

    def clear(self) -> tuple[Shed, ...]:
        """Empty the inbox and hand everything back, in order of arrival."""
        return tuple(self._give_up(self._remove(place), "cleared") for place in sorted(self._waiting))

    def statistics(self) -> InboxStatistics:
        """The counts, which obey the module's law."""
        return InboxStatistics(
            offered=self._offered,
            taken=self._taken,
            shed=sum(self._shed.values()),
            coalesced=self._coalesced,
            waiting=len(self),
            capacity=self._capacity,
            shed_by_reason=dict(self._shed),
        )

    def _key(self, item: InboxItem) -> float:
        return item.arrived + (1.0 - item.priority) * self._patience

    def _horizon(self, now: float, threshold: float) -> float:
        return now + (1.0 - threshold) * self._patience

    def _insert(self, item: InboxItem) -> None:
        place, key = self._offered, self._key(item)
        self._waiting[place] = item
        self._places[item.id] = place
        (self._calling if item.mentions else self._others).push(key, place)
        self._worst.push(-key, -place)
        if item.deadline < math.inf:
            self._hopeless.push(item.deadline, place)

    def _remove(self, place: int) -> InboxItem:
        item = self._waiting.pop(abs(place))
        del self._places[item.id]
        self._seen[item.id] = None
        if len(self._seen) > self._remembered:
            self._seen.popitem(last=False)
        return item

    def _give_up(self, item: InboxItem, reason: ShedReason) -> Shed:
        self._seen.pop(item.id, None)
        self._shed[reason] += 1
        return Shed(item=item, reason=reason)

    def _shed_infeasible(self, done_by: float) -> tuple[Shed, ...]:
        shed: list[Shed] = []
        while (first := self._hopeless.first())[0] < done_by:
            shed.append(self._give_up(self._remove(first[1]), "infeasible"))
        return tuple(shed)


class _Heap:
    """Places by key, least first; what no longer waits is skipped when it surfaces.

    Place 0 belongs to nobody, and is what an empty heap shows.
    """

    __slots__ = ("_alive", "_entries")

    def __init__(self, alive: Collection[int]) -> None:
        self._alive = alive
        self._entries: list[tuple[float, int]] = []

    def push(self, key: float, place: int) -> None:
        # Whatever left by another heap is still in here; without a sweep it could stay for ever.
        if len(self._entries) > 2 * len(self._alive) + _SLACK:
            self._entries = [entry for entry in self._entries if abs(entry[1]) in self._alive]
            heapify(self._entries)
        heappush(self._entries, (key, place))

    def first(self) -> tuple[float, int]:
        while self._entries and abs(self._entries[0][1]) not in self._alive:
            heappop(self._entries)
        return self._entries[0] if self._entries else (math.inf, 0)
