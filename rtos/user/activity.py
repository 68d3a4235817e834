"""What a user did and what befell it, one line each: `logs/activity.log`.

A line is a JSON object: `at` (UTC), `event`, and ids; never the text of a message.
`entries` says which event of the bus becomes a line of whose log, and is pure.
`ActivityFiles` blocks on the disk, and is used by one thread at a time.

Law: a log holds whole lines only, in the order in which they were told, and takes
at most `(KEPT + 1) * MAX_BYTES`. What could not be written is counted, and the next
line that can be says how many are missing. Lines are not synced one by one: a power
cut may take the last ones, so nothing may be built on a log but looking.
"""

from __future__ import annotations

import os
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import attrs
import msgspec

from rtos.errors import RtosError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
    from pathlib import Path

MAX_BYTES: Final = 1 << 20
"""Bytes after which a log is set aside and a new one begun."""
KEPT: Final = 3
"""How many logs are kept that were set aside: `activity.log.1` is the youngest."""
OPEN: Final = 32
"""How many files stay open at most, those written last."""
MAX_LINE: Final = 2048
"""Bytes of the longest line; of a longer one only the time and the event are told."""
MAX_REASON: Final = 300
"""Characters of a reason that are told."""
_FILE_MODE: Final = 0o600

Entry = tuple[str, str, dict[str, Any]]
"""Whose log, the event, and what is told of it."""

_ENDED_TASKS: Final = ("completed", "failed", "cancelled")
_USERS: Final = {"created": "user:created", "deleted": "user:deleted"}
# The event of the bus, the event in the log, the key of the payload that names the user, and what is told.
_TOLD: Final = {
    "inbox:shed": ("message:shed", "persona_id", ("message_id", "reason")),
    "persona:energy:changed": ("energy:changed", "persona_id", ("from", "to", "energy")),
    "persona:mood:changed": ("mood:changed", "persona_id", ("from", "to", "energy")),
    "persona:failed": ("user:failed", "persona_id", ("message_id", "error")),
    "persona:frozen": ("user:frozen", "persona_id", ("reason",)),
    "data:degraded": ("user:degraded", "user_id", ("reason",)),
    "data:restored": ("user:restored", "user_id", ("name",)),
    "user:preferences:changed": ("preferences:changed", "user_id", ("changed",)),
    "user:preferences:rejected": ("preferences:rejected", "user_id", ("reason",)),
    "task:overdue": ("task:overdue", "assignee_id", ("task_id", "due_date")),
}
PATTERNS: Final = (
    *_TOLD,
    "data:users:created",
    "data:users:deleted",
    "data:chat_messages:created",
    "data:tasks:created",
    "data:tasks:updated",
)
"""The events of the bus that become lines."""


def entries(name: str, payload: Mapping[str, Any], members: Collection[str]) -> Iterator[Entry]:
    """What an event of the bus means for the logs of users.

    Args:
      name: of the event, one of ``PATTERNS``.
      payload: of the event.
      members: who is in the room of a message; nobody for anything else.
    """
    told = _TOLD.get(name)
    if told is not None:
        event, whose, fields = told
        # A shared database is nobody's in particular.
        if payload.get(whose) is not None:
            yield payload[whose], event, {field: payload[field] for field in fields if field in payload}
        return
    _, collection, verb = name.split(":")
    record = payload["record"]
    if collection == "users":
        yield record["id"], _USERS[verb], {"type": record["type"]}
    elif collection == "tasks":
        yield from _task(record, verb)
    else:
        yield from _message(record, members)


def _task(record: Mapping[str, Any], verb: str) -> Iterator[Entry]:
    status, whose = record.get("status"), record.get("assignee_id")
    if whose is None:
        return
    if verb == "created":
        told = {key: record[key] for key in ("created_by", "task_type") if key in record}
        yield whose, "task:given", {"task_id": record["id"], **told}
    elif status in _ENDED_TASKS:
        yield whose, f"task:{status}", {"task_id": record["id"]}


def _message(record: Mapping[str, Any], members: Collection[str]) -> Iterator[Entry]:
    if record.get("answered_in"):
        # Nobody has said or heard it; the reply that it tells of is told itself.
        return
    sender = record["sender_id"]
    ids = {"message_id": record["id"], "room_id": record["room_id"]}
    answer = {"reply_to": record["reply_to"]} if record.get("reply_to") else {}
    replied = answer and record["sender_type"] != "human"
    yield sender, "message:replied" if replied else "message:sent", ids | answer
    for member in members:
        if member != sender:
            yield member, "message:heard", {**ids, "sender_id": sender}


def line(at: str, event: str, facts: Mapping[str, Any]) -> bytes:
    """One line, with its end."""
    short = {key: _shortened(value) for key, value in facts.items()}
    text = msgspec.json.encode({"at": at, "event": event, **short})
    if len(text) >= MAX_LINE:
        text = msgspec.json.encode({"at": at, "event": event, "bytes": len(text)})
    return text + b"\n"


def _shortened(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    # A lone surrogate is no text that a file could hold.
    return value[:MAX_REASON].encode("utf-8", "replace").decode()


@attrs.frozen
class Written:
    """What became of a batch.

    Attributes:
      lines: how many were written.
      failed: how many were not, and why, by user.
    """

    lines: int
    failed: dict[str, tuple[int, str]]


class ActivityFiles:
    """The logs of all users, of which a few are open.

    Args:
      locate: where a user's log is; it may be asked again after the folders were made.
      make: makes the folders of a user.
      max_bytes: see ``MAX_BYTES``.
      kept: see ``KEPT``.
      most_open: see ``OPEN``.

    Raises:
      ValueError: no log would be kept.
    """

    def __init__(
        self,
        locate: Callable[[str], Path],
        make: Callable[[str], object],
        *,
        max_bytes: int = MAX_BYTES,
        kept: int = KEPT,
        most_open: int = OPEN,
    ) -> None:
        if kept < 1:
            raise ValueError(f"kept is {kept!r}; keep 1 log or more")
        self._locate = locate
        self._make = make
        self._max_bytes = max_bytes
        self._kept = kept
        self._most_open = most_open
        self._open: OrderedDict[str, tuple[int, Path]] = OrderedDict()

    @property
    def open_count(self) -> int:
        """How many files are open."""
        return len(self._open)

    def write(self, batch: Mapping[str, Sequence[bytes]]) -> Written:
        """Append the lines of each user; one user's failure is not the others'."""
        written, failed = 0, {}
        for user_id, lines in batch.items():
            done = 0
            try:
                for part in self._append(user_id, lines):
                    done += part
            except (OSError, RtosError) as error:
                self.close(user_id)
                reason = error.strerror if isinstance(error, OSError) else str(error)
                failed[user_id] = (len(lines) - done, reason or str(error))
            written += done
        return Written(written, failed)

    def tail(self, user_id: str, limit: int) -> list[dict[str, Any]]:
        """The last lines of a log, oldest first, those of the one before it when it has fewer.

        Raises:
          OSError: it is there and cannot be read.
          RtosError: the user has no folder that may be read.
        """
        found: list[dict[str, Any]] = []
        path = self._locate(user_id)
        for number in range(self._kept + 1):
            if len(found) >= limit:
                break
            try:
                with os.fdopen(_open(_numbered(path, number), os.O_RDONLY), "rb") as file:
                    found = _last(file.read(), limit - len(found)) + found
            except FileNotFoundError:
                continue
        return found

    def close(self, user_id: str | None = None) -> None:
        """Close one user's file, or all."""
        for key in [user_id] if user_id is not None else list(self._open):
            if key in self._open:
                os.close(self._open.pop(key)[0])

    def _append(self, user_id: str, lines: Sequence[bytes]) -> Iterator[int]:
        begin = 0
        while begin < len(lines):
            descriptor, path = self._descriptor(user_id)
            size = os.fstat(descriptor).st_size
            end, room = begin, self._max_bytes - size
            while end < len(lines) and (len(lines[end]) <= room or (size == 0 and end == begin)):
                room -= len(lines[end])
                end += 1
            if end > begin:
                _write_whole(descriptor, b"".join(lines[begin:end]), size)
                yield end - begin
                begin = end
            else:
                self.close(user_id)
                self._rotate(path)

    def _rotate(self, path: Path) -> None:
        for number in range(self._kept, 0, -1):
            older = _numbered(path, number - 1)
            if older.exists():
                older.replace(_numbered(path, number))

    def _descriptor(self, user_id: str) -> tuple[int, Path]:
        found = self._open.get(user_id)
        if found is not None and _is_still_at(*found):
            self._open.move_to_end(user_id)
            return found
        self.close(user_id)
        while len(self._open) >= self._most_open:
            os.close(self._open.popitem(last=False)[1][0])
        path = self._locate(user_id)
        try:
            descriptor = _open_log(path)
        except FileNotFoundError:
            # Told before the user's folders were made, or somebody has removed them.
            self._make(user_id)
            path = self._locate(user_id)
            descriptor = _open_log(path)
        self._open[user_id] = (descriptor, path)
        return descriptor, path


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _open(path: Path, flags: int) -> int:
    # Never waits at a pipe and never follows a link that somebody put in the log's place.
    descriptor = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, _FILE_MODE)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise OSError(f"{path.name!r} is no file")


def _open_log(path: Path) -> int:
    descriptor = _open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        # Whatever the umask was, and whoever has made it.
        os.fchmod(descriptor, _FILE_MODE)
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            # A crash has cut the last line; the next one must not be glued to it.
            _write_whole(descriptor, b"\n", size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _is_still_at(descriptor: int, path: Path) -> bool:
    """Whether what is open is what the name stands for: logs are also moved and deleted by hand."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.lstat())
    except FileNotFoundError:
        return False


def _write_whole(descriptor: int, text: bytes, size: int) -> None:
    """Write all of it, or leave the file as it was."""
    rest = memoryview(text)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _last(text: bytes, limit: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for raw in reversed(text.splitlines()):
        if len(found) >= limit:
            break
        try:
            found.append(msgspec.json.decode(raw, type=dict[str, Any]))
        except msgspec.DecodeError:
            continue
    return found[::-1]
