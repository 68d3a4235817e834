"""Planning: what a persona with nothing left to do turns to of its own accord.

Owns nothing. What is due is said by `rtos.user.chores`; here it becomes tasks, which are told
like those of anybody else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rtos.errors import CommandRejected
from rtos.user.entities import TaskEntity

if TYPE_CHECKING:
    from rtos.bus import Bus
    from rtos.user.affect import Label
    from rtos.user.desk import Desk

FETCHED: Final = 101
"""So many tasks are fetched at once of those that there was no room for: more than an inbox holds, so
that one is put off again where there may be more."""


async def plan(
    bus: Bus, persona_id: str, desk: Desk, label: Label, now: float
) -> list[dict[str, Any]] | None:
    """Make tasks of the chores that are due, and fetch what was put off.

    Args:
      bus: where tasks are.
      persona_id: whose.
      desk: what it has to do; notes what was made.
      label: how it feels.
      now: seconds since the epoch.

    Returns:
      The records of what was put off; ``None`` if there was nothing to do at all.

    A checkpoint unless there is nothing to do. A cancellation leaves tasks that were made, which are
    told of when the persona comes to life again.
    """
    chores = desk.chores
    wanted = chores.wanted(label, now)
    # While anything waits there may be no room yet.
    fetches = chores.deferred and not desk.waiting
    if not wanted and not fetches:
        return None
    for chore in wanted:
        # Before it is made, since it may be told of before this goes on.
        chores.ask(chore)
        try:
            await bus.commands.execute(
                "task/create",
                assignee=persona_id,
                by=persona_id,
                domain="self",
                type=chore.task_type,
                description=chore.description,
                priority=chore.priority,
            )
        except CommandRejected:
            # There is one of this kind already, and it will be told of.
            continue
        except BaseException:
            chores.take_back(chore)
            raise
    if not fetches:
        return []
    chores.deferred = False
    try:
        found = await bus.commands.execute(
            "data/list",
            collection=TaskEntity.collection,
            filter={
                "assignee_id": persona_id,
                "status": "pending",
                "blocked_by": [],
                "domain": {"$ne": "self"},
            },
            sort=["-priority"],
            limit=FETCHED,
        )
    except BaseException:
        # They still wait, and nothing else would tell of them.
        chores.deferred = True
        raise
    items: list[dict[str, Any]] = found["items"]
    return items
