"""The control socket: the same commands from outside the process."""

from rtos.daemons.control.daemon import ControlDaemon

__all__ = ["ControlDaemon"]
