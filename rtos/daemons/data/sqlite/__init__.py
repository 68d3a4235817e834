"""The SQLite backend: the only place that knows the driver."""

from rtos.daemons.data.sqlite.backend import SqliteBackend, open_sqlite_backend

__all__ = ["SqliteBackend", "open_sqlite_backend"]
