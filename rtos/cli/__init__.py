"""The command line: boot a system, and reach every command of a running one by its name.

What talks to a running system needs neither Trio nor a database, so that it
starts fast; everything is imported where it is used.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.cli.arguments import Invocation

OK: Final = 0
FAILED: Final = 1
"""The command ran and failed, or could not be answered in time."""
WRONG: Final = 2
"""What was asked is no good; nothing was done."""
NOT_RUNNING: Final = 3
"""There is no system to ask."""
INTERRUPTED: Final = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    from rtos.cli.arguments import UsageError, parse

    try:
        invocation = parse(sys.argv[1:] if argv is None else argv)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    try:
        return _run(invocation)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough. What is left in the buffer
        # would make the interpreter complain when it exits.
        sys.stdout = None
        return OK


def _run(invocation: Invocation) -> int:
    if invocation.command == "version":
        import rtos

        print(f"rtos {rtos.__version__}")
        return OK
    if invocation.command == "boot":
        from rtos.cli.boot import boot

        return boot(invocation)
    if invocation.command == "migrate":
        from rtos.cli.migrate import migrate

        return migrate(invocation)
    if invocation.command == "check":
        from rtos.cli.check import check

        return check(invocation)
    from rtos.cli.ask import ask

    return ask(invocation)
