"""The move to `users/`: all or nothing where something is in the way, one rename a user otherwise."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rtos.errors import StoreError
from rtos.user.directory import UserDirectoryManager
from rtos.user.migration import Finding, Move, execute, plan


def persona(root: Path, name: str, content: str = "memories") -> Path:
    folder = root / "personas" / name
    (folder / "data").mkdir(parents=True)
    (folder / "data" / "longterm.db").write_text(content)
    return folder


def tree(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()
    }


def test_a_root_without_legacy_users_needs_nothing(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert (made.moves, made.conflicts, made.ignored) == ((), (), ())
    assert execute(made) == ()
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_what_moves_and_touches_nothing(tmp_path: Path) -> None:
    source = persona(tmp_path, "ada")
    before = tree(tmp_path)
    made = plan(tmp_path)
    assert made.moves == (Move(user_id="ada", source=source, target=tmp_path / "users" / "ada"),)
    assert tree(tmp_path) == before
    assert made.report() == [f"move ada: {source} -> {tmp_path / 'users' / 'ada'}"]


def test_users_are_moved_whole(tmp_path: Path) -> None:
    for name in ("ada", "joel"):
        persona(tmp_path, name, name)
    assert execute(plan(tmp_path)) == ("ada", "joel")
    assert tree(tmp_path) == {f"users/{name}/data/longterm.db": name for name in ("ada", "joel")}
    users = UserDirectoryManager(tmp_path)
    assert users.get_database_path("ada") == tmp_path / "users" / "ada" / "data" / "longterm.db"


def test_users_already_there_stay_as_they_are(tmp_path: Path) -> None:
    UserDirectoryManager(tmp_path).ensure_directories("zoe")
    persona(tmp_path, "ada")
    assert execute(plan(tmp_path)) == ("ada",)
    assert UserDirectoryManager(tmp_path).list_users() == ["ada", "zoe"]


def test_it_can_be_repeated(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    made = plan(tmp_path)
    assert execute(made) == ("ada",)
    assert execute(made) == (), "the same plan once more has nothing left to do"
    assert execute(plan(tmp_path)) == ()


def test_a_dry_run_moves_nothing(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    before = tree(tmp_path)
    assert execute(plan(tmp_path), dry_run=True) == ("ada",)
    assert tree(tmp_path) == before
    assert not (tmp_path / "users").exists()


@pytest.mark.parametrize("dry_run", [False, True])
def test_one_user_in_both_places_stops_everything(tmp_path: Path, dry_run: bool) -> None:
    for name in ("ada", "joel", "zoe"):
        persona(tmp_path, name)
    (tmp_path / "users" / "joel").mkdir(parents=True)
    before = tree(tmp_path)
    made = plan(tmp_path)
    assert [move.user_id for move in made.moves] == ["ada", "zoe"]
    assert made.conflicts == (Finding(name="joel", reason="exists in 'personas' and in 'users'"),)
    with pytest.raises(StoreError, match="nothing was moved, since 1 cannot be: 'joel' exists in"):
        execute(made, dry_run=dry_run)
    assert tree(tmp_path) == before


def test_a_conflict_that_arose_after_the_plan_stops_everything(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    persona(tmp_path, "joel")
    made = plan(tmp_path)
    (tmp_path / "users" / "joel").mkdir(parents=True)
    with pytest.raises(StoreError, match="'joel'"):
        execute(made)
    assert (tmp_path / "personas" / "ada").is_dir()


def test_a_user_who_came_after_the_plan_waits_for_the_next(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    made = plan(tmp_path)
    persona(tmp_path, "joel")
    assert execute(made) == ("ada",)
    assert (tmp_path / "personas" / "joel").is_dir()


def test_what_is_no_user_is_left_with_a_reason(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    (tmp_path / "personas" / "README.md").write_text("")
    (tmp_path / "personas" / ".cache").mkdir()
    (tmp_path / "personas" / "link.md").symlink_to("README.md")
    made = plan(tmp_path)
    assert made.ignored == (
        Finding(name=".cache", reason="its name is not a user id"),
        Finding(name="README.md", reason="is not a folder"),
        Finding(name="link.md", reason="is not a folder"),
    )
    assert execute(made) == ("ada",)
    assert (tmp_path / "personas" / "README.md").exists()


@pytest.mark.parametrize("target", ["elsewhere", "missing"])
def test_a_linked_user_is_refused(tmp_path: Path, target: str) -> None:
    persona(tmp_path, "ada")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "personas" / "joel").symlink_to(tmp_path / target)
    with pytest.raises(StoreError, match="'joel' is a symbolic link"):
        execute(plan(tmp_path))
    assert (tmp_path / "personas" / "ada").is_dir()


@pytest.mark.parametrize("base", ["personas", "users"])
def test_a_linked_base_is_refused(tmp_path: Path, base: str) -> None:
    if base == "users":
        persona(tmp_path, "ada")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / base).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=f"'{base}/' is a symbolic link"):
        execute(plan(tmp_path))


def test_a_user_on_another_file_system_is_refused(tmp_path: Path) -> None:
    persona(tmp_path, "ada")
    persona(tmp_path, "joel")

    def mounted(path: Path) -> int:
        return 2 if path.name == "joel" else 1

    with pytest.raises(StoreError, match="'joel' is on another file system"):
        execute(plan(tmp_path, device=mounted), device=mounted)
    assert (tmp_path / "personas" / "ada").is_dir()


class Interrupted(BaseException):
    pass


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(
    names=st.lists(st.sampled_from(["ada", "bob", "cleo", "dan", "eve"]), unique=True, min_size=1),
    after=st.integers(0, 4),
    error=st.sampled_from([Interrupted, OSError]),
)
def test_an_interruption_leaves_every_user_whole_and_a_second_run_finishes(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], after: int, error: type[BaseException]
) -> None:
    root = tmp_path_factory.mktemp("root")
    for name in names:
        persona(root, name, name)
    rename, left = Path.rename, after

    def failing(self: Path, target: Path) -> Path:
        nonlocal left
        if left == 0:
            raise error("stop")
        left -= 1
        return rename(self, target)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Path, "rename", failing)
        if after < len(names):
            with pytest.raises((Interrupted, StoreError), match="stop"):
                execute(plan(root))
        else:
            execute(plan(root))
    moved = sorted(names)[:after]
    assert tree(root) == {
        f"{'users' if name in moved else 'personas'}/{name}/data/longterm.db": name for name in names
    }
    assert execute(plan(root)) == tuple(sorted(names)[after:])
    assert tree(root) == {f"users/{name}/data/longterm.db": name for name in names}
