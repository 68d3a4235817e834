"""What a database tells of itself. Synchronous; runs on a worker thread."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rtos.daemons.data.figures import CollectionFigures, StoreFigures
from rtos.daemons.data.sqlite.schema import rows, table_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    import apsw  # noqa: TID251 - the one place that knows the driver

    from rtos.daemons.data.sqlite.select import Selection


def plan(connection: apsw.Connection, *, selection: Selection) -> list[str]:
    """The steps of a statement, the outer ones less far in."""
    depths = {0: -1}
    lines = []
    for id, parent, _, detail in rows(connection, f"EXPLAIN QUERY PLAN {selection.text}", selection.values):
        depths[id] = depths.get(parent, -1) + 1
        lines.append("  " * depths[id] + detail)
    return lines


def figures(connection: apsw.Connection, *, collections: Sequence[str]) -> StoreFigures:
    """What the database holds; reads every record's length."""
    return StoreFigures(
        collections={name: _figures(connection, name) for name in collections},
        disk_bytes=_disk_bytes(Path(connection.db_filename("main"))),
        schema=connection.pragma("user_version"),
    )


def _figures(connection: apsw.Connection, collection: str) -> CollectionFigures:
    text = (
        f"SELECT count(*), coalesce(sum(octet_length(body)), 0), max(updated_at) FROM {table_of(collection)}"
    )
    count, size, updated_at = rows(connection, text)[0]
    return CollectionFigures(count=count, bytes=size, updated_at=updated_at)


def _disk_bytes(path: Path) -> int:
    files = (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))
    return sum(file.stat().st_size for file in files if file.exists())
