"""DataDaemon: the only way to data.

Checks what is asked before anything happens, hands it to the backend, and tells
of every change after it is durable, in the order of the commits to a database.
Its commands stand in groups, a file each.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, ClassVar

import trio

from rtos.daemons.data.changes import Changes
from rtos.daemons.data.clock import RecordClock
from rtos.daemons.data.collection import KV
from rtos.daemons.data.files import sweep
from rtos.daemons.data.inspecting import Inspecting
from rtos.daemons.data.open_queries import open_queries
from rtos.daemons.data.paging import Paging
from rtos.daemons.data.plain import copied
from rtos.daemons.data.query import Query
from rtos.daemons.data.reading import Reading
from rtos.daemons.data.requests import Requests
from rtos.daemons.data.safety import Safety
from rtos.daemons.data.transfer import Transfer
from rtos.daemons.data.upkeep import Upkeep
from rtos.daemons.data.writing import Writing
from rtos.scheduler import PastIntensity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.daemons.data.backend import Backend, OnChange
    from rtos.daemons.data.collection import Collection
    from rtos.daemons.data.operation import Change

    OpenBackend = Callable[
        [Sequence[Collection], RecordClock, OnChange], AbstractAsyncContextManager[Backend]
    ]


class DataDaemon(Changes, Inspecting, Paging, Reading, Safety, Transfer, Upkeep, Writing):
    """Serves ``data/*``.

    Args:
      collections: what may be stored, beside keys and values.
      open_backend: opens the store for these collections.
      exports: the folder for what is exported and imported; without it neither is done.
    """

    name: ClassVar[str] = "data"
    level: ClassVar[int] = 2
    workers: ClassVar[int] = 256
    capacity: ClassVar[int] = 4096
    # Nobody else is of any use without storage.
    past_intensity: ClassVar[PastIntensity] = PastIntensity.ESCALATE

    def __init__(
        self, collections: Sequence[Collection], open_backend: OpenBackend, *, exports: Path | None = None
    ) -> None:
        self._exports = exports
        self._requests = Requests(collections)
        self._open_backend = open_backend

    @asynccontextmanager
    async def open(self, bus: Bus) -> AsyncIterator[None]:
        """Ready when the store is open and its shared database can be read."""
        self._bus = bus
        # One look is worth no thread; what may take long is.
        if self._exports is not None and self._exports.is_dir():
            await trio.to_thread.run_sync(sweep, self._exports)
        collections = tuple(self._requests.collections.values())
        async with self._open_backend(collections, RecordClock(), self._tell) as self._backend:
            self._backend.on_degraded = self._tell_degraded
            await self._backend.find(None, KV, Query(limit=1))
            with open_queries(bus.scheduler) as self._queries:
                yield

    def _tell(self, user_id: str | None, changes: Sequence[Change]) -> None:
        for change in changes:
            if change.record is not None:
                # A copy: whoever asked for the write may do with its reply what it likes.
                payload = {
                    "record": copied(change.record),
                    "user_id": user_id,
                    "sequence": change.sequence,
                }
                self._bus.events.emit(f"data:{change.collection}:{change.verb}", payload)

    def _tell_degraded(self, user_id: str | None, reason: str) -> None:
        self._bus.events.emit("data:degraded", {"user_id": user_id, "reason": reason})
