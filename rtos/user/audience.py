"""The audience: all personas of a room are told what is said there, and one is asked to answer for all.

Owns nothing but how lively each room is, and the count by which it gives way; users, rooms and
questions belong to others. Who answers is decided in `rtos.user.coordination`; here the facts are
gathered for it.

Law: whoever is in the room and served is told of each message, and what it is to it, before anybody
is asked to answer for all. So everybody but whom it does not concern keeps its read mark below the
message until there is a reply, and none is lost with the one who was asked.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.errors import RtosError
from rtos.user.claims import is_note, question_of
from rtos.user.coordination import Decision, Facts, Heard, Standing, decide, stand
from rtos.user.hearing import Around
from rtos.user.marks import UNSAVED
from rtos.user.warmth import Warmth

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.user.base import BaseUser
    from rtos.user.entities import RoomEntity
    from rtos.user.persona import PersonaUser
    from rtos.user.questions import Questions

log = logging.getLogger("rtos.users")

HEARERS: Final = 16
"""So many are looked at, or told, in one step."""
Unanswered = dict[str, dict[str, Any]]
"""Messages that one answers for all, and nobody has so far, by id."""


@attrs.define
class Audience:
    """Tells the personas of a room.

    Args:
      served: who is served, by id.
      known: who is known, served or not.
      rests: whether somebody has failed just now.
      questions: whom to ask.
    """

    served: Callable[[str], PersonaUser | None]
    known: Callable[[str], BaseUser | None]
    rests: Callable[[str], bool]
    questions: Questions
    _told: int = attrs.field(default=0, init=False)
    # As many as there are rooms.
    _warmth: dict[str, Warmth] = attrs.field(factory=dict, init=False)

    async def tell(
        self, message: dict[str, Any], room: RoomEntity, unanswered: Unanswered | None = None
    ) -> None:
        """Tell the personas of a room of a message, and see to it that it is answered.

        Args:
          message: its record.
          room: where it was said.
          unanswered: where to put it instead of asking somebody to answer it for all; out
            of there goes what it answers itself.

        A checkpoint now and then. A cancellation leaves some untold.
        """
        # A note is nothing that anybody has said, so it calls nobody.
        decision, watched = (Decision(), False) if is_note(message) else await self._decide(message, room)
        # What is caught up with was said long ago.
        late = unanswered is not None or is_note(message)
        around = Around() if late else self._around(message["room_id"], watched=watched)
        settled = question_of(message)
        for member in room.member_ids:
            persona = self.served(member)
            if persona is not None:
                if settled is not None and member != message["sender_id"]:
                    persona.reading.finish(message["room_id"], settled)
                persona.hear(message, decision.part(member), around=around)
                await self._save_marks(persona)
            await self._give_way()
        if settled is not None:
            self._settle(settled, message["sender_id"], unanswered)
        if decision.anybody and unanswered is not None:
            unanswered[message["id"]] = message
        elif decision.anybody:
            self.questions.ask(message, decision.order, around)

    async def ask(self, unanswered: Unanswered, room: RoomEntity) -> None:
        """Ask who is to answer messages that all of the room were told of. A checkpoint now and then."""
        for message in unanswered.values():
            # Anew for each, since whoever was asked the one before has more to do now.
            decision, _ = await self._decide(message, room)
            self.questions.ask(message, decision.order, Around())

    def close_room(self, room_id: str) -> None:
        """Forget what is known of a room that is gone. Not a checkpoint."""
        self.questions.close_room(room_id)
        self._warmth.pop(room_id, None)

    def _around(self, room_id: str, *, watched: bool) -> Around:
        now = trio.current_time()
        warmth = self._warmth[room_id] = self._warmth.get(room_id, Warmth()).warmed(now)
        return Around(watched=watched, temperature=warmth.value)

    async def _decide(self, message: dict[str, Any], room: RoomEntity) -> tuple[Decision, bool]:
        """Who is to answer, and whether a human has the room in front."""
        heard = Heard(
            id=message["id"],
            sender_id=message["sender_id"],
            text=message["text"],
            human=message["sender_type"] == "human",
            depth=message["causal_depth"],
        )
        standings: list[Standing] = []
        watched = False
        for member in room.member_ids:
            standings.append(stand(heard, self._facts(member)))
            user = self.known(member)
            if user is not None and user.entity.type == "human":
                watched |= user.state.content_state.shows("chat", message["room_id"])
            await self._give_way()
        return decide(heard, standings), watched

    def _facts(self, user_id: str) -> Facts:
        user, persona = self.known(user_id), self.served(user_id)
        name = user_id if user is None else user.entity.display_name
        if persona is None:
            return Facts(id=user_id, name=name, able=False)
        return Facts(
            id=user_id,
            name=name,
            expertise=persona.entity.expertise,
            label=persona.feeling.label,
            waiting=persona.desk.waiting + (persona.desk.in_hand_id is not None),
            rests=self.rests(user_id),
        )

    def _settle(self, message_id: str, by: str, unanswered: Unanswered | None) -> None:
        self.questions.close(message_id)
        message = None if unanswered is None else unanswered.pop(message_id, None)
        persona = self.served(by)
        if persona is not None and message is not None:
            # It had replied before it was stopped, and has yet to note that it did.
            persona.hear(message, "chosen", around=Around())

    async def _save_marks(self, persona: PersonaUser) -> None:
        """Store how far one has come that is not served, or a restart would tell it all of that again."""
        if persona.reading.unsaved < UNSAVED or persona.desk.in_hand_id is not None:
            return
        try:
            await persona.change_state(persona.reading.write_into)
        except RtosError as error:
            log.warning("how far %s has read could not be stored: %s", persona.id, error)

    async def _give_way(self) -> None:
        # A room may have thousands of members, and this loop has others to serve. Counted over
        # all messages, as one that is caught up with is followed by the next in the same step.
        self._told += 1
        if self._told % HEARERS == 0:
            await trio.lowlevel.checkpoint()
