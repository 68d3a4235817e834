"""Where a user's files are: the layout, the legacy fallback, and what is refused."""

import os
import shutil
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtos.errors import CommandRejected, StoreError
from rtos.user import directory
from rtos.user.directory import UserDirectoryManager, UserDirectoryPaths, human_readable


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / ".continuum"


@pytest.fixture
def users(root: Path) -> UserDirectoryManager:
    return UserDirectoryManager(root)


def legacy(root: Path, user_id: str) -> Path:
    folder = root / "personas" / user_id
    folder.mkdir(parents=True)
    return folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_user_gets_the_new_path(root: Path, users: UserDirectoryManager) -> None:
    assert users.get_paths("joel").root == root / "users" / "joel"
    assert not root.exists(), "asking makes nothing"


def test_all_paths_of_a_user(root: Path, users: UserDirectoryManager) -> None:
    own = root / "users" / "joel"
    assert users.get_paths("joel") == UserDirectoryPaths(
        root=own,
        data=own / "data",
        logs=own / "logs",
        config=own / "config",
        database=own / "data" / "longterm.db",
        activity_log=own / "logs" / "activity.log",
        preferences=own / "config" / "preferences.json",
    )


def test_the_shorthands(root: Path, users: UserDirectoryManager) -> None:
    paths = users.get_paths("joel")
    assert users.get_database_path("joel") == paths.database
    assert users.get_activity_log_path("joel") == paths.activity_log
    assert users.get_preferences_path("joel") == paths.preferences


def test_the_legacy_folder_serves_while_it_is_the_only_one(root: Path, users: UserDirectoryManager) -> None:
    assert users.get_paths("ada").root == root / "users" / "ada"
    folder = legacy(root, "ada")
    assert users.get_paths("ada").root == folder
    assert users.get_database_path("ada") == folder / "data" / "longterm.db"


def test_the_new_folder_wins_over_the_legacy_one(root: Path, users: UserDirectoryManager) -> None:
    legacy(root, "ada")
    (root / "users" / "ada").mkdir(parents=True)
    assert users.get_paths("ada").root == root / "users" / "ada"


def test_the_legacy_folder_follows_the_root_and_not_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy(tmp_path / ".continuum", "ada")
    monkeypatch.chdir(tmp_path)
    elsewhere = UserDirectoryManager(tmp_path / "elsewhere")
    assert elsewhere.get_paths("ada").root == tmp_path / "elsewhere" / "users" / "ada"


def test_ensure_makes_folders_for_their_owner_only(root: Path, users: UserDirectoryManager) -> None:
    old = os.umask(0)
    try:
        paths = users.ensure_directories("joel")
    finally:
        os.umask(old)
    for folder in (root, root / "users", paths.root, paths.data, paths.logs, paths.config):
        assert folder.is_dir()
        assert mode(folder) == 0o700
    assert sorted(entry.name for entry in paths.root.iterdir()) == ["config", "data", "logs"]


def test_ensure_can_be_repeated_and_keeps_what_is_there(users: UserDirectoryManager) -> None:
    paths = users.ensure_directories("joel")
    paths.preferences.write_text("{}")
    assert users.ensure_directories("joel") == paths
    assert paths.preferences.read_text() == "{}"


def test_ensure_closes_a_folder_that_others_could_read(root: Path, users: UserDirectoryManager) -> None:
    folder = legacy(root, "ada")
    folder.chmod(0o755)
    users.ensure_directories("ada")
    assert mode(folder) == 0o700


def test_ensure_completes_a_legacy_folder_where_it_is(root: Path, users: UserDirectoryManager) -> None:
    folder = legacy(root, "ada")
    assert users.ensure_directories("ada").root == folder
    assert (folder / "data").is_dir()
    assert not (root / "users").exists()


def test_ensure_follows_a_user_that_is_migrated_meanwhile(
    root: Path, users: UserDirectoryManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = legacy(root, "ada")
    (root / "users").mkdir()
    make = directory._make_folder

    def migrate_first(path: Path, *, parents: bool = False) -> None:
        if folder.exists():
            folder.rename(root / "users" / "ada")
        make(path, parents=parents)

    monkeypatch.setattr(directory, "_make_folder", migrate_first)
    assert users.ensure_directories("ada").root == root / "users" / "ada"
    assert not folder.exists(), "an empty twin would have hidden nothing today and everything tomorrow"


def test_ensure_gives_up_when_the_folder_keeps_moving(
    root: Path, users: UserDirectoryManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    legacy(root, "ada")

    def gone(path: Path, *, parents: bool = False) -> None:
        raise FileNotFoundError(path)

    monkeypatch.setattr(directory, "_make_folder", gone)
    with pytest.raises(StoreError, match="moved away 3 times"):
        users.ensure_directories("ada")


def test_ensure_says_when_a_file_is_in_the_way(root: Path, users: UserDirectoryManager) -> None:
    (root / "users").mkdir(parents=True)
    (root / "users" / "joel").write_text("")
    with pytest.raises(StoreError, match=r"ensure directories of user 'joel': .*exists"):
        users.ensure_directories("joel")


def test_exists(root: Path, users: UserDirectoryManager) -> None:
    assert not users.exists("joel")
    users.ensure_directories("joel")
    legacy(root, "ada")
    assert users.exists("joel")
    assert users.exists("ada")


def test_users_are_listed_sorted_and_once(root: Path, users: UserDirectoryManager) -> None:
    assert users.list_users() == [], "no root yet"
    for name in ("zoe", "ada", "joel"):
        users.ensure_directories(name)
    legacy(root, "joel")
    legacy(root, "helper-ai")
    assert users.list_users() == ["ada", "helper-ai", "joel", "zoe"]


def test_what_is_no_user_is_not_listed(root: Path, tmp_path: Path, users: UserDirectoryManager) -> None:
    users.ensure_directories("joel")
    (root / "users" / "notes.txt").write_text("")
    (root / "users" / ".trash").mkdir()
    (root / "users" / "två").mkdir()
    (root / "users" / "outside").symlink_to(tmp_path)
    (root / "users" / "nowhere").symlink_to(tmp_path / "missing")
    assert users.list_users() == ["joel"]


@pytest.mark.parametrize("user_id", ["../x", "", "/", "a\0b", "x" * 129, ".."])
@pytest.mark.parametrize(
    "method",
    [
        "get_paths",
        "get_database_path",
        "get_activity_log_path",
        "get_preferences_path",
        "exists",
        "ensure_directories",
        "get_user_disk_usage",
        "delete_user_directory",
    ],
)
def test_no_id_leaves_the_root(users: UserDirectoryManager, method: str, user_id: str) -> None:
    with pytest.raises(CommandRejected, match="user_id"):
        getattr(users, method)(user_id)


@pytest.mark.parametrize("link", ["users", "users/joel", "users/joel/data", "users/joel/data/longterm.db"])
def test_a_link_out_of_the_root_is_refused(
    root: Path, tmp_path: Path, users: UserDirectoryManager, link: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (root / link).parent.mkdir(parents=True)
    (root / link).symlink_to(outside)
    for use in (users.get_paths, users.ensure_directories, users.delete_user_directory):
        with pytest.raises(StoreError, match="leads outside the root"):
            use("joel")
    assert list(outside.iterdir()) == []


def test_a_link_of_the_users_folder_out_of_the_root_is_not_listed_but_reported(
    root: Path, tmp_path: Path, users: UserDirectoryManager
) -> None:
    root.mkdir()
    (root / "users").symlink_to(tmp_path)
    with pytest.raises(StoreError, match="leads outside"):
        users.list_users()


def test_links_within_the_root_and_to_the_root_are_followed(tmp_path: Path) -> None:
    real = tmp_path / "disk"
    legacy(real, "ada")
    (real / "users").mkdir()
    (real / "users" / "ada").symlink_to(real / "personas" / "ada")
    (tmp_path / ".continuum").symlink_to(real)
    users = UserDirectoryManager(tmp_path / ".continuum")
    assert users.ensure_directories("ada").root == tmp_path / ".continuum" / "users" / "ada"
    assert (real / "personas" / "ada" / "data").is_dir()


def test_a_loop_of_links_is_an_error_and_no_crash(root: Path, users: UserDirectoryManager) -> None:
    (root / "users").mkdir(parents=True)
    (root / "users" / "joel").symlink_to(root / "users" / "joel")
    assert not users.exists("joel")
    with pytest.raises(StoreError, match="joel"):
        users.ensure_directories("joel")


def test_disk_usage_of_nobody_is_nothing(users: UserDirectoryManager) -> None:
    usage = users.get_user_disk_usage("joel")
    assert (usage.database_bytes, usage.total_bytes, usage.human_readable) == (0, 0, "0 B")


def test_disk_usage_counts_the_write_ahead_log_and_every_file(
    tmp_path: Path, users: UserDirectoryManager
) -> None:
    paths = users.ensure_directories("joel")
    paths.database.write_bytes(b"x" * 1000)
    paths.database.with_name("longterm.db-wal").write_bytes(b"x" * 500)
    paths.database.with_name("longterm.db-shm").write_bytes(b"x" * 36)
    paths.activity_log.write_bytes(b"x" * 100)
    (tmp_path / "big").write_bytes(b"x" * 9999)
    (paths.root / "link").symlink_to(tmp_path / "big")
    usage = users.get_user_disk_usage("joel")
    assert usage.database_bytes == 1536
    assert usage.total_bytes == 1636
    assert usage.human_readable == "1.50 KB"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KB"),
        (1536, "1.50 KB"),
        (1024**2 - 1, "1.00 MB"),
        (5 * 1024**2, "5.00 MB"),
        (2 * 1024**3, "2.00 GB"),
    ],
)
def test_sizes_for_people(size: int, text: str) -> None:
    assert human_readable(size) == text


@given(st.integers(1, 2**50))
def test_a_size_for_people_is_right_to_two_digits(size: int) -> None:
    number, unit = human_readable(size).split()
    value = float(number) * 1024 ** ["B", "KB", "MB", "GB", "TB", "PB"].index(unit)
    assert value == pytest.approx(size, rel=0.006)
    assert float(number) < 1024


def test_delete_removes_the_user_and_nobody_else(users: UserDirectoryManager) -> None:
    users.ensure_directories("ada")
    users.ensure_directories("joel").database.write_bytes(b"x")
    assert users.delete_user_directory("joel")
    assert users.list_users() == ["ada"]
    assert not users.delete_user_directory("joel"), "there is nothing left"


def test_a_deleted_user_does_not_come_back_from_the_legacy_folder(
    root: Path, users: UserDirectoryManager
) -> None:
    legacy(root, "ada")
    (root / "users" / "ada").mkdir(parents=True)
    assert users.delete_user_directory("ada")
    assert not users.exists("ada")
    assert list((root / "personas").iterdir()) == []


def test_an_interrupted_delete_is_finished_by_the_next(
    root: Path, users: UserDirectoryManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    users.ensure_directories("joel").database.write_bytes(b"x")

    def interrupted(path: Path) -> None:
        raise OSError(5, "the disk is gone", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", interrupted)
        with pytest.raises(StoreError, match=r"delete user 'joel': .*the disk is gone"):
            users.delete_user_directory("joel")
    assert not users.exists("joel"), "half a user is no user"
    assert users.list_users() == []
    assert users.delete_user_directory("joel")
    assert list((root / "users").iterdir()) == []


def test_a_linked_folder_is_not_deleted_through_the_link(root: Path, users: UserDirectoryManager) -> None:
    folder = legacy(root, "ada")
    (root / "users").mkdir()
    (root / "users" / "joel").symlink_to(folder)
    with pytest.raises(StoreError, match="symbolic link"):
        users.delete_user_directory("joel")
    assert folder.is_dir()
