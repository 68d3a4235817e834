"""What a human and a persona share, which is nearly everything.

A user owns its identity and its state in memory, and nothing else: data goes
through commands, paths come from the directory utility.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from rtos.user.entities import UserEntity, UserStateEntity

if TYPE_CHECKING:
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

    __slots__ = ("_bus", "_directories", "created_at", "entity", "id", "state", "version")

    def __init__(self, record: dict[str, Any], *, bus: Bus, directories: UserDirectoryManager) -> None:
        self.id: str = record["id"]
        self.created_at: str = record["created_at"]
        self.version: int = record["version"]
        self.entity = msgspec.convert(record, type=UserEntity)
        self.state = UserStateEntity.default(self.id, self.entity.type)
        self._bus = bus
        self._directories = directories

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
            await self.save_state()
        else:
            self.state = msgspec.convert(record["value"], type=UserStateEntity)

    async def save_state(self) -> None:
        """Store its state; durable when this returns."""
        await self._bus.commands.execute("data/store", **state_operation(self.state), user_id=self.id)


class HumanUser(BaseUser):
    """A user of flesh and blood: nothing more than a user."""

    __slots__ = ()


def state_operation(state: UserStateEntity) -> dict[str, Any]:
    """What stores a state: the parameters of ``data/store``, also for a batch."""
    return {"key": STATE_KEY, "value": msgspec.to_builtins(state)}
