"""TaskDaemon: what users are to do, in which order it may be begun, and when it is overdue.

Owns no data: tasks are records of the shared database, and whoever wants to know of one
subscribes to ``data:tasks:*``. The rules are in `rtos.user.tasks`; here they are applied to
records at the version that was read, and again where somebody else was faster.

Law: what changes several tasks is one batch. A task that depends on others is not begun before
all of them are completed; when one of them fails or is cancelled it is cancelled as well, with
all that depends on it. Of what is overdue, each is told once, by one timer at the first due date.
"""

from __future__ import annotations

import math
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal

import trio

from rtos.bus import Bus, Event, command, on
from rtos.errors import CommandRejected, Conflict, NotFound
from rtos.scheduler import PastIntensity
from rtos.user.entities import RoomEntity, TaskDomain, TaskEntity, TaskType, UserEntity
from rtos.user.memory import seconds_of, timestamp_of
from rtos.user.records import PAGE, Records
from rtos.user.tasks import OPEN, begun, ended, is_open, own_task_id, put_back, unblocked

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.scheduler.policy.timer_heap import Timer

Asked = Literal["open", "pending", "in_progress", "completed", "failed", "cancelled"]
TASKS: Final = TaskEntity.collection
CASCADE: Final = 2000
"""So many tasks may end with one that they depend on."""


class TaskDaemon:
    """Serves ``task/*``.

    Args:
      wall_clock: seconds since the epoch.
    """

    name: ClassVar[str] = "tasks"
    level: ClassVar[int] = 3
    workers: ClassVar[int] = 8
    capacity: ClassVar[int] = 1024
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(self, *, wall_clock: Callable[[], float] = time.time) -> None:
        self._wall_clock = wall_clock
        self._bus: Bus
        self._timer: Timer | None = None
        self._timer_at = math.inf
        self._due = trio.Event()

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when the tasks of those who are gone are cancelled and the timer is armed."""
        self._bus = bus
        self._due = trio.Event()
        await self._cancel_those_of_nobody()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_overdue)
            try:
                yield
            finally:
                self._disarm()
                nursery.cancel_scope.cancel()

    # Commands.

    @command("task/create")
    async def create(
        self,
        *,
        assignee: str,
        description: str,
        by: str = "operator",
        domain: TaskDomain = "chat",
        type: TaskType = "respond-to-message",
        context: str | None = None,
        priority: float = 0.5,
        due: str | None = None,
        estimate: float | None = None,
        depends_on: list[str] | None = None,
        id: str | None = None,
    ) -> dict[str, Any]:
        """Give somebody a task; in the domain chat its context is the room where the outcome is told."""
        for parameter, user in (("assignee", assignee), ("by", by)):
            await self._there("task/create", parameter, UserEntity.collection, user, "user/list")
        if domain == "chat" and context is not None:
            await self._there("task/create", "context", RoomEntity.collection, context, "room/list")
        data = {
            "assignee_id": assignee,
            "created_by": by,
            "domain": domain,
            "task_type": type,
            "context_id": context,
            "description": description,
            "priority": priority,
            "due_date": self._due_date(due),
            "estimated_duration": estimate,
            "depends_on": list(dict.fromkeys(depends_on or ())),
        }
        if domain == "self":
            id = own_task_id(assignee, type)
        while True:
            prepared = await self._prepared(data, id)
            try:
                written = await self._bus.commands.execute("data/batch", operations=prepared)
            except (Conflict, NotFound):
                # Something that it depends on has changed meanwhile, or somebody else has made it.
                if domain != "self":
                    await self._check_new(id)
                continue
            except CommandRejected as error:
                raise CommandRejected("task/create", error.reason, remedy=error.remedy) from None
            made: dict[str, Any] = written[-1]
            self._arm(made["due_date"])
            return made

    @command("task/list")
    async def list_tasks(
        self,
        *,
        assignee: str | None = None,
        by: str | None = None,
        status: Asked | None = None,
        overdue: bool = False,
        limit: int = 100,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """List the tasks, oldest first; status open is pending or in progress."""
        given = {"assignee_id": assignee, "created_by": by}
        wanted: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
        if status is not None:
            wanted["status"] = {"$in": list(OPEN)} if status == "open" else status
        if overdue:
            wanted |= {"due_date": {"$lte": timestamp_of(self._wall_clock())}}
            wanted.setdefault("status", {"$in": list(OPEN)})
        found: dict[str, Any] = await self._bus.commands.execute(
            "data/list", collection=TASKS, filter=wanted, limit=limit, cursor=cursor
        )
        return found

    @command("task/start")
    async def start(self, *, id: str) -> dict[str, Any]:
        """Begin a task; refused while what it depends on is not completed."""

        def change(task: dict[str, Any]) -> dict[str, Any]:
            if task["status"] != "pending":
                raise _rejected(
                    "start", f"{id!r} is {_words(task)} already", "id", "`rtos task/list` shows it"
                )
            _check_unblocked("start", task)
            return begun(task, self._wall_clock())

        return await self._move("start", id, change)

    @command("task/release")
    async def release(self, *, id: str) -> dict[str, Any]:
        """Put back a task that was begun and is in nobody's hand, so that it may be begun again."""

        def change(task: dict[str, Any]) -> dict[str, Any]:
            if task["status"] != "in_progress":
                raise _rejected("release", f"{id!r} is {_words(task)}", "id", "release what is in progress")
            return put_back()

        return await self._move("release", id, change)

    @command("task/complete")
    async def complete(
        self,
        *,
        id: str,
        success: bool = True,
        output: str = "",
        error: str = "",
        metrics: dict[str, float] | None = None,
    ) -> dict[str, Any]:
        """Say that a task is completed, or with success false that it has failed, and what came of it."""
        status = "completed" if success else "failed"
        return await self._end("complete", id, status, output=output, error=error, metrics=metrics)

    @command("task/cancel")
    async def cancel(self, *, id: str, reason: str = "cancelled by an operator") -> dict[str, Any]:
        """Cancel a task, and with it what depends on it."""
        return await self._end("cancel", id, "cancelled", error=reason)

    # Events.

    @on("data:users:deleted")
    async def follow(self, event: Event) -> None:
        """Hand back what was given to somebody who is gone."""
        if event.lost:
            await self._cancel_those_of_nobody()
        await self._cancel_those_of([event.payload["record"]["id"]])

    # Changes.

    async def _check_new(self, id: str | None) -> None:
        if id is not None and await self._read(id) is not None:
            raise _rejected("create", f"there is a task {id!r} already", "id", "leave the id out")

    async def _prepared(self, data: dict[str, Any], id: str | None) -> list[dict[str, Any]]:
        """The operations that create a task; they fail if what it depends on has changed since."""
        blocked_by = []
        operations: list[dict[str, Any]] = []
        for other in data["depends_on"]:
            task = await self._known("create", other, parameter="depends_on")
            if task["status"] in ("failed", "cancelled"):
                remedy = "leave it out, or create it anew"
                raise _rejected("create", f"{other!r} is {_words(task)}", "depends_on", remedy)
            if is_open(task):
                blocked_by.append(other)
                # What is completed stays so; what is open must not have ended meanwhile.
                operations.append({"op": "update", **_at(task), "data": {}})
        if data["domain"] == "self" and id is not None:
            operations += await self._making_room(id, data)
        made = {"op": "create", "collection": TASKS, "data": {**data, "blocked_by": blocked_by}, "id": id}
        return [*operations, made]

    async def _making_room(self, id: str, data: dict[str, Any]) -> list[dict[str, Any]]:
        """Of what somebody gives itself, one of a kind is open at most, and the last one makes room."""
        last = await self._read(id)
        if last is None:
            return []
        if is_open(last):
            reason = f"{data['assignee_id']!r} has a task {data['task_type']!r} already: {id!r}"
            raise _rejected("create", reason, "type", "wait for its end, or cancel it")
        return [{"op": "delete", **_at(last)}]

    async def _move(
        self, asked: str, id: str, change: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> dict[str, Any]:
        """Write what a change makes of a task; again if somebody else was faster."""
        while True:
            task = await self._known(asked, id)
            changed = await self._change(task, change(task))
            if changed is not None:
                return changed

    async def _change(self, task: dict[str, Any], data: dict[str, Any]) -> dict[str, Any] | None:
        """Write fields of a task; ``None`` if it has changed since it was read."""
        try:
            changed: dict[str, Any] = await self._bus.commands.execute("data/update", **_at(task), data=data)
        except (Conflict, NotFound):
            return None
        return changed

    async def _end(self, asked: str, id: str, status: str, **outcome: Any) -> dict[str, Any]:
        while True:
            task = await self._known(asked, id)
            if not is_open(task):
                raise _rejected(asked, f"{id!r} is {_words(task)} already", "id", "`rtos task/list` shows it")
            if status != "cancelled":
                _check_unblocked(asked, task)
            operations = await self._ending(task, status, **outcome)
            try:
                written = await self._bus.commands.execute("data/batch", operations=operations)
            except (Conflict, NotFound):
                continue
            except CommandRejected as error:
                raise CommandRejected(f"task/{asked}", error.reason, remedy=error.remedy) from None
            changed: dict[str, Any] = written[0]
            return changed

    async def _ending(self, task: dict[str, Any], status: str, **outcome: Any) -> list[dict[str, Any]]:
        """The operations that end a task, and unblock or end what depends on it."""
        now = self._wall_clock()
        operations = [{"op": "update", **_at(task), "data": ended(status, now, **outcome)}]
        waiting = await self._waiting_for(task["id"])
        if status == "completed":
            return operations + [
                {"op": "update", **_at(one), "data": unblocked(one, task["id"])} for one in waiting
            ]
        ending = {task["id"]}
        because = [(one, task["id"]) for one in waiting]
        while because:
            one, cause = because.pop()
            if one["id"] in ending:
                continue
            ending.add(one["id"])
            if len(ending) > CASCADE:
                raise CommandRejected(
                    "task/cancel",
                    f"more than {CASCADE} tasks depend on {task['id']!r}",
                    parameter="id",
                    remedy="cancel some of them first",
                )
            error = f"it depends on {cause!r}, which was not completed"
            operations.append({"op": "update", **_at(one), "data": ended("cancelled", now, error=error)})
            because += [(other, one["id"]) for other in await self._waiting_for(one["id"])]
        return operations

    async def _waiting_for(self, id: str) -> list[dict[str, Any]]:
        wanted = {"status": "pending", "blocked_by": {"$contains": id}}
        return [task async for task in Records(self._bus, TASKS, wanted)]

    async def _cancel_those_of_nobody(self) -> None:
        open_tasks = {"status": {"$in": list(OPEN)}}
        assignees = {task["assignee_id"] async for task in Records(self._bus, TASKS, open_tasks)}
        gone = sorted(assignees)
        for begin in range(0, len(gone), PAGE):
            page = gone[begin : begin + PAGE]
            wanted = {"id": {"$in": page}}
            there = {user["id"] async for user in Records(self._bus, UserEntity.collection, wanted)}
            await self._cancel_those_of([user for user in page if user not in there])

    async def _cancel_those_of(self, assignees: list[str]) -> None:
        for assignee in assignees:
            wanted = {"assignee_id": assignee, "status": {"$in": list(OPEN)}}
            for task in [task async for task in Records(self._bus, TASKS, wanted)]:
                try:
                    await self._end("cancel", task["id"], "cancelled", error=f"{assignee!r} was deleted")
                except CommandRejected:
                    # With another one that it depended on.
                    continue

    # What is overdue.

    def _due_date(self, due: str | None) -> str | None:
        if due is None:
            return None
        at = seconds_of(due)
        now = self._wall_clock()
        if at is None or at <= now:
            what = f"{due!r} is no time" if at is None else f"{due!r} is past"
            raise _rejected(
                "create", what, "due", f"give a time to come, such as {timestamp_of(now + 3600)!r}"
            )
        return timestamp_of(at)

    async def _tell_overdue(self) -> None:
        """Tell of each task once when its due date passes; parked in between."""
        while True:
            now = timestamp_of(self._wall_clock())
            unknown = {"status": {"$in": list(OPEN)}, "overdue_at": None}
            for task in [
                one async for one in Records(self._bus, TASKS, unknown | {"due_date": {"$lte": now}})
            ]:
                changed = await self._change(task, {"overdue_at": now})
                if changed is not None:
                    told = {key: changed[key] for key in ("assignee_id", "created_by", "due_date")}
                    self._bus.events.emit("task:overdue", {"task_id": changed["id"], **told})
            due = self._due = trio.Event()
            following = await self._bus.commands.execute(
                "data/list",
                collection=TASKS,
                filter=unknown | {"due_date": {"$gt": now}},
                sort=["due_date"],
                limit=1,
            )
            for task in following["items"]:
                self._arm(task["due_date"])
            await due.wait()

    def _arm(self, due_date: str | None) -> None:
        at = seconds_of(due_date)
        if at is None or at >= self._timer_at:
            return
        self._disarm()
        self._timer_at = at
        # A hair later, so that rounding cannot make it too early.
        wait = max(0.0, at - self._wall_clock()) + 1e-3
        self._timer = self._bus.scheduler.add_timer(trio.current_time() + wait, self._is_due)

    def _is_due(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._due.set()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    # Records.

    async def _read(self, id: str) -> dict[str, Any] | None:
        found: dict[str, Any] | None = await self._bus.commands.execute("data/read", collection=TASKS, id=id)
        return found

    async def _known(self, asked: str, id: str, *, parameter: str = "id") -> dict[str, Any]:
        task = await self._read(id)
        if task is None:
            raise _rejected(
                asked, f"there is no task {id!r}", parameter, "`rtos task/list` shows what there is"
            )
        return task

    async def _there(self, asked: str, parameter: str, collection: str, id: str, shown_by: str) -> None:
        if await self._bus.commands.execute("data/read", collection=collection, id=id) is None:
            remedy = f"`rtos {shown_by}` shows what there is"
            raise CommandRejected(asked, f"there is no {id!r}", parameter=parameter, remedy=remedy)


def _at(task: dict[str, Any]) -> dict[str, Any]:
    """Which record is meant, at the version that was read."""
    return {"collection": TASKS, "id": task["id"], "expected_version": task["version"]}


def _words(task: dict[str, Any]) -> str:
    return str(task["status"]).replace("_", " ")


def _check_unblocked(asked: str, task: dict[str, Any]) -> None:
    if task["blocked_by"]:
        blockers = ", ".join(map(repr, task["blocked_by"][:3]))
        reason = f"{task['id']!r} depends on {blockers}, not completed yet"
        raise _rejected(asked, reason, "id", "complete what it depends on first")


def _rejected(asked: str, reason: str, parameter: str, remedy: str) -> CommandRejected:
    return CommandRejected(f"task/{asked}", reason, parameter=parameter, remedy=remedy)
