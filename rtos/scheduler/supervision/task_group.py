"""Many tasks that are stopped a few at a time.

Cancelling a nursery cancels all its tasks in one go, and a hundred thousand of
them hold the loop for seconds: nobody else runs, however urgent. Here each task
has a scope of its own, and they are cancelled in slices of one quantum; in
between, whoever is more urgent runs, and those that were cancelled unwind.

Law: when the crowd is left, none of its tasks is running.
"""

from __future__ import annotations

from collections import deque
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from rtos.scheduler.scheduler import Scheduler


class TaskGroup:
    """Tasks that belong together. Made by ``open_task_group``."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._nursery: trio.Nursery
        self._scopes: dict[trio.CancelScope, None] = {}
        self._released = trio.Event()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._scopes)

    def start_soon(self, body: Callable[..., Awaitable[Any]], *args: object, name: str | None = None) -> None:
        """Start a task under the scheduling context of whoever calls this.

        An exception that it raises stops the crowd and comes out of ``open_task_group``.

        Raises:
          RuntimeError: the crowd is being stopped.
        """
        if self._stopping:
            msg = "start_soon: the crowd is being stopped; start tasks before its block ends"
            raise RuntimeError(msg)
        scope = trio.CancelScope()
        self._scopes[scope] = None
        self._nursery.start_soon(self._run, scope, body, args, name=name or body)

    async def stop(self) -> None:
        """Cancel every task, slice by slice, and wait until all have ended.

        Shielded from cancellation, since it is a clean-up. A checkpoint after
        every quantum.
        """
        self._stopping = True
        with trio.CancelScope(shield=True):
            # Each is let go of at its turn: to free all of them at the end would be one long step.
            scopes = deque(self._scopes)
            while scopes:
                scopes.popleft().cancel()
                if not self._scheduler.may_continue():
                    await trio.lowlevel.checkpoint()
            self._released.set()

    async def hold(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Keep the tasks apart from the host's cancellation, until ``stop`` has dealt with them."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._released.wait()

    async def _run(
        self, scope: trio.CancelScope, body: Callable[..., Awaitable[Any]], args: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                await body(*args)
        finally:
            del self._scopes[scope]


@asynccontextmanager
async def open_task_group(scheduler: Scheduler) -> AsyncIterator[TaskGroup]:
    """Many tasks, which are stopped slice by slice when the block ends.

    Args:
      scheduler: the open scheduler; its quantum is the length of a slice.

    Raises:
      ExceptionGroup: with what tasks, or the block, have raised.

    A checkpoint on entering and on leaving. A cancellation stops the tasks in
    slices too, before it goes on.
    """
    crowd = TaskGroup(scheduler)
    async with trio.open_nursery() as nursery:
        await nursery.start(crowd.hold, name="crowd")
        try:
            yield crowd
        finally:
            await crowd.stop()
