"""What a store has to be able to do. The daemon knows nothing else of it.

Law: a backend tells of the changes of every transaction, once it is durable and
before its writer goes on, in the order of the commits to a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rtos.daemons.data.figures import Explanation, StoreFigures
    from rtos.daemons.data.operation import Change, ChangePage, Operation, Record
    from rtos.daemons.data.query import Node, Query
    from rtos.daemons.data.vectors import Near

    OnChange = Callable[[str | None, Sequence[Change]], None]
    OnDegraded = Callable[[str | None, str], None]


class Backend(Protocol):
    """Databases of records: one per user, and a shared one (``None``).

    All methods are checkpoints. A read that is cancelled has no effect. A write
    that is cancelled has either been committed as a whole or not at all.

    Attributes:
      on_degraded: told, once, of each database that was found damaged and set
        aside, and why; nothing is done with it until it is restored or reset.
    """

    on_degraded: OnDegraded

    async def apply(self, user_id: str | None, operations: Sequence[Operation]) -> list[Change]:
        """Do all operations in one transaction, durable when this returns, or none.

        Raises:
          StoreError: ``Conflict`` and ``NotFound`` among others; nothing was changed.
        """
        ...

    async def get(self, user_id: str | None, collection: str, id: str) -> Record | None:
        """One record, or ``None``. Never makes a database."""
        ...

    async def find(self, user_id: str | None, collection: str, query: Query) -> list[Record]:
        """The records that a query asks for, in its order. Never makes a database."""
        ...

    async def search(self, user_id: str | None, collection: str, text: str, limit: int) -> list[Record]:
        """The records that fit a text best, each with ``score``; higher is better."""
        ...

    async def nearest(self, user_id: str | None, collection: str, wanted: Near, limit: int) -> list[Record]:
        """The records whose vectors are nearest, each with ``distance``; see `rtos.daemons.data.vectors`."""
        ...

    async def count(self, user_id: str | None, collection: str, where: Node) -> int:
        """How many records satisfy a condition. Never makes a database."""
        ...

    async def find_ids(self, user_id: str | None, collection: str, query: Query) -> list[str]:
        """Of the records that a query asks for only their ids, in its order. Never makes a database."""
        ...

    async def get_many(self, user_id: str | None, collection: str, ids: Sequence[str]) -> list[Record]:
        """Those of the records that there are, in the order of the ids. Never makes a database."""
        ...

    async def explain(self, user_id: str | None, collection: str, query: Query) -> Explanation:
        """How a query would be answered; does not answer it. Never makes a database."""
        ...

    async def figures(self, user_id: str | None) -> StoreFigures:
        """What a database holds. Never makes one."""
        ...

    async def backup(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """Copy a database, as it is at one moment, while it is used; its name, path and bytes.

        Durable when this returns. Only the newest few are kept, and one of a name. A
        cancellation leaves none.

        Raises:
          NotFound: there is no database.
        """
        ...

    async def backups(self, user_id: str | None) -> list[dict[str, Any]]:
        """The copies that there are, the newest first."""
        ...

    async def restore(self, user_id: str | None, name: str | None) -> dict[str, Any]:
        """Put a copy (``None``: the newest) in the place of a database, which is set aside.

        Returns:
          The copy, and as ``replaced`` the new name of what was there.

        Raises:
          NotFound: there is no such copy.
          StoreCorrupt: the copy is damaged; nothing was changed.
        """
        ...

    async def reset(self, user_id: str | None) -> dict[str, Any]:
        """Set a database aside and start an empty one; its new name as ``replaced``."""
        ...

    async def size(self, user_id: str | None, collection: str) -> int:
        """How many records a collection has."""
        ...

    async def changes(self, user_id: str | None, after: int, limit: int) -> ChangePage:
        """The changes after a number, in the order of their commits. Never makes a database.

        Every change is in the log exactly if it is in the database, also after a crash;
        their numbers have no hole.
        """
        ...

    async def vacuum(self, user_id: str | None) -> tuple[int, int]:
        """Give back to the disk what a database does not need; its bytes before and after."""
        ...
