"""What operators ask of a supervisor: orders that wait for their turn.

Whoever watches the children is the only one that starts and stops them, so
parking and unparking by hand are orders to it, carried out one at a time and
never in the middle of a restart.

Law: every order has exactly one outcome, also when the supervisor is left.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import CommandRejected, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rtos.scheduler.supervision.child import Child

BY_HAND: Final = "by hand"
NOT_WATCHING: Final = "its supervisor is stopping, or not up yet"
GROUP: Final = "children are being stopped, to be restarted together"


class What(enum.Enum):
    """What may be ordered."""

    PARK = "park"
    UNPARK = "unpark"


class Order:
    """One child to be parked or unparked, and what has come of it."""

    def __init__(self, what: What, child: Child) -> None:
        self.what = what
        self.child = child
        self._settled = trio.Event()
        self._error: Exception | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it has an outcome."""
        return self._settled.is_set()

    def settle(self, error: Exception | None = None) -> None:
        """Tell the outcome; the first one counts."""
        if not self.is_settled:
            self._error = error
            self._settled.set()

    async def outcome(self) -> None:
        """Wait for the outcome."""
        await self._settled.wait()
        if self._error is not None:
            raise self._error


class OperatorQueue:
    """The orders that are under way. Closed until somebody carries them out."""

    def __init__(self, children: dict[str, Child], send: Callable[[Order], None]) -> None:
        self._children = children
        self._send = send
        self._under_way: dict[Order, None] = {}
        self._closed: str | None = NOT_WATCHING

    def open(self) -> None:
        """Take orders."""
        self._closed = None

    def close(self, reason: str) -> None:
        """Refuse what has not been settled, and all that come."""
        self._closed = reason
        for order in self._under_way:
            order.settle(Refused(order.child.spec.name, reason))

    async def place(self, what: What, name: str) -> None:
        """Order something, and wait until it is done.

        A cancellation takes the order back unless it is being carried out.

        Raises:
          CommandRejected: there is no such child, or nothing to do for it.
          Refused: nobody carries it out now.
          DaemonDown: the child did not start.
        """
        child = self._find(what, name)
        # Behind another order for the same child nobody knows yet what this one will find.
        is_first = all(other.child is not child for other in self._under_way)
        if is_first and (child.parked is not None) is (what is What.PARK):
            state = "is parked already" if what is What.PARK else "is not parked"
            raise _rejected(what, f"{name!r} {state}", "its state says whether it is parked")
        if self._closed is not None:
            raise Refused(name, self._closed)
        order = Order(what, child)
        self._under_way[order] = None
        try:
            self._send(order)
            await order.outcome()
        finally:
            order.settle()
            del self._under_way[order]

    def _find(self, what: What, name: str) -> Child:
        if name not in self._children:
            there = _listed(self._children) or "none at all"
            raise _rejected(what, f"there is no daemon {name!r}", f"there are {there}")
        return self._children[name]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _rejected(what: What, reason: str, remedy: str) -> CommandRejected:
    return CommandRejected(f"daemon/{what.value}", reason, parameter="name", remedy=remedy)
