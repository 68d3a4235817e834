"""Tables: made once, only looked at afterwards, and mended when a declaration has changed."""

from __future__ import annotations

from contextlib import closing

import apsw  # noqa: TID251 - looks at a file without what opens it
import pytest

from rtos.daemons.data import Collection, RecordClock
from rtos.daemons.data.operation import Operation
from rtos.daemons.data.sqlite import connection as opening
from rtos.daemons.data.sqlite import records, schema, searching
from rtos.daemons.data.sqlite.connection import open_connection
from rtos.daemons.data.sqlite.migrations import MIGRATIONS, SCHEMA
from rtos.daemons.data.sqlite.schema import rows
from rtos.daemons.data.sqlite.writes import apply_each


def fill(path, collections, *ids) -> None:
    search = {collection.name: collection.search for collection in collections}
    operations = [
        Operation(op="create", collection="notes", id=id, data={"title": f"title {id}", "text": "harbour"})
        for id in ids
    ]
    with closing(open_connection(path, collections, create=True)) as connection:
        apply_each(connection, [operations], RecordClock(), search)[0].unwrap()


def found(path, collections, text) -> list[str]:
    with closing(open_connection(path, collections, create=False)) as connection:
        return sorted(record["id"] for record in searching.search(connection, "notes", text, 10))


def test_an_opening_that_lacks_nothing_writes_nothing(tmp_path) -> None:
    collections = (Collection("notes", search=("title",), indexes=("title",)),)
    path = tmp_path / "x.db"
    fill(path, collections, "a")
    # Somebody else holds the only right to write.
    with closing(open_connection(path, collections, create=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert found(path, collections, "title") == ["a"]
        other.execute("ROLLBACK")


def test_text_that_was_there_before_the_index_is_found(tmp_path) -> None:
    path = tmp_path / "x.db"
    fill(path, (Collection("notes"),), "a")
    fill(path, (Collection("notes", search=("title",)),), "b")
    assert found(path, (Collection("notes", search=("title",)),), "title") == ["a", "b"]
    # Other fields: the index is made anew, with what is there.
    wider = (Collection("notes", search=("title", "text")),)
    fill(path, wider, "c")
    assert found(path, wider, "harbour") == ["a", "b", "c"]


def test_an_index_that_was_given_up_and_comes_back_is_made_of_what_is_there_then(tmp_path) -> None:
    path, without, searched = (
        tmp_path / "x.db",
        (Collection("notes"),),
        (Collection("notes", search=("text",)),),
    )
    fill(path, searched, "a", "b")
    with closing(open_connection(path, without, create=True)) as connection:
        changes = [
            Operation(op="update", collection="notes", id="a", data={"text": "hills"}),
            Operation(op="delete", collection="notes", id="b"),
        ]
        apply_each(connection, [changes], RecordClock(), {})[0].unwrap()
    assert found(path, searched, "harbour") == []
    assert found(path, searched, "hills") == ["a"]
    # The new one gets the number that "b" had; its text must not stand in the way.
    fill(path, searched, "c")
    assert found(path, searched, "harbour") == ["c"]


def test_a_field_may_be_a_word_of_sql(tmp_path) -> None:
    path, words = tmp_path / "x.db", ("order", "group", "to", "select", "values")
    fill(path, (Collection("notes"),), "before")
    wordy = (Collection("notes", search=words, indexes=words),)
    with closing(open_connection(path, wordy, create=True)) as connection:
        operation = Operation(op="create", collection="notes", id="a", data={"order": "harbour"})
        apply_each(connection, [[operation]], RecordClock(), {"notes": words})[0].unwrap()
    assert found(path, wordy, "harbour") == ["a"]


def test_collections_that_come_later_get_their_tables(tmp_path) -> None:
    path = tmp_path / "x.db"
    fill(path, (Collection("notes"),), "a")
    more = (Collection("notes"), Collection("later", search=("x",), indexes=("y",)))
    with closing(open_connection(path, more, create=False)) as connection:
        assert records.get(connection, "later", "a") is None
        assert connection.pragma("user_version") == SCHEMA


def test_a_step_that_fails_leaves_the_file_as_it_was_and_comes_again(tmp_path, monkeypatch) -> None:
    path, collections = tmp_path / "x.db", (Collection("notes"),)
    fill(path, collections, "a")

    def half(connection) -> None:
        connection.execute("CREATE TABLE halves (n INTEGER)")
        raise RuntimeError("in the middle")

    def whole(connection) -> None:
        connection.execute("CREATE TABLE halves (n INTEGER)")

    monkeypatch.setattr(schema, "SCHEMA", SCHEMA + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, half))
    later = (*collections, Collection("later"))
    with pytest.raises(RuntimeError, match="in the middle"):
        open_connection(path, later, create=False)
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.pragma("user_version") == SCHEMA
        names = {name for (name,) in rows(connection, "SELECT name FROM sqlite_schema")}
        assert not names & {"halves", "c_later"}
    monkeypatch.setattr(schema, "MIGRATIONS", (*MIGRATIONS, whole))
    # Once: a second time there is a table of that name.
    for _ in range(2):
        with closing(open_connection(path, later, create=False)) as connection:
            assert connection.pragma("user_version") == SCHEMA + 1
            assert rows(connection, "SELECT count(*) FROM halves") == [(0,)]
            assert records.get(connection, "notes", "a") is not None
        monkeypatch.setattr(opening, "SCHEMA", SCHEMA + 1)


def test_a_file_of_no_version_gets_all_steps(tmp_path) -> None:
    path = tmp_path / "x.db"
    with closing(open_connection(path, (Collection("notes"),), create=True)) as connection:
        assert connection.pragma("user_version") == len(MIGRATIONS)
        assert rows(connection, "SELECT updated_at FROM newest") == [("",)]
        assert rows(connection, "SELECT count(*) FROM changes") == [(0,)]


def test_a_file_from_before_the_newest_time_was_kept_learns_it_from_its_records(tmp_path) -> None:
    path, collections = tmp_path / "x.db", (Collection("notes", search=("text",)), Collection("none"))
    fill(path, collections, "a", "b")
    with closing(apsw.Connection(str(path))) as connection:
        ((latest,),) = rows(connection, "SELECT max(updated_at) FROM c_notes")
        for sql in ("DROP TABLE newest", "DROP TABLE changes", "PRAGMA user_version = 0"):
            connection.execute(sql)
    with closing(open_connection(path, collections, create=False)) as connection:
        assert records.newest(connection) == latest


def test_no_two_collections_meet_in_a_name(tmp_path) -> None:
    names = ("notes", "notes_text", "notes_created", "notes_by_a", "notes_text_data")
    collections = tuple(Collection(name, search=("text",), indexes=("a",)) for name in names)
    with closing(open_connection(tmp_path / "x.db", collections, create=True)) as connection:
        tables = rows(connection, "SELECT count(*) FROM sqlite_schema WHERE name LIKE 'c\\_%' ESCAPE '\\'")
        assert tables[0][0] > len(names)
        for name in names:
            assert records.get(connection, name, "a") is None


def test_the_latest_timestamp_outlives_its_record(tmp_path) -> None:
    path, collections = tmp_path / "x.db", (Collection("notes"),)
    delete = Operation(op="delete", collection="notes", id="a")
    with closing(open_connection(path, collections, create=True)) as connection:
        assert records.newest(connection) is None
        fill(path, collections, "a")
        clock = RecordClock()
        with connection:
            apply_each(connection, [[delete]], clock, {})[0].unwrap()
        assert records.get(connection, "notes", "a") is None
        assert records.newest(connection) < clock.next()
        assert records.newest(connection) is not None


@pytest.mark.parametrize("create", [True, False])
def test_the_pragmas_are_as_they_say(tmp_path, create) -> None:
    path = tmp_path / "x.db"
    fill(path, (Collection("notes"),), "a")
    with closing(open_connection(path, (Collection("notes"),), create=create)) as connection:
        assert connection.pragma("journal_mode") == "wal"
        assert connection.pragma("synchronous") == 2
        assert connection.pragma("busy_timeout") == 2000
