"""Chores: the tasks that a persona gives itself, and when.

Pure: what has happened and how it feels come in, and the kinds of tasks that are due go out.

A chore is due by what has happened (`CHORES` says of what how much), and most of them only
when the persona is rested and has nothing else to do, which its label `idle` says. So nothing
has to be looked at because time has passed: what happens and the crossings of the labels wake
it anyway, and of the instants that are known beforehand, when memories fade, the first one is
the persona's own timer.

Law: of each kind one is open at most. What has happened is counted until a chore of that
kind was done, also over a restart, and never by how often somebody looked.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from rtos.user.rules import at_least
from rtos.user.tasks import is_open

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rtos.user.affect import Label
    from rtos.user.entities import TaskType
    from rtos.user.inbox import Shed

EXCHANGES: Final = 10
"""So many memories of exchanges are worth a consolidation."""
PERFORMED: Final = 20
"""So many tasks of others that have ended are worth an audit."""


@attrs.frozen(kw_only=True)
class Diary:
    """What has happened since the last chore of each kind; stored with the persona's state."""

    exchanges: int = attrs.field(default=0, validator=at_least(0))
    """Memories made since the last consolidation."""
    performed: int = attrs.field(default=0, validator=at_least(0))
    """Tasks of others that have ended since the last audit."""
    stranded: int = attrs.field(default=0, validator=at_least(0))
    """Tasks that were found begun when it came to life, and are in nobody's hand."""
    fades_at: float = math.inf
    """The first instant at which a memory will have faded, in seconds since the epoch, or earlier."""

    def remembered(self, fades_at: float) -> Diary:
        """After a memory was made of an exchange."""
        return attrs.evolve(self, exchanges=self.exchanges + 1, fades_at=min(self.fades_at, fades_at))

    def done(self, task_type: str, *, fades_at: float = math.inf) -> Diary:
        """After a chore of a kind has ended.

        Args:
          task_type: its kind.
          fades_at: when a memory fades next, in seconds since the epoch, as a consolidation has found.
        """
        chore = CHORES.get(task_type)
        counted = self if chore is None else chore.done(self)
        return attrs.evolve(counted, fades_at=min(counted.fades_at, fades_at))

    def to_builtins(self) -> dict[str, Any]:
        """What has to be stored; what is stranded is found again."""
        return {
            "exchanges": self.exchanges,
            "performed": self.performed,
            "fades_at": self.fades_at if self.fades_at < math.inf else None,
        }

    @classmethod
    def from_builtins(cls, data: Mapping[str, Any]) -> Diary:
        """What was stored.

        Raises:
          msgspec.ValidationError: what was stored is none; the text names the field.
        """
        known = {key: value for key, value in data.items() if value is not None}
        return msgspec.convert(known, type=cls)


@attrs.frozen(kw_only=True)
class Chore:
    """A kind of task that a persona gives itself."""

    task_type: TaskType
    description: str
    priority: float
    at_rest: bool
    """Begun only by who is rested and has nothing else to do, and left as soon as somebody calls."""
    is_due: Callable[[Diary, float], bool]
    """By what has happened, at an instant in seconds since the epoch."""
    done: Callable[[Diary], Diary]
    """What there is to count afterwards."""


CHORES: Final[Mapping[str, Chore]] = {
    chore.task_type: chore
    for chore in (
        Chore(
            task_type="resume-work",
            description="Take up again what was begun and not finished.",
            priority=0.7,
            at_rest=False,
            is_due=lambda diary, _: diary.stranded > 0,
            done=lambda diary: attrs.evolve(diary, stranded=0),
        ),
        Chore(
            task_type="skill-audit",
            description="See how the last tasks went, by domain.",
            priority=0.6,
            at_rest=True,
            is_due=lambda diary, _: diary.performed >= PERFORMED,
            done=lambda diary: attrs.evolve(diary, performed=0),
        ),
        Chore(
            task_type="memory-consolidation",
            description="Set aside what has faded, and merge what is about one thing.",
            priority=0.5,
            at_rest=True,
            is_due=lambda diary, now: diary.exchanges >= EXCHANGES or diary.fades_at <= now,
            # When the next memory fades is told by what was done.
            done=lambda diary: attrs.evolve(diary, exchanges=0, fades_at=math.inf),
        ),
    )
}
"""All of them; the first that is due is done first."""

_NOTHING: Final = Diary()


class Chores:
    """The chores of one persona: what it counts, and which of them are open.

    Attributes:
      diary: what has happened.
      deferred: whether tasks of others wait in their records, as there was no room for them.
    """

    # There are as many as personas, and hardly one of them has any that is open.
    __slots__ = ("_open", "deferred", "diary")

    def __init__(self) -> None:
        self.diary = _NOTHING
        self.deferred = False
        self._open: dict[str, Mapping[str, Any] | None] = _NONE

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def wanted(self, label: Label, now: float) -> list[Chore]:
        """Which are due and not open, by somebody who feels so and has nothing else to do.

        Args:
          label: how it feels.
          now: seconds since the epoch.
        """
        return [
            chore
            for kind, chore in CHORES.items()
            if kind not in self._open and _suits(chore, label) and chore.is_due(self.diary, now)
        ]

    def ask(self, chore: Chore) -> None:
        """Note that a task is made of one, which will be told of like any other."""
        self._open = {**self._open, chore.task_type: None}

    def take_back(self, chore: Chore) -> None:
        """Note that no task could be made of one."""
        self._drop(chore.task_type)

    def take_up(self, task: Mapping[str, Any], *, missed: bool = False) -> None:
        """Note what is told of a task that the persona gave itself.

        Args:
          task: its record.
          missed: it is told of late, so what is begun is in nobody's hand.
        """
        kind = task["task_type"]
        if not is_open(task):
            self._drop(kind)
            if task["status"] == "cancelled":
                # By somebody else, who does not want to see it again at once.
                self.diary = self.diary.done(kind)
        elif task["status"] == "pending" or missed:
            # That one is begun is no news to who has begun it, and may be told when it has ended.
            self._open = {**self._open, kind: task}

    def strand(self) -> None:
        """Note that a task of somebody else was begun before, and is in nobody's hand."""
        self.diary = attrs.evolve(self.diary, stranded=self.diary.stranded + 1)

    def defers(self, shed: Shed) -> bool:
        """Whether what there was no room for is a task, which waits in its record; notes it then."""
        self.deferred |= shed.item.kind == "task"
        return shed.item.kind == "task"

    def next(self, label: Label) -> Mapping[str, Any] | None:
        """The task to be done now by somebody who feels so and has nothing else to do."""
        for kind in (*CHORES, *self._open):
            task = self._open.get(kind)
            if task is not None and _suits(CHORES.get(kind), label):
                return task
        return None

    def close(self, task_id: str) -> None:
        """Note that one has ended."""
        for kind, task in self._open.items():
            if task is not None and task["id"] == task_id:
                self._drop(kind)
                return

    def _drop(self, kind: str) -> None:
        self._open = {other: task for other, task in self._open.items() if other != kind}

    def next_due_at(self, now: float) -> float:
        """When one comes to be due if nothing happens: later than ``now``, or never (``math.inf``)."""
        return self.diary.fades_at if self.diary.fades_at > now else math.inf


def _suits(chore: Chore | None, label: Label) -> bool:
    # What nobody here knows anything of is begun at rest too, and then says so.
    return label == "idle" or (chore is not None and not chore.at_rest)


_NONE: Final[dict[str, Mapping[str, Any] | None]] = {}
