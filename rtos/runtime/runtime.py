"""The tree of daemons, built from a configuration.

Order matters: data before everything that keeps some, the control socket last,
so that nobody is let in before there is somebody to answer. Stopped the other
way round: the socket closes first, then what was accepted is finished, and
storage goes last.
"""

from __future__ import annotations

import gc
import sys
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING

import attrs

from rtos.bus import Bus
from rtos.daemons.activity import ActivityDaemon
from rtos.daemons.chat import ChatDaemon
from rtos.daemons.control import ControlDaemon, check_path
from rtos.daemons.data import Collection, DataDaemon, open_memory_backend, open_sqlite_backend
from rtos.daemons.health import HealthDaemon
from rtos.daemons.preferences import PreferencesDaemon
from rtos.daemons.tasks import TaskDaemon
from rtos.daemons.users import UserDaemon
from rtos.runtime.lock import RootLock
from rtos.scheduler import Strategy, open_scheduler, open_supervisor
from rtos.scheduler.diagnosis.miss_log import log_miss
from rtos.user.directory import UserDirectoryManager
from rtos.user.entities import ENTITIES
from rtos.user.preferences import PreferencesBook
from rtos.user.responder import RecallResponder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from rtos.bus import Commands, Daemon, Events
    from rtos.runtime.configuration import Configuration
    from rtos.scheduler import Scheduler, Supervisor

SHARED_DATABASE = "shared.db"
EXPORTS = "exports"
SOCKET = "control.sock"
TRACE = 65_536
"""Records of the trace: about 16 MB when it is full."""
SWITCH_INTERVAL = 0.00005
"""Seconds after which a busy thread has to let the loop go on, and the loop a thread.

Half of the scheduler's quantum. The loop lets go of the interpreter for an instant at the end of each
pass, which wakes a thread that waits for it and, where waking takes longer than that instant, makes its wait
begin anew: with an interval above the quantum a thread of the store got its turn twice a second
beside one busy task, and a durable write took 5.6 s; with this one 1.6 ms.
"""


@attrs.define
class Runtime:
    """A running system.

    Attributes:
      configuration: what it was booted with.
      scheduler: priorities, deadlines and accounts.
      bus: commands and events.
      supervisor: the daemons' lives.
    """

    configuration: Configuration
    scheduler: Scheduler
    bus: Bus
    supervisor: Supervisor

    @property
    def commands(self) -> Commands:
        """``await commands.execute(name, ...)``."""
        return self.bus.commands

    @property
    def events(self) -> Events:
        """``events.subscribe(pattern)`` and ``events.emit(name, payload)``."""
        return self.bus.events


class _Children:
    """Where daemons find the supervisor, which is made after them."""

    def __init__(self) -> None:
        self.supervisor: Supervisor | None = None


@asynccontextmanager
async def open_runtime(
    configuration: Configuration, *, on_ready: Callable[[str, float], None] | None = None
) -> AsyncIterator[Runtime]:
    """Boot a system, and stop it in order when the block ends.

    Args:
      configuration: the settings.
      on_ready: told of each daemon that has come up, with the seconds it took.

    Raises:
      ConfigurationError: the root is in use or unusable; nothing was changed.
      DaemonDown: a daemon did not start, or failed too often; all have been stopped.

    A checkpoint on entering and on leaving. Leaving, also by cancellation, lets
    every daemon finish what it has accepted, within ``drain_timeout`` each.
    """
    root = configuration.root.absolute()
    if configuration.socket:
        # It opens last, when everything else has been made already.
        check_path(root / SOCKET)
    async with AsyncExitStack() as stack:
        stack.enter_context(RootLock(root).hold())
        scheduler = await stack.enter_async_context(
            open_scheduler(
                trace=TRACE,
                watchdog=configuration.watchdog,
                on_miss=log_miss,
                ordered=configuration.ordered,
            )
        )
        bus = Bus(scheduler)
        children = _Children()
        daemons = _daemons(configuration, root, bus, children)
        attached = stack.enter_context(ExitStack())
        specs = [
            attrs.evolve(attached.enter_context(bus.attach(daemon)), shutdown=configuration.drain_timeout)
            for daemon in daemons
        ]
        supervisor = await stack.enter_async_context(
            open_supervisor(scheduler, specs, strategy=Strategy.REST_FOR_ONE, on_ready=on_ready)
        )
        children.supervisor = supervisor
        if configuration.owns_process:
            stack.enter_context(_own_process())
        yield Runtime(configuration, scheduler, bus, supervisor)


@contextmanager
def _own_process() -> Iterator[None]:
    """Set what only a process of our own may be set to, and put it back.

    A full collection of the heap that boot leaves behind takes tens of
    milliseconds, and nothing of it is garbage. One busy thread costs every
    wake-up of the loop a switch interval, 5 ms by default, and a busy loop costs
    every turn of a thread far more (`SWITCH_INTERVAL`).
    """
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_INTERVAL)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()


def _daemons(configuration: Configuration, root: Path, bus: Bus, children: _Children) -> Sequence[Daemon]:
    directories = UserDirectoryManager(root)

    def database_path(user_id: str | None) -> Path:
        return root / "data" / SHARED_DATABASE if user_id is None else directories.get_database_path(user_id)

    collections = [Collection.of(entity) for entity in ENTITIES.values()]
    open_backend = (
        open_memory_backend
        if configuration.storage == "memory"
        else partial(open_sqlite_backend, database_path)
    )
    book = PreferencesBook()
    users = UserDaemon(directories, RecallResponder(), preferences=book, embedder=configuration.embedder)
    daemons: list[Daemon] = [
        DataDaemon(collections, open_backend, exports=root / EXPORTS),
        ChatDaemon(),
        TaskDaemon(),
        users,
        HealthDaemon(bus, children, degraded=users.degraded, preferences=book.wrong),
        # Whose failure takes nobody along but who is outside.
        PreferencesDaemon(directories, book),
        ActivityDaemon(directories),
    ]
    if configuration.socket:
        daemons.append(ControlDaemon(root / SOCKET, children))
    return daemons
