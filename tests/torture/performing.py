"""A process that is killed at the n-th step of the performing, and what must be true of tasks afterwards.

As a program it boots the whole system on a folder, gives tasks to personas and to a human, with a few
messages in between, and kills itself when the loop begins its n-th step after the first of them was sent.
What was acknowledged it says at once. As a module it is the oracle, to which the log of changes tells the
story of each task.

Law: a task of a persona that was begun `ATTEMPTS` times without an end fails, and what depends on it is
cancelled. Nothing else fails or is cancelled here, so the oracle knows when either is due.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import dying
import trio
from servicing import LEARNED, PERSONA, PERSONAS, ROOM, SECOND, at_rest, draw_anew, prepare
from servicing import Rest as Exchanges
from servicing import stored as said

from rtos.runtime import Configuration, Runtime, open_runtime
from rtos.user import claims, performing, servicing
from rtos.user.responder import RecallResponder
from rtos.user.tasks import ATTEMPTS, ENDED, is_open, is_own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

HUMAN = "operator"
LIVES = 10
"""On one folder; with more of them personas come to be tired, and what matters less waits."""


@attrs.frozen
class Errand:
    """A task as each life gives it.

    Attributes:
      name: what its id ends with.
      assignee: who is to do it.
      text: its description.
      output: what a persona says to it.
      context: what it is about.
      domain: of what kind that is.
      after: the names of those of the same life that it depends on.
    """

    name: str
    assignee: str
    text: str
    output: str = ""
    context: str | None = None
    domain: str = "chat"
    after: tuple[str, ...] = ()

    @property
    def is_told(self) -> bool:
        """Whether its outcome is told in the room."""
        return self.assignee in PERSONAS and self.domain == "chat" and self.context is not None


KNOWN = f"I know this:\n\n> {LEARNED}\n(knots.txt, line 1)"
UNKNOWN = "I know nothing about that: I have looked for {}."
ERRANDS = {
    errand.name: errand
    for errand in (
        Errand("bowline", PERSONA, "what is a bowline?", KNOWN, context=ROOM),
        Errand("reef", PERSONA, "what does a reef knot join?", KNOWN),
        Errand("tie", HUMAN, "tie one yourself"),
        Errand("loop", PERSONA, "which loop does not slip?", KNOWN, context=ROOM, after=("bowline", "reef")),
        # A module may be called like a room, and is none.
        Errand("review", SECOND, "review it", UNKNOWN.format("'review'"), context=ROOM, domain="code"),
        Errand("tied", SECOND, "was it tied?", UNKNOWN.format("'tied'"), context=ROOM, after=("tie", "loop")),
        Errand("spare", HUMAN, "look for more rope"),
        Errand("splice", HUMAN, "splice it", after=("spare", "tied")),
    )
}
"""What depends on others comes after them. Of those of the human `tie` is completed; `spare` stays open."""
DEADLY = "was it tied?"
"""Performed when everything has been given."""


def errand_of(id: str) -> Errand:
    """Which one a task is."""
    return ERRANDS[id.partition(".")[2]]


# The program.


async def _give(runtime: Runtime, errand: Errand, life: int) -> None:
    id = f"{life}.{errand.name}"
    await runtime.commands.execute(
        "task/create",
        id=id,
        assignee=errand.assignee,
        by=HUMAN,
        description=errand.text,
        domain=errand.domain,
        context=errand.context,
        depends_on=[f"{life}.{name}" for name in errand.after],
    )
    print(id, flush=True)  # noqa: T201 - it is what the oracle reads


async def _give_all(runtime: Runtime, life: int) -> None:
    for errand in ERRANDS.values():
        await _give(runtime, errand, life)
        if errand.name in ("bowline", "review"):
            text = "@helper-ai why?" if errand.name == "bowline" else "thank you"
            await runtime.commands.execute("chat/send", room=ROOM, text=text)


async def _tie(runtime: Runtime) -> None:
    """What the human does of it."""
    for task in await dying.records(runtime.bus, "tasks"):
        if is_open(task) and task["id"].endswith(".tie"):
            await runtime.commands.execute("task/complete", id=task["id"])


async def _are_done(bus: Any) -> None:
    """Wait until no task of a persona is open; that it is not is the last that is written of it."""
    with bus.events.subscribe("data:tasks:*") as changed:
        while any(
            is_open(task) for task in await dying.records(bus, "tasks") if task["assignee_id"] != HUMAN
        ):
            await changed.receive()


async def _log(bus: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    after, more = 0, True
    while more:
        page = await bus.commands.execute("data/changes", after=after, limit=500, collections=["tasks"])
        found += page["items"]
        after, more = page["next"], page["more"]
    return found


async def _diaries(bus: Any) -> dict[str, Any]:
    states = {id: await bus.commands.execute("data/read", key="persona_state", user_id=id) for id in PERSONAS}
    return {id: state["value"]["diary"] for id, state in states.items() if state is not None}


async def _live(root: Path, at: int) -> dict[str, Any]:
    async with open_runtime(Configuration(root=root, socket=False)) as runtime:
        death, bus = dying.Death(at), runtime.bus
        if at:
            await prepare(runtime)
            trio.lowlevel.add_instrument(death)
            await _give_all(runtime, at)
        with trio.fail_after(60):
            await _tie(runtime)
            await at_rest(bus)
            await _are_done(bus)
        told = {"tasks": await dying.records(bus, "tasks"), "log": await _log(bus)}
        return {"steps": death.steps, **await said(bus), **told, "diaries": await _diaries(bus)}


# The oracle.


@attrs.define
class Story:
    """What the log of changes tells of one task.

    Attributes:
      record: as of the last change.
      begun: how many times it was begun.
      ended: how many times it came to an end.
    """

    record: dict[str, Any]
    begun: int = 0
    ended: int = 0

    def follow(self, record: dict[str, Any]) -> None:
        """One more change."""
        before, self.record = self.record, record
        was, now = before["status"], record["status"]
        if was == now:
            return
        by_persona = record["assignee_id"] in PERSONAS
        ways = {"pending": {"in_progress", "cancelled"}, "in_progress": {"pending", "completed", "failed"}}
        if not by_persona:
            ways["pending"] |= {"completed"}
        self.begun += now == "in_progress"
        self.ended += now in ENDED
        assert now in ways.get(was, ()), f"{record['id']} goes from {was} to {now}"
        assert record["attempts"] == self.begun, f"{record['id']} is begun {self.begun} times: {record}"


@attrs.frozen
class Rest:
    """What is stored when nothing is left to do.

    Attributes:
      deaths: how many lives were ended.
      acknowledged: the ids of the tasks of which a life has heard that they are there.
      tasks: the records, by id.
      log: the changes of tasks, in order.
      told: how many messages tell of each.
      memories: how many memories there are of each, by whose and the task's id.
      diaries: what each persona has counted.
      exchanges: the same of messages.
    """

    deaths: int
    acknowledged: list[str]
    tasks: dict[str, dict[str, Any]]
    log: list[dict[str, Any]]
    told: Counter[str]
    memories: Counter[tuple[str, str]]
    diaries: dict[str, Any]
    exchanges: Exchanges

    @classmethod
    def of(cls, lives: Sequence[dying.Life]) -> Rest:
        """After the last of them."""
        told = lives[-1].stored
        tasks = {task["id"]: task for task in told["tasks"]}
        places = {f"task {id}": id for id in tasks}
        return cls(
            sum(life.killed for life in lives),
            [line for life in lives for line in life.lines if not line.startswith("{")],
            tasks,
            told["log"],
            Counter(message["reply_to"] for message in told["messages"] if message["reply_to"] in tasks),
            Counter((id, places[source]) for id, _, source in told["memories"] if source in places),
            told["diaries"],
            Exchanges.of(told, but=tasks),
        )

    @property
    def errands(self) -> dict[str, dict[str, Any]]:
        """Those that the human gave."""
        return {id: task for id, task in self.tasks.items() if not is_own(task)}

    @property
    def performed(self) -> list[str]:
        """Those that personas have completed."""
        return [
            id
            for id, task in self.errands.items()
            if task["assignee_id"] in PERSONAS and task["status"] == "completed"
        ]

    def check(self) -> None:
        """Hold all of it against what must be."""
        lost = set(self.acknowledged) - self.tasks.keys()
        assert not lost, f"acknowledged and not there: {lost}"
        stories = self._stories()
        self._check_own()
        for id, task in self.errands.items():
            _check_as_given(id, task)
            if task["assignee_id"] == HUMAN:
                self._check_left(id, task)
            else:
                self._check_ended(stories[id])
        self._check_traces()
        self.exchanges.check()

    def _stories(self) -> dict[str, Story]:
        """What the log tells, in the order of the commits, which is that of what depends on what."""
        stories: dict[str, Story] = {}
        for change in self.log:
            record = change["record"]
            id = record["id"]
            if change["verb"] == "deleted":
                story = stories.pop(id)
                assert is_own(record), f"{id} is deleted"
                assert not is_open(story.record), f"{id} is deleted while it is open"
            elif change["verb"] == "created":
                assert id not in stories, f"{id} is created twice"
                stories[id] = Story(record)
            else:
                stories[id].follow(record)
            if record["status"] in ("in_progress", "completed"):
                early = [one for one in record["depends_on"] if stories[one].record["status"] != "completed"]
                assert not early, f"{id} is {record['status']} before {early}"
        assert {id: story.record for id, story in stories.items()} == self.tasks, "the log tells otherwise"
        return stories

    def _check_own(self) -> None:
        own = [task for task in self.tasks.values() if is_own(task)]
        kinds = Counter((task["assignee_id"], task["task_type"]) for task in own)
        assert all(number == 1 for number in kinds.values()), f"more than one of a kind: {kinds}"
        assert all(task["status"] == "completed" for task in own), f"not completed: {own}"

    def _check_left(self, id: str, task: dict[str, Any]) -> None:
        """What a human has to do is done by nobody else, and ends with what it depends on."""
        blockers = [one for one in task["depends_on"] if self.tasks[one]["status"] != "completed"]
        ended = any(not is_open(self.tasks[one]) for one in blockers)
        due = "cancelled" if ended else "completed" if errand_of(id).name == "tie" else "pending"
        assert task["status"] == due, f"{id} is {task['status']} and not {due}"
        assert task["attempts"] == 0, f"{id} was begun: {task}"
        assert ended or task["blocked_by"] == blockers, f"{id} is blocked by {task['blocked_by']}"

    def _check_ended(self, story: Story) -> None:
        """What a persona has to do has ended once, as is due."""
        task = story.record
        id, status, result = task["id"], task["status"], task["result"]
        assert not is_open(task), f"{id} is still {status}"
        assert story.ended == 1, f"{id} has ended {story.ended} times"
        failed = [one for one in task["depends_on"] if self.tasks[one]["status"] in ("failed", "cancelled")]
        assert (status == "cancelled") == bool(failed), f"{id} is {status}, and depends on {failed}"
        if status == "failed":
            due = story.begun == ATTEMPTS <= self.deaths and "never finished" in result["error"]
            assert due, f"{id} has failed: {task}"
        elif status == "completed":
            # One more than the deaths: no life begins it twice.
            assert 1 <= story.begun <= self.deaths + 1, f"{id} was begun {story.begun} times"
            assert task["blocked_by"] == [], f"{id} is blocked by {task['blocked_by']}"
            right = result["success"] and result["output"] == errand_of(id).output and not result["error"]
            assert right, f"{id} came to {result}"

    def _check_traces(self) -> None:
        """What was performed is remembered once, told once where it has a room, and counted once."""
        memories = Counter((errand_of(id).assignee, id) for id in self.performed)
        assert self.memories == memories, f"not remembered once: {_differing(self.memories, memories)}"
        told = Counter(id for id in self.performed if errand_of(id).is_told)
        assert self.told == told, f"not told once: {_differing(self.told, told)}"
        counted = Counter({id: diary["performed"] for id, diary in self.diaries.items()})
        performed = Counter(errand_of(id).assignee for id in self.performed)
        assert counted == performed, f"not counted once: {_differing(counted, performed)}"


def _check_as_given(id: str, task: dict[str, Any]) -> None:
    errand, life = errand_of(id), id.partition(".")[0]
    given = {
        "assignee_id": errand.assignee,
        "created_by": HUMAN,
        "description": errand.text,
        "domain": errand.domain,
        "context_id": errand.context,
        "depends_on": [f"{life}.{name}" for name in errand.after],
    }
    assert {key: task[key] for key in given} == given, f"{id} is another one: {task}"


def _differing(found: Counter[Any], due: Counter[Any]) -> dict[Any, tuple[int, int]]:
    return {key: (found[key], due[key]) for key in found.keys() | due.keys() if found[key] != due[key]}


def check(lives: Sequence[dying.Life]) -> int:
    """Hold what is stored after the last life against what must be; how many tasks were performed."""
    rest = Rest.of(lives)
    rest.check()
    return len(rest.performed)


def live(place: Path, at: int, *ways: str) -> dying.Life:
    """Live once."""
    return dying.live(Path(__file__), place, at, *ways)


def kill_at_each(root: Path, points: int, *ways: str) -> tuple[int, int]:
    """Kill at so many steps, evenly over all that the performing takes; 0 for each of them.

    Returns:
      How many lives were ended, and how many tasks were found to be performed once.
    """
    return dying.kill_at_each(Path(__file__), root, points, check, *ways, lives=LIVES)


# How it is broken, and where it is cut short.


def _any_of_tasks(made: Callable[[str | None, str], str]) -> Callable[[str | None, str], str]:
    """Any id where it is made of a task's."""
    return lambda persona, id: uuid.uuid4().hex if "." in id else made(persona, id)


def _repeat() -> None:
    """Know nothing of what was said of a task."""
    servicing.reply_id = _any_of_tasks(servicing.reply_id)


def _forget() -> None:
    """Know nothing of what is remembered of a task."""
    claims.memory_id = performing.memory_id = _any_of_tasks(claims.memory_id)


def _die_of_one() -> None:
    """Die of what is asked in one task, whoever performs it."""
    respond = RecallResponder.respond

    async def die(self: RecallResponder, question: Any, passages: Any) -> Any:
        if question.text == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)
        return await respond(self, question, passages)

    RecallResponder.respond = die


def _die_unreported() -> None:
    """Die when one task is remembered, and before its record says so."""
    conclude = servicing.Servicing.conclude

    async def die(self: servicing.Servicing, item: Any, operations: Any) -> None:
        await conclude(self, item, operations)
        if item.text == DEADLY:
            os.kill(os.getpid(), signal.SIGKILL)

    servicing.Servicing.conclude = die


WAYS = {"repeating": _repeat, "forgetful": _forget, "deadly": _die_of_one, "unreported": _die_unreported}


def program(root: str, at: str, ways: Iterable[str] = ()) -> None:
    """Live, and say what is stored."""
    draw_anew()
    for way in ways:
        WAYS[way]()
    sys.stdout.write(json.dumps(trio.run(_live, Path(root), int(at))))


if __name__ == "__main__":
    program(*sys.argv[1:3], sys.argv[3:])
