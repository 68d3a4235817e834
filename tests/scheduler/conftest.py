"""Shared by the tests of the kernel."""

import sys
from pathlib import Path

# Helpers of the tests stand beside them and are imported by their plain names.
sys.path.insert(0, str(Path(__file__).parent))
