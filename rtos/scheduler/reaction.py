"""What a port does when one of its calls has missed its deadline.

Its caller is told in any case, and the miss is counted and explained (``misses.py``).
What is done beyond that is the port's: a daemon that is late now and then is logged,
one that is late because it has too much to do leaves something out or does less, and
one that has got stuck is started anew.

Law: a reaction changes nothing about the call that missed; that has its outcome.
"""

from __future__ import annotations

import enum
import logging
import math
from typing import TYPE_CHECKING

import attrs

from rtos.errors import Overloaded
from rtos.scheduler.context import LEVELS, check_level
from rtos.scheduler.order import State

if TYPE_CHECKING:
    from rtos.scheduler.calls import Call
    from rtos.scheduler.port import Port
    from rtos.scheduler.timers import Timer

log = logging.getLogger("rtos.misses")


class Reaction(enum.Enum):
    """What is done about a miss."""

    LOG = "log"
    """It is logged, at once and without its explanation; ``open_scheduler(on_miss="log")`` logs that."""
    SKIP = "skip"
    """The next waiting call of its kind is left out: shed, and its caller told.

    Koren, Shasha: Skip-Over, RTSS 1995.
    """
    DEGRADE = "degrade"
    """The daemon is degraded for a while: it can see that and do less (``Port.is_degraded``).

    On its own account it runs at a less urgent level; who calls it still raises it.
    """
    RESTART = "restart"
    """The daemon fails with the miss, and its supervisor restarts it, within its intensity."""


@attrs.frozen
class OnMiss:
    """What a port does about its misses.

    Attributes:
      reaction: see ``Reaction``.
      level: where DEGRADE puts the daemon, 1 to 7; never more urgent than its own.
      recovery: seconds without a miss after which it is as before.

    Raises:
      ValueError: there is no such level, or the recovery is no length of time.
    """

    reaction: Reaction
    level: int = LEVELS - 1
    recovery: float = 1.0

    def __attrs_post_init__(self) -> None:
        check_level("OnMiss", self.level)
        if not 0 < self.recovery < math.inf:
            msg = f"OnMiss: recovery {self.recovery!r} is no length of time; use seconds, above 0"
            raise ValueError(msg)


class MissReactor:
    """Reacts to the misses of one port.

    Attributes:
      is_degraded: whether there was a miss lately, where the reaction is DEGRADE.
    """

    def __init__(self, port: Port, on_miss: OnMiss) -> None:
        self._port = port
        self._on_miss = on_miss
        self._timer: Timer | None = None
        self.is_degraded = False

    def missed(self, call: Call) -> None:
        """``call`` was not answered by its deadline."""
        match self._on_miss.reaction:
            case Reaction.LOG:
                log.warning("%s missed its deadline at %s", call.kind.name, self._port.name)
            case Reaction.SKIP:
                self._skip(call)
            case Reaction.DEGRADE:
                self._degrade()
            case Reaction.RESTART:
                self._port.fail(call.error_of_miss())

    def place(self, level: int) -> int:
        """The level of a worker with base level ``level``."""
        return max(level, self._on_miss.level) if self.is_degraded else level

    def _skip(self, missed: Call) -> None:
        waiting = (message for message in self._port.queue if message is not missed)
        alike = [message for message in waiting if getattr(message, "kind", None) is missed.kind]
        if alike:
            following: Call = min(alike, key=lambda call: (call.level, call.deadline, call.arrival))  # type: ignore[assignment]
            self._port.withdraw(following, State.SHED)
            reason = "it was left out, since one before it missed its deadline"
            following.answer(error=Overloaded(self._port.name, reason))

    def _degrade(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        scheduler = self._port.scheduler
        self._timer = scheduler.add_timer(scheduler.now() + self._on_miss.recovery, self._recover)
        self._set(degraded=True)

    def _recover(self) -> None:
        self._timer = None
        self._set(degraded=False)

    def _set(self, *, degraded: bool) -> None:
        if degraded is not self.is_degraded:
            self.is_degraded = degraded
            log.warning("%s is %s", self._port.name, "degraded" if degraded else "as before")
            self._port.place_workers()
