"""The program of asyncio on py-asynkit's priority loop: the tick's server and asker HIGH, its busy tasks LOW.

NORMAL is also what the loop gives to what is no task, such as a timer: with the busy
at LOW the tick's own goes before them, and does better than beside them.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - it is what is measured
from typing import TYPE_CHECKING, Any

import asyncio_peer
import measure
from asynkit.experimental.priority import DefaultPriorityEventLoop, Priority, PriorityTask

if TYPE_CHECKING:
    from collections.abc import Coroutine


PRIORITIES = {
    asyncio_peer.URGENT: Priority.HIGH,
    asyncio_peer.NORMAL: Priority.NORMAL,
    asyncio_peer.BACKGROUND: Priority.LOW,
}


def spawn(work: Coroutine[Any, Any, None], level: int) -> asyncio.Task[None]:
    task: asyncio.Task[None] = PriorityTask(work, priority=PRIORITIES[level].value)
    return task


def run(window: measure.Window) -> None:
    with asyncio.Runner(loop_factory=DefaultPriorityEventLoop) as runner:
        runner.run(asyncio_peer.scenario(window, spawn))


if __name__ == "__main__":
    measure.main("asynkit", run)
