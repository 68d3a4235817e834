"""A place in an order as SQL: which rows stand strictly behind it. Pure.

Law: what is compiled is true for exactly the records that ``is_after`` tells, and
never NULL; what cannot be said exactly is not compiled, and is left to it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rtos.daemons.data.query import SortKey
from rtos.daemons.data.sqlite.compile import COLUMNS, KIND, VALUE, Sql, bindable, json_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.daemons.data.query import Position, Rank

_NUMBER, _TEXT = 3, 4
_KIND_OF: Final = {0: 0, 1: 1, 3: 4, 4: 5, 5: 6, 6: 7}
"""The kinds as ``KIND`` numbers them, where false and true are two of their own."""


def compile_after(position: Position, sort: Sequence[SortKey]) -> Sql | None:
    """What holds for the rows behind a place, or ``None`` if SQL cannot say it exactly."""
    last = sort[-1].descending if sort else False
    terms: list[_Term] = []
    for key, rank in zip((*sort, SortKey("id", last)), (*position.ranks, (_TEXT, position.id)), strict=True):
        found = _terms(key, rank)
        if found is None:
            return None
        terms.extend(found)
        if key.path == "id":
            break  # No two records have one, so nothing behind it decides.
    return _behind(terms)


_Term = tuple[Sql, str, Sql]
"""What is compared, ``<`` or ``>``, and what with."""


def _terms(key: SortKey, rank: Rank) -> list[_Term] | None:
    """What a key compares by, the first one first; none of it is NULL where it is looked at."""
    kind, value = rank
    sign = "<" if key.descending else ">"
    if kind in (_NUMBER, _TEXT) and not bindable(value):
        return None
    if key.path in COLUMNS:
        return [(Sql(key.path), sign, Sql("?", (value,)))] if kind == COLUMNS[key.path] else None
    path = json_path(key.path)
    if path is None:
        return None
    number = 2 + int(value) if kind == 2 else _KIND_OF[kind]
    terms = [(Sql(KIND, (path,)), sign, Sql("?", (number,)))]
    if kind in (_NUMBER, _TEXT):
        terms.append((Sql(VALUE, (path, path)), sign, Sql("?", (value,))))
    return terms


def _behind(terms: Sequence[_Term]) -> Sql:
    signs = {sign for _, sign, _ in terms}
    if len(signs) == 1 and all(what.text in COLUMNS for what, _, _ in terms):
        # As one row of values, by which an index over these columns is entered.
        columns, marks = ", ".join(what.text for what, _, _ in terms), ", ".join("?" * len(terms))
        values = tuple(value for _, _, other in terms for value in other.values)
        return Sql(f"({columns}) {signs.pop()} ({marks})", values)
    what, sign, other = terms[0]
    strictly = Sql(f"{what.text} {sign} {other.text}", (*what.values, *other.values))
    if len(terms) == 1:
        return strictly
    rest = _behind(terms[1:])
    # Said twice, since an index is entered by a range and not by a choice.
    return Sql(
        f"({what.text} {sign}= {other.text} AND ({strictly.text} OR {rest.text}))",
        (*strictly.values, *strictly.values, *rest.values),
    )
