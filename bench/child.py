"""A measurement in a process of its own: what it starts from nothing with, and what memory it takes.

The child runs one function of a module of this package and prints what it returns
as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from time import perf_counter
from typing import Any, Final

HERE: Final = Path(__file__).parents[1]
PAGE: Final = os.sysconf("SC_PAGE_SIZE")


def measure(module: str, function: str, *arguments: str) -> dict[str, Any]:
    """Call ``bench.MODULE.FUNCTION(*arguments)`` in a fresh process.

    Returns:
      What it returned, with ``wall_seconds`` from before the process was there to
      the end of its output, unless it gave that itself.

    Raises:
      RuntimeError: the child failed.
    """
    code = f"import json, bench.{module} as m, sys; print(json.dumps(m.{function}(*sys.argv[1:])))"
    return python(code, *arguments)


def python(code: str, *arguments: str) -> dict[str, Any]:
    """Run a text of Python whose last line of output is a JSON object. See ``measure``."""
    began = perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=HERE,
        env=os.environ | {"PYTHONPATH": str(HERE)},
        capture_output=True,
        text=True,
        check=False,
    )
    wall = perf_counter() - began
    if done.returncode:
        msg = f"the child failed with {done.returncode}: {done.stderr.strip()[-2000:]}"
        raise RuntimeError(msg)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"wall_seconds": wall} | found


def resident_bytes() -> int:
    """Memory of this process that is in use; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE
    except OSError:
        return 0
