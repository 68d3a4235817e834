"""A data daemon on a bus of its own, for tests."""

from __future__ import annotations

from contextlib import asynccontextmanager

from rtos.bus import Bus
from rtos.daemons.data import DataDaemon
from rtos.scheduler import open_scheduler, open_supervisor


@asynccontextmanager
async def running(collections, open_backend, **options):
    async with open_scheduler() as scheduler:
        bus = Bus(scheduler)
        with bus.attach(DataDaemon(collections, open_backend, **options)) as specification:
            async with open_supervisor(scheduler, [specification]):
                yield bus
