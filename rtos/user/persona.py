"""A persona: a user that attends to what it is told.

Orchestrates cognition and owns no storage, no path and no loop of its own: its
inbox says what comes next, its state whether that is worth attending to, the
responder what to say. It has a task only while there is something to do; what
wakes it is a message, or the one instant at which something will change.

Law: every message that was accepted ends in exactly one of: a reply, a visible
refusal, or a note that it was not for this persona. The reply has an id made
from the message's, and the read mark moves after the reply is stored, so a crash
in between repeats the message and adds nothing.
"""

from __future__ import annotations

import logging
import math
import uuid
from typing import TYPE_CHECKING, Any, Final

import msgspec
import trio

from rtos.errors import Conflict, RtosError
from rtos.user.affect import PersonaState
from rtos.user.base import BaseUser
from rtos.user.inbox import InboxItem, PersonaInbox
from rtos.user.marks import Mark, RoomProgress
from rtos.user.passages import Passage
from rtos.user.priority import Circumstances, mentions, priority, touches
from rtos.user.recall import recall
from rtos.user.responder import Question
from rtos.user.words import terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.bus import Bus
    from rtos.scheduler import Timer
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.entities import RoomEntity
    from rtos.user.inbox import Shed
    from rtos.user.responder import Responder

log = logging.getLogger("rtos.persona")

PERSONA_KEY: Final = "persona_state"
LEVEL: Final = 5
"""Personas think at this level: below every daemon, above background work."""
ANSWER_WITHIN: Final = 60.0
"""Seconds from the arrival of a message after which an answer is worth nothing."""
CANDIDATES: Final = 30
"""How many passages a recall looks at before they are ranked."""
COST_OF_REPLY: Final = 500.0
"""What one reply costs, in the unit of the temperament's ``cost_scale`` (tokens)."""
_REPLIES: Final = uuid.UUID("6f1c3b52-8a07-4f0e-9d61-3c1f5f0a2b77")


class PersonaUser(BaseUser):
    """A persona, resident in memory; see the module for what it does and does not own.

    Args:
      record: its user record.
      bus: commands and events.
      directories: paths.
      responder: who finds the words.
      wall_clock: seconds since the epoch; what energy and mood are a function of.
      activate: starts ``attend_all`` in a task of its own, if none runs.
    """

    # There may be a hundred thousand, of which nearly all have nothing to do: what only serves
    # messages is made with the first and let go of after the last.
    __slots__ = (
        "_activate",
        "_estimate",
        "_inbox",
        "_refusals",
        "_responder",
        "_rooms",
        "_timer",
        "_wall_clock",
        "feeling",
    )

    def __init__(
        self,
        record: dict[str, Any],
        *,
        bus: Bus,
        directories: UserDirectoryManager,
        responder: Responder,
        wall_clock: Callable[[], float],
        activate: Callable[[PersonaUser], None],
    ) -> None:
        super().__init__(record, bus=bus, directories=directories)
        self._inbox: PersonaInbox | None = None
        self.feeling = PersonaState.rested(wall_clock())
        self._responder = responder
        self._wall_clock = wall_clock
        self._activate = activate
        self._rooms: dict[str, RoomProgress] = {}
        self._refusals: tuple[Shed, ...] = ()
        self._timer: Timer | None = None
        self._estimate = 0.0

    @property
    def inbox(self) -> PersonaInbox:
        """What it has been told and has not attended to; made when it is first asked for."""
        if self._inbox is None:
            self._inbox = PersonaInbox()
        return self._inbox

    @property
    def waiting(self) -> int:
        """How many messages wait."""
        return 0 if self._inbox is None else len(self._inbox)

    # Life.

    async def initialize(self) -> None:
        """See ``BaseUser.initialize``; also takes up its energy and mood where time has brought them."""
        await super().initialize()
        record = await self._bus.commands.execute("data/read", key=PERSONA_KEY, user_id=self.id)
        if record is not None:
            self.feeling = PersonaState.from_builtins(record["value"]).wake(self._wall_clock())
        for room_id, mark in self.state.room_read_state.items():
            place = Mark(mark.last_read_message_timestamp, mark.last_read_message_id or "")
            self._rooms[room_id] = RoomProgress(place)

    def stop(self) -> None:
        """Forget what waits; it stays unread, and is caught up with when the persona starts again."""
        self._disarm()
        self._inbox = None

    # What it is told.

    async def enter(self, room_id: str, since: str) -> Mark:
        """Take part in a room from ``since`` (a timestamp) on, unless it does already.

        Returns:
          Up to where it is done there. Stored the first time, so that a restart
          begins at the same place. A checkpoint then, and otherwise not.
        """
        if room_id not in self._rooms:
            self._rooms[room_id] = RoomProgress(Mark(since))
            self.state = self.state.with_read(room_id, "", since)
            await self.save_state()
        return self._rooms[room_id].mark

    def hear(self, message: dict[str, Any], room: RoomEntity) -> None:
        """Take note of a message in a room that it is in. Not a checkpoint."""
        progress = self._rooms.get(message["room_id"])
        if progress is None or not progress.begin(Mark(message["created_at"], message["id"])):
            return
        if not self._concerns(message, room):
            progress.finish(message["id"])
            return
        now = trio.current_time()
        offered = self.inbox.offer(self._item(message, room, now), now, estimate=self._estimate)
        self._refusals += offered.shed
        self._activate(self)

    def _concerns(self, message: dict[str, Any], room: RoomEntity) -> bool:
        if message["sender_id"] == self.id:
            return False
        text = message["text"]
        if message["sender_type"] != "human":
            # Personas that answer each other unasked would never stop, and one
            # that quotes a name calls nobody.
            return mentions(
                text.split("\n", 1)[0][: len(self.entity.display_name) + 2], self.entity.display_name
            )
        if mentions(text, self.entity.display_name):
            return True
        others = (member.replace("-", " ") for member in room.member_ids if member != self.id)
        return not any(mentions(text, other) for other in others)

    def _item(self, message: dict[str, Any], room: RoomEntity, now: float) -> InboxItem:
        mentioned = mentions(message["text"], self.entity.display_name)
        about = Circumstances(
            human=message["sender_type"] == "human",
            mention=mentioned,
            known_room=self.id in room.member_ids,
            expertise=touches(message["text"], self.entity.expertise),
        )
        return InboxItem(
            id=message["id"],
            room_id=message["room_id"],
            sender_id=message["sender_id"],
            sender_type=message["sender_type"],
            text=message["text"],
            priority=priority(about),
            arrived=now,
            deadline=now + ANSWER_WITHIN,
            causal_depth=message["causal_depth"],
            mentions=mentioned,
        )

    # What it does.

    async def attend_all(self) -> None:
        """Serve what is worth it now, then arm the one timer and leave.

        Always a checkpoint. A cancellation leaves what was not finished unread.
        """
        self._disarm()
        self._feel(self.feeling.advance(self._wall_clock()))
        while True:
            now = trio.current_time()
            taken = self.inbox.take(now, self.feeling.threshold, estimate=self._estimate)
            refusals, self._refusals = self._refusals + taken.shed, ()
            for shed in refusals:
                await self._refuse(shed)
            if taken.item is None:
                break
            await self._attend(taken.item)
            self._learn_pace(trio.current_time() - now)
        self._arm()

    def _learn_pace(self, seconds: float) -> None:
        # Capped, so that one slow answer cannot make every later message look hopeless.
        paced = self._estimate + (seconds - self._estimate) / 4 if self._estimate else seconds
        self._estimate = min(paced, ANSWER_WITHIN / 2)

    async def _attend(self, item: InboxItem) -> None:
        self._feel(self.feeling.begin_work(self._wall_clock()))
        try:
            with trio.fail_at(item.deadline):
                passages = await self.recall(item.text, limit=CANDIDATES)
                question = Question(text=item.text, asker=item.sender_id, persona=self.entity.display_name)
                reply = await self._responder.respond(question, passages)
                await self._say(item, reply.text, reply.sources)
        except (RtosError, trio.TooSlowError) as error:
            log.warning("%s could not answer %s: %s", self.id, item.id, error)
            await self._say(item, "I could not answer this in time; please ask me again.", ())
        self._feel(self.feeling.end_work(self._wall_clock(), COST_OF_REPLY))
        await self._finish(item)

    async def _refuse(self, shed: Shed) -> None:
        item = shed.item
        self._bus.events.emit(
            "inbox:shed", {"persona_id": self.id, "message_id": item.id, "reason": shed.reason}
        )
        if item.sender_type == "human":
            await self._say(item, "I am too busy to answer this now; please ask me again later.", ())
        await self._finish(item)

    async def _say(self, item: InboxItem, text: str, sources: tuple[str, ...]) -> None:
        try:
            await self._bus.commands.execute(
                "chat/send",
                id=reply_id(self.id, item.id),
                room=item.room_id,
                sender=self.id,
                text=text,
                reply_to=item.id,
                sources=list(sources),
                causal_depth=item.causal_depth + 1,
            )
        except Conflict:
            log.info("%s had answered %s before a restart", self.id, item.id)

    async def _finish(self, item: InboxItem) -> None:
        progress = self._rooms[item.room_id]
        progress.finish(item.id)
        mark = progress.mark
        if mark.message_id:
            self.state = self.state.with_read(item.room_id, mark.message_id, mark.at)
        await self.save()

    async def save(self) -> None:
        """Store its state, its marks and how it feels, all or nothing."""
        feeling = {"key": PERSONA_KEY, "value": self.feeling.to_builtins()}
        operations = [{"op": "store", **self.state_operation()}, {"op": "store", **feeling}]
        await self._bus.commands.execute("data/batch", operations=operations, user_id=self.id)

    async def recall(self, text: str, *, limit: int) -> list[Passage]:
        """The passages of its memory that a search finds for a text, best first."""
        if not terms(text):
            return []
        found = await recall(self._bus, self.id, text, limit=limit, now=self._wall_clock())
        return [_passage(record) for record in found]

    # How it feels, and when that will change.

    def _feel(self, feeling: PersonaState) -> None:
        before, self.feeling = self.feeling, feeling
        for name, was, now in (
            ("energy", before.label, feeling.label),
            ("mood", before.temper, feeling.temper),
        ):
            if was != now:
                payload = {"persona_id": self.id, "from": was, "to": now, "energy": feeling.energy}
                self._bus.events.emit(f"persona:{name}:changed", payload)

    def _arm(self) -> None:
        # The marks know what is done, so an empty inbox holds nothing that is still needed.
        if not self.waiting:
            self._inbox = None
        wall = self._wall_clock()
        now = trio.current_time()
        crossing = self.feeling.next_crossing_at(wall) - wall + now
        at = crossing
        if self._inbox is not None:
            eligible = self._inbox.next_eligible_at(now, self.feeling.threshold)
            at = min(at, eligible, self._inbox.next_infeasible_at(self._estimate))
        if at < math.inf:
            self._timer = self._bus.scheduler.add_timer(at, lambda: self._activate(self))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def reply_id(persona_id: str, message_id: str) -> str:
    """The id of the one reply that a persona gives to a message."""
    return uuid.uuid5(_REPLIES, f"{persona_id}/{message_id}").hex


def _passage(record: dict[str, Any]) -> Passage:
    return msgspec.convert(
        {
            "id": record["id"],
            "text": record["body"],
            "source": record["source"],
            "heading": record["heading"],
            "line": 0,
            "strength": record["strength"],
        },
        type=Passage,
    )
