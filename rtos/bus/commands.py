"""Commands: named requests with one reply, routed to the daemon that declares them.

There is no central list of names: a command exists while the daemon that declares it is
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
    """The daemon's handler and port for one command."""

    declared: DeclaredCommand
    signature: Signature
    handler: Callable[..., Awaitable[Any]]
    port: Port[Request, Any]
    statistics: CallStatistics


@attrs.define
class Request:
    """What a port delivers to a worker: the route and the checked parameters.

    Not frozen: one is made for each command, and freezing would double its cost.
    """

    route: Route
    parameters: dict[str, Any]


class Commands:
    """The commands of a bus: finds the daemon that serves a command, and sends it the request."""

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}

    async def execute(self, name: str, /, *, deadline: float | None = None, **parameters: object) -> Any:
        """Send a command to the daemon that serves it and wait for the reply.

        Args:
          name: the name that the daemon declares, for example ``data/read``.
          deadline: absolute Trio time; none by default. If the caller serves a command
            itself, the nearer of both deadlines counts.
          parameters: the parameters of the command.

        Raises:
          UnknownCommand: no daemon serves it.
          CommandRejected: a parameter is missing, unknown or of the wrong type; nothing was sent.
          MailboxFull: too many commands wait; the daemon never saw this one.
          DeadlineMissed: no reply by the deadline; ``started`` says whether the command had begun.
          CommandFailed: the daemon raised an error that is not an ``RtosError``; see ``__cause__``.
          RtosError: any other error that the daemon raised, unchanged.

        A checkpoint, except that a command to an idle daemon that replies within the quantum is
        served within the caller's step. After cancellation a waiting command never runs, and
        a running one has been cancelled.
        """
        return await self.send(name, parameters, deadline=deadline)

    async def send(
        self, name: str, parameters: Mapping[str, object], *, deadline: float | None = None, lax: bool = False
    ) -> Any:
        """Like ``execute``, with the parameters as a mapping.

        With ``lax``, numbers and other simple types may be given as text.
        """
        route = self.route(name)
        request = Request(route, route.signature.check(parameters, lax=lax))
        return await route.port.call(
            request, deadline=math.inf if deadline is None else deadline, statistics=route.statistics
        )

    def route(self, name: str) -> Route:
        """The route of the command ``name``.

        Raises:
          UnknownCommand: no daemon serves it; similar names are suggested.
        """
        route = self._routes.get(name)
        if route is None:
            near = difflib.get_close_matches(name, self._routes, n=3)
            remedy = "did you mean " + " or ".join(near) + "?" if near else "`rtos help` lists the commands"
            raise UnknownCommand(name, "no daemon serves this command", remedy=remedy)
        return route

    def is_control(self, name: str) -> bool:
        """Whether a daemon serves ``name`` on its control lane."""
        route = self._routes.get(name)
        return route is not None and route.declared.control

    def attach(self, route: Route) -> None:
        """Add a command.

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
        """Remove a command."""
        del self._routes[name]

    def __iter__(self) -> Iterator[Route]:
        """The routes of all commands, sorted by name."""
        return (self._routes[name] for name in sorted(self._routes))


async def run_request(request: Request) -> Any:
    """Call the handler of a command; errors that are not ``RtosError`` become ``CommandFailed``."""
    try:
        return await request.route.handler(**request.parameters)
    except (RtosError, KernelBug):
        raise
    except Exception as error:
        name = request.route.declared.name
        raise CommandFailed(name, f"{type(error).__name__}: {error}") from error
