"""Tasks under a given context, for tests of priority inheritance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import trio

    from rtos.scheduler import SchedulingContext


def start(nursery: trio.Nursery, context: SchedulingContext, task: Callable[..., Any], *args: Any) -> None:
    """Start a task under ``context``."""
    with context:
        nursery.start_soon(task, *args)
