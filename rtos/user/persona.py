"""A persona: a user that attends to what it is told.

Orchestrates cognition and owns no storage, no path and no loop of its own: its
inbox says what comes next, its feelings whether that is worth attending to, its
chores what it does of its own accord, the responder what to say. It has a Trio task only
while there is something to do; what wakes it is a message, a task that it is given, or the one
instant at which something will change.

Law: every message that was accepted ends in exactly one of: a reply, a visible
refusal, or a note that it was not for this persona, since it calls others or another
one has answered for all. How that survives a crash is shown in `rtos.user.servicing`, and of
tasks in `rtos.user.performing`.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final
from zlib import crc32

import trio

from rtos.user.appraisal import attended, refused
from rtos.user.base import BaseUser, state_operation
from rtos.user.chores import Diary
from rtos.user.desk import Desk
from rtos.user.feelings import Feelings
from rtos.user.hearing import ANSWER_WITHIN, heard
from rtos.user.inbox import InboxItem, Shed
from rtos.user.marks import UNSAVED, Mark, Reading
from rtos.user.performing import Performing
from rtos.user.planning import plan
from rtos.user.tasks import is_open, is_own, is_ready, task_item

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rtos.bus import Bus
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.user.affect import PersonaState
    from rtos.user.coordination import Part
    from rtos.user.directory import UserDirectoryManager
    from rtos.user.hearing import Around
    from rtos.user.servicing import Outcome, Servicing

PERSONA_KEY: Final = "persona_state"
COST_OF_REPLY: Final = 500.0
"""What one reply costs, in the unit of the temperament's ``cost_scale`` (tokens)."""


class PersonaUser(BaseUser):
    """A persona, resident in memory; see the module for what it does and does not own.

    Args:
      record: its user record.
      bus: commands and events.
      directories: paths.
      wall_clock: seconds since the epoch; what energy and mood are a function of.
      activate: starts ``attend_all`` in a task of its own, if none runs; told again when its level changes.
      servicing: makes what serves a message, for an id and a display name.
    """

    __slots__ = ("_activate", "_doing", "_servicing", "_timer", "_wall_clock", "desk", "feelings", "reading")

    def __init__(
        self,
        record: dict[str, Any],
        *,
        bus: Bus,
        directories: UserDirectoryManager,
        wall_clock: Callable[[], float],
        activate: Callable[[PersonaUser], None],
        servicing: Callable[[str, str], Servicing],
    ) -> None:
        super().__init__(record, bus=bus, directories=directories)
        self.desk = Desk()
        self.feelings = Feelings(bus, self.id, wall_clock)
        # Not the same for all of a room, or they would all store their marks at once.
        self.reading = Reading(crc32(self.id.encode()) % UNSAVED)
        self._wall_clock = wall_clock
        self._activate = activate
        self._servicing = servicing
        self._timer: Timer | None = None
        self._doing: Performing | None = None

    @property
    def feeling(self) -> PersonaState:
        """How it is, as of the last event."""
        return self.feelings.state

    # Life.

    async def initialize(self) -> None:
        """See ``BaseUser.initialize``; also takes up its energy and mood where time has brought them."""
        await super().initialize()
        record = await self._bus.commands.execute("data/read", key=PERSONA_KEY, user_id=self.id)
        if record is not None:
            self.feelings.wake(record["value"])
            self.desk.chores.diary = Diary.from_builtins(record["value"].get("diary", {}))
        self.reading.take_up(self.state)

    def stop(self) -> list[InboxItem]:
        """Forget what waits; it stays unread, and is caught up with when the persona starts again.

        Returns:
          What it had accepted and not answered, in order of arrival.
        """
        self._disarm()
        return self.desk.clear()

    def give_up(self, *, for_good: bool) -> None:
        """Leave what is in hand to another one; if nobody is left, refuse it for good or try again."""
        item = self.desk.in_hand
        if item is None:
            return
        self.feelings.appraise("failed")
        if item.covers:
            # Only the one that it fails at is given up.
            self.desk.split()
        elif self._servicing(self.id, self.entity.display_name).passes_on(item):
            self.desk.forget(item)
            self.desk.drop()
        elif for_good:
            self.desk.fail(item)

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

    def hear(
        self, message: dict[str, Any], part: Part, *, around: Around, within: float = ANSWER_WITHIN
    ) -> None:
        """Take note of a message in a room that it is in. Not a checkpoint.

        Args:
          message: its record.
          part: what it is to this persona. Who is chosen has stood by.
          around: what is known of the room.
          within: seconds from now after which an answer is worth nothing.
        """
        id, room_id = message["id"], message["room_id"]
        new = self.reading.begin(room_id, Mark(message["created_at"], id))
        if new and part == "aside":
            self.reading.finish(room_id, id)
        if not (new if part == "called" else part == "chosen" and self.reading.holds(room_id, id)):
            return
        now = trio.current_time()
        known, wall = self.desk.was_lately_in(room_id, now), self._wall_clock()
        item = heard(
            message, part, self.entity, now=now, wall=wall, known_room=known, around=around, within=within
        )
        if self.desk.offer(item, now) and item.mentions:
            self._leave_chore()
        self._wake()

    def hear_task(self, task: dict[str, Any], *, missed: bool = False) -> None:
        """Take note of a task that is its own to do, or of what became of one. Not a checkpoint.

        Args:
          task: its record.
          missed: it is told of late, so what is begun is in nobody's hand.
        """
        chores, is_in_hand = self.desk.chores, task["id"] == self.desk.in_hand_id
        if is_in_hand and not is_open(task) and self._doing is not None:
            self._doing.interrupt()
        if is_own(task):
            chores.take_up(task, missed=missed)
            news = chores.next(self.feeling.label) is not None
        elif missed and task["status"] == "in_progress" and not is_in_hand:
            chores.strand()
            news = True
        else:
            now = trio.current_time()
            item = task_item(task, now=now, wall=self._wall_clock())
            news = is_ready(task) and not is_in_hand and self.desk.offer(item, now)
        if news:
            self._wake()

    def _wake(self) -> None:
        self.feelings.burden(self.desk.load)
        self._activate(self)

    def _leave_chore(self) -> None:
        """Let go of what it gave itself, for somebody calls; it stays to be done."""
        if self.desk.has_chore_in_hand and self._doing is not None:
            self._doing.interrupt()
        elif self.desk.has_chore_in_hand:
            self.desk.drop()

    # What it does.

    async def attend_all(self) -> None:
        """Serve what is worth it now, then arm the one timer and leave.

        A checkpoint if anything is served. A cancellation or an error leaves what
        was not finished unread, and first in hand when this is called again.
        """
        self._disarm()
        while self.desk.work or self._take() or await self._plan():
            if self.desk.work:
                work = self.desk.work[0]
                await (self._refuse(work) if isinstance(work, Shed) else self._attend(work))
        self._arm()

    def _take(self) -> bool:
        self.feelings.burden(self.desk.load)
        now, feeling = trio.current_time(), self.feeling
        return self.desk.take(now, self._wall_clock(), feeling.threshold, feeling.label)

    async def _plan(self) -> bool:
        """Give itself what is due, and fetch what was put off; whether it has done either."""
        found = await plan(self._bus, self.id, self.desk, self.feeling.label, self._wall_clock())
        for task in found or ():
            self.hear_task(task)
            await trio.lowlevel.checkpoint()
        return found is not None

    async def _attend(self, item: InboxItem) -> None:
        began, cost = trio.current_time(), 0.0
        self._activate(self)
        with self._doing_it(item) as doing:
            self.feelings.begin_work(lively=item.kind != "chore")
            try:
                outcome = await doing.answer(item)
                cost = 0.0 if item.kind == "chore" or outcome.is_free else COST_OF_REPLY
            finally:
                # Also of who has failed, or it would be at work, and tire, for as long as nothing comes.
                self.feelings.end_work(cost)
            if outcome.kind == "apart":
                self.desk.split()
            else:
                self.feelings.appraise(*attended(item, outcome.kind))
                await self._conclude(doing, item, outcome)
                self.desk.drop()
        self.desk.spend(item, trio.current_time() - began)

    async def _refuse(self, shed: Shed) -> None:
        self.feelings.appraise(*refused(shed.reason))
        with self._doing_it(shed.item) as doing:
            await self._conclude(doing, shed.item, await doing.refuse(shed))
        self.desk.drop()

    @contextmanager
    def _doing_it(self, item: InboxItem) -> Iterator[Servicing | Performing]:
        servicing = self._servicing(self.id, self.entity.display_name)
        self._doing = None if item.kind == "message" else Performing(servicing)
        try:
            yield self._doing or servicing
        finally:
            self._doing = None

    async def _conclude(self, doing: Servicing | Performing, item: InboxItem, outcome: Outcome) -> None:
        if outcome.kind == "passed":
            # It stays unread until another one has answered, or open, and may come back.
            self.desk.forget(item)
            return
        self.reading.finish(item.room_id, *(part.id for part in item.parts()))
        memory = await doing.memory(item, outcome)
        diary = doing.counted(self.desk.chores.diary, memory).to_builtins()
        # In its turn: a command that opens or closes something stores the same record, and what was
        # begun before its write and ended after it would put back the state without that.
        async with self.writing():
            state = self.reading.write_into(self.state)
            operations = [
                {"op": "store", **state_operation(state)},
                {"op": "store", "key": PERSONA_KEY, "value": {**self.feeling.to_builtins(), "diary": diary}},
            ]
            await doing.conclude(item, operations if memory is None else [*operations, memory])
            # Only now, or another write of the state could say what is not true yet.
            self.state = state
        if isinstance(doing, Performing):
            await doing.report(item)
        # What was counted meanwhile counts too.
        self.desk.chores.diary = doing.counted(self.desk.chores.diary, memory)
        if self.desk.settle(item, trio.current_time()):
            self._activate(self)

    def _arm(self) -> None:
        now = trio.current_time()
        self.desk.tidy(now)
        crossing = now + self.feelings.next_crossing_in()
        at = min(crossing, self.desk.next_at(now, self._wall_clock(), self.feeling.threshold))
        if at < math.inf:
            self._timer = self._bus.scheduler.add_timer(at, lambda: self._activate(self))

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
