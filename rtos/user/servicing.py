"""Servicing: what is done about one message, from recall to the memory of it.

Owns no state and knows no persona: it is given who speaks, and the message.

Law: a message is answered once in effect, wherever it is cut short. The reply is
in the shared database, and the rest in the user's own, so they cannot be one
write; two writes are enough, in this order:

1. The reply, under an id made from the persona's and the message's, or from the
   message's alone where one answers for all. Creating what is there already is refused,
   so at most one reply is ever stored, whoever sends it. That record is the claim on the message.
2. One batch of the user's database: the read mark, how the persona feels, and the
   memory of the exchange, under an id made in the same way.

Before 1 nothing is stored and the mark is below the message, so it is heard again.
Between 1 and 2 it is heard again too; the reply is found, nothing is thought or
said, and the memory is made from the reply that was given. After 2 either the mark
has passed the message, or an older one is still open and it is heard again; then
reply and memory are found and only the mark is written. Each write is all or
nothing, and no other state counts, so there are no other points.

Several messages of one human that waited are answered by one reply, to the newest of them. It is
stored together with a note for each of the others, under the id that a reply to that one would
have: so there is still one claim on each message, and all of them are made or none. Whoever
has claimed one before, alone or among others, makes that write fail as a whole, and then, as after
any other failure, each is served alone and finds its claim or makes it. A reply's claims never
change, so it says for ever what it has answered: the one memory of the exchange is kept under
the id of the newest and holds all the questions, and whoever makes it after a crash reads them
there. A message that has a note is done; alone nothing is said or remembered for it. Batch 2 has the
marks of all; cut short before it, each of them is heard again, alone or with others, and found.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final, Literal

import attrs
import msgspec
import trio

from rtos.errors import CommandRejected, Conflict, RtosError
from rtos.user.claims import is_note, remembered, reply_id
from rtos.user.entities import ChatMessageEntity, MemoryEntity, UserEntity
from rtos.user.memory import seconds_of
from rtos.user.passages import Passage
from rtos.user.recall import recall
from rtos.user.responder import Question, Reply
from rtos.user.words import terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rtos.bus import Bus
    from rtos.user.chores import Diary
    from rtos.user.embedding import Embedder
    from rtos.user.inbox import InboxItem, Shed
    from rtos.user.responder import Responder

log = logging.getLogger("rtos.persona")

CANDIDATES: Final = 30
"""How many passages a recall looks at before they are ranked."""
LATE: Final = "I could not answer this in time; please ask me again."
REFUSALS: Final = {
    "failed": "I have failed at this more than once and will not try again; please ask me differently.",
    "busy": "I am too busy to answer this now; please ask me again later.",
}
"""What a human is told of a message that is not served, by reason; "busy" for all others."""
SAID: Final = frozenset({"exchange", "summary"})
"""The kinds of memories that hold what was said."""


@attrs.frozen
class Outcome:
    """What became of a message, or of a task.

    `said`: this persona has replied, now or before a restart. `answered`: another one has, for
    all, or this one has together with a later message. `passed`: another one is to. `unheard`: a
    reply can be given to nobody, because the room is gone or the speaker is not in it any more, or
    there is none to give. `failed`: it was begun and cannot be done, which is said if there is
    anybody to hear it. `apart`: several cannot be answered together, and each is to be served alone.
    """

    kind: Literal["said", "answered", "passed", "unheard", "failed", "apart"]
    text: str | None = None
    """What this persona has said."""
    covered: tuple[str, ...] = ()
    """The texts of the older messages that it has answered by that as well, oldest first."""

    @property
    def is_free(self) -> bool:
        """Whether it was found to be answered, or is to be served again, so that this was no work."""
        return self.kind in ("answered", "apart")


@attrs.frozen
class Servicing:
    """Serves messages for one speaker, one after the other.

    Attributes:
      bus: commands and events.
      responder: who finds the words.
      user_id: who speaks, and whose memory is searched.
      display_name: what it is called.
      wall_clock: seconds since the epoch; what memories fade by.
      pass_on: lets another one answer what was for anybody; see ``Questions.pass_on``.
      embedder: who makes vectors; ``None`` to recall by words alone.
    """

    bus: Bus
    responder: Responder
    user_id: str
    display_name: str
    wall_clock: Callable[[], float]
    pass_on: Callable[..., bool]
    embedder: Embedder | None = None

    async def answer(self, item: InboxItem) -> Outcome:
        """Find an answer and give it, unless there is one; regret when nobody is left to find it in time.

        What covers others is answered together with them, or else is `apart`.

        Always a checkpoint. A cancellation leaves a reply that is stored or none.
        """
        if item.covers:
            return await self._answer_together(item)
        try:
            with trio.fail_at(item.deadline):
                given = await self.given(item)
                if given is not None:
                    return given
                return await self.say(item, await self._think(item))
        except (RtosError, trio.TooSlowError) as error:
            log.warning("%s could not answer %s: %s", self.user_id, item.id, error)
        regretted = await self._regret(item, Reply(LATE))
        return attrs.evolve(regretted, kind="failed") if regretted.kind == "said" else regretted

    async def _answer_together(self, item: InboxItem) -> Outcome:
        try:
            with trio.fail_at(item.due):
                if not await self._is_any_given(item):
                    reply = await self._think(item)
                    await self._send(item, reply)
                    return Outcome("said", reply.text, tuple(part.text for part in item.covers))
        except (RtosError, trio.TooSlowError) as error:
            # Why is found out, and told, by serving each of them alone.
            log.info("%s answers %d messages apart: %s", self.user_id, len(item.parts()), error)
        return Outcome("apart")

    async def _think(self, item: InboxItem) -> Reply:
        text = item.whole_text
        question = Question(text=text, asker=item.sender_id, persona=self.display_name)
        return await self.responder.respond(question, await self.recall(text, limit=CANDIDATES))

    async def refuse(self, shed: Shed) -> Outcome:
        """Do not answer a message; a human is told so if nobody else is left to answer it.

        Always a checkpoint, but when it is passed on. A cancellation leaves a reply that is stored or none.
        """
        reason, item = shed.reason, shed.item
        told = {"persona_id": self.user_id, "message_id": item.id, "reason": reason}
        self.bus.events.emit("inbox:shed", told)
        if item.sender_type != "human":
            return Outcome("unheard")
        outcome = await self._regret(item, Reply(REFUSALS.get(reason, REFUSALS["busy"])))
        # It is no exchange, and not remembered.
        return attrs.evolve(outcome, text=None)

    def passes_on(self, item: InboxItem, *, gone: bool = False) -> bool:
        """Whether another one answers instead; ``gone`` if nothing can be said here. Not a checkpoint."""
        return item.anybody and self.pass_on(self.user_id, item.id, gone=gone)

    async def _regret(self, item: InboxItem, reply: Reply) -> Outcome:
        return Outcome("passed") if self.passes_on(item) else await self.say(item, reply)

    async def say(self, item: InboxItem, reply: Reply) -> Outcome:
        """Reply to a message, unless it has a reply.

        Raises:
          RtosError: it cannot be said now, and may be later.

        Always a checkpoint. A cancellation leaves a reply that is stored or none.
        """
        try:
            await self._send(item, reply)
        except Conflict:
            log.info("%s finds that %s has its answer", self.user_id, item.id)
            return await self.given(item) or Outcome("unheard")
        except CommandRejected as error:
            if await self._may_not_speak():
                raise
            log.warning("%s can tell nobody the answer to %s: %s", self.user_id, item.id, error)
            return Outcome("passed" if self.passes_on(item, gone=True) else "unheard")
        return Outcome("said", reply.text)

    async def _send(self, item: InboxItem, reply: Reply) -> None:
        await self.bus.commands.execute(
            "chat/send",
            id=self._reply_id(item),
            room=item.room_id,
            sender=self.user_id,
            text=reply.text,
            reply_to=item.id,
            sources=list(reply.sources),
            causal_depth=item.causal_depth + 1,
            covers=[part.id for part in item.covers],
        )

    async def memory(self, item: InboxItem, outcome: Outcome) -> dict[str, Any] | None:
        """The operation that keeps a memory of an exchange; ``None`` if nothing was said, or it is known.

        A checkpoint if anything was said.
        """
        if outcome.text is None:
            return None
        now = self.wall_clock()
        memory = remembered(self.user_id, item, outcome.text, now=now, covered=outcome.covered)
        known = await self._read(MemoryEntity.collection, memory["id"], user_id=self.user_id)
        return memory if known is None else None

    def counted(self, diary: Diary, memory: dict[str, Any] | None) -> Diary:
        """What the persona counts after it. Pure."""
        if memory is None:
            return diary
        return diary.remembered(seconds_of(memory["data"]["fades_at"]) or math.inf)

    async def conclude(self, item: InboxItem, operations: list[dict[str, Any]]) -> None:
        """Store that a message is done, in one batch.

        Args:
          item: the message.
          operations: what belongs to it: read mark, state, and the memory of it.

        Always a checkpoint. A cancellation leaves all of it or nothing.
        """
        log.debug("%s is done with %s", self.user_id, item.id)
        await self.bus.commands.execute("data/batch", operations=operations, user_id=self.user_id)

    async def recall(self, text: str, *, limit: int) -> list[Passage]:
        """What it remembers that fits a text, best first; not what was said before."""
        if not terms(text):
            return []
        found = await recall(
            self.bus, self.user_id, text, limit=limit, now=self.wall_clock(), embedder=self.embedder
        )
        # An answer that quotes earlier answers would drown what they were made from.
        return [_passage(record) for record in found if record["kind"] not in SAID]

    async def given(self, item: InboxItem) -> Outcome | None:
        """What was answered before, by whom, if there is an answer. A checkpoint."""
        record = await self._read(ChatMessageEntity.collection, self._reply_id(item))
        if record is None:
            return None
        if record["sender_id"] != self.user_id or is_note(record):
            return Outcome("answered")
        if record["text"] in REFUSALS.values():
            # It is no exchange after a crash either.
            return Outcome("said")
        return Outcome("said", record["text"], await self._texts(record.get("covers", ())))

    async def _is_any_given(self, item: InboxItem) -> bool:
        claims = {"id": {"$in": [self._reply_id(part) for part in item.parts()]}}
        found = await self.bus.commands.execute(
            "data/count", collection=ChatMessageEntity.collection, filter=claims
        )
        return bool(found["count"])

    async def _texts(self, ids: Iterable[str]) -> tuple[str, ...]:
        """What messages say; of one that is gone nothing is left to remember."""
        records = [await self._read(ChatMessageEntity.collection, id) for id in ids]
        return tuple(record["text"] for record in records if record is not None)

    def _reply_id(self, item: InboxItem) -> str:
        return reply_id(None if item.anybody else self.user_id, item.id)

    async def _may_not_speak(self) -> bool:
        record = await self._read(UserEntity.collection, self.user_id)
        return record is None or record["status"] == "frozen"

    async def _read(self, collection: str, id: str, *, user_id: str | None = None) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self.bus.commands.execute(
            "data/read", collection=collection, id=id, user_id=user_id
        )
        return found


def _passage(record: dict[str, Any]) -> Passage:
    return msgspec.convert(
        {
            "id": record["id"],
            "text": record["body"],
            "source": record["source"],
            "heading": record["heading"],
            "strength": record["strength"],
        },
        type=Passage,
    )
