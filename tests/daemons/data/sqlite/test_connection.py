"""Files that are not what they should be: real ones, and none of them is harmed."""

from __future__ import annotations

import os
import stat
from contextlib import closing

import apsw  # noqa: TID251 - makes files that are wrong in just one way
import pytest

from rtos.daemons.data import Collection
from rtos.daemons.data.sqlite.connection import open_connection, reported
from rtos.errors import SchemaTooNew, StoreBusy, StoreCorrupt, StoreError, StoreFull

NOTES = (Collection("notes", search=("text",)),)


def test_reading_makes_no_file_and_no_folder(tmp_path) -> None:
    assert open_connection(tmp_path / "a" / "b" / "x.db", NOTES, create=False) is None
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_is_no_database_yet(tmp_path) -> None:
    path = tmp_path / "x.db"
    path.touch()
    assert open_connection(path, NOTES, create=False) is None
    assert path.stat().st_size == 0
    open_connection(path, NOTES, create=True).close()
    assert path.stat().st_size > 0


def test_what_is_made_is_for_its_owner_alone(tmp_path) -> None:
    path = tmp_path / "users" / "joel" / "x.db"
    with closing(open_connection(path, NOTES, create=True)):
        for each in path.parent.iterdir():
            assert stat.S_IMODE(each.stat().st_mode) == 0o600, each
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("create", [True, False])
@pytest.mark.parametrize("content", [b"no database at all " * 100, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_file_that_is_no_database_is_told_and_kept(tmp_path, content, create) -> None:
    path = tmp_path / "x.db"
    path.write_bytes(content)
    with pytest.raises(StoreCorrupt, match="x.db.*restore a backup") as caught:
        open_connection(path, NOTES, create=create)
    assert str(path) in caught.value.operation
    assert path.read_bytes() == content
    assert [each.name for each in tmp_path.iterdir()] == ["x.db"]


@pytest.mark.parametrize("create", [True, False])
def test_a_newer_schema_is_told_and_left_untouched(tmp_path, create) -> None:
    path = tmp_path / "x.db"
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE future (x)")
        connection.pragma("user_version", 99)
    content = path.read_bytes()
    with pytest.raises(SchemaTooNew, match="schema 99.*update the program"):
        open_connection(path, NOTES, create=create)
    assert path.read_bytes() == content


def test_a_file_that_another_program_holds_is_told(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("rtos.daemons.data.sqlite.connection.BUSY_MS", 1)
    path = tmp_path / "x.db"
    with closing(apsw.Connection(str(path))) as other:
        other.execute("CREATE TABLE t (x)")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreBusy, match="try again"):
            open_connection(path, NOTES, create=True)


def test_a_folder_in_the_way_is_told(tmp_path) -> None:
    (tmp_path / "x.db").mkdir()
    with pytest.raises(StoreError, match="x.db"):
        open_connection(tmp_path / "x.db", NOTES, create=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="file"):
        open_connection(tmp_path / "file" / "x.db", NOTES, create=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_told(tmp_path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match="permissions"):
        open_connection(tmp_path / "x.db", NOTES, create=True)


@pytest.mark.parametrize(
    ("error", "kind", "remedy"),
    [
        (apsw.FullError("full"), StoreFull, "make room"),
        (apsw.IOError("input/output"), StoreError, "look at the disk"),
        (apsw.CorruptError("malformed"), StoreCorrupt, "restore a backup"),
        (apsw.LockedError("locked"), StoreBusy, "try again"),
        (apsw.ReadOnlyError("readonly"), StoreError, "mend the permissions"),
        (PermissionError(13, "Permission denied"), StoreError, "mend the permissions"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_fault_says_what_can_be_done(tmp_path, error, kind, remedy) -> None:
    with pytest.raises(kind, match=remedy) as caught, reported("write", tmp_path / "x.db"):
        raise error
    assert type(caught.value) is kind
    assert caught.value.__cause__ is error
