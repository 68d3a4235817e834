"""The exit codes of the command line."""

from typing import Final

OK: Final = 0
FAILED: Final = 1
"""The command ran and failed, or could not be answered in time."""
WRONG: Final = 2
"""What was asked is no good; nothing was done."""
NOT_RUNNING: Final = 3
"""There is no system to ask."""
INTERRUPTED: Final = 130
