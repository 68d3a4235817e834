"""Questions: the messages that one of a room answers for all, until one has.

Owns who is asked and who is left, and decides nothing: the order is given, see
`rtos.user.coordination`. Whoever is asked is replaced at the event that shows that it
cannot answer: it sheds the message, fails at it, is frozen, degraded or deleted. Where
no event shows it, the next is asked as well when the turn of the one before is over, by
one timer; the first reply that is stored is the reply, see `rtos.user.servicing`.

Law: nobody is asked twice while another is left, and whoever is told that nobody is
left has to say so itself. What is asked is stored nowhere: whoever stands by keeps its
read mark below the message until there is a reply, so that after a restart it is asked anew.

Bound: all who are asked have one deadline, `ANSWER_WITHIN` after the first was. By then
there is an answer or a refusal, unless the last one who is left fails at that too.
"""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from rtos.user.hearing import ANSWER_WITHIN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rtos.bus import Bus
    from rtos.scheduler.policy.timer_heap import Timer
    from rtos.user.hearing import Around
    from rtos.user.persona import PersonaUser

TURN: Final = 20.0
"""Seconds that one who is asked has to itself; then the next is asked as well."""


@attrs.define(eq=False)
class _Question:
    """A message that has no reply yet."""

    message: dict[str, Any]
    around: Around
    deadline: float
    left: deque[str]
    asked: list[str] = attrs.field(factory=list)
    trying: set[str] = attrs.field(factory=set)
    """Who was asked and has not stood back."""
    timer: Timer | None = None


class Questions:
    """What is asked of one at a time.

    Args:
      bus: where timers are.
      find: who is served, by id.
    """

    def __init__(self, bus: Bus, find: Callable[[str], PersonaUser | None]) -> None:
        self._bus = bus
        self._find = find
        self._open: dict[str, _Question] = {}

    def __len__(self) -> int:
        return len(self._open)

    def ask(self, message: dict[str, Any], order: Iterable[str], around: Around) -> None:
        """Ask the first who can answer; nobody if it is asked already. Not a checkpoint.

        Args:
          message: its record.
          order: who can, best first.
          around: what is known of the room.
        """
        if message["id"] in self._open:
            return
        question = _Question(message, around, trio.current_time() + ANSWER_WITHIN, deque(order))
        self._open[message["id"]] = question
        if not self._ask_next(question):
            self.close(message["id"])

    def pass_on(self, persona_id: str, message_id: str, *, gone: bool = False) -> bool:
        """Let another one answer instead.

        Args:
          persona_id: who cannot.
          message_id: what it was asked.
          gone: it cannot even refuse. Then who could not answer is asked once more.

        Returns:
          Whether somebody else sees to it. If not, it remains with that one, unless it is gone.
        """
        question = self._open.get(message_id)
        if question is None:
            return False
        question.trying.discard(persona_id)
        in_time = trio.current_time() < question.deadline
        if ((gone or in_time) and self._ask_next(question)) or question.trying:
            return True
        if not gone:
            return False
        question.left.extend(id for id in question.asked if id != persona_id)
        question.asked.clear()
        if self._ask_next(question):
            return True
        self.close(message_id)
        return False

    def close(self, message_id: str) -> None:
        """Note that a message has its reply, or will have none. Not a checkpoint."""
        question = self._open.pop(message_id, None)
        if question is not None:
            self._disarm(question)

    def close_room(self, room_id: str) -> None:
        """Forget what was asked in a room that is gone."""
        for id in [id for id, question in self._open.items() if question.message["room_id"] == room_id]:
            self.close(id)

    def clear(self) -> None:
        """Forget all."""
        for id in list(self._open):
            self.close(id)

    def _ask_next(self, question: _Question) -> bool:
        self._disarm(question)
        message, now = question.message, trio.current_time()
        while question.left:
            persona = self._find(question.left.popleft())
            if persona is None or not persona.reading.holds(message["room_id"], message["id"]):
                continue
            question.asked.append(persona.id)
            question.trying.add(persona.id)
            if question.left and now + TURN < question.deadline:
                over = partial(self._turn_is_over, question)
                question.timer = self._bus.scheduler.add_timer(now + TURN, over)
            persona.hear(message, "chosen", around=question.around, within=question.deadline - now)
            return True
        return False

    def _turn_is_over(self, question: _Question) -> None:
        question.timer = None
        self._ask_next(question)

    def _disarm(self, question: _Question) -> None:
        if question.timer is not None:
            question.timer.cancel()
            question.timer = None
