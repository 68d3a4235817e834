"""The control socket: the same commands from outside the process."""

from rtos.daemons.control.daemon import ControlDaemon
from rtos.daemons.control.socket import check_path

__all__ = ["ControlDaemon", "check_path"]
