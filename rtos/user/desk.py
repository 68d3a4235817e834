"""The desk of a persona: what waits for it, what it has in hand, and what it means to do at rest.

Pure: no Trio, no clock. Time is handed in, and what is shed is in hand like anything else,
so that it gets its answer.

Order: what is in hand, then what waits in the inbox, then chores, which nobody waits for.

Law: what was put here is in the inbox, in hand, or has been let go of by `drop`; a task for
which there was no room is not put here, and waits in its record. Of what is in hand only an item
covers others; whatever is refused, passed on or handed back is alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rtos.user.chores import Chores
from rtos.user.hearing import ANSWER_WITHIN, paced
from rtos.user.inbox import InboxItem, PersonaInbox, Shed
from rtos.user.priority import CALLED, LEVEL, RESTING
from rtos.user.tasks import task_item

if TYPE_CHECKING:
    from rtos.user.affect import Label

ROOMS: Final = 5
"""So many rooms are known as those that it was last at work in."""
LATELY: Final = 3600.0
"""Seconds after which that is over."""


class Desk:
    """What one persona has to do.

    Attributes:
      chores: what it gives itself.
      estimate: seconds that an answer is taken to need; 0 while it is not known.
      work: what is in hand, the first of it now.
    """

    # Of a hundred thousand nearly all have nothing to do: an inbox comes and goes with what waits.
    __slots__ = ("_called", "_inbox", "_rooms", "chores", "estimate", "work")

    def __init__(self) -> None:
        self.chores = Chores()
        self.estimate = 0.0
        self.work: tuple[InboxItem | Shed, ...] = ()
        self._inbox: PersonaInbox | None = None
        # Where it was last at work, and when; the last one first.
        self._rooms: tuple[tuple[str, float], ...] = ()
        # Messages of humans that call it by name and are not done with.
        self._called: frozenset[str] = frozenset()

    @property
    def inbox(self) -> PersonaInbox:
        """What it has been told and has not attended to; made when first asked for."""
        if self._inbox is None:
            self._inbox = PersonaInbox()
        return self._inbox

    @property
    def waiting(self) -> int:
        """How many messages and tasks wait."""
        return 0 if self._inbox is None else len(self._inbox)

    @property
    def load(self) -> float:
        """How long it will take to work all of it off, as a share of what is bearable."""
        return (self.waiting + len(self.work)) * self.estimate / ANSWER_WITHIN

    @property
    def in_hand(self) -> InboxItem | None:
        """What is being served; after a failure, what it failed at."""
        return item_of(self.work[0]) if self.work else None

    @property
    def in_hand_id(self) -> str | None:
        """The id of that."""
        return None if self.in_hand is None else self.in_hand.id

    @property
    def level(self) -> int:
        """How urgent it is what it does now."""
        if self._called:
            return CALLED
        return RESTING if self.has_chore_in_hand else LEVEL

    @property
    def has_chore_in_hand(self) -> bool:
        """Whether it does what it gave itself."""
        return self.in_hand is not None and self.in_hand.kind == "chore"

    def offer(self, item: InboxItem, now: float) -> bool:
        """Put a message or a task in line; whether there was room.

        Args:
          item: what has come.
          now: seconds, on the clock of the item.
        """
        offered = self.inbox.offer(item, now, estimate=self.estimate)
        self.work += tuple(shed for shed in offered.shed if not self.chores.defers(shed))
        accepted = offered.outcome == "accepted"
        if accepted and item.mentions and item.sender_type == "human":
            self._called |= {item.id}
        return accepted

    def take(self, now: float, wall: float, threshold: float, label: Label) -> bool:
        """Have something in hand: what is worth it of all that waits, or else a chore; whether there is any.

        Args:
          now: seconds, on the clock of the items.
          wall: seconds since the epoch.
          threshold: what something has to matter to be worth it; see `PersonaInbox.take`.
          label: how the persona feels.
        """
        taken = self.inbox.take(now, threshold, estimate=self.estimate)
        self.work = taken.shed if taken.item is None else (*taken.shed, taken.item)
        chore = None if self.work else self.chores.next(label)
        if chore is not None:
            self.work = (task_item(chore, now=now, wall=wall),)
        return bool(self.work)

    def drop(self) -> None:
        """What was first in hand is done with, or left to somebody else."""
        self.work = self.work[1:]

    def split(self) -> None:
        """Have each part of what is first in hand there by itself, in order of arrival."""
        self.work = (*item_of(self.work[0]).parts(), *self.work[1:])

    def forget(self, item: InboxItem) -> None:
        """Do not know it again, so that it may come once more."""
        self.inbox.forget(item.id)

    def fail(self, item: InboxItem) -> None:
        """What is first in hand is to be refused instead of being tried again."""
        self.work = (Shed(item, "failed"), *self.work[1:])

    def spend(self, item: InboxItem, seconds: float) -> None:
        """Note how long the persona was at work on something, which others waited for meanwhile."""
        self.inbox.charge(item.sender_id, seconds)
        if item.kind == "message":
            self.estimate = paced(self.estimate, seconds)

    def settle(self, item: InboxItem, now: float) -> bool:
        """Note that something has ended, and what it covers; whether its level is another one now."""
        level = self.level
        if item.room_id:
            others = tuple(one for one in self._rooms if one[0] != item.room_id)
            self._rooms = ((item.room_id, now), *others)[:ROOMS]
        self.chores.close(item.id)
        self._called -= {part.id for part in item.parts()}
        return self.level != level

    def was_lately_in(self, room_id: str, now: float) -> bool:
        """Whether it was lately at work in a room."""
        return any(room == room_id and now - at <= LATELY for room, at in self._rooms)

    def clear(self) -> list[InboxItem]:
        """Let go of everything; what was in hand, also to be refused, and what waited, each alone."""
        taken = [part for work in self.work for part in item_of(work).parts()]
        waiting = [] if self._inbox is None else [shed.item for shed in self._inbox.clear()]
        self._inbox, self.work, self._called = None, (), frozenset()
        return sorted([*taken, *waiting], key=lambda item: item.arrived)

    def tidy(self, now: float) -> None:
        """Keep no inbox that holds nothing and knows nothing."""
        # The marks know what is done, so an empty one is needed only for who talks too much.
        if self._inbox is not None and self._inbox.is_idle(now):
            self._inbox = None

    def next_at(self, now: float, wall: float, threshold: float) -> float:
        """When there will be something to do if nothing comes, on the clock of the items, or ``math.inf``."""
        at = now + (self.chores.next_due_at(wall) - wall)
        if self._inbox is None:
            return at
        eligible = self._inbox.next_eligible_at(now, threshold)
        return min(at, eligible, self._inbox.next_infeasible_at(self.estimate))


def item_of(work: InboxItem | Shed) -> InboxItem:
    """What it is about."""
    return work.item if isinstance(work, Shed) else work
