"""Commands: named requests with one reply, served by whichever daemon declares them.

No central list of names: a name is known while the daemon that declares it is
attached. Parameters are checked before delivery.
"""

from __future__ import annotations

import difflib
import math
from typing import TYPE_CHECKING, Any

import attrs

from rtos.errors import CommandFailed, ConfigurationError, KernelBug, RtosError, UnknownCommand

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from rtos.bus.declare import DeclaredCommand, Signature
    from rtos.scheduler import CallStatistics, Port


@attrs.frozen
class Route:
    """Where a command goes."""

    declared: DeclaredCommand
    signature: Signature
    body: Callable[..., Awaitable[Any]]
    port: Port
    kind: CallStatistics


@attrs.define
class Request:
    """What travels to the daemon: the route, and parameters that have been checked.

    Not frozen: one is made for each command, and that would cost twice as much.
    """

    route: Route
    parameters: dict[str, Any]


class Commands:
    """The command side of a bus."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    async def execute(self, name: str, /, *, deadline: float | None = None, **parameters: object) -> Any:
        """Send a command to the daemon that serves it and wait for the reply.

        Args:
          name: as its daemon declares it, ``data/read`` for example.
          deadline: absolute Trio time; by default that of the job that is being
            served, if any. The nearer of the two counts.
          parameters: the command's own.

        Raises:
          UnknownCommand: nobody serves it.
          CommandRejected: a parameter is missing, unknown or wrong; nothing was sent.
          MailboxFull: refused at once; the daemon never saw it.
          DeadlineMissed: not answered by the deadline; ``started`` says whether it ran.
          CommandFailed: the daemon raised; see ``__cause__``.
          RtosError: whatever else the daemon answers.

        Always a checkpoint. After cancellation a queued command never runs, and
        a running one has been cancelled.
        """
        return await self.send(name, parameters, deadline=deadline)

    async def send(
        self, name: str, parameters: Mapping[str, object], *, deadline: float | None = None, lax: bool = False
    ) -> Any:
        """``execute`` with the parameters as a mapping; ``lax`` takes text for numbers.

        See ``execute`` for the rest.
        """
        route = self.route(name)
        request = Request(route, route.signature.check(parameters, lax=lax))
        return await route.port.call(route.kind, request, deadline=math.inf if deadline is None else deadline)

    def route(self, name: str) -> Route:
        """Where ``name`` goes.

        Raises:
          UnknownCommand: nobody serves it.
        """
        route = self._routes.get(name)
        if route is None:
            near = difflib.get_close_matches(name, self._routes, n=3)
            remedy = "did you mean " + " or ".join(near) + "?" if near else "`rtos help` lists what there is"
            raise UnknownCommand(name, "no daemon serves this command", remedy=remedy)
        return route

    def is_control(self, name: str) -> bool:
        """Whether a command is served, and goes by a control lane."""
        route = self._routes.get(name)
        return route is not None and route.declared.control

    def attach(self, route: Route) -> None:
        """Make a command known.

        Raises:
          ConfigurationError: another daemon serves it already.
        """
        other = self._routes.get(route.declared.name)
        if other is not None:
            raise ConfigurationError(
                f"daemons {other.port.name!r} and {route.port.name!r} both declare {route.declared.name!r}",
                "rename one of the commands",
            )
        self._routes[route.declared.name] = route

    def detach(self, name: str) -> None:
        """Forget a command."""
        del self._routes[name]

    def __iter__(self) -> Iterator[Route]:
        """What is served now, by name."""
        return (self._routes[name] for name in sorted(self._routes))


async def run_request(request: Request) -> Any:
    """Run the body of a command, and turn what it raises into what its caller may see."""
    try:
        return await request.route.body(**request.parameters)
    except (RtosError, KernelBug):
        raise
    except Exception as error:
        name = request.route.declared.name
        raise CommandFailed(name, f"{type(error).__name__}: {error}") from error
