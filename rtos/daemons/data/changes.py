"""What has changed, from a number on: for whoever has to see everything, also after a crash."""

from __future__ import annotations

from typing import Any, Final

from rtos.bus import command
from rtos.daemons.data.group import CommandGroup
from rtos.daemons.data.requests import checked_limit
from rtos.errors import CommandRejected

MAX_NUMBER: Final = (1 << 63) - 1
"""The largest that a database can number anything by."""


class Changes(CommandGroup):
    """``data/changes``."""

    @command("data/changes")
    async def changes(
        self,
        *,
        after: int = 0,
        limit: int = 100,
        collections: list[str] | None = None,
        user_id: str | None = None,
    ) -> dict[str, Any]:
        """List what has changed after a sequence number, in the order of the commits.

        ``next`` is the number to go on from; ``more`` says whether there is something by now.
        The verb ``restored`` says that another database was put in place: read the records anew.
        """
        asked = "data/changes"
        wanted = {self._requests.known(asked, name).name for name in collections or ()}
        if not 0 <= after <= MAX_NUMBER:
            raise CommandRejected(
                asked, f"after is {after!r}", parameter="after", remedy=f"use 0 to {MAX_NUMBER}"
            )
        page = await self._backend.changes(user_id, after, checked_limit(asked, limit))
        if page.oldest > after + 1:
            raise CommandRejected(
                asked,
                f"changes up to {page.oldest - 1} are forgotten",
                parameter="after",
                remedy=f"read the records anew, and go on from {page.last}",
            )
        if after > page.last:
            raise CommandRejected(
                asked,
                f"there are {page.last} changes, and not {after}: this is the number of another database",
                parameter="after",
                remedy=f"read the records anew, and go on from {page.last}",
            )
        items = [
            item
            for item in page.items
            if not wanted or item["collection"] in wanted or item["verb"] == "restored"
        ]
        seen = page.items[-1]["sequence"] if page.items else after
        return {
            "items": items,
            "count": len(items),
            "next": seen,
            "last": page.last,
            "more": seen < page.last,
        }
