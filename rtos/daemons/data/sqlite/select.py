"""A query as one statement, and what of it is left to the pure semantics. Pure.

Law: rows that the statement lets through are too many or just right, never too
few, and they are limited by SQL only where nothing is left to do with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.daemons.data.query import Compare, Negated
from rtos.daemons.data.sqlite.compile import compile_order, compile_where
from rtos.daemons.data.sqlite.place import compile_after
from rtos.daemons.data.sqlite.schema import table_of

if TYPE_CHECKING:
    from collections.abc import Hashable

    from rtos.daemons.data.query import Node, Query

SELECT: Final = "id, version, created_at, updated_at, body"
"""The columns of a whole record."""


@attrs.frozen(kw_only=True)
class Selection:
    """One statement.

    Attributes:
      text, values: the SQL, and the values of its question marks.
      filtered: it lets through only what satisfies the condition.
      placed: it lets through only what stands behind the place that is asked for.
      ordered: its rows are in order.
    """

    text: str
    values: tuple[Any, ...]
    filtered: bool
    placed: bool
    ordered: bool

    @property
    def exact(self) -> bool:
        """Nothing is left to the pure semantics."""
        return not self.left

    @property
    def left(self) -> tuple[str, ...]:
        """What is left to them."""
        said = {"filter": self.filtered, "cursor": self.placed, "sort": self.ordered}
        return tuple(name for name, done in said.items() if not done)


def select(columns: str, collection: str, query: Query, indexes: tuple[str, ...] = ()) -> Selection:
    """The statement for a query.

    Args:
      columns: what is read of each row, if the selection is exact; else all of ``SELECT``.
      collection: its table is read.
      query: what is asked.
      indexes: fields that have an index.
    """
    where, filtered = compile_where(query.where, indexes)
    after = None if query.after is None else compile_after(query.after, query.sort)
    order = compile_order(query.sort)
    placed = query.after is None or after is not None
    exact = filtered and placed and order is not None
    text = f"SELECT {columns if exact else SELECT} FROM {table_of(collection)}"
    values: tuple[Any, ...] = ()
    conditions = [part for part in (where, after) if part is not None]
    if conditions:
        text += " WHERE " + " AND ".join(part.text for part in conditions)
        values = tuple(value for part in conditions for value in part.values)
    if order is not None:
        text, values = f"{text} ORDER BY {order.text}", values + order.values
    if exact:
        text, values = f"{text} LIMIT ?", (*values, query.limit)
    return Selection(text=text, values=values, filtered=filtered, placed=placed, ordered=order is not None)


def outline_of(what: str, collection: str, query: Query) -> Hashable:
    """What queries have in common that take about as long: everything but their values."""
    return what, collection, _outline(query.where), query.sort, query.after is None


def _outline(node: Node) -> Hashable:
    if isinstance(node, Compare):
        return node.path, node.operator
    if isinstance(node, Negated):
        return "$not", _outline(node.part)
    return type(node).__name__, *map(_outline, node.parts)
