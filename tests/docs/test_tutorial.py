"""The effect that the tutorial claims, in steps: facts about the order, the same on every machine."""

from __future__ import annotations

import runpy
from pathlib import Path

import trio
from trio.testing import MockClock

EXAMPLE = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "urgent_task.py"))


def test_urgent_task_waits_for_no_busy_step_with_a_scheduler() -> None:
    waits = trio.run(EXAMPLE["measure_with_scheduler"], clock=MockClock())
    assert waits.steps == [0] * EXAMPLE["REQUESTS"]


def test_urgent_task_waits_for_all_busy_tasks_in_plain_trio() -> None:
    waits = trio.run(EXAMPLE["measure"], None, clock=MockClock())
    assert max(waits.steps) >= EXAMPLE["BUSY"]
