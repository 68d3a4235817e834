"""The move of users from `{root}/personas/` to `{root}/users/`.

A plan is looked at before anything happens: what moves, what stands in the
way, what is no user at all. It knows folders and ids, and never looks inside.
Run it while nothing else uses the root.

Laws: nothing moves while a single obstacle stands. A user is moved by one
rename, so at every instant, an interruption included, each user is whole in
the old place or whole in the new one. A repeated run does only what is left.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

import attrs

from rtos.errors import StoreError
from rtos.user.directory import LEGACY, USERS, sync_folder
from rtos.user.identity import is_user_id

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_OPERATION: Final = "migrate user directories"


@attrs.frozen
class Move:
    """One user's folder, from where to where."""

    user_id: str
    source: Path
    target: Path


@attrs.frozen
class Finding:
    """Something that is not moved, and why."""

    name: str
    reason: str


@attrs.frozen
class MigrationPlan:
    """What a migration would do to a root."""

    root: Path
    moves: tuple[Move, ...]
    conflicts: tuple[Finding, ...]
    """Users that cannot be moved; one is enough to stop all moves."""
    ignored: tuple[Finding, ...]
    """What lies in the legacy folder and is no user."""

    def report(self) -> list[str]:
        """The plan for people, one line per entry."""
        return [
            *(f"move {move.user_id}: {move.source} -> {move.target}" for move in self.moves),
            *(f"conflict {found.name}: {found.reason}" for found in self.conflicts),
            *(f"ignore {found.name}: {found.reason}" for found in self.ignored),
        ]


def device_of(path: Path) -> int:
    """The number of the file system that a path is on."""
    return path.stat().st_dev


def plan(root: Path, *, device: Callable[[Path], int] = device_of) -> MigrationPlan:
    """Look at a root and say what a migration would do; nothing is touched.

    Args:
      root: The `.continuum` folder. Where it has no legacy folder the plan is empty.
      device: Tells file systems apart; a test may hand in its own.
    """
    legacy, users = root / LEGACY, root / USERS
    blocked = tuple(
        Finding(name=f"{folder.name}/", reason=reason)
        for folder in (legacy, users)
        if (reason := _unusable(folder)) is not None
    )
    if blocked or not legacy.is_dir():
        return MigrationPlan(root=root, moves=(), conflicts=blocked, ignored=())
    home = device(users if users.is_dir() else root)
    moves: list[Move] = []
    conflicts: list[Finding] = []
    ignored: list[Finding] = []
    for source in sorted(legacy.iterdir()):
        if (reason := _no_user(source)) is not None:
            ignored.append(Finding(name=source.name, reason=reason))
        elif (reason := _obstacle(source, users, home, device)) is not None:
            conflicts.append(Finding(name=source.name, reason=reason))
        else:
            moves.append(Move(user_id=source.name, source=source, target=users / source.name))
    return MigrationPlan(root=root, moves=tuple(moves), conflicts=tuple(conflicts), ignored=tuple(ignored))


def execute(
    planned: MigrationPlan, *, dry_run: bool = False, device: Callable[[Path], int] = device_of
) -> tuple[str, ...]:
    """Carry out a plan, and make the moves durable before returning.

    The root is looked at once more: what an earlier run has moved already is
    skipped, and what has come since is left for the next plan.

    Args:
      planned: What `plan` returned.
      dry_run: Check everything and move nothing.
      device: As for `plan`.

    Returns:
      The ids of the users moved, or of those a dry run would move.

    Raises:
      StoreError: where an obstacle stands, and then nothing was moved; or where
        the file system refused a rename, and then the text says how many users
        were moved before. Either way every user is whole.
    """
    now = plan(planned.root, device=device)
    _refuse_conflicts(now, planned)
    moves = [move for move in now.moves if move in planned.moves]
    if moves and not dry_run:
        _move_all(moves)
    return tuple(move.user_id for move in moves)


def _refuse_conflicts(*plans: MigrationPlan) -> None:
    standing = {found.name: found.reason for made in plans[::-1] for found in made.conflicts}
    if standing:
        listed = ", ".join(f"{name!r} {reason}" for name, reason in sorted(standing.items()))
        raise StoreError(
            _OPERATION,
            f"nothing was moved, since {len(standing)} cannot be: {listed}",
            "move or delete one of the two by hand, replace links by real folders, then plan again",
        )


def _move_all(moves: list[Move]) -> None:
    done = 0
    source, target = moves[0].source.parent, moves[0].target.parent
    try:
        target.mkdir(mode=0o700, exist_ok=True)
        try:
            for move in moves:
                # Not shutil.move: it would copy where a rename is impossible, and a copy can stop half-way.
                move.source.rename(move.target)
                done += 1
        finally:
            # New place first: after a power cut a user may then be seen in both, never in neither.
            for folder in (target, source, target.parent):
                sync_folder(folder)
    except OSError as error:
        raise StoreError(
            _OPERATION, f"{error} after {done} of {len(moves)} users", "repair that, then run it again"
        ) from error


def _unusable(folder: Path) -> str | None:
    if folder.is_symlink():
        return "is a symbolic link"
    return "is not a folder" if folder.exists() and not folder.is_dir() else None


def _no_user(source: Path) -> str | None:
    if not is_user_id(source.name):
        return "its name is not a user id"
    # A link to nowhere may name a user on a disk that is not mounted: that is for a person to decide.
    unresolved = source.is_symlink() and not source.exists()
    return None if source.is_dir() or unresolved else "is not a folder"


def _obstacle(source: Path, users: Path, home: int, device: Callable[[Path], int]) -> str | None:
    if source.is_symlink():
        return "is a symbolic link"
    if os.path.lexists(users / source.name):
        return f"exists in {LEGACY!r} and in {USERS!r}"
    return "is on another file system" if device(source) != home else None
