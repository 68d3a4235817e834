"""``migrate user-directories``: from ``personas/`` to ``users/``, while no system runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rtos.cli import FAILED, OK, WRONG
from rtos.errors import ConfigurationError, RtosError
from rtos.runtime.lock import RootLock
from rtos.user.migration import execute, plan

if TYPE_CHECKING:
    from rtos.cli.arguments import Invocation


def migrate(invocation: Invocation) -> int:
    """Move the folders, or say what would be moved; returns the exit code."""
    if invocation.words != ("user-directories",) or set(invocation.options) - {"dry_run"}:
        print("error: write migrate user-directories [--dry-run] [--root=DIR]", file=sys.stderr)
        return WRONG
    if not invocation.root.is_dir():
        print(f"error: there is no folder {str(invocation.root)!r}; name it with --root", file=sys.stderr)
        return WRONG
    try:
        with RootLock(invocation.root).hold():
            planned = plan(invocation.root)
            for line in planned.report():
                print(line)
            dry_run = bool(invocation.options.get("dry_run"))
            moved = execute(planned, dry_run=dry_run)
            print(f"{'would move' if dry_run else 'moved'} {len(moved)} users")
    except ConfigurationError as error:
        print(f"error: {error}", file=sys.stderr)
        return WRONG
    except RtosError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    return OK
