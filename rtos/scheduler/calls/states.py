"""The states of a call and of a worker, and every transition between them.

``CALL`` and ``WORKER`` are the only definition: the kernel checks each change against them
while ``CHECKS`` (``policy/overload.py``) is true, and ``transitions()`` lists them for
diagrams.

Must not import: Trio, calls, ports, workers.
"""

from __future__ import annotations

import enum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs

from rtos.errors import KernelBug
from rtos.scheduler.policy.message_queue import State

if TYPE_CHECKING:
    from collections.abc import Mapping


class CallState(enum.Enum):
    """The state of a call; those without a transition are final."""

    OFFERED = "offered"
    """Sent, not accepted yet."""
    REFUSED = "refused"
    """Never accepted; its caller got the reason."""
    BLOCKED = "blocked"
    """Waits for the end of a drain."""
    WAITING = "waiting"
    """Waits in the port's queue."""
    SERVED = "served"
    """A worker runs its handler, or is about to."""
    EXPIRING = "expiring"
    """Its deadline passed while its handler ran: the caller was answered, the handler is cancelled."""
    CANCELLING = "cancelling"
    """Its caller was cancelled while its handler ran: the handler is cancelled, the caller waits."""
    CLOSING = "closing"
    """The scheduler was closed while its handler ran: the caller was answered, the handler is cancelled."""
    HANDLED = "handled"
    """Its handler returned."""
    FAILED = "failed"
    """Its handler raised, or the port was closed while it waited."""
    EXPIRED = "expired"
    """Its deadline passed, or could no longer be met."""
    CANCELLED = "cancelled"
    """Its caller was cancelled."""


class CallEvent(enum.Enum):
    """What happens to a call."""

    REFUSE = "refuse"
    BLOCK = "block"
    ENQUEUE = "enqueue"
    ASSIGN = "assign"
    ADMIT = "admit"
    TAKE = "take"
    EXPIRE = "expire"
    CANCEL = "cancel"
    CLOSE = "close"
    REPLY = "reply"
    ERROR = "error"
    STOP = "stop"


class WorkerState(enum.Enum):
    """The state of a worker."""

    READY = "ready"
    """Runs between two calls: at its start, and after each call."""
    IDLE = "idle"
    """Waits for a call."""
    SERVING = "serving"
    """Serves a call in its own task."""
    DIRECT = "direct"
    """Serves a call within the step of its caller."""
    STOPPED = "stopped"
    """Has left ``serve``."""


class WorkerEvent(enum.Enum):
    """What happens to a worker."""

    WAIT = "wait"
    TAKE = "take"
    ASSIGN = "assign"
    DONATE = "donate"
    SUSPEND = "suspend"
    FINISH = "finish"
    WAKE = "wake"
    STOP = "stop"


def _table(rows: Mapping[_S, Mapping[_E, _S]]) -> Mapping[_S, Mapping[_E, _S]]:
    return MappingProxyType({state: MappingProxyType(dict(row)) for state, row in rows.items()})


_S = TypeVar("_S", CallState, WorkerState)
_E = TypeVar("_E", CallEvent, WorkerEvent)

CALL: Final = _table(
    {
        CallState.OFFERED: {
            CallEvent.REFUSE: CallState.REFUSED,
            CallEvent.BLOCK: CallState.BLOCKED,
            CallEvent.ENQUEUE: CallState.WAITING,
            CallEvent.ASSIGN: CallState.SERVED,
            # A worker is idle, and the deadline cannot be met.
            CallEvent.EXPIRE: CallState.EXPIRED,
        },
        CallState.BLOCKED: {
            CallEvent.ADMIT: CallState.WAITING,
            CallEvent.EXPIRE: CallState.EXPIRED,
            CallEvent.CANCEL: CallState.CANCELLED,
            CallEvent.CLOSE: CallState.FAILED,
        },
        CallState.WAITING: {
            CallEvent.TAKE: CallState.SERVED,
            CallEvent.EXPIRE: CallState.EXPIRED,
            CallEvent.CANCEL: CallState.CANCELLED,
            CallEvent.CLOSE: CallState.FAILED,
        },
        CallState.SERVED: {
            CallEvent.REPLY: CallState.HANDLED,
            CallEvent.ERROR: CallState.FAILED,
            CallEvent.EXPIRE: CallState.EXPIRING,
            CallEvent.CANCEL: CallState.CANCELLING,
            CallEvent.CLOSE: CallState.CLOSING,
        },
        CallState.EXPIRING: {
            CallEvent.REPLY: CallState.EXPIRED,
            CallEvent.ERROR: CallState.EXPIRED,
            CallEvent.STOP: CallState.EXPIRED,
        },
        CallState.CLOSING: {
            CallEvent.REPLY: CallState.FAILED,
            CallEvent.ERROR: CallState.FAILED,
            CallEvent.STOP: CallState.FAILED,
        },
        CallState.CANCELLING: {
            # The handler ended before it noticed the cancellation.
            CallEvent.REPLY: CallState.HANDLED,
            CallEvent.ERROR: CallState.FAILED,
            CallEvent.STOP: CallState.CANCELLED,
            CallEvent.EXPIRE: CallState.EXPIRING,
        },
    }
)
"""What each event does to a call; an event that is missing cannot happen in that state."""

WORKER: Final = _table(
    {
        WorkerState.READY: {
            WorkerEvent.WAIT: WorkerState.IDLE,
            WorkerEvent.TAKE: WorkerState.SERVING,
            WorkerEvent.STOP: WorkerState.STOPPED,
        },
        WorkerState.IDLE: {
            WorkerEvent.ASSIGN: WorkerState.SERVING,
            WorkerEvent.DONATE: WorkerState.DIRECT,
            # It has been cancelled, or is to raise what ``Port.fail`` was given.
            WorkerEvent.WAKE: WorkerState.READY,
        },
        WorkerState.DIRECT: {
            WorkerEvent.FINISH: WorkerState.IDLE,
            # The handler waits for something: the worker's own task goes on with it.
            WorkerEvent.SUSPEND: WorkerState.SERVING,
        },
        WorkerState.SERVING: {WorkerEvent.FINISH: WorkerState.READY},
    }
)
"""What each event does to a worker."""


@attrs.frozen
class Transition:
    """One transition of a state machine; all fields are the names that diagrams show."""

    machine: str
    state: str
    event: str
    next_state: str


def transitions() -> tuple[Transition, ...]:
    """List every transition of the machines ``call`` and ``worker``, in the order of the tables."""
    return tuple(
        Transition(machine, state.value, event.value, after.value)
        for machine, table in (("call", CALL), ("worker", WORKER))
        for state, row in table.items()
        for event, after in row.items()
    )


def advance_call(call: Any, event: CallEvent) -> None:
    """Check that ``event``, which has just happened to ``call``, was possible and did what the table says.

    Raises:
      KernelBug: it was not, or did not.
    """
    before = getattr(call, "checked", CallState.OFFERED)
    after = CALL.get(before, {}).get(event)
    found = CallState.REFUSED if event is CallEvent.REFUSE else _state_of(call)
    if after is not found:
        raise KernelBug(_bug("call", call.statistics.name, before, event, after, found))
    call.checked = after


def advance_worker(worker: Any, event: WorkerEvent) -> None:
    """As ``advance_call``, for a worker.

    Raises:
      KernelBug: the event was not possible, or led to another state.
    """
    before = getattr(worker, "checked", WorkerState.READY)
    after = WORKER.get(before, {}).get(event)
    if after is not worker.state:
        raise KernelBug(_bug("worker", worker.context.name, before, event, after, worker.state))
    worker.checked = after


_REVOKED: Final = {
    State.EXPIRED: CallState.EXPIRING,
    State.CANCELLED: CallState.CANCELLING,
    State.FAILED: CallState.CLOSING,
}


def _state_of(call: Any) -> CallState:
    match call.state:
        case State.WAITING:
            if call.is_blocked:
                return CallState.BLOCKED
            return CallState.OFFERED if call.entry is None else CallState.WAITING
        case State.SERVED:
            if call.revoked is None:
                return CallState.SERVED
            return _REVOKED[call.revoked]
    return CallState[call.state.name]


def _bug(what: str, name: str, before: enum.Enum, event: enum.Enum, after: Any, found: enum.Enum) -> str:
    expected = "is not possible" if after is None else f"leads to {after.value}"
    return f"{what} {name!r}: {event.value} in state {before.value} {expected}, found {found.value}"
