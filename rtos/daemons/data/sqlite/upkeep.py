"""Tidying up a database. Synchronous; runs on a worker thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.daemons.data.sqlite.schema import rows

if TYPE_CHECKING:
    import apsw  # noqa: TID251 - the one place that knows the driver


def vacuum(connection: apsw.Connection) -> tuple[int, int]:
    """Write the file anew without its free pages; its bytes before and after.

    Needs room for a second copy while it works. What is interrupted has changed nothing.
    """
    before = _bytes(connection)
    connection.execute("VACUUM")
    # The log holds all of the new file now; a reader may keep it from being emptied.
    rows(connection, "PRAGMA wal_checkpoint(TRUNCATE)")
    rows(connection, "PRAGMA optimize")
    return before, _bytes(connection)


def _bytes(connection: apsw.Connection) -> int:
    ((pages,),), ((size,),) = rows(connection, "PRAGMA page_count"), rows(connection, "PRAGMA page_size")
    return int(pages * size)
