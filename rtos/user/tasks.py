"""Tasks: which may be begun, how much one matters, and how it changes.

Pure: records and the time come in, and the fields to be written go out.

A task goes one way: `pending`, `in_progress`, and then `completed`, `failed` or
`cancelled` for good; only what was begun and is not in anybody's hand goes back to
`pending`. It can be begun when all that it depends on is completed. When one of those
fails or is cancelled it can never be, and is cancelled with it.

Law: how much a task matters is its own priority and what its due date adds, by the table
`DUE`, cut to 0..1, wherever it is asked.
"""

from __future__ import annotations

import math
import uuid
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.user.inbox import InboxItem
from rtos.user.memory import seconds_of, timestamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from rtos.user.entities import TaskType

HOUR: Final = 3600.0
OPEN: Final = ("pending", "in_progress")
"""The status of a task that has not ended."""
ENDED: Final = ("completed", "failed", "cancelled")
DUE: Final[tuple[tuple[float, float], ...]] = ((HOUR, 0.3), (24 * HOUR, 0.2), (168 * HOUR, 0.1))
"""What is added when it is due within so many seconds, or overdue; the first that applies."""
OWN: Final = 0.15
"""What is added to what a persona gave itself."""
ATTEMPTS: Final = 3
"""A task that was begun so many times and not finished is not begun again."""
_OWN_TASKS: Final = uuid.UUID("b1a7c7f4-5a65-4f5e-8f3c-6f0f0f5f1d90")


def is_open(task: Mapping[str, Any]) -> bool:
    """Whether it has not ended."""
    return task["status"] in OPEN


def is_ready(task: Mapping[str, Any]) -> bool:
    """Whether it may be begun now."""
    return task["status"] == "pending" and not task["blocked_by"]


def is_own(task: Mapping[str, Any]) -> bool:
    """Whether it is of those that personas give themselves."""
    return bool(task["domain"] == "self")


def seconds_until_due(task: Mapping[str, Any], now: float) -> float:
    """Seconds until it is due; below 0 if it is overdue, ``math.inf`` if it has no due date."""
    due = seconds_of(task["due_date"])
    return math.inf if due is None else due - now


def task_priority(task: Mapping[str, Any], now: float) -> float:
    """How much a task matters at an instant, 0..1.

    Args:
      task: its record.
      now: seconds since the epoch.
    """
    left = seconds_until_due(task, now)
    added = next((more for within, more in DUE if left < within), 0.0)
    own: float = task["priority"]
    return min(1.0, own + added + (OWN if is_own(task) else 0.0))


def task_item(task: Mapping[str, Any], *, now: float, wall: float) -> InboxItem:
    """What its assignee has in hand, or in the inbox, of a task.

    It has no deadline there: what is overdue is still wanted, and matters more.

    Args:
      task: its record.
      now: Trio time.
      wall: seconds since the epoch.
    """
    return InboxItem(
        id=task["id"],
        kind="chore" if is_own(task) else "task",
        room_id=(task["context_id"] or "") if task["domain"] == "chat" else "",
        sender_id=task["created_by"],
        sender_type="system",
        text=task["description"],
        priority=task_priority(task, wall),
        arrived=now,
    )


def own_task_id(persona_id: str, task_type: TaskType) -> str:
    """The id of the one task of a kind that a persona has at a time."""
    return uuid.uuid5(_OWN_TASKS, f"{persona_id}/{task_type}").hex


# Changes. Each is the fields that a record gets.


def begun(task: Mapping[str, Any], now: float) -> dict[str, Any]:
    """It is in somebody's hand."""
    return {"status": "in_progress", "started_at": timestamp_of(now), "attempts": task["attempts"] + 1}


def put_back() -> dict[str, Any]:
    """It was begun, and nobody has it in hand any more."""
    return {"status": "pending"}


def ended(
    status: str, now: float, *, output: str = "", error: str = "", metrics: Mapping[str, float] | None = None
) -> dict[str, Any]:
    """It has ended, and what came of it."""
    result = {
        "success": status == "completed",
        "output": output,
        "error": error,
        "metrics": dict(metrics or {}),
    }
    return {"status": status, "completed_at": timestamp_of(now), "result": result}


def unblocked(task: Mapping[str, Any], by: str) -> dict[str, Any]:
    """One of those that it depends on is completed."""
    return {"blocked_by": [id for id in task["blocked_by"] if id != by]}


# What a persona has learned of its work.


@attrs.frozen
class Audit:
    """How a persona has done in one domain."""

    domain: str
    completed: int
    failed: int
    seconds: float
    """How long those that were begun and completed took, on average."""

    def line(self) -> str:
        """For people."""
        return f"{self.domain}: {self.completed} completed, {self.failed} failed, {self.seconds:.1f} s each"


def audit(tasks: Iterable[Mapping[str, Any]]) -> list[Audit]:
    """How a persona has done, by domain; what it gave itself and what was cancelled does not count."""
    by_domain: dict[str, list[Mapping[str, Any]]] = {}
    for task in tasks:
        if not is_own(task) and task["status"] in ("completed", "failed"):
            by_domain.setdefault(task["domain"], []).append(task)
    return [_audit(domain, by_domain[domain]) for domain in sorted(by_domain)]


def _audit(domain: str, tasks: list[Mapping[str, Any]]) -> Audit:
    done = [task for task in tasks if task["status"] == "completed"]
    took = [_took(task) for task in done if task["started_at"] is not None]
    return Audit(domain, len(done), len(tasks) - len(done), sum(took) / len(took) if took else 0.0)


def _took(task: Mapping[str, Any]) -> float:
    began, ended_at = seconds_of(task["started_at"]), seconds_of(task["completed_at"])
    return max(0.0, ended_at - began) if began is not None and ended_at is not None else 0.0
