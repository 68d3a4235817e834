"""The bus: attaches daemons, and serves their commands and events.

A daemon is any object with a name, an ``open`` method, and methods marked with ``@command`` or ``@on``.
Its port is made once and outlives its runs: calls that wait while the daemon restarts
are served by the next run.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import trio

from rtos.bus.commands import Commands, Request, Route, run_request
from rtos.bus.declare import DeclaredCommand, DeclaredSubscription, Signature, declared
from rtos.bus.events import Events, Subscription
from rtos.errors import ConfigurationError
from rtos.scheduler import CallStatistics, ChildSpec, PastIntensity, Port, Restart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from rtos.errors import DaemonDown
    from rtos.scheduler import Scheduler, SchedulingContext


class Daemon(Protocol):
    """What the bus requires of a daemon.

    Attributes:
      name: unique on the bus.
      level: base level, 0 (most urgent) to 7.
      workers: number of commands that it serves at the same time, 1 or more.
      capacity: number of further commands that may wait.

    A daemon may also have an attribute ``past_intensity`` (``PastIntensity``, by default
    ``ESCALATE``): what happens when it fails too often.
    """

    name: ClassVar[str]
    level: ClassVar[int]
    workers: ClassVar[int]
    capacity: ClassVar[int]

    def open(self, bus: Bus) -> AbstractAsyncContextManager[None]:
        """Acquire resources. The daemon is ready once the context is entered; leaving it releases them."""


class Bus:
    """The commands and events of one runtime."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.commands = Commands()
        self.events = Events()
        self.ports: dict[str, Port[Request, Any]] = {}
        self.controls: dict[str, Port[Request, Any]] = {}

    @contextmanager
    def attach(self, daemon: Daemon) -> Iterator[ChildSpec]:
        """Register the daemon's commands while the block runs; yields its specification for a supervisor.

        Raises:
          ConfigurationError: another daemon has the same name or serves one of its
            commands, the parameters of a command cannot be checked, or ``workers`` is below 1.
          ValueError: the level is not 0 to 7, or the capacity is below 1.
        """
        if daemon.name in self.ports:
            raise ConfigurationError(f"two daemons are named {daemon.name!r}", "give each a name of its own")
        if daemon.workers < 1:
            raise ConfigurationError(
                f"daemon {daemon.name!r} has {daemon.workers!r} workers", "give it 1 or more"
            )
        ports = self._open_ports(daemon)
        names = []
        handlers = []
        try:
            for fact, handler in declared(daemon):
                if isinstance(fact, DeclaredCommand):
                    port = ports[fact.control]
                    self.commands.attach(
                        Route(fact, Signature(fact.name, handler), handler, port, CallStatistics(fact.name))
                    )
                    names.append(fact.name)
                else:
                    handlers.append((fact, handler))
            yield _Serving(self, daemon, ports, handlers).specification()
        finally:
            for name in names:
                self.commands.detach(name)
            del self.ports[daemon.name]
            self.controls.pop(daemon.name, None)

    def _open_ports(self, daemon: Daemon) -> dict[bool, Port[Request, Any]]:
        """Make the daemon's port, and one for its control lane if it declares control commands."""
        port = Port[Request, Any](self.scheduler, daemon.name, capacity=daemon.capacity)
        ports = {False: port}
        self.ports[daemon.name] = port
        if any(isinstance(fact, DeclaredCommand) and fact.control for fact, _ in declared(daemon)):
            ports[True] = Port(self.scheduler, f"{daemon.name} control", capacity=math.inf)
            self.controls[daemon.name] = ports[True]
        return ports


class _Serving:
    """The runs of one daemon, one after the other."""

    def __init__(
        self,
        bus: Bus,
        daemon: Daemon,
        ports: dict[bool, Port[Request, Any]],
        handlers: Sequence[tuple[DeclaredSubscription, Callable[..., Any]]],
    ) -> None:
        self._bus = bus
        self._daemon = daemon
        self._port = ports[False]
        self._control = ports.get(True)
        self._handlers = handlers
        self._stop = trio.Event()

    def specification(self) -> ChildSpec:
        return ChildSpec(
            name=self._daemon.name,
            run=self._run,
            level=self._daemon.level,
            restart=Restart.PERMANENT,
            stop=self._ask_to_stop,
            on_down=self._close,
            past_intensity=getattr(self._daemon, "past_intensity", PastIntensity.ESCALATE),
        )

    def _close(self, down: DaemonDown) -> None:
        self._port.close(down)
        if self._control is not None:
            self._control.close(down)

    def _ask_to_stop(self) -> None:
        self._stop.set()

    async def _run(self, ready: Callable[[], None]) -> None:
        try:
            await self._serve(ready)
        finally:
            # For the next run. Made here, since that run may be asked to stop before its first step.
            self._stop = trio.Event()

    async def _serve(self, ready: Callable[[], None]) -> None:
        with self._subscriptions() as subscriptions:
            async with self._daemon.open(self._bus), trio.open_nursery() as nursery:
                self._start_workers(nursery)
                for (_, handler), subscription in zip(self._handlers, subscriptions, strict=True):
                    nursery.start_soon(
                        self._handle_events, subscription, handler, name=f"{self._daemon.name} events"
                    )
                ready()
                await self._stop.wait()
                await self._port.drain()
                nursery.cancel_scope.cancel()

    def _start_workers(self, nursery: trio.Nursery) -> None:
        daemon = self._daemon
        for number in range(daemon.workers):
            name = daemon.name if daemon.workers == 1 else f"{daemon.name}#{number}"
            self._start_worker(nursery, self._port, name, daemon.level)
        if self._control is not None:
            self._start_worker(nursery, self._control, self._control.name, 0)

    def _start_worker(self, nursery: trio.Nursery, port: Port[Request, Any], name: str, level: int) -> None:
        context = self._bus.scheduler.context(name, level=level)
        with context:
            nursery.start_soon(self._work, port, context, name=f"{name} worker")

    async def _work(self, port: Port[Request, Any], context: SchedulingContext) -> None:
        await port.serve(run_request, context=context)

    @contextmanager
    def _subscriptions(self) -> Iterator[list[Subscription]]:
        # Subscribed before the daemon opens, so that no event is lost between what the daemon
        # reads while it opens and the first event that it handles.
        with ExitStack() as stack:
            yield [
                stack.enter_context(self._bus.events.subscribe(*fact.patterns)) for fact, _ in self._handlers
            ]

    async def _handle_events(self, subscription: Subscription, handler: Callable[..., Any]) -> None:
        async for event in subscription:
            await handler(event)
