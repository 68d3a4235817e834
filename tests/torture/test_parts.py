"""A part of the torture: what `make torture` does at length, and that its oracles can see."""

from __future__ import annotations

from contextlib import closing, suppress

import apsw  # noqa: TID251 - damage is done by the driver
import oracle
import points
import pytest
from crash import Lives, faithful, hasty, piecemeal
from fuzz import ROUND, check_said, fuzz
from grammar import Grammar
from many import touch_all
from process import booted

from rtos.cli.client import AnswerError, Client
from rtos.daemons.data.sqlite import connection
from tests.support.effort import short_or_full

KILLS = short_or_full(6, 20)
SEED = 20261123


@pytest.fixture(autouse=True)
def no_connection_is_left():
    yield
    assert apsw.connections() == []
    assert "faulty" not in apsw.vfs_names()


@pytest.mark.process
def test_what_was_acknowledged_outlives_a_kill(tmp_path) -> None:
    lives = Lives(tmp_path / "x.db", seed=SEED)
    lives.all(KILLS)
    assert lives.acknowledged > KILLS


@pytest.mark.process
@pytest.mark.parametrize("at", [1, 8, 30, 77, 150])
def test_what_was_acknowledged_outlives_an_end_amid_a_write(tmp_path, at) -> None:
    lives = Lives(tmp_path / "x.db", seed=SEED)
    lives.live(at=at)
    lives.live(at=at)


@pytest.mark.process
def test_the_oracle_sees_a_word_before_its_deed(tmp_path) -> None:
    lives = Lives(tmp_path / "x.db", seed=SEED, way="hasty")
    with pytest.raises(AssertionError, match="missing or other"):
        lives.all(KILLS)


@pytest.mark.process
def test_the_oracle_sees_half_a_transaction(tmp_path) -> None:
    lives = Lives(tmp_path / "x.db", seed=SEED, way="piecemeal")
    with pytest.raises(AssertionError, match="there or other"):
        lives.all(KILLS)


@pytest.mark.parametrize(("act", "lasting"), [("refuse", False), ("refuse", True), ("fill_up", False)])
def test_whatever_step_fails_what_was_said_is_so(tmp_path, act, lasting) -> None:
    stride = short_or_full(4, 1)
    steps, refused = points.fail_at_each(tmp_path, act, faithful, lasting=lasting, stride=stride)
    assert refused > steps / 4


@pytest.mark.parametrize("act", ["refuse", "fill_up"])
def test_no_error_of_the_driver_comes_through(tmp_path, act) -> None:
    foreign = []
    for at in range(1, 20, short_or_full(3, 1)):
        told = points.fail(tmp_path / f"{at}" / "x.db", at, act, faithful, lasting=True)
        foreign += told.foreign
    assert foreign == []


def test_the_oracle_sees_half_a_transaction_after_a_fault(tmp_path) -> None:
    with pytest.raises(AssertionError, match="missing or other"):
        points.fail_at_each(tmp_path, "refuse", piecemeal)


def test_whenever_the_power_goes_what_was_acknowledged_is_there(tmp_path) -> None:
    cuts = points.cuts(tmp_path / "x.db", faithful, seed=SEED)
    assert len(cuts) > 50
    points.check_cuts(cuts, tmp_path / "cuts")


def test_the_oracle_sees_what_was_never_synced(tmp_path, monkeypatch) -> None:
    def careless(opened: apsw.Connection) -> None:
        opened.execute("PRAGMA synchronous = OFF")

    monkeypatch.setattr(connection, "_pragma_durable", careless)
    cuts = points.cuts(tmp_path / "x.db", faithful, seed=SEED)
    monkeypatch.undo()
    with pytest.raises(AssertionError, match="missing or other|damaged"):
        points.check_cuts(cuts, tmp_path / "cuts")


def test_the_oracle_sees_a_word_before_its_sync(tmp_path) -> None:
    cuts = points.cuts(tmp_path / "x.db", hasty, seed=SEED)
    with pytest.raises(AssertionError, match="missing or other"):
        points.check_cuts(cuts, tmp_path / "cuts")


DAMAGE = {
    "a text less": ("DELETE FROM c_notes$text WHERE rowid = (SELECT max(row) FROM c_notes)", "other texts"),
    "a text more": ("INSERT INTO c_notes$text (rowid, text) VALUES (77, 'x')", "other texts"),
    "a hole": (
        "DROP TABLE IF EXISTS changes; CREATE TABLE changes (sequence); INSERT INTO changes VALUES (1), (3)",
        "hole",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_the_oracle_sees_damage(tmp_path, what) -> None:
    points.count(tmp_path / "x.db", faithful)
    oracle.examined(tmp_path / "x.db")
    sql, word = DAMAGE[what]
    with closing(apsw.Connection(str(tmp_path / "x.db"))) as damaging:
        for statement in sql.split(";"):
            damaging.execute(statement)
    with pytest.raises(AssertionError, match=word):
        oracle.examined(tmp_path / "x.db")


def test_the_oracle_sees_an_index_without_its_rows(tmp_path) -> None:
    points.count(tmp_path / "x.db", faithful)
    content = (tmp_path / "x.db").read_bytes()
    assert content.count(b"t-6-0") >= 3
    # In the table or in one of its indexes, which have it as well.
    (tmp_path / "x.db").write_bytes(content.replace(b"t-6-0", b"t-6-7", 1))
    with pytest.raises(AssertionError, match="the file is damaged"):
        oracle.examined(tmp_path / "x.db")


async def test_three_hundred_databases_need_what_sixty_four_do(tmp_path) -> None:
    before, most = await touch_all(tmp_path, 300)
    assert most.files <= before.files + 9
    assert most.memory <= before.memory + 32 * 2**20


async def test_the_count_sees_databases_that_are_never_closed(tmp_path) -> None:
    before, most = await touch_all(tmp_path, 300, open_databases=1000)
    assert most.files > before.files + 400


@pytest.mark.process
def test_a_system_under_hostile_requests_is_well(tmp_path) -> None:
    assert fuzz(tmp_path / "r", seed=SEED, seconds=short_or_full(1, 4)) > ROUND


@pytest.mark.process
def test_a_judgement_of_hostile_numbers_ends(tmp_path) -> None:
    with booted(tmp_path) as system, Client(tmp_path) as client:
        for period in (1e6, 1e30, 1e-9):
            hostile = {"name": "x", "level": 2, "cost": 1, "period": period}
            with suppress(AnswerError):
                client.execute("system/admit", hostile, timeout=0.5)
        system.process.terminate()
        system.process.communicate(timeout=5)


def test_a_failure_in_the_log_is_seen() -> None:
    check_said("WARNING rtos.misses: data/list missed its deadline\n")
    said = 'ERROR x\nTraceback (most recent call last):\n  File "x", line 1, in f\n    y\nKeyError: 1\n'
    with pytest.raises(AssertionError, match="KeyError: 1"):
        check_said(said)
    said = """ERROR rtos.control: a connection failed, and was closed
  + Exception Group Traceback (most recent call last):
  | ExceptionGroup: Exceptions from Trio nursery (1 sub-exception)
  +-+---------------- 1 ----------------
    | Traceback (most recent call last):
    | KeyError: 2
    +------------------------------------
"""
    with pytest.raises(AssertionError, match="KeyError: 2"):
        check_said(said)


def test_a_grammar_repeats_itself_with_its_seed() -> None:
    commands = [{"name": "x", "parameters": [{"name": "filter", "type": "dict", "required": True}]}]
    first, second, other = (
        [grammar.line() for _ in range(100)]
        for grammar in (Grammar(commands, 1), Grammar(commands, 1), Grammar(commands, 2))
    )
    assert first == second != other
