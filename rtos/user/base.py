"""What a human and a persona share, which is nearly everything.

A user owns its identity and its state in memory, and nothing else: data goes
through commands, paths come from the directory utility.

Law: who writes the state takes turns (``writing``), begins with the state in memory as
it is by then, and puts there what it has stored before its turn is over. So each write
holds all that were answered before it, and none is lost, whether a command or a persona
that has served a message makes it; and one that fails leaves no trace in memory.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import msgspec
import trio

from rtos.user.entities import UserEntity, UserStateEntity

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.user.directory import UserDirectoryManager

STATE_KEY = "user_state"


class BaseUser:
    """A user of either kind.

    Attributes:
      id: also the name of its folder.
      created_at: timestamp of its record.
      entity: what is known of it to all.
      version: of the record that this was taken from.
      state: its own state, once ``initialize`` has run.
    """

    __slots__ = ("_bus", "_directories", "_turn", "created_at", "entity", "id", "state", "version")

    def __init__(self, record: dict[str, Any], *, bus: Bus, directories: UserDirectoryManager) -> None:
        self.id: str = record["id"]
        self.created_at: str = record["created_at"]
        self.version: int = record["version"]
        self.entity = msgspec.convert(record, type=UserEntity)
        self.state = UserStateEntity.default(self.id, self.entity.type)
        self._bus = bus
        self._directories = directories
        # Of a hundred thousand nearly nobody is written, and a lock is there only while it is.
        self._turn: trio.Lock | None = None

    def take_up(self, record: dict[str, Any]) -> bool:
        """Be what a record says; false if that is nothing newer. Not a checkpoint."""
        if record["version"] <= self.version:
            return False
        self.version = record["version"]
        self.entity = msgspec.convert(record, type=UserEntity)
        return True

    @property
    def database_path(self) -> Path:
        """Where its data lives: ``{root}/users/{id}/data/longterm.db``."""
        return self._directories.get_database_path(self.id)

    async def initialize(self) -> None:
        """Make its folders, and load its state, or store the default one.

        Safe to repeat. Always a checkpoint; a cancellation leaves folders, or a
        state that is stored, but nothing half.

        Raises:
          StoreError: its folders or its database cannot be used.
        """
        self._directories.ensure_directories(self.id)
        record = await self._bus.commands.execute("data/read", key=STATE_KEY, user_id=self.id)
        if record is None:
            await self._store_state(self.state)
        else:
            self.state = msgspec.convert(record["value"], type=UserStateEntity)

    async def change_state(self, change: Callable[[UserStateEntity], UserStateEntity]) -> UserStateEntity:
        """Change its state and store it; durable when this returns.

        Args:
          change: gives the state after the change, of the state as it is when its turn
            has come. The same state changes nothing; nor does it if it raises.

        Returns:
          The state as it is now.

        Raises:
          StoreError: it could not be stored; in memory it is as it was.

        A checkpoint if it changes anything. A cancellation leaves the state in memory as
        it was; that it is stored all the same is possible, until the next change.
        """
        async with self.writing():
            changed = change(self.state)
            if changed is not self.state:
                await self._store_state(changed)
                self.state = changed
            return changed

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[None]:
        """The turn to write its state, for one at a time and in the order in which they came.

        For who stores the state together with something else. Inside there is one write to
        the store and what belongs to it, and never a thought: whoever comes meanwhile waits
        for that. A checkpoint only then.
        """
        turn = self._turn = self._turn or trio.Lock()
        try:
            turn.acquire_nowait()
        except trio.WouldBlock:
            await turn.acquire()
        try:
            yield
        finally:
            turn.release()
            # It has gone straight to whoever waits.
            if not turn.locked():
                self._turn = None

    async def settled(self) -> None:
        """Wait for the end of every write of its state that was asked for. A checkpoint if there is one."""
        async with self.writing():
            return

    async def _store_state(self, state: UserStateEntity) -> None:
        await self._bus.commands.execute("data/store", **state_operation(state), user_id=self.id)


class HumanUser(BaseUser):
    """A user of flesh and blood: nothing more than a user."""

    __slots__ = ()


def state_operation(state: UserStateEntity) -> dict[str, Any]:
    """What stores a state: the parameters of ``data/store``, also for a batch."""
    return {"key": STATE_KEY, "value": msgspec.to_builtins(state)}
