"""The runtime: a whole system, from a root folder to a tree of supervised daemons."""

from rtos.runtime.configuration import Configuration
from rtos.runtime.lock import RootLock
from rtos.runtime.runtime import Runtime, open_runtime

__all__ = ["Configuration", "RootLock", "Runtime", "open_runtime"]
