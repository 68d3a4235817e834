"""What went wrong in the reference system: that each has its test, and the one that had none yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from living import World, humans

if TYPE_CHECKING:
    from trio.testing import MockClock

import trio

ROOT = Path(__file__).parents[2]


def test_every_defect_in_the_documents_has_a_test_of_that_name() -> None:
    _, _, table = (ROOT / "docs" / "personas.md").read_text().partition("## What went wrong elsewhere")
    named = re.findall(r"^\|[^|]+\| `(\w+)` \|$", table, flags=re.MULTILINE)
    assert len(named) > 20
    assert len(named) == table.count("\n| ") - 1
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), flags=re.MULTILINE)
    }
    assert set(named) <= there


async def test_a_backlog_is_worked_off_without_a_pause(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Elsewhere a loop sleeps after every task, so that none does more than five a second."""
    world = World(tmp_path)
    world.script.takes = 0.001
    async with world.running() as bus:
        several = await humans(bus, 50)
        began = trio.current_time()
        with bus.events.subscribe("data:chat_messages:created", backlog=1000) as events:
            for number, sender in enumerate(several):
                text = f"question {number}"
                await bus.commands.execute("chat/send", room="general", text=text, sender=sender)
            answered = 0
            while answered < 50:
                answered += (await events.receive()).payload["record"]["sender_type"] == "persona"
        assert trio.current_time() - began < 50 * 0.001 + 0.001
