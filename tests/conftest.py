"""Shared by all tests."""

import sys
from pathlib import Path

# Helpers of the tests stand beside them and are imported by their plain names.
for folder in ("daemons", "system", "torture"):
    sys.path.insert(0, str(Path(__file__).parent / folder))
