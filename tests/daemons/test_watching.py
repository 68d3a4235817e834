"""What the kernel tells of folders; real folders, and no waiting but for what it tells."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import trio

from rtos.daemons import watching
from rtos.daemons.watching import FolderWatches, Happened, open_folder_watches

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


@pytest.fixture
def watches() -> Iterator[FolderWatches]:
    with open_folder_watches() as opened:
        assert opened is not None
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "config"
    made.mkdir()
    return made


def _descriptors() -> set[str]:
    """What this process has open; the folder that is being listed is always the next free one."""
    return {path.name for path in Path("/dev/fd").iterdir()}


async def _told(watches: FolderWatches) -> Happened:
    with trio.fail_after(10):
        return await watches.wait()


async def test_a_file_that_was_written_is_told(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    (folder / "a.json").write_text("1")
    assert await _told(watches) == Happened(names=frozenset({("ann", "a.json")}))


async def test_a_file_that_is_being_written_is_told_at_its_end(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    with (folder / "half.json").open("w") as file:
        file.write("half")
        file.flush()
        (folder / "whole.json").write_text("1")
        assert await _told(watches) == Happened(names=frozenset({("ann", "whole.json")}))
    assert await _told(watches) == Happened(names=frozenset({("ann", "half.json")}))


async def test_a_file_that_was_replaced_by_a_rename_is_told(watches: FolderWatches, folder: Path) -> None:
    (folder / "a.json").write_text("1")
    (folder.parent / "draft").write_text("2")
    watches.add("ann", folder)
    (folder.parent / "draft").replace(folder / "a.json")
    assert await _told(watches) == Happened(names=frozenset({("ann", "a.json")}))


async def test_a_file_that_was_deleted_is_told(watches: FolderWatches, folder: Path) -> None:
    (folder / "a.json").write_text("1")
    watches.add("ann", folder)
    (folder / "a.json").unlink()
    assert await _told(watches) == Happened(names=frozenset({("ann", "a.json")}))


async def test_one_descriptor_serves_many_folders(watches: FolderWatches, tmp_path: Path) -> None:
    before = len(_descriptors())
    for number in range(200):
        (tmp_path / f"u{number}").mkdir()
        watches.add(f"u{number}", tmp_path / f"u{number}")
    assert len(_descriptors()) == before
    for number in (7, 150):
        (tmp_path / f"u{number}" / "a").write_text("1")
    told: set[tuple[str, str]] = set()
    while len(told) < 2:
        told |= (await _told(watches)).names
    assert told == {("u7", "a"), ("u150", "a")}


async def test_who_waits_sleeps_until_something_happens(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    (folder.parent / "beside").write_text("not in the folder")
    (folder / "sub").mkdir()  # made, not written: nothing to look at
    told: list[Happened] = []

    async def wait() -> None:
        told.append(await watches.wait())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await trio.testing.wait_all_tasks_blocked()
        assert told == []
        (folder / "a").write_text("1")
    assert told == [Happened(names=frozenset({("ann", "a")}))]


async def test_a_folder_that_was_deleted_is_told_as_gone_once(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    folder.rmdir()
    assert (await _told(watches)).gone == {"ann"}
    assert "ann" not in watches
    # Under the same key it is watched anew.
    folder.mkdir()
    watches.add("ann", folder)
    (folder / "a").write_text("1")
    assert await _told(watches) == Happened(names=frozenset({("ann", "a")}))


async def test_a_folder_that_was_moved_away_is_watched_no_more(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    moved = folder.rename(folder.parent / "old")
    assert (await _told(watches)).gone == {"ann"}
    folder.mkdir()
    watches.add("ann", folder)
    (moved / "a").write_text("1")
    (folder / "b").write_text("1")
    assert await _told(watches) == Happened(names=frozenset({("ann", "b")}))


async def test_a_folder_that_was_let_go_of_is_not_told(watches: FolderWatches, tmp_path: Path) -> None:
    for key in ("ann", "bob"):
        (tmp_path / key).mkdir()
        watches.add(key, tmp_path / key)
    watches.remove("ann")
    watches.remove("ann")
    (tmp_path / "ann" / "a").write_text("1")
    (tmp_path / "bob" / "b").write_text("1")
    assert await _told(watches) == Happened(names=frozenset({("bob", "b")}))
    assert len(watches) == 1


async def test_more_than_the_kernel_remembers_is_told_as_lost(watches: FolderWatches, tmp_path: Path) -> None:
    # Two events a round, of names that differ, since equal ones in a row are told once.
    for key in ("one", "two"):
        (tmp_path / key).mkdir()
        watches.add(key, tmp_path / key)
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 65_536:
        pytest.skip("the kernel remembers more than is worth writing")
    (tmp_path / "one" / "a").write_text("1")
    for _ in range(limit // 2 + 2):
        (tmp_path / "one" / "a").rename(tmp_path / "two" / "a")
        (tmp_path / "two" / "a").rename(tmp_path / "one" / "a")
    lost = False
    while not lost:
        lost = (await _told(watches)).lost
    assert lost


async def test_a_cancelled_wait_loses_nothing(watches: FolderWatches, folder: Path) -> None:
    watches.add("ann", folder)
    with trio.CancelScope() as scope:
        scope.cancel()
        await watches.wait()
    assert scope.cancelled_caught
    (folder / "a").write_text("1")
    assert await _told(watches) == Happened(names=frozenset({("ann", "a")}))


def test_only_a_folder_can_be_watched(watches: FolderWatches, folder: Path) -> None:
    (folder / "file").write_text("1")
    (folder / "link").symlink_to(folder)
    for name in ("missing", "file", "link"):
        with pytest.raises(OSError, match=f"No such file|Not a directory.*{name}"):
            watches.add("ann", folder / name)
    assert "ann" not in watches


def test_too_many_folders_are_told_apart_from_a_full_disk(
    watches: FolderWatches, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching.ctypes, "get_errno", lambda: errno.ENOSPC)
    with pytest.raises(OSError, match="raise fs.inotify.max_user_watches"):
        watches.add("ann", folder / "missing")


def test_where_there_is_no_inotify_there_is_no_watch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching.sys, "platform", "darwin")
    with open_folder_watches() as opened:
        assert opened is None


def test_the_descriptor_is_closed_at_the_end() -> None:
    before = _descriptors()
    with open_folder_watches():
        assert len(_descriptors()) == len(before) + 1
    assert _descriptors() == before
