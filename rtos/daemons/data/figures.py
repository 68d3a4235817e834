"""What a store tells of itself: how it would answer a query, and what it holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Mapping


@attrs.frozen(kw_only=True)
class Explanation:
    """How a backend answers a query.

    Attributes:
      sql: the statement, with a question mark for each value; ``None`` where there is none.
      plan: the steps that the store takes, a line each.
      exact: the statement alone gives the answer; else the pure semantics finish it.
      left: what is left to the pure semantics: ``filter``, ``cursor``, ``sort``.
    """

    sql: str | None
    plan: tuple[str, ...]
    exact: bool
    left: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class CollectionFigures:
    """What one collection holds.

    Attributes:
      count: records.
      bytes: of the records' own fields, as JSON.
      updated_at: when one of those that are there was last written; ``None`` for no records.
    """

    count: int = 0
    bytes: int = 0
    updated_at: str | None = None


@attrs.frozen(kw_only=True)
class StoreFigures:
    """What one database holds.

    Attributes:
      collections: by name; all that were declared.
      disk_bytes: of the file, with what is logged beside it; 0 where there is none.
      schema: the version of its layout; ``None`` where there is no database.
    """

    collections: Mapping[str, CollectionFigures]
    disk_bytes: int = 0
    schema: int | None = None
