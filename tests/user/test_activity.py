"""Lines and files of activity logs, on a real disk with real faults."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from rtos.user import activity
from rtos.user.activity import KEPT, MAX_LINE, MAX_REASON, PATTERNS, ActivityFiles, entries, line
from rtos.user.directory import UserDirectoryManager

AT = "2026-01-02T03:04:05.678Z"


class Disk:
    """A root folder, and files with small bounds on it."""

    def __init__(self, root: Path) -> None:
        self.directories = UserDirectoryManager(root)

    def files(self, **bounds: int) -> ActivityFiles:
        return ActivityFiles(
            self.directories.get_activity_log_path, self.directories.ensure_directories, **bounds
        )

    def path(self, user_id: str = "ann") -> Path:
        return self.directories.get_activity_log_path(user_id)


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path)


def _lines(*numbers: int) -> list[bytes]:
    return [line(AT, "test", {"n": number}) for number in numbers]


def _numbers(path: Path) -> list[int]:
    return [json.loads(text)["n"] for text in path.read_text().splitlines()]


def _descriptors() -> set[str]:
    """What this process has open; the folder that is being listed is always the next free one."""
    return {path.name for path in Path("/dev/fd").iterdir()}


# What is told.


def _message(**changed: Any) -> dict[str, Any]:
    record = {
        "id": "m1",
        "room_id": "general",
        "sender_id": "ann",
        "sender_type": "human",
        "text": "a secret",
        "reply_to": None,
    }
    return {"record": record | changed}


def test_a_message_is_sent_by_one_and_heard_by_the_others() -> None:
    told = list(entries("data:chat_messages:created", _message(), ("ann", "bob", "helper-ai")))
    assert told == [
        ("ann", "message:sent", {"message_id": "m1", "room_id": "general"}),
        ("bob", "message:heard", {"message_id": "m1", "room_id": "general", "sender_id": "ann"}),
        ("helper-ai", "message:heard", {"message_id": "m1", "room_id": "general", "sender_id": "ann"}),
    ]


def test_a_note_that_it_was_answered_with_another_is_nobodys() -> None:
    note = _message(sender_type="persona", reply_to="m0", answered_in="m2")
    assert list(entries("data:chat_messages:created", note, ("ann", "bob"))) == []


@pytest.mark.parametrize(("kind", "event"), [("persona", "message:replied"), ("human", "message:sent")])
def test_what_a_persona_answers_is_a_reply(kind: str, event: str) -> None:
    payload = _message(sender_type=kind, reply_to="m0")
    assert next(entries("data:chat_messages:created", payload, ())) == (
        "ann",
        event,
        {"message_id": "m1", "room_id": "general", "reply_to": "m0"},
    )


@pytest.mark.parametrize(
    ("name", "payload", "told"),
    [
        (
            "data:users:created",
            {"record": {"id": "ann", "type": "human"}},
            [("ann", "user:created", {"type": "human"})],
        ),
        (
            "data:users:deleted",
            {"record": {"id": "ann", "type": "human"}},
            [("ann", "user:deleted", {"type": "human"})],
        ),
        (
            "inbox:shed",
            {"persona_id": "ai", "message_id": "m1", "reason": "full"},
            [("ai", "message:shed", {"message_id": "m1", "reason": "full"})],
        ),
        (
            "persona:energy:changed",
            {"persona_id": "ai", "from": "active", "to": "tired", "energy": 0.4},
            [("ai", "energy:changed", {"from": "active", "to": "tired", "energy": 0.4})],
        ),
        (
            "persona:mood:changed",
            {"persona_id": "ai", "from": "calm", "to": "tense", "energy": 0.4},
            [("ai", "mood:changed", {"from": "calm", "to": "tense", "energy": 0.4})],
        ),
        ("persona:failed", {"persona_id": "ai"}, [("ai", "user:failed", {})]),
        (
            "persona:frozen",
            {"persona_id": "ai", "reason": "fails"},
            [("ai", "user:frozen", {"reason": "fails"})],
        ),
        (
            "data:degraded",
            {"user_id": "ann", "reason": "damaged"},
            [("ann", "user:degraded", {"reason": "damaged"})],
        ),
        # The shared database is nobody's in particular.
        ("data:degraded", {"user_id": None, "reason": "damaged"}, []),
        (
            "data:restored",
            {"user_id": "ann", "name": "one.db"},
            [("ann", "user:restored", {"name": "one.db"})],
        ),
        (
            "user:preferences:changed",
            {"user_id": "ann", "changed": ["sync_devices"], "given": {}},
            [("ann", "preferences:changed", {"changed": ["sync_devices"]})],
        ),
        (
            "user:preferences:rejected",
            {"user_id": "ann", "reason": "no JSON"},
            [("ann", "preferences:rejected", {"reason": "no JSON"})],
        ),
        (
            "data:tasks:updated",
            {"record": {"id": "t1", "assignee_id": "ai", "status": "completed"}},
            [("ai", "task:completed", {"task_id": "t1"})],
        ),
        (
            "data:tasks:created",
            {
                "record": {
                    "id": "t1",
                    "assignee_id": "ai",
                    "status": "pending",
                    "created_by": "ann",
                    "task_type": "review-code",
                    "description": "a secret",
                }
            },
            [("ai", "task:given", {"task_id": "t1", "created_by": "ann", "task_type": "review-code"})],
        ),
        (
            "task:overdue",
            {"task_id": "t1", "assignee_id": "ai", "created_by": "ann", "due_date": AT},
            [("ai", "task:overdue", {"task_id": "t1", "due_date": AT})],
        ),
        (
            "data:tasks:updated",
            {"record": {"id": "t1", "assignee_id": "ai", "status": "in_progress"}},
            [],
        ),
        (
            "data:tasks:updated",
            {"record": {"id": "t1", "assignee_id": None, "status": "completed"}},
            [],
        ),
    ],
)
def test_what_becomes_a_line(name: str, payload: dict[str, Any], told: list[Any]) -> None:
    assert name in PATTERNS
    assert list(entries(name, payload, ())) == told


def test_a_line_is_an_object_of_its_own_and_never_the_text_of_a_message() -> None:
    told = [
        line(AT, event, facts)
        for _, event, facts in entries("data:chat_messages:created", _message(), ("bob",))
    ]
    assert len(told) == 2
    for text in told:
        assert text.count(b"\n") == 1
        assert text.endswith(b"\n")
        assert json.loads(text)["at"] == AT
        assert b"secret" not in text


def test_a_long_reason_is_cut_and_a_longer_line_is_replaced() -> None:
    reason = json.loads(line(AT, "e", {"reason": "x\n\ud800" * 1000}))["reason"]
    assert len(reason) == MAX_REASON
    huge = line(AT, "e", {"names": ["x" * 100] * 100})
    assert len(huge) < MAX_LINE
    assert json.loads(huge).keys() == {"at", "event", "bytes"}


# Files.


def test_lines_are_appended_in_their_order_and_open_to_their_owner_only(disk: Disk) -> None:
    before = os.umask(0)
    try:
        files = disk.files()
        assert files.write({"ann": _lines(1, 2)}).lines == 2
        assert files.write({"ann": _lines(3), "bob": _lines(4)}).lines == 2
    finally:
        os.umask(before)
    assert _numbers(disk.path()) == [1, 2, 3]
    assert _numbers(disk.path("bob")) == [4]
    assert stat.S_IMODE(disk.path().stat().st_mode) == 0o600
    files.close()


def test_a_log_that_is_full_is_set_aside_and_only_so_many_are_kept(disk: Disk) -> None:
    size = len(_lines(100)[0])
    files = disk.files(max_bytes=3 * size, kept=2)
    files.write({"ann": _lines(*range(100, 104))})
    for number in range(104, 111):
        files.write({"ann": _lines(number)})
    found = sorted(path.name for path in disk.path().parent.iterdir())
    assert found == ["activity.log", "activity.log.1", "activity.log.2"]
    assert _numbers(disk.path()) == [109, 110]
    assert _numbers(disk.path().with_name("activity.log.1")) == [106, 107, 108]
    assert _numbers(disk.path().with_name("activity.log.2")) == [103, 104, 105]
    # What people look at goes over the seam, and no further than what is kept.
    assert [item["n"] for item in files.tail("ann", 4)] == [107, 108, 109, 110]
    assert [item["n"] for item in files.tail("ann", 99)] == list(range(103, 111))
    files.close()


def test_a_line_longer_than_a_log_has_one_of_its_own(disk: Disk) -> None:
    files = disk.files(max_bytes=10)
    assert files.write({"ann": _lines(1, 2)}).lines == 2
    assert _numbers(disk.path()) == [2]
    assert _numbers(disk.path().with_name("activity.log.1")) == [1]
    files.close()


def test_no_more_files_than_the_bound_are_open(disk: Disk) -> None:
    before = len(_descriptors())
    files = disk.files(most_open=4)
    users = [f"user-{number}" for number in range(50)]
    for turn in range(2):
        written = files.write({user: _lines(turn) for user in users})
        assert (written.lines, written.failed) == (50, {})
        assert files.open_count == 4
        assert len(_descriptors()) == before + 4
    assert all(_numbers(disk.path(user)) == [0, 1] for user in users)
    files.close()
    assert len(_descriptors()) == before


@pytest.mark.parametrize("how", ["moved", "deleted"])
def test_a_log_that_was_moved_or_deleted_by_hand_is_begun_anew(disk: Disk, how: str) -> None:
    files = disk.files()
    files.write({"ann": _lines(1)})
    if how == "moved":
        disk.path().rename(disk.path().with_name("mine.log"))
    else:
        disk.path().unlink()
    files.write({"ann": _lines(2)})
    assert _numbers(disk.path()) == [2]
    files.close()


def test_a_folder_that_is_not_there_is_made(disk: Disk) -> None:
    files = disk.files()
    files.write({"ann": _lines(1)})
    assert stat.S_IMODE(disk.path().parent.stat().st_mode) == 0o700
    files.close()


def test_a_line_that_a_crash_has_cut_spoils_no_other(disk: Disk) -> None:
    disk.directories.ensure_directories("ann")
    disk.path().write_bytes(_lines(1)[0] + b'{"at": "2026-')
    files = disk.files()
    files.write({"ann": _lines(2)})
    assert disk.path().read_bytes().splitlines()[1:] == [b'{"at": "2026-', _lines(2)[0].rstrip()]
    assert [item["n"] for item in files.tail("ann", 9)] == [1, 2]
    files.close()


def test_a_disk_that_gets_full_within_a_line_leaves_whole_lines_and_says_what_is_missing(
    disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = disk.files()
    files.write({"ann": _lines(1)})
    room = [7]

    def nearly_full(descriptor: int, text: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken, room[0] = min(room[0], len(text)), 0
        return os_write(descriptor, text[:taken])

    os_write = os.write
    monkeypatch.setattr(activity.os, "write", nearly_full)
    written = files.write({"ann": _lines(2, 3)})
    assert (written.lines, written.failed) == (0, {"ann": (2, "No space left on device")})
    assert _numbers(disk.path()) == [1]
    monkeypatch.setattr(activity.os, "write", os_write)
    assert files.write({"ann": _lines(4)}).failed == {}
    assert _numbers(disk.path()) == [1, 4]
    files.close()


def test_a_device_without_room_is_a_failure_of_that_user_only(disk: Disk) -> None:
    disk.directories.ensure_directories("ann")
    disk.path().mkdir()
    files = disk.files()
    written = files.write({"ann": _lines(1), "bob": _lines(2)})
    assert written.lines == 1
    assert written.failed == {"ann": (1, "Is a directory")}
    assert _numbers(disk.path("bob")) == [2]
    files.close()


@pytest.mark.parametrize("what", ["link", "pipe"])
def test_nothing_is_written_through_what_somebody_put_in_the_place_of_a_log(disk: Disk, what: str) -> None:
    disk.directories.ensure_directories("ann")
    other = disk.path().with_name("other")
    other.write_text("as it was")
    if what == "link":
        disk.path().symlink_to(other)
    else:
        os.mkfifo(disk.path())
    files = disk.files()
    assert files.write({"ann": _lines(1)}).failed.keys() == {"ann"}
    assert other.read_text() == "as it was"
    assert files.open_count == 0


def test_who_has_no_log_has_no_lines(disk: Disk) -> None:
    assert disk.files().tail("ann", 5) == []


def test_at_least_one_log_is_kept(disk: Disk) -> None:
    assert KEPT >= 1
    with pytest.raises(ValueError, match="kept is 0; keep 1 log or more"):
        disk.files(kept=0)
