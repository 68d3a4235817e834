"""A call that is interrupted anywhere, by Ctrl-C or by an exception, leaves its port in order.

Every place is tried: the interruption comes at the first function call of ``Port.call``, at
the second, and so on, until the call is over before it comes.
"""

import math
import signal
import sys
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from rtos.scheduler import open_scheduler
from rtos.scheduler.calls import call, core, direct, port, server, worker
from rtos.scheduler.calls.port import Port
from rtos.scheduler.calls.worker import handle
from rtos.scheduler.policy.context import SchedulingContext
from rtos.testing import run_virtual

KERNEL = str(Path(core.__file__).parents[1])
WITHIN = {Port.call.__code__, SchedulingContext.rebase.__code__}
EXCEPT = {
    # They exist only while the checks of the queue are enabled.
    "checked",
    "_check",
    "conserved",
    # They resume the wait of a worker whose handler has suspended. Nothing in them can raise,
    # and they need fewer frames than the handler, which has run just before.
    "wait_for_call",
    "__iter__",
    "__next__",
}
"""Functions that are not interrupted."""
HANDLER = handle.__code__


class InterruptionError(Exception):
    """Raised in the middle of a call."""


class Interrupter:
    """Calls ``action`` at one of the events of ``sys.setprofile`` within ``Port.call`` or ``rebase``.

    Args:
      at: counts the events, from 0.
      action: called once; may raise.
      every: also at calls of functions written in C, and at returns.
    """

    def __init__(self, at, action, *, every=False):
        self.left = at
        self.action = action
        self.events = {"call", "return", "c_call", "c_return"} if every else {"call"}
        self.where = None

    def __enter__(self):
        sys.setprofile(self._profile)
        return self

    def __exit__(self, *_):
        sys.setprofile(None)

    def _profile(self, frame, event, _):
        if event not in self.events or not frame.f_code.co_filename.startswith(KERNEL):
            return
        if frame.f_code.co_name in EXCEPT or not _is_within_kernel(frame):
            return
        self.left -= 1
        if self.left < 0:
            sys.setprofile(None)
            self.where = f"{event} {frame.f_code.co_qualname}"
            self.action()


def _is_within_kernel(frame):
    """Whether a frame belongs to the kernel's part of a call, or to ``rebase``."""
    while frame is not None and frame.f_code is not HANDLER:
        if frame.f_code in WITHIN:
            return True
        frame = frame.f_back
    return False


async def _serve(port, context):
    async def handler(request):
        if request == "sleep":
            try:
                await trio.sleep(1)
            except RecursionError:
                raise
            except RuntimeError as error:
                port.fail(error)  # the handler was woken before its time
        return request

    await port.serve(handler, context=context)


async def _resume_later(port):
    await trio.sleep(1)
    port.resume()


async def _check_in_order(port, context):
    """The port has lost neither its worker nor a call, and the worker has its own priority."""
    await wait_all_tasks_blocked()
    counts = port.queue.statistics
    assert counts.conserved()
    assert not counts.waiting
    assert (context.level, context.payer, context.chain) == (5, None, ())
    with trio.fail_after(10):
        assert await port.call("next") == "next"
        await port.drain()


# How the interrupted call is served: within the caller's step or not, at once or later.
SITUATIONS = {
    "direct": (True, "reply", None),
    "direct, suspends": (True, "sleep", None),
    "direct, with a deadline": (True, "sleep", 50.0),
    "handed over": (False, "reply", None),
    "handed over, with a deadline": (False, "sleep", 50.0),
    "queued": (False, "reply", "suspended"),
}


@asynccontextmanager
async def _port_in(situation):
    """A port in a situation, with what to ask it and by when; it must be in order 2 s after the block."""
    is_direct, request, before = SITUATIONS[situation]
    async with open_scheduler(reserve=0, direct=is_direct) as scheduler, trio.open_nursery() as nursery:
        port, context = Port(scheduler, "port"), scheduler.context("worker", level=5)
        with context:
            nursery.start_soon(_serve, port, context)
        await wait_all_tasks_blocked()
        if before == "suspended":
            port.suspend()
            nursery.start_soon(_resume_later, port)
        yield port, request, before if isinstance(before, float) else math.inf
        await trio.sleep(2)
        await _check_in_order(port, context)
        nursery.cancel_scope.cancel()


async def _interrupt(situation, interrupter, errors):
    """Call a port while ``interrupter`` is active; return whether it has acted."""
    async with _port_in(situation) as (port, request, deadline):
        try:
            with interrupter:
                await port.call(request, deadline=deadline)
            await trio.lowlevel.checkpoint()
        except errors:
            pass
        else:
            assert interrupter.where is None, f"{interrupter.where}: the interruption was lost"
    return interrupter.where is not None


def _press_ctrl_c():
    signal.raise_signal(signal.SIGINT)


def _raise():
    raise InterruptionError


@pytest.mark.parametrize("situation", SITUATIONS)
def test_ctrl_c_during_a_call_reaches_the_program_and_loses_no_worker(situation):
    at = 0
    while run_virtual(_interrupt, situation, Interrupter(at, _press_ctrl_c, every=True), KeyboardInterrupt):
        at += 1
    assert at > 20


@pytest.fixture
def _unchecked(monkeypatch):
    """The table of transitions is not checked: an exception in the check itself is not what is tested."""
    for module in (call, core, direct, port, server, worker):
        monkeypatch.setattr(module, "CHECKS", False)


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("situation", SITUATIONS)
def test_exception_during_a_call_reaches_the_caller_and_loses_no_worker(situation):
    at = 0
    while run_virtual(_interrupt, situation, Interrupter(at, _raise), InterruptionError):
        at += 1
    assert at > 5


async def _at_depth(frames, port, request):
    """Call a port when only so many more frames may be entered."""

    async def descend(left):
        if left > 0:
            return await descend(left - 1)
        return await port.call(request)

    used, frame = 0, sys._getframe()
    while frame is not None:
        used, frame = used + 1, frame.f_back
    return await descend(sys.getrecursionlimit() - used - frames)


async def _exhaust_the_stack(situation, frames):
    async with _port_in(situation) as (port, request, _):
        try:
            failed = await _at_depth(frames, port, request) != request
        except RecursionError:
            failed = True
    return failed


@pytest.mark.usefixtures("_unchecked")
@pytest.mark.parametrize("situation", ["direct", "direct, suspends", "handed over", "queued"])
def test_exhausted_stack_fails_the_call_and_loses_no_worker(situation):
    failed = [run_virtual(_exhaust_the_stack, situation, frames) for frames in range(1, 60)]
    assert failed[0]
    assert not failed[-1]


@pytest.mark.parametrize("direct", [True, False])
def test_ctrl_c_interrupts_a_handler_on_both_paths(direct):
    reached = []

    async def handler(request):
        if request == "press":
            _press_ctrl_c()
            reached.append("the next line")
        return request

    async def main():
        async with open_scheduler(reserve=0, direct=direct) as scheduler, trio.open_nursery() as nursery:
            port, context = Port(scheduler, "port"), scheduler.context("worker")
            with context:
                nursery.start_soon(partial(port.serve, handler, context=context))
            await wait_all_tasks_blocked()
            assert await port.call("nothing") == "nothing"
            before = scheduler.statistics().donated
            try:
                await port.call("press")
            finally:
                reached.append(scheduler.statistics().donated - before)

    with pytest.raises(BaseExceptionGroup) as caught:
        run_virtual(main)
    assert caught.group_contains(KeyboardInterrupt)
    assert reached == [int(direct)]


async def _rebase(at):
    async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
        ran, context = [], scheduler.context("busy", level=5)

        async def run(number):
            ran.append(number)

        with context:
            for number in range(3):
                nursery.start_soon(run, number)
        with scheduler.context("test", level=0):
            await trio.lowlevel.checkpoint()  # the tasks are in the run queue now, and this one goes first
        interrupter = Interrupter(at, _press_ctrl_c, every=True)
        try:
            with interrupter:
                context.rebase(2)
            await trio.lowlevel.checkpoint()
        except KeyboardInterrupt:
            pass
        await wait_all_tasks_blocked()
        assert sorted(ran) == [0, 1, 2]
        assert context.level == 2
    return interrupter.where is not None


def test_ctrl_c_during_rebase_loses_no_task():
    at = 0
    while run_virtual(_rebase, at):
        at += 1
    assert at > 5
