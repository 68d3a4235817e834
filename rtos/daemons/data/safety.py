"""The commands that keep databases safe, and bring them back."""

from __future__ import annotations

import re
from typing import Any, Final

from rtos.bus import command
from rtos.daemons.data.group import CommandGroup
from rtos.errors import CommandRejected

_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")


class Safety(CommandGroup):
    """``data/backup``, ``backups``, ``restore`` and ``reset``."""

    @command("data/backup")
    async def backup(self, *, user_id: str | None = None, to: str | None = None) -> dict[str, Any]:
        """Make a copy of a database while it is used; the newest few are kept."""
        return await self._backend.backup(user_id, plain_name("data/backup", "to", to))

    @command("data/backups")
    async def backups(self, *, user_id: str | None = None) -> dict[str, Any]:
        """List the backups of a database, the newest first."""
        items = await self._backend.backups(user_id)
        return {"items": items, "count": len(items)}

    @command("data/restore")
    async def restore(self, *, user_id: str | None = None, name: str | None = None) -> dict[str, Any]:
        """Put a backup, the newest if none is named, in the place of a database; that is set aside."""
        restored = await self._backend.restore(user_id, plain_name("data/restore", "name", name))
        self._bus.events.emit("data:restored", {"user_id": user_id, "name": restored["name"]})
        return restored

    @command("data/reset")
    async def reset(self, *, user_id: str | None = None) -> dict[str, Any]:
        """Set a database aside, and start an empty one."""
        done = await self._backend.reset(user_id)
        self._bus.events.emit("data:restored", {"user_id": user_id, "name": None})
        return done


def plain_name(asked: str, parameter: str, name: str | None) -> str | None:
    """A name that leads nowhere.

    Raises:
      CommandRejected: it is a path, or no name of a file.
    """
    if name is None or _NAME.fullmatch(name):
        return name
    raise CommandRejected(
        asked,
        f"{parameter} is {name!r}, which is no plain name",
        parameter=parameter,
        remedy="use letters, digits, '.', '_' and '-', and no folder",
    )
