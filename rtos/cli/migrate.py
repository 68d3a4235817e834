"""``migrate user-directories``: from ``personas/`` to ``users/``, while no system runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rtos.cli.exit_codes import FAILED, OK, WRONG
from rtos.cli.output import print_error
from rtos.errors import ConfigurationError, RtosError
from rtos.runtime.lock import RootLock
from rtos.user.migration import execute, plan

if TYPE_CHECKING:
    from rtos.cli.arguments import Invocation


def migrate(invocation: Invocation) -> int:
    """Move the folders, or say what would be moved; returns the exit code."""
    if invocation.words != ("user-directories",) or set(invocation.options) - {"dry_run"}:
        message = "migrate takes one thing to do; write migrate user-directories [--dry-run] [--root=DIR]"
        print_error({"type": "UsageError", "message": message}, json=invocation.json)
        return WRONG
    if not invocation.root.is_dir():
        message = f"there is no folder {str(invocation.root)!r}; name it with --root"
        print_error({"type": "UsageError", "message": message}, json=invocation.json)
        return WRONG
    try:
        with RootLock(invocation.root).hold():
            planned = plan(invocation.root)
            for line in planned.report():
                print(line)
            dry_run = bool(invocation.options.get("dry_run"))
            moved = execute(planned, dry_run=dry_run)
            print(f"{'would move' if dry_run else 'moved'} {len(moved)} users")
    except RtosError as error:
        print_error({"type": type(error).__name__, "message": str(error)}, json=invocation.json)
        return WRONG if isinstance(error, ConfigurationError) else FAILED
    return OK
