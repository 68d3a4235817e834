"""A day of 50 personas and 5 humans on the real system, in virtual time; all of it follows from the seed.

python day.py SEED [SECONDS [PICTURE]]: prints what so many seconds of the day came to, and draws
the persona that was woken most often.

A wake-up of a persona is a task that is started for it, seen from outside: by an instrument of
Trio. It is due to an event, a message that the persona is to answer or a task that it is given, and that it
hears of while it has no Trio task; or to a crossing, the instant at which a label of it changes by
itself or a message that waits comes to be worth attending to, as the pure state and inbox foretell it
at the end of its last task.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import trio
from living import Script, World

from bench.svg import graph
from rtos.testing import run_virtual
from rtos.user.affect import TRIGGERS, PersonaState
from rtos.user.claims import is_note
from rtos.user.entities import ChatMessageEntity, TaskEntity
from rtos.user.passages import Passage
from rtos.user.persona import PersonaUser
from rtos.user.records import Records
from rtos.user.responder import Question, Reply

DAY = 86400.0
HOUR = 3600.0
PERSONAS, HUMANS, ROOMS = 50, 5, 10
BUSY = {7: 2, 8: 6, 9: 12, 10: 12, 11: 10, 12: 3, 13: 6, 14: 12, 15: 12, 16: 12, 17: 8, 18: 4, 20: 4, 21: 2}
"""Messages of a human in each hour, on average; none at night."""
STEP = 300.0
"""Seconds between two points of a curve at most."""
GIVEN = 0.2
"""How often somebody is given a task, beside a message."""
TOLD = ("",) * 7 + ("Thanks. ", "That was helpful. ", "That was wrong. ")
"""What a human thinks of the answer before, ahead of the next question."""
TOPICS = ("tides", "knots", "bread", "rockets", "grammar", "bees", "glass", "rivers", "maps", "clocks")


class Slow(Script):
    """Thinks for a while that follows from the seed, and knows nothing."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    async def respond(self, question: Question, passages: list[Passage]) -> Reply:
        await trio.sleep(random.Random(f"{self.seed} {question.text} {question.persona}").uniform(0.5, 8.0))
        return Reply("I do not know.")


@attrs.define
class Life:
    """What was seen of one persona."""

    wake_ups: list[float] = attrs.field(factory=list)
    events: int = 0
    crossings: int = 0
    unexplained: list[float] = attrs.field(factory=list)
    is_awake: bool = False
    heard_at: float = -math.inf
    due: float = math.inf
    """What it is to be woken at if nothing is heard before."""
    samples: list[tuple[float, PersonaState]] = attrs.field(factory=list)
    """How it was at the end of each task, and when that was."""

    def course(self) -> list[tuple[float, PersonaState]]:
        """How it was all day: between two samples as the closed form of the first has it."""
        start = (0.0, PersonaState.rested(0.0))
        course: list[tuple[float, PersonaState]] = []
        for (at, state), (until, _) in itertools.pairwise([start, *self.samples, (DAY, None)]):
            # Seconds of the day and the wall clock run alike.
            steps = math.floor((until - at) / STEP)
            between = [at + STEP * step for step in range(steps + 1)] + [until]
            course += [(then, state.advance(state.at + then - at)) for then in between]
        return course


class Watch(trio.abc.Instrument):
    """Sees who is woken, and asks a referee why."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.lives: dict[str, Life] = defaultdict(Life)
        self.log: list[str] = []

    def task_spawned(self, task: trio.lowlevel.Task) -> None:
        kind, _, who = task.name.partition(" ")
        if kind != "persona":
            return
        now, life = trio.current_time(), self.lives[who]
        life.is_awake = True
        life.wake_ups.append(now)
        self.log.append(f"{now:.6f} {who} wakes")
        if life.heard_at == now:
            life.events += 1
        elif abs(now - life.due) < 1e-6:
            life.crossings += 1
        else:
            life.unexplained.append(now)
        life.due = math.inf

    def task_exited(self, task: trio.lowlevel.Task) -> None:
        kind, _, who = task.name.partition(" ")
        if kind == "persona" and who in self.world.users._users:
            life = self.lives[who]
            life.is_awake = False
            life.due = self._foretold(self.world.persona(who))
            feeling = self.world.persona(who).feeling.advance(self.world.now())
            life.samples.append((trio.current_time(), feeling))

    def _foretold(self, persona: PersonaUser) -> float:
        now, wall = trio.current_time(), self.world.now()
        at = persona.feeling.next_crossing_at(wall) - wall + now
        return min(at, persona.desk.next_at(now, wall, persona.feeling.threshold))

    def heard(self, persona: PersonaUser, waiting: int, told: dict[str, Any]) -> None:
        # What it gives itself waits nowhere.
        if persona.desk.waiting > waiting or persona.desk.work or told.get("domain") == "self":
            life = self.lives[persona.id]
            self.log.append(f"{trio.current_time():.6f} {persona.id} hears {told['id']}")
            if not life.is_awake:
                life.heard_at = trio.current_time()


@attrs.frozen
class Day:
    """What a day came to."""

    digest: str
    messages: int
    replies: int
    """What was said in reply."""
    covered: int
    """Messages that were answered together with a later one."""
    tasks: Counter[tuple[str, str]]
    """How many of each kind have come to which status."""
    lives: dict[str, Life]
    changes: Counter[str]
    """How often a label of a persona changed, by its id."""

    @property
    def busiest(self) -> tuple[str, Life]:
        """Who was woken most often."""
        return max(self.lives.items(), key=lambda one: (len(one[1].wake_ups), one[0]))

    @property
    def totals(self) -> tuple[int, int, int]:
        """Wake-ups, events and crossings of all."""
        lives = self.lives.values()
        return (
            sum(len(life.wake_ups) for life in lives),
            sum(life.events for life in lives),
            sum(life.crossings for life in lives),
        )


async def _people(bus: Any) -> None:
    operations = [
        {"op": "create", "collection": "users", "id": f"human-{number}",
         "data": {"type": "human", "display_name": f"Human {number}"}}
        for number in range(HUMANS)
    ]  # fmt: skip
    operations += [
        {"op": "create", "collection": "users", "id": f"ai-{number}",
         "data": {"type": "persona", "display_name": f"Ai {number}", "expertise": [TOPICS[number % 10]]}}
        for number in range(PERSONAS)
    ]  # fmt: skip
    await bus.commands.execute("data/batch", operations=operations)
    for room in range(ROOMS):
        members = [f"human-{number}" for number in range(HUMANS)]
        members += [
            f"ai-{number}" for number in range(PERSONAS) if number % ROOMS == room or number % 7 == room
        ]
        await bus.commands.execute("room/create", name=f"room-{room}", members=members)


async def _talk(bus: Any, seed: int, human: int, until: float) -> int:
    chance, temper, duty = (random.Random(f"{seed} {what} {human}") for what in ("human", "temper", "duty"))
    sent = 0
    for hour in range(math.floor(until / HOUR)):
        at = chance.expovariate(1.0)
        while BUSY.get(hour) and at < HOUR:
            await trio.sleep_until(hour * HOUR + at)
            text = f"{temper.choice(TOLD)}{chance.choice(TOPICS)}, question {sent} of {human}?"
            if chance.random() < 0.2:
                text = f"@ai-{chance.randrange(PERSONAS)} {text}"
            room = f"room-{chance.randrange(ROOMS)}"
            id = f"{seed}-{human}-{sent}"
            await bus.commands.execute("chat/send", room=room, sender=f"human-{human}", text=text, id=id)
            if duty.random() < GIVEN:
                await bus.commands.execute(
                    "task/create",
                    id=f"task-{id}",
                    assignee=f"ai-{duty.randrange(PERSONAS)}",
                    by=f"human-{human}",
                    description=f"find out about {duty.choice(TOPICS)}, for {id}",
                )
            sent += 1
            at += chance.expovariate(BUSY[hour] / HOUR)
    return sent


async def _live(seed: int, root: Path, polls: float, until: float) -> Day:
    world = World(root)
    world.script = Slow(seed)
    watch = Watch(world)
    changes: Counter[str] = Counter()
    sent: list[int] = []

    def watched(real: Any) -> Any:
        def hear(persona: PersonaUser, record: dict[str, Any], *args: Any, **more: Any) -> None:
            waiting = persona.desk.waiting
            # Before it activates itself: the task is spawned within.
            activate = persona._activate

            def told(one: PersonaUser) -> None:
                watch.heard(persona, waiting, record)
                activate(one)

            persona._activate = told
            try:
                real(persona, record, *args, **more)
            finally:
                persona._activate = activate

        return hear

    async def follow(events: Any) -> None:
        async for event in events:
            if event.name == "data:chat_messages:created":
                record = event.payload["record"]
                line = f"{trio.current_time():.6f} {record['sender_id']} says {record['id']}"
                watch.log.append(f"{line} to {record['reply_to']}")
            else:
                changes[event.payload["persona_id"]] += 1
                watch.log.append(f"{trio.current_time():.6f} {event.name} {sorted(event.payload.items())}")

    async with world.running() as bus, trio.open_nursery() as nursery:
        await _people(bus)
        await trio.testing.wait_all_tasks_blocked()
        with ExitStack() as stack:
            for name in ("hear", "hear_task"):
                stack.enter_context(patch.object(PersonaUser, name, watched(getattr(PersonaUser, name))))
            events = stack.enter_context(
                bus.events.subscribe("data:chat_messages:created", "persona:*:changed", backlog=10_000)
            )
            trio.lowlevel.add_instrument(watch)
            nursery.start_soon(follow, events)
            if polls:
                nursery.start_soon(_poll, world, polls)
            async with trio.open_nursery() as humans:

                async def human(number: int) -> None:
                    sent.append(await _talk(bus, seed, number, until))

                for number in range(HUMANS):
                    humans.start_soon(human, number)
            await trio.sleep_until(until)
            trio.lowlevel.remove_instrument(watch)
            said = [record async for record in Records(bus, ChatMessageEntity.collection)]
            covered = sum(map(is_note, said))
            tasks = Counter(
                [(task["task_type"], task["status"]) async for task in Records(bus, TaskEntity.collection)]
            )
            nursery.cancel_scope.cancel()
    digest = hashlib.sha256("\n".join(watch.log).encode()).hexdigest()
    replies = len(said) - covered - sum(sent)
    return Day(digest, sum(sent), replies, covered, tasks, dict(watch.lives), changes)


async def _poll(world: World, every: float) -> None:
    """What must not be: somebody who looks after a persona because time has passed."""
    while True:
        await trio.sleep(every)
        world.users._activate(world.persona("ai-0"))


def simulate_day(seed: int, *, polls: float = 0.0, until: float = DAY) -> Day:
    """One day, or its first hours; with ``polls``, one persona is looked after every so many seconds."""
    with tempfile.TemporaryDirectory() as folder:
        return run_virtual(_live, seed, Path(folder), polls, until)


def picture(day: Day) -> str:
    """Energy and mood of the persona that was woken most often, with the edges of its labels."""
    who, life = day.busiest
    course = life.course()
    lines = {
        f"energy of {who}": [(at / HOUR, state.energy) for at, state in course],
        "its pleasure": [(at / HOUR, state.mood.pleasure) for at, state in course],
        "its arousal": [(at / HOUR, state.mood.arousal) for at, state in course],
    }
    for edge in sorted({trigger.on for trigger in TRIGGERS if trigger.name != "overwhelmed"}):
        names = ", ".join(trigger.name for trigger in TRIGGERS if trigger.on == edge)
        lines[f"{names}: {edge}"] = [(0.0, edge), (24.0, edge)]
    return graph("A day of a persona", lines, axes=("hour", "energy, 0..1, and mood, -1..1"), up=(-0.6, 1.0))


if __name__ == "__main__":
    day = simulate_day(int(sys.argv[1]), until=float(sys.argv[2]) if len(sys.argv) > 2 else DAY)
    if len(sys.argv) > 3:
        Path(sys.argv[3]).write_text(picture(day))
    answers = f"{day.replies} + {day.covered}"
    sys.stdout.write(f"{day.digest} {day.messages} {answers} {day.totals} {dict(day.tasks)}\n")
