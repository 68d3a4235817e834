"""What a filter means. Defined once, here; every backend has to agree.

Pure. A filter is a mapping of fields to values or to operators, all of which
must hold. Fields may be dotted paths. A missing field equals nothing, not even
``null``; values of different kinds (number, text, truth, list, mapping) never
compare, rather than fail; truth is not a number. Numbers are plain ones: finite,
and whole ones of 64 bits.

Order: missing, ``null``, false, true, numbers, text by code points, lists,
mappings. Two lists, or two mappings, are equal in order, and so ``id`` decides,
in the direction of the last key. A position is a place in that order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import attrs

from rtos.daemons.data.pattern_cost import MOST_STEPS, cost_of
from rtos.daemons.data.plain import MAX_NESTING
from rtos.daemons.data.regex import may_explode
from rtos.errors import CommandRejected, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MISSING: Final = object()
MAX_DEPTH: Final = 16
MAX_PATTERN: Final = 256
MAX_FIELD: Final = 500
MAX_SORT: Final = 16
_FIELD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_\-]*(\.[A-Za-z0-9_\-]+)*")


@attrs.frozen
class Compare:
    """One condition on one field."""

    path: str
    operator: str
    value: Any


@attrs.frozen
class Every:
    """All of the parts hold; with none, everything matches."""

    parts: tuple[Node, ...]


@attrs.frozen
class Either:
    """At least one of the parts holds."""

    parts: tuple[Node, ...]


@attrs.frozen
class Negated:
    """The part does not hold."""

    part: Node


Node = Compare | Every | Either | Negated
Rank = tuple[int, Any]


@attrs.frozen
class SortKey:
    """One field to sort by."""

    path: str
    descending: bool = False


@attrs.frozen
class Position:
    """A place in an order: where a record stood, whether it is still there or not.

    Attributes:
      ranks: of each key of the sort, the kind of the record's value, and the
        value if it is truth, a number or text; otherwise 0.
      id: of the record.
    """

    ranks: tuple[Rank, ...]
    id: str


@attrs.frozen
class Query:
    """What to list.

    Attributes:
      where: the condition.
      sort: keys, the first one first; ``id`` always decides between equals.
      limit: most records.
      after: only records that stand strictly behind this place in that order.
    """

    where: Node = Every(())
    sort: tuple[SortKey, ...] = ()
    limit: int = 100
    after: Position | None = None


# Parsing.


def parse_filter(command: str, given: Mapping[str, Any] | None, depth: int = 0) -> Node:
    """The condition that a filter stands for.

    Raises:
      CommandRejected: it is malformed; ``parameter`` is ``filter``.
    """
    if depth > MAX_DEPTH:
        raise _malformed(command, "filter", f"it is nested more than {MAX_DEPTH} deep", "make it flatter")
    parts: list[Node] = []
    for name, value in (given or {}).items():
        if not isinstance(name, str):
            raise _malformed(command, "filter", f"{name!r} is no field", "fields are text")
        if name in ("$and", "$or"):
            if not isinstance(value, list) or not all(isinstance(part, dict) for part in value):
                raise _malformed(
                    command, "filter", f"{name} needs a list of filters", 'as in {"$or": [{...}]}'
                )
            nodes = tuple(parse_filter(command, part, depth + 1) for part in value)
            parts.append(Every(nodes) if name == "$and" else Either(nodes))
        elif name == "$not":
            if not isinstance(value, dict):
                raise _malformed(command, "filter", "$not needs a filter", 'as in {"$not": {...}}')
            parts.append(Negated(parse_filter(command, value, depth + 1)))
        else:
            parts.extend(_conditions(command, checked_field(command, "filter", name), value))
    return parts[0] if len(parts) == 1 else all_of(*parts)


def all_of(*nodes: Node) -> Every:
    """All of the conditions, side by side, so that a backend can do what it can of each.

    Patterns come last: they take the longest, and a text that they may not look at
    is of no matter where another condition does not hold.
    """
    parts = [part for node in nodes for part in (node.parts if isinstance(node, Every) else (node,))]
    return Every(tuple(sorted(parts, key=_has_pattern)))


def _has_pattern(node: Node) -> bool:
    if isinstance(node, Compare):
        return node.operator == "$regex"
    return any(map(_has_pattern, (node.part,) if isinstance(node, Negated) else node.parts))


def _conditions(command: str, path: str, value: Any) -> Iterable[Compare]:
    if not (isinstance(value, dict) and any(str(key).startswith("$") for key in value)):
        return [Compare(path, "$eq", _operand(command, value))]
    for operator, operand in value.items():
        if operator not in OPERATORS:
            known = ", ".join(OPERATORS)
            raise _malformed(command, "filter", f"there is no operator {operator!r}", f"use {known}")
        _check_operand(command, operator, operand)
    return [Compare(path, operator, _operand(command, operand)) for operator, operand in value.items()]


def _operand(command: str, value: Any, depth: int = 0) -> Any:
    """A copy of a value of the kinds that records hold, so that it can be compared with them."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if depth > MAX_NESTING:
        raise _malformed(command, "filter", f"a value is nested more than {MAX_NESTING} deep", "no record is")
    if isinstance(value, (list, tuple)):
        return [_operand(command, item, depth + 1) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _operand(command, item, depth + 1) for key, item in value.items()}
    raise _malformed(
        command, "filter", f"{value!r} is a {type(value).__name__}, which no record holds", "use JSON data"
    )


def _check_operand(command: str, operator: str, operand: Any) -> None:
    if operator in ("$in", "$nin") and not isinstance(operand, (list, tuple)):
        raise _malformed(command, "filter", f"{operator} needs a list, got {operand!r}", "put it in brackets")
    if operator == "$exists" and not isinstance(operand, bool):
        raise _malformed(
            command, "filter", f"$exists needs true or false, got {operand!r}", "use one of them"
        )
    if operator == "$regex":
        if not isinstance(operand, str) or len(operand) > MAX_PATTERN:
            raise _malformed(
                command, "filter", f"$regex needs at most {MAX_PATTERN} characters", "shorten it"
            )
        _check_pattern(command, operand)


def _check_pattern(command: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _malformed(command, "filter", f"{pattern!r} is no pattern ({error})", "mend it") from None
    # Matching holds the interpreter's lock: a pattern that takes exponential
    # time would stop every task of the process, and no deadline could end it.
    if may_explode(pattern):
        raise _malformed(
            command,
            "filter",
            f"{pattern!r} repeats a group that repeats or chooses, refers back, or leaves too much open,"
            " and may never end",
            "repeat single characters or classes only, and few of them",
        )


def parse_sort(command: str, given: Sequence[str] | None) -> tuple[SortKey, ...]:
    """Sort keys from ``["field", "-field"]``; by creation if there are none.

    Raises:
      CommandRejected: one is no field; ``parameter`` is ``sort``.
    """
    keys = given or ("created_at", "id")
    if len(keys) > MAX_SORT:
        raise _malformed(command, "sort", f"there are {len(keys)} keys", f"use at most {MAX_SORT}")
    return tuple(
        SortKey(checked_field(command, "sort", key.removeprefix("-")), key.startswith("-")) for key in keys
    )


def checked_field(command: str, parameter: str, name: str) -> str:
    """A dotted path.

    Raises:
      CommandRejected: it is none, or too long.
    """
    if not _FIELD.fullmatch(name):
        remedy = "fields are words, joined by dots; operators begin with '$' and stand behind a field"
        raise _malformed(command, parameter, f"{name!r} is no field", remedy)
    if len(name) > MAX_FIELD:
        raise _malformed(
            command, parameter, f"a field has {len(name)} characters", f"use at most {MAX_FIELD}"
        )
    return name


def _malformed(command: str, parameter: str, reason: str, remedy: str) -> CommandRejected:
    return CommandRejected(command, reason, parameter=parameter, remedy=remedy)


# Meaning.


def matches(node: Node, record: Mapping[str, Any]) -> bool:
    """Whether a record satisfies a condition.

    Raises:
      StoreError: to look through one of its texts for a pattern could take too long.
    """
    if isinstance(node, Compare):
        return OPERATORS[node.operator](value_at(record, node.path), node.value)
    if isinstance(node, Every):
        return all(matches(part, record) for part in node.parts)
    if isinstance(node, Either):
        return any(matches(part, record) for part in node.parts)
    return not matches(node.part, record)


def value_at(record: Mapping[str, Any], path: str) -> Any:
    """The value at a dotted path, or ``MISSING``. A number selects from a list."""
    value: Any = record
    for name in path.split("."):
        if isinstance(value, dict) and name in value:
            value = value[name]
        elif isinstance(value, list) and name.isdigit() and int(name) < len(value):
            value = value[int(name)]
        else:
            return MISSING
    return value


def kind(value: Any) -> int:
    """The kind of a value, in the order in which kinds sort."""
    if value is MISSING:
        return 0
    if value is None:
        return 1
    if isinstance(value, bool):
        return 2
    if isinstance(value, (int, float)):
        return 3
    if isinstance(value, str):
        return 4
    return 5 if isinstance(value, list) else 6


def same(left: Any, right: Any) -> bool:
    """Equal, and of one kind, all the way down."""
    if kind(left) != kind(right) or left is MISSING:
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return bool(left == right)


def _ordered(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(value: Any, operand: Any) -> bool:
        return kind(value) == kind(operand) and kind(value) in (2, 3, 4) and test(value, operand)

    return compare


def _contains(value: Any, operand: Any) -> bool:
    if isinstance(value, str) and isinstance(operand, str):
        return operand.casefold() in value.casefold()
    return isinstance(value, list) and any(same(item, operand) for item in value)


def _regex(value: Any, operand: Any) -> bool:
    if not isinstance(value, str):
        return False
    if cost_of(operand).steps(value) > MOST_STEPS:
        raise StoreError(
            f"match {operand!r}",
            f"a text of {len(value)} characters could take it too long",
            "begin the pattern with '^' or with what every match begins with, repeat less, or use $contains",
        )
    return re.search(operand, value) is not None


OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "$eq": same,
    "$ne": lambda value, operand: not same(value, operand),
    "$gt": _ordered(lambda value, operand: value > operand),
    "$gte": _ordered(lambda value, operand: value >= operand),
    "$lt": _ordered(lambda value, operand: value < operand),
    "$lte": _ordered(lambda value, operand: value <= operand),
    "$in": lambda value, operand: any(same(value, item) for item in operand),
    "$nin": lambda value, operand: not any(same(value, item) for item in operand),
    "$exists": lambda value, operand: (value is not MISSING) is operand,
    "$contains": _contains,
    "$regex": _regex,
}
"""What each operator means; ``value`` may be ``MISSING``."""


def sorted_records(records: Iterable[dict[str, Any]], sort: Sequence[SortKey]) -> list[dict[str, Any]]:
    """Records in order; ``id`` decides between equals, in the direction of the last key."""
    result = list(records)
    last = sort[-1].descending if sort else False
    for key in reversed((*sort, SortKey("id", last))):
        result.sort(key=lambda record: _rank(value_at(record, key.path)), reverse=key.descending)
    return result


def position_of(record: Mapping[str, Any], sort: Sequence[SortKey]) -> Position:
    """Where a record stands in an order."""
    return Position(tuple(_rank(value_at(record, key.path)) for key in sort), record["id"])


def is_after(position: Position | None, record: Mapping[str, Any], sort: Sequence[SortKey]) -> bool:
    """Whether a record stands strictly behind a place in an order; behind no place, all do."""
    if position is None:
        return True
    for key, rank in zip(sort, position.ranks, strict=True):
        here = _rank(value_at(record, key.path))
        if here != rank:
            return (here < rank) is key.descending
        if key.path == "id":
            # No other record has this one, so what is sorted by behind it decides nothing.
            return False
    descending = sort[-1].descending if sort else False
    id: str = record["id"]
    return id < position.id if descending else id > position.id


def _rank(value: Any) -> Rank:
    rank = kind(value)
    return (rank, value if rank in (2, 3, 4) else 0)
