"""A user's damaged database: the system boots, serves everybody else, and brings the user back when told."""

from __future__ import annotations

from pathlib import Path

import pytest
from process import ask, booted, rtos

pytestmark = pytest.mark.process


def test_a_damaged_user_is_degraded_until_it_is_restored(tmp_path: Path) -> None:
    with booted(tmp_path) as system:
        ask(tmp_path, "data/store", "--key=k", "--value=kept", "--user_id=helper-ai")
        backup = ask(tmp_path, "data/backup", "--user_id=helper-ai")
        assert system.stop() == 0
    database = tmp_path / "users" / "helper-ai" / "data" / "longterm.db"
    content = database.read_bytes()
    database.write_bytes(b"this is not a database " * 100)
    with booted(tmp_path):
        assert ask(tmp_path, "ping")["degraded"] == ["helper-ai"]
        assert "helper-ai" in ask(tmp_path, "system/state")["degraded"]
        assert ask(tmp_path, "user/get", "helper-ai")["state"] == "degraded"
        ask(tmp_path, "chat/send", "hello")
        refused = rtos(tmp_path, "data/read", "--key=k", "--user_id=helper-ai")
        assert refused.returncode != 0
        assert f"{backup['name']}.db" in refused.stderr
        assert "rtos data/restore --user_id=helper-ai" in refused.stderr
        restored = ask(tmp_path, "data/restore", "--user_id=helper-ai")
        assert restored["name"] == backup["name"]
        assert ask(tmp_path, "data/read", "--key=k", "--user_id=helper-ai")["value"] == "kept"
        assert isinstance(ask(tmp_path, "user/get", "helper-ai")["state"], dict)
        assert ask(tmp_path, "ping")["degraded"] == []
    assert list(database.parent.glob("longterm.db.corrupt-*"))
    assert content.startswith(b"SQLite format 3")
