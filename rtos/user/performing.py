"""Performing: what a persona does about one task, from its beginning to what came of it.

Owns no state but that of one task, and knows no persona: it is given who speaks, and the task.

Law: a task has one outcome in effect, wherever it is cut short. Its record and what is said in
a room are in the shared database, and the rest is in the user's own, so they cannot be one
write; in this order they need not be:

1. The record says that it is begun.
2. What came of it is said in its room, if it has one, under an id made from the persona's and
   the task's.
3. One batch of the user's database: how the persona feels, what it counts, and the memory of the
   task, under an id made in the same way.
4. The record says what came of it.

Whoever finds it begun after a crash performs it again (`resume-work`), unless it was begun too
often. Cut short before 2, nothing was seen of it. Between 2 and 3 what was said is found, and
before 4 the memory is; what came of it is taken from there, however often it was begun, and
nothing is thought or said or counted again. What a persona gives itself has no memory and no
words; to do it twice is to do it once.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.errors import CommandRejected, Conflict, NotFound
from rtos.user.claims import memory_id, said_in
from rtos.user.entities import MAX_TEXT, MemoryEntity, TaskEntity
from rtos.user.memory import seconds_of
from rtos.user.responder import Question, Reply
from rtos.user.servicing import CANDIDATES, Outcome, Servicing
from rtos.user.tasks import ATTEMPTS, ENDED, audit, is_open, is_own, is_ready, task_item

if TYPE_CHECKING:
    from rtos.user.chores import Diary
    from rtos.user.inbox import InboxItem, Shed

log = logging.getLogger("rtos.persona")

WITHIN: Final = 600.0
"""Seconds that a task may take, where it is not known how long it will."""
GENEROUS: Final = 3.0
"""How many times as long as was estimated a task may take."""
RETRY: Final = 3600.0
"""Seconds after which a consolidation that failed is due again."""
COULD_NOT: Final = "I could not do this: "
"""How a room is told that a task has failed; the reason follows."""
AUDITED: Final = 100
"""How many of the last tasks an audit looks at."""


@attrs.frozen
class _Done:
    """What came of a task."""

    success: bool
    output: str = ""
    error: str = ""
    sources: tuple[str, ...] = ()
    metrics: dict[str, float] = attrs.field(factory=dict)


@attrs.define
class Performing:
    """Performs one task; made anew for each.

    Attributes:
      servicing: who speaks and remembers.
      fades_at: after a consolidation, when a memory fades next, in seconds since the epoch.
    """

    servicing: Servicing
    fades_at: float = math.inf
    _task: dict[str, Any] | None = attrs.field(default=None, init=False)
    _done: _Done | None = attrs.field(default=None, init=False)
    _is_counted: bool = attrs.field(default=False, init=False)
    _scope: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)

    def interrupt(self) -> None:
        """Leave off thinking about it; it stays begun. Not a checkpoint."""
        self._scope.cancel()

    async def answer(self, item: InboxItem) -> Outcome:
        """Do what there is to be done.

        Returns:
          `said` with what came of it; `passed` if it was left off and stays open; `unheard` if
          somebody else has ended it meanwhile.

        Always a checkpoint. A cancellation leaves it begun.
        """
        self._task = task = await self._begin(item)
        if task is None:
            return Outcome("unheard")
        self._done = await self._outcome_before(item)
        if self._done is None:
            with self._scope:
                self._done = await self._work_within(item, task)
            if self._done is None:
                return Outcome("passed")
        return await self._tell(item, self._done)

    async def refuse(self, shed: Shed) -> Outcome:
        """End a task that was failed at too often; what there was no room for stays in its record.

        Always a checkpoint for the former. A cancellation leaves it begun.
        """
        if shed.reason != "failed":
            return Outcome("passed")
        self._task = await self._read(shed.item.id)
        if self._task is None or not is_open(self._task):
            return Outcome("unheard")
        failed = _Done(success=False, error="it was tried more than once, and failed each time")
        # It may have failed after it was told.
        self._done = await self._outcome_before(shed.item) or failed
        return await self._tell(shed.item, self._done)

    async def memory(self, item: InboxItem, outcome: Outcome) -> dict[str, Any] | None:
        """The operation that keeps a memory of it, if there is anything to remember. A checkpoint if so."""
        if outcome.text is None or self._task is None or is_own(self._task):
            return None
        return await self.servicing.memory(item, outcome)

    async def conclude(self, item: InboxItem, operations: list[dict[str, Any]]) -> None:
        """See `Servicing.conclude`; what came of it is not in its record yet."""
        await self.servicing.conclude(item, operations)

    async def report(self, item: InboxItem) -> None:
        """Store in its record what came of it, unless somebody else has ended it.

        A checkpoint if anything came of it. A cancellation leaves it begun.
        """
        done = self._done
        if done is None or self._task is None:
            return
        try:
            await self.servicing.bus.commands.execute(
                "task/complete",
                id=item.id,
                success=done.success,
                output=done.output,
                error=done.error,
                metrics=done.metrics,
            )
        except CommandRejected as error:
            log.info("%s finds that %s has ended: %s", self.servicing.user_id, item.id, error)

    def counted(self, diary: Diary, memory: dict[str, Any] | None) -> Diary:
        """What the persona counts after it. Pure."""
        if self._done is None or self._is_counted:
            # Somebody else has ended it, or what came of it was stored with its count.
            return diary
        if self.own is None:
            return attrs.evolve(self.servicing.counted(diary, memory), performed=diary.performed + 1)
        failed = self.own == "memory-consolidation" and not self._done.success
        # One that failed is due again, and not at once.
        retry = self.servicing.wall_clock() + RETRY if failed else math.inf
        return diary.done(self.own, fades_at=min(self.fades_at, retry))

    @property
    def own(self) -> str | None:
        """The kind of what the persona gave itself; ``None`` for the task of somebody else."""
        return self._task["task_type"] if self._task is not None and is_own(self._task) else None

    async def _begin(self, item: InboxItem) -> dict[str, Any] | None:
        task = await self._read(item.id)
        if task is None or task["assignee_id"] != self.servicing.user_id:
            return None
        if task["status"] == "in_progress":
            # Begun before a crash, or left off.
            return task
        if not is_ready(task):
            return None
        try:
            begun: dict[str, Any] = await self.servicing.bus.commands.execute("task/start", id=item.id)
        except (CommandRejected, Conflict, NotFound) as error:
            log.info("%s cannot begin %s any more: %s", self.servicing.user_id, item.id, error)
            return None
        return begun

    async def _work_within(self, item: InboxItem, task: dict[str, Any]) -> _Done:
        estimated = task["estimated_duration"]
        within = WITHIN if not estimated else max(1.0, GENEROUS * estimated)
        with trio.move_on_after(within):
            return await self._work(item, task)
        return _Done(success=False, error=f"it took longer than {within:g} s")

    async def _work(self, item: InboxItem, task: dict[str, Any]) -> _Done:
        match task["task_type"]:
            case "memory-consolidation":
                return await self._consolidate()
            case "skill-audit":
                return await self._audit()
            case "resume-work":
                return await self._resume(task["id"])
            case "fine-tune-lora":
                return _Done(success=False, error="nobody here can tune a model")
            case _:
                return await self._respond(item, task)

    async def _respond(self, item: InboxItem, task: dict[str, Any]) -> _Done:
        servicing = self.servicing
        question = Question(
            text=task["description"], asker=task["created_by"], persona=servicing.display_name
        )
        passages = await servicing.recall(item.text, limit=CANDIDATES)
        reply = await servicing.responder.respond(question, passages)
        return _Done(success=True, output=_cut(reply.text), sources=reply.sources)

    async def _consolidate(self) -> _Done:
        bus, user_id = self.servicing.bus, self.servicing.user_id
        counts = {"faded": 0.0, "merged": 0.0, "summaries": 0.0}
        while True:
            done = await bus.commands.execute("memory/consolidate", user=user_id)
            counts = {name: count + done[name] for name, count in counts.items()}
            if not done["merged"]:
                break
        fades_at = seconds_of(done["next_fading_at"])
        self.fades_at = math.inf if fades_at is None else fades_at
        output = "{faded:g} set aside, {merged:g} merged into {summaries:g}".format(**counts)
        return _Done(success=True, output=output, metrics=counts)

    async def _audit(self) -> _Done:
        found = await self.servicing.bus.commands.execute(
            "data/list",
            collection=TaskEntity.collection,
            filter={"assignee_id": self.servicing.user_id, "status": {"$in": list(ENDED)}},
            sort=["-completed_at"],
            limit=AUDITED,
        )
        lines = audit(found["items"])
        metrics = {f"{one.domain} completed": float(one.completed) for one in lines}
        metrics |= {f"{one.domain} failed": float(one.failed) for one in lines}
        return _Done(success=True, output="\n".join(one.line() for one in lines), metrics=metrics)

    async def _resume(self, own_id: str) -> _Done:
        commands, resumed = self.servicing.bus.commands, []
        found = await commands.execute(
            "task/list", assignee=self.servicing.user_id, status="in_progress", limit=500
        )
        for task in found["items"]:
            if task["id"] == own_id or is_own(task):
                continue
            if task["attempts"] >= ATTEMPTS and not await self._has_outcome(task):
                error = f"it was begun {task['attempts']} times and never finished"
                await commands.execute("task/complete", id=task["id"], success=False, error=error)
            else:
                await commands.execute("task/release", id=task["id"])
                resumed.append(task["id"])
        return _Done(success=True, output=f"{len(resumed)} taken up again")

    async def _tell(self, item: InboxItem, done: _Done) -> Outcome:
        words = done.output if done.success else f"{COULD_NOT}{done.error}."
        if item.room_id and words and self.own is None:
            outcome = await self.servicing.say(item, Reply(words, done.sources))
            if done.success and outcome.text is not None:
                # What was said before a crash, if there was one.
                self._done = done = attrs.evolve(done, output=outcome.text)
        return Outcome("said", done.output) if done.success else Outcome("failed")

    async def _has_outcome(self, task: dict[str, Any]) -> bool:
        item = task_item(task, now=trio.current_time(), wall=self.servicing.wall_clock())
        return await Performing(self.servicing)._outcome_before(item) is not None

    async def _outcome_before(self, item: InboxItem) -> _Done | None:
        """What came of it before a crash that kept its record from saying so."""
        servicing = self.servicing
        record = await servicing.bus.commands.execute(
            "data/read",
            collection=MemoryEntity.collection,
            id=memory_id(servicing.user_id, item.id),
            user_id=servicing.user_id,
        )
        if record is not None:
            # One batch with the count.
            self._is_counted = True
            return _Done(success=True, output=said_in(record["body"], servicing.user_id, item))
        said = await servicing.given(item) if item.room_id else None
        if said is None or said.text is None:
            return None
        if said.text.startswith(COULD_NOT):
            return _Done(success=False, error=said.text.removeprefix(COULD_NOT).removesuffix("."))
        return _Done(success=True, output=said.text)

    async def _read(self, task_id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self.servicing.bus.commands.execute(
            "data/read", collection=TaskEntity.collection, id=task_id
        )
        return found


def _cut(text: str) -> str:
    """As much of a text as a record holds with what it answers beside it."""
    return text.encode()[: MAX_TEXT // 2].decode("utf-8", "ignore")
