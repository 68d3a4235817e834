"""HealthDaemon: says how the system is, also while others are busy.

Serves at the most urgent level and touches no storage, so it answers as long as
the loop runs at all.
"""

from __future__ import annotations

import os
import platform
import resource
import sys
from contextlib import asynccontextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol

import attrs
import trio

from rtos.bus import Bus, command
from rtos.errors import CommandRejected
from rtos.scheduler import PastIntensity
from rtos.scheduler.calls.inspect import inspect
from rtos.scheduler.diagnosis.perfetto import chrome_trace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.scheduler import Supervisor
    from rtos.scheduler.supervision.child import ChildState

TRACE_LIMIT: Final = 50_000
"""The most records in one trace."""
INSPECT_LIMIT: Final = 1000
"""The most calls in each list of ``daemon/inspect``."""
_STATM = Path("/proc/self/statm")


class HasSupervisor(Protocol):
    """Where the supervisor can be found once it is there."""

    supervisor: Supervisor | None


class HealthDaemon:
    """Serves ``ping``, ``system/*``, and what looks at daemons, by its control lane.

    Args:
      bus: whose ports are told of.
      children: whose states are told of.
      degraded: the users who cannot be served, and why.
      preferences: the users whose file of preferences is not in force, and why.
    """

    name: ClassVar[str] = "health"
    level: ClassVar[int] = 0
    workers: ClassVar[int] = 1
    capacity: ClassVar[int] = 256
    past_intensity: ClassVar[PastIntensity] = PastIntensity.PARK

    def __init__(
        self,
        bus: Bus,
        children: HasSupervisor,
        *,
        degraded: Callable[[], dict[str, str]] = dict,
        preferences: Callable[[], dict[str, str]] = dict,
    ) -> None:
        self._bus = bus
        self._preferences = preferences
        self._degraded = degraded
        self._children = children
        self._began = 0.0

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready at once."""
        self._began = bus.scheduler.now()
        await trio.lowlevel.checkpoint()
        yield

    @command("ping", control=True)
    async def ping(self) -> dict[str, Any]:
        """Say that the system is there, and what it is."""
        await trio.lowlevel.checkpoint()
        daemons = self._daemons()
        return {
            "name": "rtos",
            "version": version("rtos"),
            "python": platform.python_version(),
            "trio": trio.__version__,
            "platform": sys.platform,
            "pid": os.getpid(),
            "uptime": round(self._bus.scheduler.now() - self._began, 3),
            "memory": _resident_bytes(),
            "daemons": len(daemons),
            "commands": sum(1 for _ in self._bus.commands),
            "ready": bool(daemons) and all(daemon.ready for daemon in daemons),
            "parked": [daemon.name for daemon in daemons if daemon.parked],
            "degraded": sorted(self._degraded()),
        }

    @command("system/state", control=True)
    async def state(self) -> dict[str, Any]:
        """Show every daemon with its mailbox, and the scheduler's accounts."""
        await trio.lowlevel.checkpoint()
        statistics = self._bus.scheduler.statistics()
        return {
            "daemons": [self._daemon(child) for child in self._daemons()],
            "degraded": self._degraded(),
            "preferences": self._preferences(),
            "passes": statistics.passes,
            "sleeps": statistics.sleeps,
            "timers": statistics.timers,
            "cpu": resource.getrusage(resource.RUSAGE_SELF).ru_utime
            + resource.getrusage(resource.RUSAGE_SELF).ru_stime,
            "contexts": [attrs.asdict(account) for account in statistics.contexts],
        }

    @command("system/commands")
    async def commands(self, *, name: str | None = None) -> dict[str, Any]:
        """List the commands with their parameters, or one of them."""
        await trio.lowlevel.checkpoint()
        routes = [self._bus.commands.route(name)] if name is not None else list(self._bus.commands)
        items = [
            {
                "name": route.declared.name,
                "summary": route.signature.summary,
                "parameters": [attrs.asdict(parameter) for parameter in route.signature.parameters],
            }
            for route in routes
        ]
        return {"items": items, "count": len(items)}

    @command("system/trace")
    async def trace(self, *, limit: int = TRACE_LIMIT) -> dict[str, Any]:
        """Show what has just happened, as a trace that Perfetto opens."""
        if not 1 <= limit <= TRACE_LIMIT:
            raise CommandRejected(
                "system/trace", f"limit is {limit!r}", parameter="limit", remedy=f"use 1 to {TRACE_LIMIT}"
            )
        scheduler = self._bus.scheduler
        records, reports = scheduler.trace.later(limit=limit), scheduler.misses
        # Drawing takes a third of a second, which would be everybody's.
        return await trio.to_thread.run_sync(lambda: chrome_trace(records(), reports=reports))

    @command("system/misses")
    async def misses(self) -> dict[str, Any]:
        """Explain the latest calls that missed their deadline."""
        await trio.lowlevel.checkpoint()
        items = [
            {"command": report.missed.kind, "report": str(report)} for report in self._bus.scheduler.misses
        ]
        return {"items": items, "count": len(items)}

    @command("daemon/suspend", control=True)
    async def suspend(self, *, daemon: str) -> bool:
        """Let a daemon serve nothing new until it is resumed; calls wait, and their deadlines run."""
        await trio.lowlevel.checkpoint()
        if daemon == self.name:
            raise CommandRejected(
                "daemon/suspend",
                "health could not be asked to resume",
                parameter="daemon",
                remedy="name another",
            )
        self._port("daemon/suspend", daemon).suspend()
        return True

    @command("daemon/resume", control=True)
    async def resume(self, *, daemon: str) -> bool:
        """Let a suspended daemon serve again."""
        await trio.lowlevel.checkpoint()
        self._port("daemon/resume", daemon).resume()
        return True

    @command("daemon/inspect", control=True)
    async def inspect(self, *, daemon: str, limit: int = 10) -> dict[str, Any]:
        """Show a daemon's mailbox: what is being served, what comes next, what came last."""
        await trio.lowlevel.checkpoint()
        if not 0 <= limit <= INSPECT_LIMIT:
            raise CommandRejected(
                "daemon/inspect", f"limit is {limit!r}", parameter="limit", remedy=f"use 0 to {INSPECT_LIMIT}"
            )
        return attrs.asdict(inspect(self._port("daemon/inspect", daemon), limit=limit))

    def _port(self, asked: str, daemon: str) -> Any:
        if daemon not in self._bus.ports:
            remedy = "there are " + ", ".join(self._bus.ports)
            raise CommandRejected(asked, f"there is no daemon {daemon!r}", parameter="daemon", remedy=remedy)
        return self._bus.ports[daemon]

    def _daemons(self) -> tuple[ChildState, ...]:
        supervisor = self._children.supervisor
        return () if supervisor is None else supervisor.children()

    def _daemon(self, child: ChildState) -> dict[str, Any]:
        mailbox = attrs.asdict(self._bus.ports[child.name].queue.statistics)
        return {
            "name": child.name,
            "level": child.level,
            "ready": child.ready,
            "parked": child.parked,
            "reason": child.reason,
            "restarts": child.restarts,
            "start": child.ready_after,
            "mailbox": mailbox,
        }


def _resident_bytes() -> int:
    """Memory in use; where the platform does not tell, the most that ever was."""
    try:
        return int(_STATM.read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
