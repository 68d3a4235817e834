"""The program of asyncio on py-asynkit's priority loop; the urgent are its HIGH, all else is LOW.

NORMAL is what the loop gives to what is no task: with the busy at LOW, the timer of the
tick goes before them, and does better than beside them.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - it is what is measured
from typing import TYPE_CHECKING, Any

import asyncio_peer
import measure
from asynkit.experimental.priority import DefaultPriorityEventLoop, Priority, PriorityTask

if TYPE_CHECKING:
    from collections.abc import Coroutine


def spawn(work: Coroutine[Any, Any, None], is_urgent: bool) -> asyncio.Task[None]:
    priority = Priority.HIGH if is_urgent else Priority.LOW
    task: asyncio.Task[None] = PriorityTask(work, priority=priority.value)
    return task


def run(window: measure.Window) -> None:
    with asyncio.Runner(loop_factory=DefaultPriorityEventLoop) as runner:
        runner.run(asyncio_peer.scenario(window, spawn))


if __name__ == "__main__":
    measure.main("asynkit", run)
