"""The command line: boot a system, and reach every command of a running one by its name.

What talks to a running system needs neither Trio nor a database, so that it
starts fast; everything is imported where it is used.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from rtos.cli.exit_codes import FAILED, INTERRUPTED, OK, WRONG

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rtos.cli.arguments import Invocation


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit code."""
    from rtos.cli.arguments import UsageError, parse

    words = sys.argv[1:] if argv is None else argv
    try:
        invocation = parse(words)
    except UsageError as error:
        from rtos.cli.output import print_error

        print_error({"type": "UsageError", "message": str(error)}, json="--json" in words)
        return WRONG
    try:
        code = _run(invocation)
        # Here, where it can be told, and not when the interpreter exits.
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        _drop_output()
        return OK
    except OSError as error:
        _drop_output()
        print(f"error: {error.strerror or error}; make sure that the output can be written", file=sys.stderr)
        return FAILED
    return code


def _drop_output() -> None:
    """Send what is still in the buffer nowhere: the interpreter would fail on it once more when it exits."""
    own = sys.__stdout__
    # Not what a host has put in its place.
    if own is not None and sys.stdout is own:
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, own.fileno())
            os.close(nowhere)


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
