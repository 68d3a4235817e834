"""User ids: what may name a user, and so a folder on disk.

Pure. A user id becomes exactly one path segment, and this module is the only
place that says which strings may. Whoever builds a path asks here first.

Law: an accepted id has no separator, no NUL, is neither empty nor `.` nor `..`,
and is plain ASCII, so that no two ids look alike and none leaves the root.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from typing import Final

from rtos.errors import CommandRejected

MAX_USER_ID: Final = 128
"""The longest id, in characters; half of what a file name may have on common file systems."""

_USER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9]+")
_SHOWN: Final = 40


def is_user_id(value: object) -> bool:
    """Whether a value may name a user."""
    return _fault(value) is None


def validate_user_id(value: object, command: str = "user") -> str:
    """Hand back an id that may name a user, or say what is wrong with it.

    Args:
      value: What was sent as an id; of any type, since it may come from outside.
      command: The command to blame in the error.

    Raises:
      CommandRejected: with ``parameter="user_id"``; nothing was touched.
    """
    fault = _fault(value)
    if fault is not None or not isinstance(value, str):
        raise CommandRejected(
            command=command,
            reason=f"{_shown(value)} {fault}",
            parameter="user_id",
            remedy="start with an ASCII letter or digit, then use letters, digits, '.', '_' and '-'",
        )
    return value


def slug(display_name: str) -> str:
    """A readable id made from a display name: ``"Helper AI"`` becomes ``"helper-ai"``.

    Accents are dropped. A name without any ASCII letter or digit still gets an
    id, ``user-`` and a digest of the name, because its owner must not be refused
    for the script it is written in.

    Raises:
      CommandRejected: with ``parameter="display_name"``, where the name is blank.
    """
    if not display_name.strip():
        raise CommandRejected(
            command="user",
            reason=f"{display_name!r} is blank",
            parameter="display_name",
            remedy="give a name with at least one visible character",
        )
    plain = unicodedata.normalize("NFKD", display_name).encode("ascii", "ignore").decode().lower()
    made = _NOT_IN_SLUG.sub("-", plain).strip("-")[:MAX_USER_ID].rstrip("-")
    return made or "user-" + hashlib.sha256(display_name.encode("utf-8", "replace")).hexdigest()[:12]


def _fault(value: object) -> str | None:
    if not isinstance(value, str):
        return "is not text"
    if not value:
        return "is empty"
    if len(value) > MAX_USER_ID:
        return f"has {len(value)} characters, more than {MAX_USER_ID}"
    if not _USER_ID.fullmatch(value):
        return "is not a user id"
    return "ends with a dot" if value.endswith(".") else None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
