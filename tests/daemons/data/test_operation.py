"""What an operation does to a record: a table of what is there and what is asked."""

from __future__ import annotations

import pytest

from rtos.daemons.data.operation import Change, Operation, apply
from rtos.errors import CommandRejected, Conflict, NotFound

OLD = {"id": "a", "version": 3, "created_at": "t1", "updated_at": "t2", "x": 1, "y": [2]}


def operation(op, expected_version=None, check=None, **data) -> Operation:
    return Operation(
        op=op, collection="notes", id="a", data=data, expected_version=expected_version, check=check
    )


NEW = {"id": "a", "version": 1, "created_at": "now", "updated_at": "now"}
NEXT = {"id": "a", "version": 4, "created_at": "t1", "updated_at": "now"}

TABLE = [
    ("create", None, None, "created", NEW | {"x": 9}),
    ("store", None, None, "created", NEW | {"x": 9}),
    ("store", OLD, None, "updated", NEXT | {"x": 9}),  # replaces all of it
    ("store", OLD, 3, "updated", NEXT | {"x": 9}),
    ("update", OLD, None, "updated", NEXT | {"x": 9, "y": [2]}),  # merges the top level
    ("update", OLD, 3, "updated", NEXT | {"x": 9, "y": [2]}),
    ("delete", OLD, None, "deleted", OLD),  # as it was
    ("delete", OLD, 3, "deleted", OLD),
    ("delete", None, None, "deleted", None),
    ("delete", None, 3, "deleted", None),  # it is gone, as was wanted
]


@pytest.mark.parametrize(("op", "before", "expected", "verb", "record"), TABLE)
def test_what_is_done(op, before, expected, verb, record) -> None:
    kept = None if before is None else {**before}
    assert apply(operation(op, expected, x=9), before, "now") == Change("notes", verb, record)
    assert before == kept


@pytest.mark.parametrize(
    ("op", "before", "expected", "error", "text"),
    [
        ("create", OLD, None, Conflict, "data/create: 'notes/a' exists already; update it"),
        ("update", None, None, NotFound, "data/update: there is no 'notes/a'; create it first"),
        ("update", None, 3, NotFound, "there is no 'notes/a'"),
        ("update", OLD, 2, Conflict, "'notes/a' is at version 3, not 2; read it again"),
        ("update", OLD, 0, Conflict, "is at version 3, not 0"),
        ("delete", OLD, 4, Conflict, "data/delete: 'notes/a' is at version 3, not 4"),
        ("store", OLD, 4, Conflict, "is at version 3, not 4"),
    ],
)
def test_what_is_refused(op, before, expected, error, text) -> None:
    with pytest.raises(error, match=text):
        apply(operation(op, expected, x=9), before, "now")


def test_the_check_sees_the_whole_of_what_will_be_stored_and_may_change_or_refuse_it() -> None:
    seen = []

    def check(data):
        seen.append(data)
        return {**data, "filled": "in"}

    change = apply(operation("update", check=check, x=9), OLD, "now")
    assert seen == [{"x": 9, "y": [2]}]
    assert change.record == NEXT | {"x": 9, "y": [2], "filled": "in"}

    def refuse(_data):
        raise CommandRejected("data/update", "no", parameter="data")

    with pytest.raises(CommandRejected, match="data/update"):
        apply(operation("update", check=refuse), OLD, "now")
