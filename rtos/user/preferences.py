"""What a user prefers: `config/preferences.json` over the preferences of its state.

A file is one JSON object that holds any of the fields of `Preferences`; what it does
not hold is as the user's state has it. Reading and writing block on the disk; the
book is in memory, and shared by whoever asks with whoever reads.

Law: what is in force is always valid. A file that is not keeps what was in force
before, and says why; a file that is gone holds nothing. A file is replaced as a whole
or not at all.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import attrs
import msgspec

from rtos.errors import StoreError
from rtos.user.content import Preferences
from rtos.user.directory import sync_folder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

MAX_BYTES: Final = 64 * 1024
"""The largest file of preferences."""
NAMES: Final = tuple(field.name for field in attrs.fields(Preferences))
"""What may be preferred."""
_FILE_MODE: Final = 0o600

Given = dict[str, Any]
"""The fields that a file holds."""


class PreferencesBook:
    """What the files of all users hold, as it is in force, and what is wrong with them."""

    def __init__(self) -> None:
        self._given: dict[str, Given] = {}
        self._wrong: dict[str, str] = {}

    def given(self, user_id: str) -> Given:
        """What a user's file holds; nothing for one without a file."""
        return self._given.get(user_id, {})

    def effective(self, user_id: str, usual: Preferences) -> Preferences:
        """What is in force for a user whose state has ``usual``."""
        return overlay(usual, self.given(user_id))

    def wrong(self) -> dict[str, str]:
        """Whose file is not in force, and why."""
        return dict(self._wrong)

    def accept(self, user_id: str, given: Given) -> list[str]:
        """Put what was read in force.

        Returns:
          The names of what has changed by that, sorted.
        """
        before = self.given(user_id)
        self._wrong.pop(user_id, None)
        self._given[user_id] = given
        if not given:
            # Nearly nobody has a file, and who has none costs nothing.
            del self._given[user_id]
        return sorted(
            name for name in {*before, *given} if before.get(name, _ABSENT) != given.get(name, _ABSENT)
        )

    def reject(self, user_id: str, reason: str) -> bool:
        """Note what is wrong with a file; whether that is news."""
        news = self._wrong.get(user_id) != reason
        self._wrong[user_id] = reason
        return news

    def forget(self, user_id: str) -> None:
        """Hold nothing of a user any more."""
        self._given.pop(user_id, None)
        self._wrong.pop(user_id, None)


_ABSENT: Final = object()


def overlay(usual: Preferences, given: Mapping[str, Any]) -> Preferences:
    """``usual`` with what is given in its place. What was checked fits."""
    return attrs.evolve(usual, **given)


def check_names(names: Iterable[str]) -> None:
    """Look whether all of it are names of preferences.

    Raises:
      ValueError: one is not; says which, and what there is.
    """
    for name in names:
        if name not in NAMES:
            raise ValueError(f"{name[:40]!r} is not known; use {', '.join(NAMES)}")


def checked(given: Mapping[str, Any]) -> Given:
    """What is given, when all of it may be preferred.

    Raises:
      ValueError: a name is unknown, or a value is not one for it; says which, and what to do.
    """
    check_names(given)
    try:
        msgspec.convert(dict(given), type=Preferences)
    except msgspec.ValidationError as error:
        text = str(error)
        raise ValueError(text[:1].lower() + text[1:]) from None
    return dict(given)


def parse(text: bytes) -> Given:
    """What a file's text holds.

    Raises:
      ValueError: it is no JSON object, or not one of preferences.
    """
    try:
        # Only plain values: nothing nested can exhaust the stack, or be held by what is in force.
        given = msgspec.json.decode(text, type=dict[str, bool | int | float | str | None])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"it is no JSON object of plain values ({error})") from None
    return checked(given)


def read(path: Path) -> Given:
    """What a user's file holds; nothing when there is none. Blocks on the disk.

    Raises:
      StoreError: it cannot be read, or is not valid.
    """
    asked = f"read {str(path)!r}"
    try:
        text = _text(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(asked, reason, "mend the file and its permissions") from error
    try:
        return parse(text)
    except ValueError as error:
        raise StoreError(asked, str(error), "mend the file; what it held before stays in force") from None


def write(path: Path, given: Given) -> None:
    """Replace a user's file, as a whole and durably. Blocks on the disk.

    Raises:
      StoreError: the disk refused; the file is as it was.
    """
    draft = path.with_name(f".{path.name}.{uuid4().hex[:8]}.partial")
    text = msgspec.json.format(msgspec.json.encode(given), indent=2) + b"\n"
    try:
        _write_new(draft, text)
        draft.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StoreError(
            f"write {str(path)!r}", reason, "mend the folder or make room on the disk"
        ) from error
    finally:
        with suppress(OSError):
            draft.unlink(missing_ok=True)


def _text(path: Path) -> bytes:
    # Never waits at a pipe and never follows a link that somebody put in the file's place.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError("it is no file")
        text = file.read(MAX_BYTES + 1)
    if len(text) > MAX_BYTES:
        raise OSError(f"it has more than {MAX_BYTES} bytes")
    return text


def _write_new(path: Path, text: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(text)
        file.flush()
        os.fsync(descriptor)
