"""ControlDaemon: lets programs outside the process use the bus.

It also serves what an operator needs when a daemon has been parked, since it is
the way in, and is never parked itself.

Law: every request gets exactly one reply, unless its client goes away, which
cancels what it asked for. No traceback ever leaves the process.
"""

from __future__ import annotations

import logging
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, nullcontext
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import trio

from rtos.bus import command
from rtos.daemons.control.protocol import (
    MAX_LINE,
    Request,
    decode,
    encode_error,
    encode_event,
    encode_result,
)
from rtos.daemons.control.socket import listen, removed_after
from rtos.errors import CommandRejected, Refused, RtosError
from rtos.scheduler import PastIntensity
from rtos.scheduler.analysis import Job
from rtos.scheduler.analysis.online import verdict_now
from rtos.scheduler.policy.levels import check_level

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator
    from pathlib import Path

    from rtos.bus import Bus, Event
    from rtos.scheduler import SchedulingContext, Supervisor

log = logging.getLogger("rtos.control")

MAX_CONNECTIONS: Final = 128
MAX_IN_FLIGHT: Final = 64
"""Requests of one connection that may be under way at once."""
CHUNK: Final = 65536
WORK_LEVEL: Final = 3
"""What clients ask for has this level, unless it goes by a control lane."""


OWN: Final = frozenset({"daemon/park", "daemon/unpark"})
"""The commands that this daemon serves itself."""


class HasSupervisor(Protocol):
    """Where the supervisor can be found once it is there."""

    supervisor: Supervisor | None


class ControlDaemon:
    """Serves the control socket, ``daemon/park`` and ``daemon/unpark``, and ``system/admit``.

    Args:
      path: of the socket.
      children: whose supervisor parks and unparks; ``None`` where nobody does.
    """

    name: ClassVar[str] = "control"
    # Reading is more urgent than what is asked for (``WORK_LEVEL``), or an operator's
    # request would wait behind all of that.
    level: ClassVar[int] = 1
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 64
    # Without it nobody could be unparked.
    past_intensity: ClassVar[PastIntensity] = PastIntensity.ESCALATE

    def __init__(self, path: Path, children: HasSupervisor | None = None) -> None:
        self._path = path
        self._children = children
        self._bus: Bus | None = None
        self._work: SchedulingContext
        self._connections = 0
        self._executing = _Executing()

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when it listens. On exit it stops listening, and what is under way is finished."""
        self._connections = 0
        self._executing = _Executing()
        self._bus = bus
        listener = await listen(self._path)
        self._work = bus.scheduler.context("control commands", level=WORK_LEVEL)
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                with removed_after(self._path):
                    # Goes on when there are no more files to be had, and accepts again later.
                    accepting.start_soon(
                        partial(
                            trio.serve_listeners,
                            partial(self._serve, bus),
                            [listener],
                            handler_nursery=connections,
                        )
                    )
                    yield
                accepting.cancel_scope.cancel()
            # Outside of what has just been cancelled, or nobody would be waited for.
            self._executing.refuse_own()
            # Everybody else is still up: what was asked for can be finished. How
            # long that may take is the supervisor's business.
            await self._executing.none()
            connections.cancel_scope.cancel()

    @command("daemon/park")
    async def park(self, *, name: str) -> bool:
        """Stop a daemon, and leave it stopped until it is unparked; its callers are told."""
        if name == self.name:
            raise CommandRejected(
                "daemon/park", "control could not be asked to unpark", parameter="name", remedy="name another"
            )
        await self._supervisor().park(name)
        return True

    @command("daemon/unpark")
    async def unpark(self, *, name: str) -> bool:
        """Start a parked daemon again, and wait until it is ready."""
        await self._supervisor().unpark(name)
        return True

    def _supervisor(self) -> Supervisor:
        supervisor = None if self._children is None else self._children.supervisor
        if supervisor is None:
            raise Refused("control", "nobody supervises yet")
        return supervisor

    @command("system/admit")
    async def admit(
        self,
        *,
        name: str,
        level: int,
        cost: float,
        period: float,
        due_within: float | None = None,
        step: float | None = None,
    ) -> dict[str, Any]:
        """Say whether one more job may come, going by what was traced; times in seconds."""
        assert self._bus is not None
        try:
            candidate = _job(name, level, cost, period, due_within, step)
            verdict = await verdict_now(self._bus.scheduler, (), candidate)
        except (ValueError, OverflowError) as error:
            raise CommandRejected("system/admit", str(error), remedy="mend the description") from None
        return {
            "admitted": verdict.admitted,
            "bounds": {job: None if bound is None else bound / 1e9 for job, bound in verdict.bounds.items()},
            "offender": verdict.offender,
        }

    async def _serve(self, bus: Bus, stream: trio.SocketStream) -> None:
        if self._connections >= MAX_CONNECTIONS:
            await _turn_away(stream)
            return
        self._connections += 1
        try:
            await _Connection(stream, bus, self._executing, self._work).serve()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a client has gone away")
        except Exception:
            # One connection must not take the others with it.
            log.exception("a connection failed, and was closed")
        finally:
            self._connections -= 1


class _Executing:
    """How many commands are under way, over all connections."""

    def __init__(self) -> None:
        self._count = 0
        self._none = trio.Event()
        self._own: set[trio.CancelScope] = set()
        self._refuses_own = False

    @contextmanager
    def own(self) -> Iterator[None]:
        """Around a command that this daemon serves itself.

        Raises:
          Refused: it was not served before the daemon stopped.
        """
        with trio.CancelScope() as scope:
            self._own.add(scope)
            if self._refuses_own:
                scope.cancel()
            try:
                yield
            finally:
                self._own.discard(scope)
        if scope.cancelled_caught:
            raise Refused("control", "it is being stopped")

    def refuse_own(self) -> None:
        """Let nobody wait for what this daemon serves itself: it would wait for its own next run."""
        self._refuses_own = True
        for scope in self._own:
            scope.cancel()

    def __enter__(self) -> None:
        self._count += 1

    def __exit__(self, *_: object) -> None:
        self._count -= 1
        if not self._count:
            self._none.set()

    async def none(self) -> None:
        """Wait until there are none."""
        while self._count:
            self._none = trio.Event()
            await self._none.wait()


class _Connection:
    """One client."""

    def __init__(
        self, stream: trio.SocketStream, bus: Bus, executing: _Executing, work: SchedulingContext
    ) -> None:
        self._stream = stream
        self._work = work
        self._bus = bus
        self._executing = executing
        self._sending = trio.Lock()
        self._under_way: dict[int | str, trio.CancelScope] = {}

    async def serve(self) -> None:
        """Read requests until the client closes; then cancel what it still waits for."""
        try:
            async with self._stream, trio.open_nursery() as nursery:
                async with aclosing(self._lines()) as lines:
                    async for line in lines:
                        await self._take(line, nursery)
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            # The client went away while it was being answered.
            rest = group.split((trio.BrokenResourceError, trio.ClosedResourceError))[1]
            if rest is not None:
                raise rest from None

    async def _lines(self) -> AsyncGenerator[bytes, None]:
        pending = bytearray()
        while chunk := await self._stream.receive_some(CHUNK):
            pending += chunk
            if b"\n" in chunk:
                *lines, last = pending.split(b"\n")
                pending = bytearray(last)
                for line in lines:
                    if line.strip():
                        yield bytes(line)
            if len(pending) > MAX_LINE:
                reason = f"a line has more than {MAX_LINE} bytes"
                await self._send(
                    encode_error(None, CommandRejected("request", reason, remedy="send less at once"))
                )
                return

    async def _take(self, line: bytes, nursery: trio.Nursery) -> None:
        try:
            request = decode(line)
            self._check_room(request)
        except (CommandRejected, Refused) as error:
            await self._send(encode_error(_id_in(line), error))
            return
        if request.cancel:
            if request.id in self._under_way:
                self._under_way[request.id].cancel()
            return
        scope = self._under_way[request.id] = trio.CancelScope()
        name = f"control {request.command or 'subscription'}"
        with nullcontext() if self._is_control(request) else self._work:
            nursery.start_soon(self._answer, request, scope, name=name)

    def _is_control(self, request: Request) -> bool:
        return request.command is not None and self._bus.commands.is_control(request.command)

    def _check_room(self, request: Request) -> None:
        if not request.cancel and request.id in self._under_way:
            raise CommandRejected(
                "request", f"id {request.id!r} is under way", parameter="id", remedy="use another"
            )
        if len(self._under_way) >= MAX_IN_FLIGHT and not request.cancel:
            raise Refused("control", f"{MAX_IN_FLIGHT} requests of this connection are under way")

    async def _answer(self, request: Request, scope: trio.CancelScope) -> None:
        try:
            with scope:
                if request.subscribe is not None:
                    await self._subscribe(request, request.subscribe)
                else:
                    with self._executing:
                        await self._execute(request)
        finally:
            del self._under_way[request.id]

    async def _execute(self, request: Request) -> None:
        assert request.command is not None
        deadline = trio.current_time() + request.timeout
        try:
            with self._executing.own() if request.command in OWN else nullcontext():
                result = await self._bus.commands.send(
                    request.command, request.params, deadline=deadline, lax=True
                )
            line = encode_result(request.id, result)
        except Exception as error:
            # The client is told all there is of an error of ours, but never its cause.
            if not isinstance(error, RtosError) or error.__cause__ is not None:
                log.warning("%s failed: %s", request.command, error, exc_info=error)
            line = encode_error(request.id, error)
        await self._send(line)

    async def _subscribe(self, request: Request, patterns: list[str]) -> None:
        with ExitStack() as stack:
            try:
                subscription = stack.enter_context(self._bus.events.subscribe(*patterns))
            except ValueError as error:
                rejected = CommandRejected(
                    "subscribe", str(error), parameter="subscribe", remedy="mend the pattern"
                )
                await self._send(encode_error(request.id, rejected))
                return
            await self._send(encode_result(request.id, {"subscribed": patterns}))
            async for event in subscription:
                if not await self._tell(request.id, event):
                    return

    async def _tell(self, id: int | str, event: Event) -> bool:
        """Send an event. One that cannot be sent ends the subscription: leaving it out would hide it."""
        try:
            line, sent = encode_event(id, event.name, event.payload, event.lost), True
        except Exception as error:
            log.exception("event %s cannot be told outside", event.name)
            line, sent = encode_error(id, error), False
        await self._send(line)
        return sent

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(line)


def _job(
    name: str, level: int, cost: float, period: float, due_within: float | None, step: float | None
) -> Job:
    check_level("system/admit", level)
    times = {"cost": cost, "period": period, "deadline": due_within, "longest_step": step}
    known: dict[str, Any] = {field: round(value * 1e9) for field, value in times.items() if value is not None}
    return Job(name=name, level=level, **known)


async def _turn_away(stream: trio.SocketStream) -> None:
    async with stream:
        error = Refused("control", f"{MAX_CONNECTIONS} connections are open")
        with trio.move_on_after(1):
            await stream.send_all(encode_error(None, error))


def _id_in(line: bytes) -> int | str | None:
    """The id of a request that is otherwise no good, so that its client can tell whose answer it is."""
    import msgspec

    try:
        id = msgspec.json.decode(line)["id"]
    except (msgspec.MsgspecError, KeyError, TypeError, IndexError, RecursionError, UnicodeDecodeError):
        return None
    return id if isinstance(id, (int, str)) else None
