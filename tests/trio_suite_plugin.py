"""Plugin of pytest that opens a scheduler in every Trio run, and reports the outcome of each test.

Loaded by ``trio_suite.py`` for Trio's own tests. ``RTOS_SUITE_MODE`` is ``plain`` (no
scheduler), ``ordered`` or ``strict`` (one step per pass); ``RTOS_SUITE_REPORT`` is the
file that the outcomes are written to, as one JSON object.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import trio
from trio._core import _run as trio_run  # noqa: TID251 - it replaces Trio's own loop function

from rtos.scheduler import open_scheduler
from rtos.scheduler.dispatch.trio_compat import changed_functions
from rtos.scheduler.kernel import QUANTUM
from tests.support.signals import restore_default_signals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import pytest

MODE = os.environ["RTOS_SUITE_MODE"]

_outcomes: dict[str, str] = {}
_counts = {"runs": 0, "ordered": 0}
_plain_run = trio_run.unrolled_run


def _under_scheduler(body: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    named = body
    while isinstance(named, functools.partial):
        named = named.func
    if not inspect.iscoroutinefunction(named):
        # An error in the argument of ``trio.run``, which Trio must report.
        return body

    @functools.wraps(named)
    async def main(*args: object) -> Any:
        _counts["ordered"] += 1
        async with open_scheduler(quantum=0 if MODE == "strict" else QUANTUM):
            return await body(*args)

    return main


@functools.wraps(_plain_run)  # so that the kernel finds the source of the loop
def _ordered_run(runner: Any, body: Any, *rest: Any, **options: Any) -> Any:
    # Every way to start a loop calls this, guest mode included.
    _counts["runs"] += 1
    return _plain_run(runner, _under_scheduler(body), *rest, **options)


if MODE != "plain":
    trio_run.unrolled_run = _ordered_run


def pytest_configure() -> None:
    """Let Ctrl-C reach Trio's tests even if the shell ignores SIGINT."""
    restore_default_signals()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst outcome of a test's three phases."""
    if report.outcome != "passed" or report.nodeid not in _outcomes:
        is_expected = hasattr(report, "wasxfail")
        _outcomes[report.nodeid] = "xfailed" if is_expected else report.outcome


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """A module that cannot be imported counts as one test."""
    if report.outcome != "passed":
        _outcomes[report.nodeid] = f"not collected ({report.outcome})"


def pytest_sessionfinish() -> None:
    """Write the report."""
    report = {
        "trio": trio.__version__,
        "changed": list(changed_functions()),
        "counts": _counts,
        "outcomes": _outcomes,
    }
    Path(os.environ["RTOS_SUITE_REPORT"]).write_text(json.dumps(report), encoding="utf-8")
