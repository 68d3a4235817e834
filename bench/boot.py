"""From nothing to a system with all its daemons ready, as a fresh process each time.

CPU time, the interpreter's own start included, since that is what a person waits
for on a calm machine. The parts are shown beside it: the bare interpreter, and the
imports.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from time import process_time
from typing import TYPE_CHECKING, Any, Final

from bench.child import measure, python
from bench.harness import Benchmark, Sample, Size

if TYPE_CHECKING:
    from collections.abc import Callable

PERSONAS: Final = 10
_CPU: Final = "import json, time; print(json.dumps({'cpu_seconds': time.process_time()}))"


def ready(root: str, storage: str) -> dict[str, Any]:
    """Boot on ``root``; the process's CPU time when all daemons are ready. In the child."""
    import trio

    from rtos.runtime import Configuration, open_runtime

    async def run() -> dict[str, Any]:
        imported = process_time()
        settings = Configuration(root=Path(root), storage=storage, owns_process=True)  # type: ignore[arg-type]
        async with AsyncExitStack() as stack:
            runtime = await stack.enter_async_context(open_runtime(settings))
            spent = process_time()
            listed = await runtime.commands.execute("user/list", type="persona", limit=500)
            return {"cpu_seconds": spent, "imported": imported, "personas": listed["count"]}

    return trio.run(run)


def populate(root: str, personas: str) -> dict[str, Any]:
    """Make a system with so many personas. In the child."""
    import trio

    from rtos.runtime import Configuration, open_runtime

    async def run() -> dict[str, Any]:
        async with open_runtime(Configuration(root=Path(root), socket=False)) as runtime:
            listed = await runtime.commands.execute("user/list", type="persona", limit=500)
            for number in range(int(personas) - listed["count"]):
                await runtime.commands.execute("user/create", type="persona", name=f"Persona {number}")
        return {}

    return trio.run(run)


def _boot(storage: str, personas: int) -> Sample:
    root = Path(tempfile.mkdtemp(prefix="bench"))
    try:
        if personas:
            measure("boot", "populate", str(root), str(personas))
        found = measure("boot", "ready", str(root), storage)
    finally:
        shutil.rmtree(root)
    assert found["personas"] == (personas or 1)
    after = (found["cpu_seconds"] - found["imported"]) * 1e3
    return Sample(
        operations=1,
        cpu_seconds=found["cpu_seconds"],
        wall_seconds=found["wall_seconds"],
        extra={"cpu_ms_after_imports": after},
    )


def _start(code: str) -> Sample:
    found = python(code)
    return Sample(operations=1, cpu_seconds=found["cpu_seconds"], wall_seconds=found["wall_seconds"])


def variants(size: Size) -> dict[str, Callable[[], Sample]]:
    """The parts, and the whole."""
    return {
        "python": partial(_start, _CPU),
        "python, import trio": partial(_start, f"import trio; {_CPU}"),
        "python, import rtos.runtime": partial(_start, f"import rtos.runtime; {_CPU}"),
        "memory, new root": partial(_boot, "memory", 0),
        "sqlite, new root": partial(_boot, "sqlite", 0),
        "sqlite, ten personas": partial(_boot, "sqlite", size.of(2, PERSONAS, PERSONAS)),
    }


BENCHMARK = Benchmark(
    name="boot",
    summary="a fresh process until all daemons are ready",
    unit="boot",
    variants=variants,
    rounds=3,
)

if __name__ == "__main__":
    from bench.cli import main

    sys.exit(main(["boot", *sys.argv[1:]]))
