"""A real-time operating system in a Python process, on Trio.

Start it with ``python -m rtos boot``, embed it with ``rtos.open_runtime()``, or use
``rtos.scheduler`` alone. The public names are imported when they are first used, so a
program that only uses the scheduler does not load a database.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rtos.runtime import Configuration, Runtime, open_runtime
    from rtos.scheduler import open_scheduler

__version__: Final = "0.1.0"
__all__ = ["Configuration", "Runtime", "__version__", "open_runtime", "open_scheduler"]

_MODULES: Final = {
    "Configuration": "rtos.runtime",
    "Runtime": "rtos.runtime",
    "open_runtime": "rtos.runtime",
    "open_scheduler": "rtos.scheduler",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        msg = f"module 'rtos' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
