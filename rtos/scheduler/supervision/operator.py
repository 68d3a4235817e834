"""Operators' orders to a supervisor: park and unpark a child, and wait for the outcome.

Checks an order, sends it to the supervisor and waits. What an order does is decided in
``lifecycle``.

Invariant: every order has exactly one outcome, also when the supervisor closes first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import trio

from rtos.errors import CommandRejected, Refused
from rtos.scheduler.supervision.lifecycle import CLOSING
from rtos.scheduler.supervision.run_state import Operation, Order

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rtos.scheduler.supervision.run_state import Child

_SEE_STATE: Final = "its state says whether it is parked"


class OperatorQueue:
    """The orders that have no outcome yet.

    Args:
      children: by name.
      send: sends an order to the supervisor. Must not wait.
    """

    def __init__(self, children: Mapping[str, Child], send: Callable[[Order], None]) -> None:
        self._children = children
        self._send = send
        self._pending: dict[Order, None] = {}
        self._is_closed = False

    def close(self) -> None:
        """Refuse the pending orders and all later ones."""
        self._is_closed = True
        for order in self._pending:
            order.settle(Refused(order.child.spec.name, CLOSING))

    async def place(self, operation: Operation, name: str) -> None:
        """Place an order and wait for its outcome.

        Raises:
          CommandRejected: there is no such child, or there is nothing to do.
          Refused: the supervisor is closing, or is restarting the group of the child.
          DaemonDown: the child did not start, or was parked meanwhile.

        A cancellation withdraws the order if it waits behind another one for the same
        child. Otherwise it has begun, and goes on.
        """
        child = self._children.get(name)
        if child is None:
            there = ", ".join(self._children) or "none at all"
            raise _rejected(operation, f"there is no daemon {name!r}", f"there are {there}")
        # Behind another order for the same child its state says nothing yet.
        is_first = all(other.child is not child for other in self._pending)
        if is_first and operation is Operation.PARK and child.parked is not None and not child.is_unparking:
            raise _rejected(operation, f"{name!r} is parked already", _SEE_STATE)
        if is_first and operation is Operation.UNPARK and child.parked is None and not child.is_parking:
            raise _rejected(operation, f"{name!r} is not parked", _SEE_STATE)
        if self._is_closed:
            raise Refused(name, CLOSING)
        settled = trio.Event()
        order = Order(operation, child, notify=settled.set)
        self._pending[order] = None
        try:
            self._send(order)
            await settled.wait()
        finally:
            order.settle()
            del self._pending[order]
        if order.error is not None:
            raise order.error


def _rejected(operation: Operation, reason: str, remedy: str) -> CommandRejected:
    return CommandRejected(f"daemon/{operation.value}", reason, parameter="name", remedy=remedy)
