"""Lives: the tasks that serve personas, and what happens when one of them fails.

Owns who is being served and who rests after a failure, and knows neither records
nor rooms. A persona that fails is tried again after a wait that doubles, by one
timer; a message that it fails at `TRIES` times is refused instead of being tried
again; one that fails `FAILURES` times within `WINDOW` is given up.

Law: at most one task serves a persona at a time, and none while it rests.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

import attrs
import trio

from rtos.errors import RtosError
from rtos.scheduler import Backoff
from rtos.scheduler.supervision.restart_policy import RestartWindow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rtos.bus import Bus
    from rtos.scheduler import SchedulingContext
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.user.persona import PersonaUser

log = logging.getLogger("rtos.users")

TRIES: Final = 3
"""A message is refused after so many failures in a row."""
FAILURES: Final = 5
"""A persona is given up at this many failures of its own within the window."""
WINDOW: Final = 600.0
"""Seconds."""
BACKOFF: Final = Backoff(first=1.0, cap=60.0)
"""Between failures; the first is tried again at once."""


@attrs.define
class _Life:
    """The task that serves a persona, while it has something to do."""

    context: SchedulingContext
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)


@attrs.define
class _Failures:
    """How a persona has failed of late."""

    window: RestartWindow = attrs.field(factory=partial(RestartWindow, FAILURES - 1, WINDOW))
    in_a_row: int = 0
    message_id: str | None = None
    at_message: int = 0

    def count(self, message_id: str | None) -> None:
        self.in_a_row += 1
        self.at_message = self.at_message + 1 if message_id == self.message_id else 1
        self.message_id = message_id


class Lives:
    """Gives personas their tasks.

    Args:
      bus: its scheduler has the contexts and the timers; failures are told as events.
      nursery: where the tasks run.
      give_up: told of a persona's id and the reason when it is tried no more.
    """

    def __init__(
        self, bus: Bus, nursery: trio.Nursery, give_up: Callable[[str, str], Awaitable[None]]
    ) -> None:
        self._bus = bus
        self._nursery = nursery
        self._give_up = give_up
        self._lives: dict[str, _Life] = {}
        self._failures: dict[str, _Failures] = {}
        # Nobody but who gave up is here without a timer.
        self._resting: dict[str, Timer | None] = {}

    def serving(self) -> list[str]:
        """The ids of those who have a task."""
        return list(self._lives)

    def activate(self, persona: PersonaUser) -> None:
        """Give a persona a task unless it has one or rests, at its level of now. Not a checkpoint."""
        life = self._lives.get(persona.id)
        if life is not None and life.context.base_level != persona.desk.level:
            life.context.rebase(persona.desk.level)
        if life is not None or persona.id in self._resting:
            return
        context = self._bus.scheduler.context(f"persona {persona.id}", level=persona.desk.level)
        life = self._lives[persona.id] = _Life(context)
        with context:
            self._nursery.start_soon(self._live, persona, life, name=f"persona {persona.id}")

    def rests(self, persona_id: str) -> bool:
        """Whether it has failed just now, and is not tried before its rest is over."""
        return persona_id in self._resting

    async def end(self, persona_id: str) -> None:
        """Stop whatever serves a persona, or would after its rest. A checkpoint if it is served now."""
        timer = self._resting.pop(persona_id, None)
        if timer is not None:
            timer.cancel()
        life = self._lives.get(persona_id)
        if life is not None:
            life.scope.cancel()
            await life.ended.wait()

    def close(self) -> None:
        """Nobody is tried again. Not a checkpoint."""
        for timer in self._resting.values():
            if timer is not None:
                timer.cancel()
        self._resting.clear()

    def pardon(self, persona_id: str) -> None:
        """Forget how often it has failed; not at which message."""
        if persona_id in self._failures:
            at = self._failures[persona_id]
            self._failures[persona_id] = _Failures(message_id=at.message_id, at_message=at.at_message)

    def forget(self, persona_id: str) -> None:
        """Forget all that is known of it."""
        self._failures.pop(persona_id, None)

    async def _live(self, persona: PersonaUser, life: _Life) -> None:
        reason = None
        try:
            with life.scope:
                await persona.attend_all()
                self._recovered(persona.id)
        except Exception as error:
            # One persona's fault is not the others'.
            log.exception("persona %s failed", persona.id)
            reason = self._failed(persona, error)
        finally:
            del self._lives[persona.id]
            life.ended.set()
        if reason is not None:
            await self._give_up(persona.id, reason)

    def _recovered(self, persona_id: str) -> None:
        if persona_id in self._failures:
            self._failures[persona_id].in_a_row = 0

    def _failed(self, persona: PersonaUser, error: Exception) -> str | None:
        """Let it rest; the reason if it is to be given up."""
        failures = self._failures.setdefault(persona.id, _Failures())
        failures.count(persona.desk.in_hand_id)
        told = {"persona_id": persona.id, "message_id": persona.desk.in_hand_id, "error": repr(error)}
        self._bus.events.emit("persona:failed", told)
        now = trio.current_time()
        # What the system around it refuses is no fault of its own: it waits, and is not judged.
        if not isinstance(error, RtosError):
            persona.give_up(for_good=failures.at_message >= TRIES)
            if not failures.window.admit(now):
                self._resting[persona.id] = None
                return f"failed {FAILURES} times within {WINDOW:g} s, at last with {error!r}"[:300]
        at = now + BACKOFF.delay(failures.in_a_row)
        self._resting[persona.id] = self._bus.scheduler.add_timer(at, partial(self._rested, persona))
        return None

    def _rested(self, persona: PersonaUser) -> None:
        if self._resting.pop(persona.id, None) is not None:
            self.activate(persona)
