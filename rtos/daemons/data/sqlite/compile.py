"""Conditions and orders as SQL. Pure: text and values in, text and values out.

Law: a compiled condition is true for exactly the records that match it; for the
others it is false or NULL. What cannot be said exactly is not compiled at all,
and is left to the pure semantics. Values and paths are always bound; only names
of columns and of declared indexes, which are checked words, are written out.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.daemons.data.query import Compare, Either, Every, Negated, Node, kind

if TYPE_CHECKING:
    from collections.abc import Collection as Names
    from collections.abc import Iterable, Sequence

    from rtos.daemons.data.query import SortKey

COLUMNS: Final = {"id": 4, "version": 3, "created_at": 4, "updated_at": 4}
"""What is a column of its own, and the kind of its values."""
MOST_TERMS: Final = 200
"""The most conditions in one statement; what goes beyond them is left to the pure semantics.

SQLite refuses an expression that is 1000 deep, or that has 32766 values.
"""
KIND: Final = (
    "CASE json_type(body, ?) WHEN 'null' THEN 1 WHEN 'false' THEN 2 WHEN 'true' THEN 3"
    " WHEN 'integer' THEN 4 WHEN 'real' THEN 4 WHEN 'text' THEN 5 WHEN 'array' THEN 6"
    " WHEN 'object' THEN 7 ELSE 0 END"
)
"""The kind of the value at a path of the body, as ``query`` orders kinds."""
VALUE: Final = "CASE WHEN json_type(body, ?) IN ('integer', 'real', 'text') THEN json_extract(body, ?) END"
"""The value at a path of the body, if it has an order."""
_SIGNS: Final = {"$eq": "=", "$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
_TYPES: Final = {2: "('true', 'false')", 3: "('integer', 'real')", 4: "('text')"}


@attrs.frozen
class Sql:
    """A piece of SQL with the values of its question marks, in their order."""

    text: str
    values: tuple[Any, ...] = ()


NEVER: Final = Sql("0")
ALWAYS: Final = Sql("1")


def compile_where(node: Node, indexes: Names[str] = ()) -> tuple[Sql | None, bool]:
    """As much of a condition as can be said in SQL, and whether that is all of it."""
    parts = node.parts if isinstance(node, Every) else (node,)
    said: list[Sql] = []
    room = MOST_TERMS
    for part in parts:
        # Counted over all of it, since what is nested adds up.
        terms = _terms(part)
        compiled = _compile(part, indexes) if terms <= room else None
        if compiled is not None:
            said.append(compiled)
            room -= terms
    return _joined(said, "AND") if said else None, len(said) == len(parts)


def _terms(node: Node) -> int:
    if isinstance(node, Compare):
        return 1
    if isinstance(node, Negated):
        return 1 + _terms(node.part)
    return 1 + sum(map(_terms, node.parts))


def compile_order(sort: Sequence[SortKey]) -> Sql | None:
    """An order in SQL, or ``None`` if it can only be made by the pure semantics."""
    last = sort[-1].descending if sort else False
    terms: list[Sql] = []
    for key in sort:
        if key.path in COLUMNS:
            terms.append(Sql(key.path + _direction(descending=key.descending)))
        elif (path := json_path(key.path)) is not None:
            terms.extend(_order_terms(path, _direction(descending=key.descending)))
        else:
            return None
    if not any(key.path == "id" for key in sort):
        terms.append(Sql("id" + _direction(descending=last)))
    return Sql(", ".join(term.text for term in terms), _values(terms))


def json_path(path: str) -> str | None:
    """A dotted path as SQLite writes it; ``None`` if a part may be the place in a list."""
    parts = path.split(".")
    if any(part.isdigit() for part in parts):
        return None
    return "$" + "".join(f'."{part}"' for part in parts)


def _direction(*, descending: bool) -> str:
    return " DESC" if descending else ""


def _order_terms(path: str, direction: str) -> Iterable[Sql]:
    """First the kind of the value, as ``query`` orders kinds; then the value, where it has an order."""
    yield Sql(KIND + direction, (path,))
    yield Sql(VALUE + direction, (path, path))


def _compile(node: Node, indexes: Names[str]) -> Sql | None:
    if isinstance(node, Compare):
        return _compile_compare(node, indexes)
    if isinstance(node, Negated):
        part = _compile(node.part, indexes)
        return None if part is None else _negated(part)
    parts = [_compile(part, indexes) for part in node.parts]
    said = [part for part in parts if part is not None]
    if len(said) < len(parts):
        return None
    return _joined(said, "OR" if isinstance(node, Either) else "AND")


def _compile_compare(node: Compare, indexes: Names[str]) -> Sql | None:
    if node.operator in ("$ne", "$nin"):
        positive = Compare(node.path, {"$ne": "$eq", "$nin": "$in"}[node.operator], node.value)
        part = _compile_compare(positive, indexes)
        return None if part is None else _negated(part)
    place = _Place.of(node.path, indexes)
    if place is None:
        return None
    if node.operator in _SIGNS:
        return place.compared(node.operator, node.value)
    if node.operator == "$in":
        return _one_of(place, node.value)
    if node.operator == "$exists":
        return place.present() if node.value else _negated(place.present())
    return None


def _one_of(place: _Place, wanted: Sequence[Any]) -> Sql | None:
    """One term per kind: however long a list is, the expression stays flat."""
    parts: list[Sql | None] = []
    for each in (3, 4):
        values = [value for value in wanted if kind(value) == each]
        if values:
            parts.append(place.among(each, values))
    constants = dict.fromkeys(value for value in wanted if value is None or isinstance(value, bool))
    parts.extend(place.compared("$eq", value) for value in constants)
    said = [part for part in parts if part is not None]
    if len(said) < len(parts) or any(kind(value) > 4 for value in wanted):
        return None
    return _joined(said, "OR")


@attrs.frozen
class _Place:
    """Where a value stands: in a column of its own, or in the body."""

    value: Sql
    type: Sql | None
    kind: int = 0

    @staticmethod
    def of(path: str, indexes: Names[str]) -> _Place | None:
        if path in COLUMNS:
            return _Place(Sql(path), None, COLUMNS[path])
        bound = json_path(path)
        if bound is None:
            return None
        # An index is found only by the very expression that it was made of.
        value = Sql(indexed(path)) if path in indexes else Sql("json_extract(body, ?)", (bound,))
        return _Place(value, Sql("json_type(body, ?)", (bound,)))

    def present(self) -> Sql:
        return ALWAYS if self.type is None else Sql(f"{self.type.text} IS NOT NULL", self.type.values)

    def compared(self, operator: str, operand: Any) -> Sql | None:
        given = kind(operand)
        if given > 4:
            return None if operator == "$eq" else NEVER
        if given in (3, 4) and not bindable(operand):
            return None
        if given == 1:
            return self._is_null() if operator == "$eq" else NEVER
        value = int(operand) if given == 2 else operand
        test = Sql(f"{self.value.text} {_SIGNS[operator]} ?", (*self.value.values, value))
        return self._of_kind(given, test)

    def among(self, given: int, values: Sequence[Any]) -> Sql | None:
        if not all(map(bindable, values)):
            return None
        text = f"{self.value.text} IN (SELECT value FROM json_each(?))"
        return self._of_kind(given, Sql(text, (*self.value.values, json.dumps(values))))

    def _is_null(self) -> Sql:
        return NEVER if self.type is None else Sql(f"{self.type.text} = 'null'", self.type.values)

    def _of_kind(self, given: int, test: Sql) -> Sql:
        """The test, where the value is of the kind that it is for."""
        if self.type is None:
            return test if self.kind == given else NEVER
        return Sql(
            f"({test.text} AND {self.type.text} IN {_TYPES[given]})", (*test.values, *self.type.values)
        )


def indexed(path: str) -> str:
    """The expression that the index of a declared field is made of."""
    return f"json_extract(body, '$.\"{path}\"')"


def bindable(value: Any) -> bool:
    """Whether a number or a text means the same to SQLite as it does here."""
    if isinstance(value, str):
        # Text with a NUL ends there for some of SQLite, and half a surrogate pair is no UTF-8.
        return "\0" not in value and not any("\ud800" <= char <= "\udfff" for char in value)
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and -(2**63) <= value < 2**63


def _negated(part: Sql) -> Sql:
    # NULL is no match either, and NOT NULL would be NULL again.
    return Sql(f"({part.text}) IS NOT TRUE", part.values)


def _joined(parts: Sequence[Sql], word: str) -> Sql:
    if not parts:
        return ALWAYS if word == "AND" else NEVER
    return Sql("(" + f" {word} ".join(part.text for part in parts) + ")", _values(parts))


def _values(parts: Iterable[Sql]) -> tuple[Any, ...]:
    return tuple(value for part in parts for value in part.values)
