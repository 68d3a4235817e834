"""What must be true of a database, whatever became of the process that wrote to it.

A task's steps are fixed beforehand, so what it leaves follows from how many of them
were done. A step is one transaction: two records made, a third written over, and at
times two deleted; or the one record alone.
"""

from __future__ import annotations

from collections.abc import Collection as Some
from collections.abc import Iterable
from contextlib import closing
from itertools import chain, combinations
from pathlib import Path
from typing import Any

import msgspec

from rtos.daemons.data import Collection
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.errors import StoreError

NOTES = (Collection("notes", search=("text",)),)
State = dict[str, dict[str, Any]]


def step(task: str, number: int) -> list[Operation]:
    """The transaction with this number."""
    own = _operation("store", f"{task}-own", {"text": f"own {number}", "number": number})
    if number % 3 == 2:
        return [own]
    operations = [
        _operation("create", f"{task}-{number}-{half}", {"text": f"half {half} of {number} by {task}"})
        for half in (0, 1)
    ]
    if number % 2:
        operations += [_operation("delete", f"{task}-{number - 3}-{half}", {}) for half in (0, 1)]
    return [*operations, own]


def _operation(op: Any, id: str, data: dict[str, Any]) -> Operation:
    return Operation(op=op, collection="notes", id=id, data=data)


def state(task: str, numbers: Iterable[int]) -> State:
    """What is there when these steps were done, and no others."""
    found: State = {}
    for number in numbers:
        for operation in step(task, number):
            if operation.op == "delete":
                found.pop(operation.id, None)
            else:
                found[operation.id] = operation.data
    return found


def examined(path: Path) -> State:
    """All records of a database that is well.

    Raises:
      AssertionError: it is not: damaged, a text index that does not agree, a hole in its changes.
    """
    try:
        connection = open_connection(path, NOTES, create=False)
    except StoreError as error:
        raise AssertionError(f"the file is damaged: {error}") from error
    if connection is None:
        return {}
    with closing(connection):
        assert list(connection.execute("PRAGMA integrity_check")) == [("ok",)], "the file is damaged"
        # Raises if the index does not agree with itself.
        connection.execute("INSERT INTO c_notes$text (c_notes$text) VALUES ('integrity-check')")
        indexed = list(connection.execute("SELECT rowid, text FROM c_notes$text ORDER BY rowid"))
        found = list(connection.execute("SELECT row, id, body FROM c_notes ORDER BY row"))
        records = {id: msgspec.json.decode(body) for _, id, body in found}
        texts = [(row, records[id]["text"]) for row, id, _ in found]
        assert indexed == texts, "the text index has other texts than the records"
        _check_changes(connection)
    return records


def _check_changes(connection: Any) -> None:
    if not list(connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'changes'")):
        return
    numbers = [number for (number,) in connection.execute("SELECT sequence FROM changes ORDER BY sequence")]
    if numbers:
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))), "the changes have a hole"


def check(found: State, task: str, acknowledged: Some[int], unknown: Some[int] = ()) -> None:
    """Every acknowledged step is there; of the unknown ones each, as a whole or not at all.

    Raises:
      AssertionError: they are not.
    """
    subsets = chain.from_iterable(combinations(sorted(unknown), size) for size in range(len(unknown) + 1))
    for subset in subsets:
        if found == state(task, sorted({*acknowledged, *subset})):
            return
    wanted = state(task, sorted(acknowledged))
    missing = {id: data for id, data in wanted.items() if found.get(id) != data}
    more = {id: data for id, data in found.items() if wanted.get(id) != data}
    raise AssertionError(f"{task}: missing or other: {missing}; there or other: {more}; unknown: {unknown}")
