"""Shared by all tests."""

import os
import sys
from pathlib import Path

# Before anything imports rtos: every operation on a mailbox checks that no message is lost.
os.environ["RTOS_CHECKS"] = "1"

from tests.support.effort import load_hypothesis_profile
from tests.support.signals import restore_default_signals

# Helpers of the tests stand beside them and are imported by their plain names.
for folder in ("daemons", "system", "torture"):
    sys.path.insert(0, str(Path(__file__).parent / folder))


def pytest_configure() -> None:
    """Let no test depend on the shell that started it, or on how fast the machine is."""
    restore_default_signals()
    load_hypothesis_profile()
