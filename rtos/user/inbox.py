"""The inbox of a persona: what waits, what comes next, what has to give way.

Pure: no Trio, no clock. Time is handed in, in seconds on any one clock, and
whatever is not served is handed back with a reason, so that it can be answered.

Order of one sender: virtual deadline `arrived + (1 - priority) * patience`, then the
order of offering. Ageing every item by `1 / patience` a second gives the same order
at every instant, but it would move the keys; these never move, so a heap will do.

Order between senders: by turns, as `rtos.user.lines` has it. Without `charge` nobody has had
any of the persona's time, and the order is that of one sender.

Bounds: of one sender, an item that arrived at `t` with priority `p` is overtaken by
nothing that arrives later than `t + (1 - p) * patience`, as long as thresholds are at
most 1. Of `n` senders, one that has something eligible is served after less than
`n * n` others of equal cost, however much they send and however it matters; and of a
sender with at most its share of the capacity, `capacity / n`, nothing is pushed out by another's.

What one human has said in one room is taken together, as people answer it: the newest is taken,
and the others with it. What calls the persona by name stays apart from what is for anybody.
None of them waits longer for it than alone, since they go where the first of them would.

Law: `offered = taken + shed + coalesced + waiting`, after every call. What is taken together is
taken once, and all but the newest of it is coalesced; what waits and what is shed is alone.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from heapq import nsmallest
from typing import TYPE_CHECKING, Final, Literal

import attrs

from rtos.user.entities import MAX_TEXT
from rtos.user.lines import Lines
from rtos.user.places import Places
from rtos.user.rate import Rate, Rates

if TYPE_CHECKING:
    from collections.abc import Iterator

ItemKind = Literal["message", "task", "chore"]
"""A chore is a task that a persona gave itself; none waits in an inbox."""
ShedReason = Literal["full", "infeasible", "loop", "superseded", "cleared", "failed"]
PATIENCE: Final = 60.0
"""In so many seconds of waiting, what does not matter at all comes to matter fully."""
HORIZON: Final = 300.0
"""Seconds of predicted work that wait at most."""
OF_A_SENDER: Final = Rate(interval=10.0, burst=5)
"""How often a sender that is no human is listened to."""
OF_A_ROOM: Final = Rate(interval=5.0, burst=10)
"""How often all that are no humans together are listened to in one room."""
MOST_COVERED: Final = 8
"""How many older messages one is answered together with at most."""
# So that an answer has room beside all of it in one memory.
MOST_TOGETHER: Final = MAX_TEXT // 4
"""How many bytes of text are answered together at most; a longer message is answered alone."""


def _number(_: object, field: attrs.Attribute[float], value: float) -> None:
    if math.isnan(value):
        raise ValueError(f"{field.name} is {value!r}; give a number")


@attrs.frozen(kw_only=True)
class InboxItem:
    """A message, or a task, that waits for a persona."""

    id: str
    """The message's or the task's id: what comes twice under one id is served once."""
    kind: ItemKind = "message"
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
    covers: tuple[InboxItem, ...] = ()
    """Older ones of the same sender in the same room that are answered together with it, oldest first."""

    @property
    def whole_text(self) -> str:
        """What all of them say, oldest first."""
        return "\n".join(part.text for part in self.parts())

    @property
    def due(self) -> float:
        """When the first of them has to be answered, on the clock of `arrived`."""
        return min(part.deadline for part in self.parts())

    def parts(self) -> tuple[InboxItem, ...]:
        """Each of them alone, in the order in which they came."""
        return (*self.covers, attrs.evolve(self, covers=())) if self.covers else (self,)


@attrs.frozen
class Shed:
    """An item that will not be served, and why.

    `full`: others matter more and there was no room; a task waits in its record then.
    `infeasible`: it cannot be answered before its deadline any more. `loop`: too many
    replies led to it, or too much comes from senders that are no humans. `superseded`: such
    a sender has said something newer in the same room. `cleared`: the inbox was emptied.
    `failed`: it was served, and that failed again and again.
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
      horizon: The most seconds of predicted work that wait; one item may wait in any case.
      remembered: How many ids are known again when they come a second time.
      max_depth: Items of a greater causal depth are shed, or personas that answer
        each other would never stop.
    """

    def __init__(
        self,
        capacity: int = 100,
        *,
        patience: float = PATIENCE,
        horizon: float = HORIZON,
        remembered: int = 4096,
        max_depth: int = 8,
    ) -> None:
        if capacity < 1 or remembered < 1 or max_depth < 0 or not 0 < patience < math.inf or not horizon > 0:
            raise ValueError(
                f"inbox of capacity {capacity!r}, patience {patience!r}, horizon {horizon!r},"
                f" remembered {remembered!r}, max_depth {max_depth!r}; give positive, finite numbers"
            )
        self._capacity = capacity
        self._patience = patience
        self._horizon_of_work = horizon
        self._remembered = remembered
        self._max_depth = max_depth
        # One counter gives every item its place among equals and names it in the heaps.
        self._waiting: dict[int, InboxItem] = {}
        self._lines = Lines()
        self._worst = Places(self._waiting)
        self._hopeless = Places(self._waiting)
        self._seen: OrderedDict[str, None] = OrderedDict()
        self._places: dict[str, int] = {}
        self._of_senders, self._of_rooms = Rates(OF_A_SENDER), Rates(OF_A_ROOM)
        self._offered = self._taken = self._coalesced = 0
        self._shed: dict[ShedReason, int] = dict.fromkeys(
            ("full", "infeasible", "loop", "superseded", "cleared", "failed"), 0
        )

    def __len__(self) -> int:
        return len(self._waiting)

    def is_idle(self, now: float) -> bool:
        """Whether nothing waits and nothing is known that a new inbox would not know in effect."""
        return not self._waiting and self._of_senders.is_idle(now) and self._of_rooms.is_idle(now)

    def offer(self, item: InboxItem, now: float, *, estimate: float = 0.0) -> Offered:
        """Put an item in line, once per id.

        Where there is no room, whoever has most waiting gives way to who has less; among
        equals a newcomer pushes out the last in line only if it goes before it. An id
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
        if item.causal_depth > self._max_depth or not self._is_within_rates(item, now):
            return Offered(outcome="refused", shed=(self._give_up(item, "loop"),))
        if now + estimate > item.deadline:
            return Offered(outcome="refused", shed=(self._give_up(item, "infeasible"),))
        shed = tuple(self._supersede(item))
        room = self._room(estimate)
        if len(self) >= room:
            shed += self._shed_infeasible(now + estimate)
        while len(self) >= room:
            place = self._who_gives_way(item)
            if place == 0:
                return Offered(outcome="refused", shed=(*shed, self._give_up(item, "full")))
            shed += (self._give_up(self._remove(place), "full"),)
        self._insert(item)
        return Offered(outcome="accepted", shed=shed)

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
        place = self._lines.next(self._horizon(now, threshold))
        if place == 0:
            return Taken(item=None, shed=shed)
        *covers, item = [self._remove(each) for each in self._together(place)]
        self._taken += 1
        self._coalesced += len(covers)
        return Taken(item=attrs.evolve(item, covers=tuple(covers)) if covers else item, shed=shed)

    def charge(self, sender_id: str, seconds: float) -> None:
        """Note how long the persona was at work for a sender, which others waited for meanwhile."""
        self._lines.charge(sender_id, seconds)

    def next_eligible_at(self, now: float, threshold: float = 0.0) -> float:
        """When `take` will have an item if nothing else comes: `now`, later, or never (`math.inf`)."""
        calls, key = self._lines.first_due()
        if calls:
            return now
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

    def _is_within_rates(self, item: InboxItem, now: float) -> bool:
        # Tasks are records, and what is too much of them waits there.
        if item.sender_type == "human" or item.kind != "message":
            return True
        # Both are asked before either counts.
        if now < self._of_senders.next_at(item.sender_id) or now < self._of_rooms.next_at(item.room_id):
            return False
        return self._of_senders.admit(item.sender_id, now) and self._of_rooms.admit(item.room_id, now)

    def _supersede(self, item: InboxItem) -> Iterator[Shed]:
        """What nobody need answer any more; a human has a right to every answer, and a task to its end."""
        if item.sender_type == "human" or item.kind != "message":
            return
        line = self._lines.waiting(item.sender_id)
        rooms = [
            place
            for place, other in self._waiting.items()
            if other.room_id == item.room_id and other.kind == "message"
        ]
        for place in rooms:
            if place in line:
                yield self._give_up(self._remove(place), "superseded")

    def _together(self, place: int) -> list[int]:
        """The places of what is taken with it, itself included, in order of offering: the oldest first."""
        item = self._waiting[place]
        if item.sender_type != "human" or item.kind != "message":
            return [place]
        together, size = [place], len(item.text.encode())
        for other in sorted(self._lines.waiting(item.sender_id)):
            one = self._waiting[other]
            if other == place or _goes_with(item) != _goes_with(one):
                continue
            size += len(one.text.encode()) + 1
            if size > MOST_TOGETHER or len(together) > MOST_COVERED:
                break
            together.append(other)
        return sorted(together)

    def _room(self, estimate: float) -> int:
        if estimate <= 0:
            return self._capacity
        return min(self._capacity, max(1, int(self._horizon_of_work / estimate)))

    def _who_gives_way(self, item: InboxItem) -> int:
        """The place of what a newcomer pushes out; 0 if it is the newcomer who has to go."""
        if place := self._lines.longer_than(item.sender_id):
            return place
        worst, place = self._lines.last(item.sender_id)
        if place == 0:
            key, behind = self._worst.first()
            worst, place = -key, -behind
        return 0 if self._key(item) >= worst else place

    def _insert(self, item: InboxItem) -> None:
        place, key = self._offered, self._key(item)
        self._waiting[place] = item
        self._places[item.id] = place
        self._lines.add(item.sender_id, place, key, mentions=item.mentions)
        self._worst.push(-key, -place)
        if item.deadline < math.inf:
            self._hopeless.push(item.deadline, place)

    def _remove(self, place: int) -> InboxItem:
        item = self._waiting.pop(place)
        del self._places[item.id]
        self._lines.remove(item.sender_id, place)
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


def _goes_with(item: InboxItem) -> tuple[str, str, bool, bool]:
    """What has to be equal of two messages of one human for one answer to both."""
    return item.kind, item.room_id, item.anybody, item.mentions
