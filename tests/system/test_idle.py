"""An idle system does nothing at all."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from process import booted

from rtos.cli.client import Client

pytestmark = pytest.mark.process

PERSONAS = 100
SECONDS = 10


def test_a_hundred_idle_personas_cause_no_wake_up(tmp_path: Path) -> None:
    with booted(tmp_path) as system, Client(tmp_path) as client:
        for number in range(PERSONAS - 1):
            client.execute("user/create", {"type": "persona", "name": f"Persona {number}"}, timeout=30)
        found = client.execute("user/list", {"type": "persona", "limit": 500}, timeout=30)
        assert found["count"] == PERSONAS

        def look() -> dict:
            return client.execute("system/state", {}, timeout=30)

        # What its creation has left to write in the activity logs is written now and not within a second.
        client.execute("user/activity", {"id": "operator"}, timeout=30)
        look()
        before = look()
        cpu = system.cpu_seconds()
        with pytest.raises(subprocess.TimeoutExpired):
            system.process.wait(timeout=SECONDS)
        spent = system.cpu_seconds() - cpu
        after = look()
        # Being looked at ends one sleep, and any wake-up in the ten seconds would have
        # ended another. The loop slept once, all the time.
        assert after["sleeps"] - before["sleeps"] == 1
        # The clock of a process ticks in hundredths of a second.
        assert round(spent * 100) <= 1
