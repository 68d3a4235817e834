"""Migrations: how a database of an earlier layout becomes one of today's, a numbered step at a time.

Law: a step is never changed once a release has it; what is new is a new step at the end.
A file says in ``user_version`` how many it has had. All that it lacks are done in one
transaction, so it is killed as it was or wakes up as it should be.

The tables and indexes of collections are no steps: they follow from what is declared
(``schema.py``), and are compared with it at each opening.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    import apsw  # noqa: TID251 - the one place that knows the driver


def _newest(connection: apsw.Connection) -> None:
    """The latest timestamp that was ever given, beside the records: the latest may be deleted."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS newest (one INTEGER PRIMARY KEY CHECK (one = 1),"
        " updated_at TEXT NOT NULL) STRICT"
    )
    names = connection.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name GLOB 'c_*' AND name NOT GLOB '*$*'"
    ).fetchall()
    found = [row[0] for (name,) in names for row in connection.execute(f"SELECT max(updated_at) FROM {name}")]
    latest = max((timestamp for timestamp in found if timestamp), default="")
    connection.execute("INSERT OR IGNORE INTO newest (one, updated_at) VALUES (1, ?)", (latest,))


def make_log(connection: apsw.Connection) -> None:
    """The log of changes. What was there before is not in it; its last entry has the latest timestamp."""
    connection.execute(
        "CREATE TABLE IF NOT EXISTS changes (sequence INTEGER PRIMARY KEY, collection TEXT NOT NULL,"
        " verb TEXT NOT NULL, at TEXT NOT NULL, record TEXT NOT NULL) STRICT"
    )


MIGRATIONS: Final[tuple[Callable[[apsw.Connection], None], ...]] = (_newest, make_log)
"""The first makes layout 1 of an empty file, and so on."""
SCHEMA: Final = len(MIGRATIONS)
"""Version of today's layout; a file that says more is left untouched."""
