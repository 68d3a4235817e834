"""Trio's internals: the checks before anything changes, and the fallback for an untested release."""

import inspect
import textwrap
from collections import deque
from types import MappingProxyType

import pytest
import trio
import trio._core._run as trio_run  # noqa: TID251 - the test looks into Trio
from trio.testing import wait_all_tasks_blocked

from rtos.errors import UnsupportedTrio
from rtos.scheduler import Budget, Exhausted, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.dispatch import trio_compat
from rtos.scheduler.dispatch.trio_compat import changed_functions, check_trio, digest_of, is_tested
from rtos.scheduler.dispatch.trio_versions import SOURCES
from rtos.scheduler.policy.context import context_variable


def runner():
    return trio_run.GLOBAL_RUN_CONTEXT.runner


# The check of names.


async def test_unknown_queue_is_refused_and_nothing_changes():
    class Strange(deque):
        pass

    found = runner().runq
    strange = runner().runq = Strange(found)
    try:
        instruments = dict(runner().instruments)
        tasks = len(runner().tasks)
        with pytest.raises(UnsupportedTrio, match="runq is .*Strange.*; use a version from 0.30.0 to"):
            await open_scheduler().__aenter__()
        assert runner().runq is strange
        assert runner().instruments == instruments
        assert len(runner().tasks) == tasks
        assert trio.lowlevel.current_task().context.get(context_variable) is None
    finally:
        runner().runq = found
    async with open_scheduler():
        pass


async def test_unknown_runner_is_refused(monkeypatch):
    class Runner:
        runq = runner().runq

    class Context:
        runner = Runner()

    with monkeypatch.context() as patch:
        patch.setattr(trio_run, "GLOBAL_RUN_CONTEXT", Context())
        with pytest.raises(UnsupportedTrio, match=r"it lacks \['init_task', 'main_task'"):
            check_trio()


async def test_loop_that_does_not_copy_its_queue_is_refused(monkeypatch):
    def unrolled_run(runner):
        while runner.runq:
            runner.runq.popleft()

    monkeypatch.setattr(trio_run, "unrolled_run", unrolled_run)
    with pytest.raises(UnsupportedTrio, match="its loop does not copy and clear runq"):
        await open_scheduler().__aenter__()
    async with open_scheduler(ordered=False):
        pass


def test_outside_of_a_loop_the_check_fails():
    with pytest.raises(UnsupportedTrio, match=r"it lacks \['runq'"):
        check_trio()


# The comparison of sources.


@pytest.fixture
def fresh():
    """Forget what was found out about this Trio, before the test and after it."""
    is_tested.cache_clear()
    yield
    is_tested.cache_clear()


def test_installed_trio_is_a_tested_release():
    assert changed_functions() == {}


def test_digest_ignores_comments_and_indentation_only(tmp_path):
    def digest(source):
        path = tmp_path / f"module_{len(list(tmp_path.iterdir()))}.py"
        path.write_text(source)
        space = {}
        exec(compile(source, str(path), "exec"), space)
        return digest_of(space.get("function") or space["Class"].function, {})

    plain = "def function(\n    a,\n):\n    if a:\n        return 1\n    return 2\n\n\nX = 1\n"
    assert digest(plain) == digest(plain.replace("X = 1", "X = 2"))
    assert digest(plain) == digest(plain.replace("    return 2", "    # why\n\n    return 2"))
    assert digest(plain) == digest("class Class:\n" + textwrap.indent(plain, "    "))
    assert digest(plain) != digest(plain.replace("return 2", "return 3"))
    assert digest(plain) != digest(plain.replace("    a,", "    a=0,"))


def test_function_without_source_has_no_known_digest():
    space = {}
    exec("def function(): pass", space)
    assert digest_of(space["function"], {}) == "no source"
    assert digest_of(None, {}) == "missing"


@pytest.mark.parametrize("name", SOURCES)
def test_each_function_is_compared(name, fresh, monkeypatch):
    monkeypatch.setattr(trio_compat, "SOURCES", {**SOURCES, name: ()})
    assert list(changed_functions()) == [name]


# The fallback.


@pytest.fixture
def untested(fresh, monkeypatch):
    """No release of Trio has been tested."""
    monkeypatch.setattr(trio_compat, "SOURCES", MappingProxyType(dict.fromkeys(SOURCES, ())))


async def test_untested_release_is_reported_once(untested, caplog):
    for _ in range(3):
        async with open_scheduler():
            await trio.lowlevel.checkpoint()
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"trio {trio.__version__} differs from the tested releases (0.30.0 to" in record.message
    assert "in unrolled_run, Runner.reschedule, " in record.message


async def test_untested_release_runs_one_step_per_pass_in_order(untested):
    order = []

    async def task(name):
        for _ in range(3):
            order.append(name)
            await trio.lowlevel.checkpoint()

    async with open_scheduler(quantum=1.0, reserve=0) as scheduler:
        async with trio.open_nursery() as nursery:
            contexts = [
                scheduler.context(name, level=level)
                for name, level in (("low", 6), ("first", 3), ("second", 3), ("high", 1))
            ]
            for context in contexts:
                with context:
                    nursery.start_soon(task, context.name)
        statistics = scheduler.statistics()
    assert order == [*["high"] * 3, *["first", "second"] * 3, *["low"] * 3]
    # The running step is counted as a pass, and not yet as a step.
    assert statistics.passes == sum(account.steps for account in statistics.contexts) + 1


async def test_untested_release_serves_no_call_inside_its_callers_step(untested):
    async def double(number):
        return 2 * number

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        port, context = Port(scheduler, "double"), scheduler.context("double", level=2)
        with context:
            nursery.start_soon(lambda: port.serve(double, context=context))
        await wait_all_tasks_blocked()
        for number in range(5):
            assert await port.call(number) == 2 * number
        assert scheduler.direct is None
        assert scheduler.statistics().donated == 0
        nursery.cancel_scope.cancel()


async def test_untested_release_enforces_budgets(untested, autojump_clock):
    ran = []

    async def job():
        for _ in range(2):
            ran.append(trio.current_time())
            autojump_clock.jump(1.0)
            await trio.lowlevel.checkpoint()

    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        with scheduler.context("hog", budget=Budget(1, 10, Exhausted.THROTTLE)):
            nursery.start_soon(job)
    assert ran == [0.0, 10.0]


def test_loop_with_a_changed_step_runs_every_step_itself(fresh, tmp_path, monkeypatch):
    """A release whose loop does more at each step than the run queue would."""
    source = textwrap.dedent(inspect.getsource(trio_run.unrolled_run))
    changed = source.replace("task = batch.pop()", "task = batch.pop()\n                steps.append(task)")
    assert changed != source
    changed = "from __future__ import annotations\n" + changed
    path, steps = tmp_path / "changed.py", []
    path.write_text(changed)
    space = {**vars(trio_run), "steps": steps}
    exec(compile(changed, str(path), "exec"), space)
    monkeypatch.setattr(trio_run, "unrolled_run", space["unrolled_run"])
    ran = []

    async def task():
        for _ in range(50):
            ran.append(trio.lowlevel.current_task())
            await trio.lowlevel.checkpoint()

    async def main():
        async with open_scheduler(), trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(task)

    trio.run(main)
    assert len(ran) == 500
    assert sum(step in set(ran) for step in steps) == 10 * 51
