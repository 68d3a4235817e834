"""A persona: a user that attends to what it is told.

Orchestrates cognition and owns no storage, no path and no loop of its own: its
inbox says what comes next, its state whether that is worth attending to, the
responder what to say. It has a task only while there is something to do; what
wakes it is a message, or the one instant at which something will change.

Law: every message that was accepted ends in exactly one of: a reply, a visible
refusal, or a note that it was not for this persona, since it calls others or another
one has answered for all. How that survives a crash is
shown in `rtos.user.servicing`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import trio

from rtos.user.affect import PersonaState, changes
from rtos.user.base import BaseUser, state_operation
from rtos.user.hearing import ANSWER_WITHIN, heard, paced
from rtos.user.inbox import InboxItem, PersonaInbox, Shed
from rtos.user.marks import UNSAVED, Mark, Reading
from rtos.user.priority import CALLED, LEVEL
from rtos.user.servicing import Servicing

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.bus import Bus
    from rtos.scheduler import Timer
    from rtos.user.coordination import Part
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.embedding import Embedder
    from rtos.user.entities import UserStateEntity
    from rtos.user.responder import Responder
    from rtos.user.servicing import Outcome

PERSONA_KEY: Final = "persona_state"
COST_OF_REPLY: Final = 500.0
"""What one reply costs, in the unit of the temperament's ``cost_scale`` (tokens)."""


class PersonaUser(BaseUser):
    """A persona, resident in memory; see the module for what it does and does not own.

    Args:
      record: its user record.
      bus: commands and events.
      directories: paths.
      responder: who finds the words.
      wall_clock: seconds since the epoch; what energy and mood are a function of.
      embedder: who makes vectors of memories; ``None`` to recall by words alone.
      activate: starts ``attend_all`` in a task of its own, if none runs; told again when ``level`` changes.
      pass_on: lets another one answer what was for anybody, if anybody is left; see ``Questions.pass_on``.
    """

    # Of a hundred thousand nearly all have nothing to do: what only serves messages comes and goes with them.
    __slots__ = (
        "_activate",
        "_called",
        "_embedder",
        "_estimate",
        "_inbox",
        "_pass_on",
        "_responder",
        "_timer",
        "_wall_clock",
        "_work",
        "feeling",
        "reading",
    )

    def __init__(
        self,
        record: dict[str, Any],
        *,
        bus: Bus,
        directories: UserDirectoryManager,
        responder: Responder,
        wall_clock: Callable[[], float],
        embedder: Embedder | None = None,
        activate: Callable[[PersonaUser], None],
        pass_on: Callable[..., bool],
    ) -> None:
        super().__init__(record, bus=bus, directories=directories)
        self._inbox: PersonaInbox | None = None
        self.feeling = PersonaState.rested(wall_clock())
        self._responder = responder
        self._wall_clock = wall_clock
        self._embedder = embedder
        self._activate = activate
        self._pass_on = pass_on
        # Not the same for all of a room, or they would all store their marks at once.
        self.reading = Reading(crc32(self.id.encode()) % UNSAVED)
        self._work: tuple[InboxItem | Shed, ...] = ()
        self._timer: Timer | None = None
        self._estimate = 0.0
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
        """How many messages wait."""
        return 0 if self._inbox is None else len(self._inbox)

    @property
    def level(self) -> int:
        """How urgent it is what it does now."""
        return CALLED if self._called else LEVEL

    # Life.

    async def initialize(self) -> None:
        """See ``BaseUser.initialize``; also takes up its energy and mood where time has brought them."""
        await super().initialize()
        record = await self._bus.commands.execute("data/read", key=PERSONA_KEY, user_id=self.id)
        if record is not None:
            self.feeling = PersonaState.from_builtins(record["value"]).wake(self._wall_clock())
        self.reading.take_up(self.state)

    def stop(self) -> None:
        """Forget what waits; it stays unread, and is caught up with when the persona starts again."""
        self._disarm()
        self._inbox = None
        self._work = ()
        self._called = frozenset()

    def hand_back(self) -> list[InboxItem]:
        """Stop, and give back what it had accepted and not answered, in order of arrival."""
        taken = [_item(work) for work in self._work]
        waiting = [] if self._inbox is None else [shed.item for shed in self._inbox.clear()]
        self.stop()
        return sorted([*taken, *waiting], key=lambda item: item.arrived)

    @property
    def in_hand(self) -> str | None:
        """The id of the message that is being served; after a failure, of the one it failed at."""
        return _item(self._work[0]).id if self._work else None

    def give_up(self, *, for_good: bool) -> None:
        """Leave the message in hand to another one; if nobody is left, refuse it for good or try again."""
        if not self._work:
            return
        work, *rest = self._work
        if self._servicing().passes_on(_item(work)):
            self.inbox.forget(_item(work).id)
            self._work = tuple(rest)
        elif for_good:
            self._work = (Shed(_item(work), "failed"), *rest)

    # What it is told.

    async def enter(self, room_id: str, since: str) -> Mark:
        """Take part in a room from ``since`` (a timestamp) on, unless it does already.

        Returns:
          Up to where it is done there. Stored the first time, so that a restart
          begins at the same place. A checkpoint then, and otherwise not.
        """
        if room_id not in self.reading:
            self.reading.enter(room_id, Mark(since))
            await self.change_state(lambda state: state.with_read(room_id, "", since))
        return self.reading.mark(room_id)

    def hear(self, message: dict[str, Any], part: Part, *, within: float = ANSWER_WITHIN) -> None:
        """Take note of a message in a room that it is in. Not a checkpoint.

        Args:
          message: its record.
          part: what it is to this persona. Who is chosen has stood by.
          within: seconds from now after which an answer is worth nothing.
        """
        id, room_id = message["id"], message["room_id"]
        new = self.reading.begin(room_id, Mark(message["created_at"], id))
        if new and part == "aside":
            self.reading.finish(room_id, id)
        if not (new if part == "called" else part == "chosen" and self.reading.holds(room_id, id)):
            return
        now = trio.current_time()
        item = heard(message, part, self.entity, now=now, within=within)
        offered = self.inbox.offer(item, now, estimate=self._estimate)
        self._work += offered.shed
        if offered.outcome == "accepted" and item.mentions and item.sender_type == "human":
            self._called |= {item.id}
        self._feel_load()
        self._activate(self)

    # What it does.

    async def attend_all(self) -> None:
        """Serve what is worth it now, then arm the one timer and leave.

        A checkpoint if anything is served. A cancellation or an error leaves what
        was not finished unread, and first in hand when this is called again.
        """
        self._disarm()
        while self._work or self._take():
            work = self._work[0]
            await (self._refuse(work) if isinstance(work, Shed) else self._attend(work))
            self._work = self._work[1:]
        self._arm()

    def _take(self) -> bool:
        self._feel_load()
        taken = self.inbox.take(trio.current_time(), self.feeling.threshold, estimate=self._estimate)
        self._work = taken.shed if taken.item is None else (*taken.shed, taken.item)
        return bool(self._work)

    async def _attend(self, item: InboxItem) -> None:
        began = trio.current_time()
        self._feel(self.feeling.begin_work(self._wall_clock()))
        servicing = self._servicing()
        outcome = await servicing.answer(item)
        cost = 0.0 if outcome.kind == "answered" else COST_OF_REPLY
        self._feel(self.feeling.end_work(self._wall_clock(), cost))
        await self._conclude(servicing, item, outcome)
        took = trio.current_time() - began
        self.inbox.charge(item.sender_id, took)
        self._estimate = paced(self._estimate, took)

    async def _refuse(self, shed: Shed) -> None:
        servicing = self._servicing()
        await self._conclude(servicing, shed.item, await servicing.refuse(shed))

    def _servicing(self) -> Servicing:
        return Servicing(
            self._bus,
            self._responder,
            self.id,
            self.entity.display_name,
            self._wall_clock,
            self._pass_on,
            self._embedder,
        )

    async def _conclude(self, servicing: Servicing, item: InboxItem, outcome: Outcome) -> None:
        if outcome.kind == "passed":
            # It stays unread until another one has answered, and may come back.
            self.inbox.forget(item.id)
            return
        self.reading.finish(item.room_id, item.id)
        # In its turn: a command that opens or closes something stores the same record, and what was
        # begun before its write and ended after it would put back the state without that.
        async with self.writing():
            state = self.reading.write_into(self.state)
            await servicing.conclude(item, outcome.text, *self._state_operations(state))
            # Only now, or another write of the state could say what is not true yet.
            self.state = state
        if item.id in self._called:
            self._called -= {item.id}
            self._activate(self)

    def _state_operations(self, state: UserStateEntity) -> list[dict[str, Any]]:
        feeling = {"key": PERSONA_KEY, "value": self.feeling.to_builtins()}
        return [{"op": "store", **state_operation(state)}, {"op": "store", **feeling}]

    # How it feels, and when that will change.

    def _feel(self, feeling: PersonaState) -> None:
        before, self.feeling = self.feeling, feeling
        for name, told in changes(before, feeling):
            self._bus.events.emit(f"persona:{name}:changed", {"persona_id": self.id, **told})

    def _feel_load(self) -> None:
        ahead = (self.waiting + len(self._work)) * self._estimate
        self._feel(self.feeling.burden(self._wall_clock(), ahead / ANSWER_WITHIN))

    def _arm(self) -> None:
        wall, now = self._wall_clock(), trio.current_time()
        # The marks know what is done, so an empty inbox is needed only for who talks too much.
        if self._inbox is not None and self._inbox.is_idle(now):
            self._inbox = None
        at = self.feeling.next_crossing_at(wall) - wall + now
        if self._inbox is not None:
            eligible = self._inbox.next_eligible_at(now, self.feeling.threshold)
            at = min(at, eligible, self._inbox.next_infeasible_at(self._estimate))
        if at < math.inf:
            self._timer = self._bus.scheduler.add_timer(at, lambda: self._activate(self))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _item(work: InboxItem | Shed) -> InboxItem:
    return work.item if isinstance(work, Shed) else work
