"""The public names of ``rtos.scheduler``: lazy, listed for completion, and visible to type checkers."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import rtos.scheduler


def test_every_public_name_is_the_object_of_its_module():
    for name in rtos.scheduler.__all__:
        value = getattr(import_module(f"rtos.scheduler.{rtos.scheduler._MODULES[name]}"), name)
        assert getattr(rtos.scheduler, name) is value


def test_dir_lists_public_names_that_are_not_loaded_yet():
    code = (
        "import sys, rtos.scheduler; names = dir(rtos.scheduler);"
        "assert set(rtos.scheduler.__all__) <= set(names), names;"
        "assert 'rtos.scheduler.scheduler' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_dir_of_the_top_package_lists_its_names_without_importing_them():
    code = (
        "import sys, rtos; assert set(rtos.__all__) <= set(dir(rtos));"
        "assert not [name for name in sys.modules if name.startswith('rtos.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_type_checkers_see_the_same_names_from_the_same_modules():
    source = ast.parse(Path(rtos.scheduler.__file__).read_text(encoding="utf-8"))
    (guarded,) = [node for node in source.body if isinstance(node, ast.If)]
    seen = {
        alias.name: node.module.removeprefix("rtos.scheduler.")
        for node in guarded.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == rtos.scheduler._MODULES
    assert sorted(seen) == sorted(rtos.scheduler.__all__)


def test_unknown_name_raises_attribute_error():
    with pytest.raises(AttributeError, match=r"module 'rtos\.scheduler' has no attribute 'open_schedule'"):
        rtos.scheduler.open_schedule  # noqa: B018 - reading it is the test


LOADED_BY_OPEN_SCHEDULER = """
budgets budgets.starvation_guard
dispatch dispatch.accounting dispatch.current dispatch.donation dispatch.ready_queue dispatch.run_queue
dispatch.timerfd dispatch.trio_compat dispatch.trio_versions dispatch.wakeup
kernel
policy policy.context policy.levels policy.timer_heap
scheduler statistics
tracing tracing.cpu_sampler tracing.raw tracing.ring
"""


def test_program_that_only_opens_a_scheduler_loads_nothing_that_it_does_not_use():
    """No mailboxes, calls, periodic jobs, budgets, supervision, analysis or reports on misses.

    Opening a scheduler adds 0.29 of the CPU time that importing Trio takes; loading everything adds 1.0.
    """
    code = """
import sys, trio
from rtos.scheduler import open_scheduler
async def main():
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        scheduler.start_soon(nursery, trio.lowlevel.checkpoint, level=1)
        scheduler.add_timer(scheduler.now(), lambda: None)
        await trio.sleep(0)
        scheduler.statistics()
trio.run(main)
print(*(name for name in sys.modules if name.startswith("rtos")))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    allowed = {f"rtos.scheduler.{name}" for name in LOADED_BY_OPEN_SCHEDULER.split()}
    assert set(done.stdout.split()) - {"rtos", "rtos.errors", "rtos.scheduler"} <= allowed


def test_missed_deadline_imports_nothing_while_the_loop_runs():
    code = """
import sys, trio
from rtos.scheduler import open_scheduler, open_port, Budget
from rtos.errors import DeadlineMissed
async def main():
    async with open_scheduler(trace=100) as scheduler, open_port(scheduler, "slow", trio.sleep) as port:
        before = set(sys.modules)
        try:
            await port.call(100, deadline=trio.current_time() + 1)
        except DeadlineMissed:
            await trio.sleep(1)
        assert scheduler.misses
        print(*set(sys.modules) - before)
trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
"""
    done = subprocess.run(
        [sys.executable, "-c", "import trio.testing\n" + code], check=True, capture_output=True, text=True
    )
    assert not [name for name in done.stdout.split() if name.startswith("rtos")]


def test_importing_the_package_alone_does_not_import_trio():
    code = "import sys, rtos.scheduler; assert 'trio' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
