"""The table of transitions: what it rejects, and that it holds exactly what can happen."""

import math
from contextlib import suppress

import pytest
import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.errors import DaemonDown, KernelBug, RtosError, SchedulerClosed
from rtos.scheduler import open_scheduler
from rtos.scheduler.calls import states
from rtos.scheduler.calls.port import Port
from rtos.scheduler.calls.states import (
    CALL,
    WORKER,
    CallEvent,
    CallState,
    WorkerEvent,
    WorkerState,
    transitions,
)


def test_every_transition_is_listed_once_with_plain_names():
    listed = transitions()
    assert len(listed) == len(set(listed)) == sum(len(row) for row in (*CALL.values(), *WORKER.values()))
    assert states.Transition("call", "waiting", "take", "served") in listed
    assert states.Transition("worker", "direct", "suspend", "serving") in listed


@pytest.mark.parametrize(
    ("kinds", "table", "initial"),
    [(CallState, CALL, CallState.OFFERED), (WorkerState, WORKER, WorkerState.READY)],
)
def test_every_state_can_be_reached(kinds, table, initial):
    reached, fresh = {initial}, [initial]
    while fresh:
        for state in table.get(fresh.pop(), {}).values():
            if state not in reached:
                reached.add(state)
                fresh.append(state)
    assert reached == set(kinds)


def test_table_cannot_be_changed():
    with pytest.raises(TypeError):
        CALL[CallState.SERVED][CallEvent.REPLY] = CallState.FAILED


class FakeWorker:
    """A worker for ``advance_worker``."""

    class context:  # noqa: N801 - stands for an instance
        name = "w"

    def __init__(self, state):
        self.state = state


def test_impossible_event_and_wrong_state_are_reported():
    worker = FakeWorker(WorkerState.IDLE)
    states.advance_worker(worker, WorkerEvent.WAIT)
    with pytest.raises(KernelBug, match=r"^worker 'w': finish in state idle is not possible, found idle$"):
        states.advance_worker(worker, WorkerEvent.FINISH)
    worker.state = WorkerState.SERVING
    with pytest.raises(KernelBug, match=r"^worker 'w': donate in state idle leads to direct, found serving$"):
        states.advance_worker(worker, WorkerEvent.DONATE)


# What can happen: scripts that are played against a port.

ACTIONS = ["call"] * 6 + ["cancel", "suspend", "resume", "stop", "start", "drain", "close", "fail", "sleep"]
SCRIPTS = st.lists(
    st.tuples(st.sampled_from(ACTIONS), st.integers(0, 5), st.integers(0, 3), st.integers(1, 6)), max_size=25
)


class FailureError(Exception):
    """What a handler raises, and what a port fails with."""


class Play:
    """One port, its workers and its callers, which do what a script says."""

    def __init__(self, scheduler, nursery, capacity):
        self.scheduler = scheduler
        self.nursery = nursery
        self.port = Port(scheduler, "port", capacity=capacity)
        self.callers = []
        self.workers = []

    def start(self):
        context = self.scheduler.context("worker", level=3)
        scope = trio.CancelScope()
        self.workers.append(scope)
        with context:
            self.nursery.start_soon(self.serve, context, scope)

    async def serve(self, context, scope):
        with scope, suppress(FailureError, SchedulerClosed):
            await self.port.serve(self.handle, context=context)

    async def handle(self, request):
        how, length = request
        try:
            if length:
                with trio.CancelScope(shield=how == 5):
                    await trio.sleep(length)
        except trio.Cancelled:
            # It ends as if it had not noticed.
            if how == 1:
                return "reply"
            if how == 2:
                raise FailureError from None
            raise
        if how == 3:
            raise FailureError
        if how == 4 and self.callers:
            self.callers[-1].cancel()
        return "reply"

    async def call(self, request, deadline, scope):
        with scope, suppress(RtosError, FailureError):
            await self.port.call(request, deadline=deadline)

    async def act(self, what, which, length, until):
        match what:
            case "call":
                deadline = trio.current_time() + until - 2 if until < 5 else math.inf
                scope = trio.CancelScope()
                self.callers.append(scope)
                self.nursery.start_soon(self.call, (which, length), deadline, scope)
            case "cancel" if self.callers:
                self.callers[which % len(self.callers)].cancel()
            case "suspend":
                self.port.suspend()
            case "resume":
                self.port.resume()
            case "stop" if self.workers:
                self.workers.pop().cancel()
            case "start":
                self.start()
            case "drain":
                self.nursery.start_soon(self.port.drain)
            case "close":
                self.port.close(DaemonDown("port", "closed"))
            case "fail":
                self.port.fail(FailureError())
            case "sleep":
                await trio.sleep(length)
        if until % 2:
            await wait_all_tasks_blocked()


async def play(capacity, direct, script):
    async with trio.open_nursery() as nursery:
        async with open_scheduler(reserve=0, direct=direct) as scheduler:
            playing = Play(scheduler, nursery, capacity)
            playing.start()
            await wait_all_tasks_blocked()
            for step in script:
                await playing.act(*step)
        await trio.sleep(10)
        assert playing.port.queue.statistics.conserved()
        assert not playing.port.queue.statistics.waiting
        nursery.cancel_scope.cancel()


def record(monkeypatch):
    """Return a set that collects each transition that ``advance_call`` and ``advance_worker`` check."""
    seen = set()
    for name, machine, initial in (
        ("advance_call", "call", CallState.OFFERED),
        ("advance_worker", "worker", WorkerState.READY),
    ):
        advance = getattr(states, name)

        def recording(thing, event, *, advance=advance, machine=machine, initial=initial):
            before = getattr(thing, "checked", initial)
            advance(thing, event)
            seen.add(states.Transition(machine, before.value, event.value, thing.checked.value))

        monkeypatch.setattr(states, name, recording)
    return seen


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(1, 2), st.booleans(), SCRIPTS)
@example(1, True, [("call", 0, 3, 5), ("drain", 0, 0, 1), ("call", 0, 1, 3), ("sleep", 0, 3, 1)]).via(
    "a blocked call expires"
)
@example(1, True, [("call", 0, 3, 5), ("sleep", 0, 3, 1), ("call", 0, 1, 3)]).via(
    "by the estimate the deadline cannot be met"
)
@example(1, True, [("call", 2, 3, 3), ("sleep", 0, 2, 1)]).via("a handler fails after its deadline")
@example(1, True, [("call", 5, 3, 3), ("cancel", 0, 0, 1), ("sleep", 0, 2, 1)]).via(
    "the deadline of a call whose caller was cancelled passes"
)
@example(1, True, [("call", 2, 3, 5), ("cancel", 0, 0, 1)]).via(
    "a handler fails after its caller was cancelled"
)
@example(1, True, [("call", 0, 3, 5)]).via("the scheduler closes while a call is served")
def play_scripts(capacity, direct, script):
    trio.run(play, capacity, direct, script, clock=MockClock(autojump_threshold=0))


def test_table_holds_exactly_what_happens(monkeypatch):
    seen = record(monkeypatch)
    play_scripts()  # an impossible event raises KernelBug
    assert seen == set(transitions())
