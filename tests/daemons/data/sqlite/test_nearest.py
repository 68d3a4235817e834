"""What is near, with the extension and without: the same, and by an index alone."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import attrs
import pytest

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.sqlite import nearest as module
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.nearest import nearest
from rtos.daemons.data.sqlite.writes import apply_each
from rtos.daemons.data.vectors import CANDIDATES, Near
from rtos.daemons.data.vectors import nearest as by_the_law
from rtos.user.embedding import LetterEmbedder, embeddings
from tests.support.effort import short_or_full

NOTES = Collection("notes", near=("signature", "vector"))
WORDS = ("quay", "harbour", "ledger", "bread", "dough", "knot", "bowline", "ship", "rope", "tide", "moon")


@pytest.fixture
def connection(tmp_path):
    opened = open_connection(tmp_path / "notes.db", [NOTES], create=True)
    yield opened
    opened.close()


@pytest.fixture(params=["extension", "python"])
def compared_by(request, monkeypatch) -> str:
    if request.param == "python":
        monkeypatch.setattr(module, "_extension", lambda: None)
    else:
        assert module._extension() is not None, "the tests' own environment has it"
    return request.param


def _near(*texts: str) -> list[Near]:
    return [Near(one.signature, one.vector) for one in embeddings(LetterEmbedder(), texts)]


def _fill(connection, number: int) -> list[dict]:
    chance = Random(number)
    texts = [" ".join(chance.choices(WORDS, k=8)) + f" {place}" for place in range(number)]
    made = [
        Operation(op="create", collection="notes", id=f"{place:05}", data=attrs.asdict(vector))
        for place, vector in enumerate(embeddings(LetterEmbedder(), texts))
    ]
    changes = apply_each(connection, [made], RecordClock(), {})[0].unwrap()
    return [change.record for change in changes]


def test_the_nearest_of_few_are_exactly_those_by_the_law(connection, compared_by) -> None:
    records = _fill(connection, CANDIDATES)
    [wanted] = _near("the ships at the quay")
    exact = by_the_law(records, NOTES.near, wanted, 20)
    found = nearest(connection, "notes", NOTES.near, wanted, 20)
    assert [one["distance"] for one in found] == pytest.approx([one["distance"] for one in exact], abs=1e-6)
    assert {one["id"] for one in found[:10]} == {one["id"] for one in exact[:10]}
    # Asked for again, by what is prepared already.
    assert nearest(connection, "notes", NOTES.near, wanted, 20) == found


def test_of_many_nearly_all_of_the_nearest_are_found(connection, compared_by) -> None:
    records = _fill(connection, 4 * CANDIDATES)
    wanted = _near(*(" ".join(pair) for pair in pairwise(WORDS)))[:: short_or_full(3, 1)]
    hits = 0
    for one in wanted:
        exact = sorted(records, key=lambda record: module.distance(record["vector"], one.vector))[:10]
        found = nearest(connection, "notes", NOTES.near, one, 10)
        hits += len({each["id"] for each in exact} & {each["id"] for each in found})
    assert hits >= 0.9 * 10 * len(wanted)


def test_only_the_index_is_scanned(connection, compared_by) -> None:
    _fill(connection, 10)
    [wanted] = _near("ship")
    told: list[str] = []
    connection.exec_trace = lambda _, sql, bindings: told.append(sql) or True
    nearest(connection, "notes", NOTES.near, wanted, 5)
    connection.exec_trace = None
    [query] = [sql for sql in told if sql.startswith("SELECT id")]
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {query}", (None,) * 7)]
    assert any("USING COVERING INDEX c_notes$near" in step for step in plan) or any(
        "USING INDEX c_notes$near" in step for step in plan
    ), plan


def test_records_without_a_vector_take_no_room_in_the_index(connection) -> None:
    made = [Operation(op="create", collection="notes", id=f"{place}", data={}) for place in range(50)]
    apply_each(connection, [made], RecordClock(), {})[0].unwrap()
    counted = list(
        connection.execute(
            'SELECT count(*) FROM c_notes INDEXED BY "c_notes$near" WHERE'
            " json_extract(body, '$.\"signature\"') IS NOT NULL"
        )
    )
    assert counted == [(0,)]
