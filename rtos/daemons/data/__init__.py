"""Storage: one daemon, behind which a backend keeps the records."""

from rtos.daemons.data.backend import Backend
from rtos.daemons.data.clock import RecordClock
from rtos.daemons.data.collection import Collection
from rtos.daemons.data.daemon import DataDaemon
from rtos.daemons.data.memory import MemoryBackend, open_memory_backend
from rtos.daemons.data.sqlite import open_sqlite_backend

__all__ = [
    "Backend",
    "Collection",
    "DataDaemon",
    "MemoryBackend",
    "RecordClock",
    "open_memory_backend",
    "open_sqlite_backend",
]
