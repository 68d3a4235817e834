"""What every group of the DataDaemon's commands has."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rtos.bus import Bus
    from rtos.daemons.data.backend import Backend
    from rtos.daemons.data.requests import Requests


class CommandGroup:
    """A part of the DataDaemon, which is made of such groups and nothing else.

    Attributes:
      _requests: checks what is asked.
      _bus: where events go; there once the daemon is open, as the backend.
      _backend: keeps the records.
      _exports: the folder for files that go out and come in, if there is one.
    """

    _requests: Requests
    _bus: Bus
    _backend: Backend
    _exports: Path | None
