"""A real-time operating system in a Python process, on Trio.

Three ways in: ``python -m rtos boot``, ``rtos.open_runtime()`` inside a program,
and ``rtos.scheduler`` alone. What is named here is imported when it is used, so
that a program that only wants the scheduler does not load a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rtos.runtime import Configuration, Runtime, open_runtime
    from rtos.scheduler import open_scheduler

__version__: Final = "0.1.0"
__all__ = ["Configuration", "Runtime", "__version__", "open_runtime", "open_scheduler"]

_HOMES: Final = {
    "Configuration": "rtos.runtime",
    "Runtime": "rtos.runtime",
    "open_runtime": "rtos.runtime",
    "open_scheduler": "rtos.scheduler",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        msg = f"module 'rtos' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_HOMES[name]), name)
