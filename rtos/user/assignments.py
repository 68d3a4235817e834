"""Assignments: personas are told of the tasks that are theirs.

Owns nothing. Tasks are records, and what becomes of them is learned from events in the order of
the commits; who comes to life is told of all that are open.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.user.entities import TaskEntity
from rtos.user.records import Records
from rtos.user.tasks import OPEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from rtos.bus import Bus
    from rtos.user.persona import PersonaUser

TOLD: Final = ("data:tasks:created", "data:tasks:updated")
"""The events that personas are told of."""


@attrs.frozen
class Assignments:
    """Tells personas of their tasks.

    Args:
      bus: where the records are.
      served: who is served, by id.
    """

    bus: Bus
    served: Callable[[str], PersonaUser | None]

    def tell(self, task: dict[str, Any], *, missed: bool = False) -> None:
        """Tell whose it is of a task, or of what became of it; `missed` if late. Not a checkpoint."""
        persona = self.served(task["assignee_id"])
        if persona is not None:
            persona.hear_task(task, missed=missed)

    async def catch_up(self, persona_id: str | None = None) -> None:
        """Tell of all that are open: one persona, or all. A checkpoint."""
        wanted: dict[str, Any] = {"status": {"$in": list(OPEN)}}
        if persona_id is not None:
            wanted["assignee_id"] = persona_id
        async for task in Records(self.bus, TaskEntity.collection, wanted):
            self.tell(task, missed=True)
