"""A group of very many tasks that is cancelled in slices.

Cancelling a nursery cancels all its tasks at once, which blocks the loop for seconds if
there are a hundred thousand of them: no other task runs, however urgent. Here each task
has a cancel scope of its own. The scopes are cancelled in slices of one quantum, and
between two slices more urgent tasks and the cancelled tasks run.

Invariant: no task of the group is running when its block has ended.
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
    """Tasks that are cancelled in slices. Made by ``open_task_group``; its length is their number."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._nursery: trio.Nursery
        self._scopes: dict[trio.CancelScope, None] = {}
        self._released = trio.Event()
        self._stopping = False

    def __len__(self) -> int:
        return len(self._scopes)

    def start_soon(
        self, async_fn: Callable[..., Awaitable[Any]], *args: object, name: str | None = None
    ) -> None:
        """Start ``async_fn(*args)`` as a task under the scheduling context of the running task.

        An exception of the task stops the group and comes out of ``open_task_group``.

        Args:
          async_fn: an async function.
          *args: its arguments.
          name: of the task; the function's name by default.

        Raises:
          RuntimeError: the group is being stopped.
        """
        if self._stopping:
            msg = "start_soon: the task group is being stopped; start tasks before its block ends"
            raise RuntimeError(msg)
        scope = trio.CancelScope()
        self._scopes[scope] = None
        self._nursery.start_soon(self._run, scope, async_fn, args, name=name or async_fn)

    async def stop(self) -> None:
        """Cancel every task, in slices, and wait until all have ended.

        A checkpoint after every quantum. Shielded from cancellation, since it is a clean-up.
        """
        self._stopping = True
        with trio.CancelScope(shield=True):
            # Each scope is dropped once it is cancelled: freeing all at the end would be one long step.
            scopes = deque(self._scopes)
            while scopes:
                scopes.popleft().cancel()
                if not self._scheduler.may_continue():
                    await trio.lowlevel.checkpoint()
            self._released.set()

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Run the tasks, apart from the host's cancellation, until ``stop`` has cancelled them."""
        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await self._released.wait()

    async def _run(
        self, scope: trio.CancelScope, async_fn: Callable[..., Awaitable[Any]], args: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                await async_fn(*args)
        finally:
            del self._scopes[scope]


@asynccontextmanager
async def open_task_group(scheduler: Scheduler) -> AsyncIterator[TaskGroup]:
    """Open a group of tasks that is cancelled in slices when the block ends.

    Args:
      scheduler: the open scheduler; its quantum is the length of a slice.

    Raises:
      ExceptionGroup: the exceptions of the tasks and of the block.
      SchedulerClosed: the scheduler is not open.

    A checkpoint on entering and on leaving. A cancellation, too, stops the tasks in slices
    before it goes on.
    """
    scheduler.check_open("open_task_group")
    group = TaskGroup(scheduler)
    async with trio.open_nursery() as nursery:
        await nursery.start(group.run, name="task group")
        try:
            yield group
        finally:
            await group.stop()
