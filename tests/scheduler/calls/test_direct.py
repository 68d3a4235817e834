"""The direct path: a call to an idle worker is served in its caller's step, and no task can tell.

Each scenario runs twice in virtual time, with the direct path and without. What each task
observes, and when, must be the same. No two delays end at the same instant. If one worker
releases two tasks at once (the callers of two calls), either may run first, on both paths.
"""

import gc
import math
import random
import sys
from contextlib import suppress
from itertools import pairwise

import attrs
import pytest
import trio
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from rtos.errors import RtosError
from rtos.scheduler import Budget, CallStatistics, Exhausted, current_context, open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.dispatch.current import current_deadline, current_level
from rtos.scheduler.tracing.records import Step
from rtos.testing import TICK, run_virtual, spend
from tests.support.effort import short_or_full

NAMES = ("a", "b", "c")


@attrs.frozen
class Send:
    """One call: its port, deadline, the time when its caller is cancelled, and what its handler does."""

    number: int
    to: str
    timeout: int | None
    patience: int | None
    script: tuple[object, ...]

    def seconds(self, units: int, what: str) -> float:
        """Return ``units`` and a fraction of its own, so that no two sums of delays are equal."""
        return units + random.Random(f"{self.number} {what}").random() / 2


SIMPLE = st.sampled_from(
    [
        ("sleep", 1), ("sleep", 4), ("shielded", 3), ("checkpoint",), ("cancel checkpoint",), ("look",),
        ("raise",), ("cancel caller",), ("suspend",), ("resume",), ("context",), ("system exit",),
        ("cancel worker",), ("start", 2),
    ]
)  # fmt: skip
RARE = {"system exit", "cancel worker"}


def sends(script):
    return st.builds(
        Send,
        number=st.integers(0, 10**9),
        to=st.sampled_from(NAMES),
        timeout=st.none() | st.integers(1, 8),
        patience=st.none() | st.integers(0, 8),
        script=script,
    )


SCRIPTS = st.recursive(
    st.lists(SIMPLE, max_size=3).map(tuple),
    lambda inner: st.lists(SIMPLE | sends(inner), max_size=3).map(tuple),
    max_leaves=6,
)
CLIENTS = st.lists(
    st.tuples(
        st.integers(0, 7), st.lists(st.tuples(st.integers(1, 6), sends(SCRIPTS)), min_size=1, max_size=5)
    ),
    min_size=1,
    max_size=3,
)
DAEMONS = st.fixed_dictionaries(
    {
        name: st.fixed_dictionaries(
            {
                "level": st.integers(0, 7),
                "workers": st.integers(1, 2),
                "capacity": st.integers(1, 2),
            }
        )
        for name in NAMES
    }
)


class Unlearned(CallStatistics):
    """Statistics whose estimate is always 0.

    When a worker ends a call it releases the caller and, at the same instant, the caller of
    the next call if that cannot meet its deadline. The order of the two would decide the
    next estimate. Deadlines that cannot be met have a test of their own.
    """

    estimate = property(lambda _: 0.0, lambda *_: None)


class World:
    """Three ports and some clients, and everything that they observed."""

    def __init__(self, scheduler, nursery, daemons):
        self.scheduler = scheduler
        self.nursery = nursery
        self.seen = []
        self.scopes = {}
        self.ports = {}
        self.kinds = {name: Unlearned(name) for name in daemons}
        self.levels = {name: options["level"] for name, options in daemons.items()}
        self.contexts = {name: [] for name in daemons}
        for name, options in daemons.items():
            self.ports[name] = Port(scheduler, name, capacity=options["capacity"])
            for _ in range(options["workers"]):
                self.start_worker(name)

    def start_worker(self, name):
        context = self.scheduler.context(name, level=self.levels[name])
        self.contexts[name].append(context)
        with context:
            self.nursery.start_soon(self.work, name, context)

    async def work(self, name, context):
        # As a supervisor does, start a worker again when it has ended.
        try:
            with trio.CancelScope() as self.scopes[context]:
                await self.ports[name].serve(self.handle, context=context)
        except SystemExit as error:
            self.note(name, "ended", error)
        await trio.sleep(random.Random(f"{name} {trio.current_time()}").random())
        self.start_worker(name)

    def note(self, *what):
        self.seen.append((trio.current_time(), *(_describe(part) for part in what)))

    async def handle(self, send):
        self.look(send, "begin")
        for number, operation in enumerate(send.script):
            if isinstance(operation, Send):
                self.note(send.number, "nested", await self.send(operation))
            else:
                await self.act(send, number, *operation)
        self.look(send, "end")
        return send.number

    def look(self, send, what):
        context = current_context()
        self.note(send.number, what, current_level(), current_deadline(), context.chain, context.payer.name)
        self.note(send.number, trio.lowlevel.current_task().name, trio.current_effective_deadline())

    async def act(self, send, number, what, units=0):  # noqa: C901 - one line for each thing to do
        length = send.seconds(units, f"{number} {what}")
        match what:
            case "sleep":
                await trio.sleep(length)
            case "shielded":
                with trio.CancelScope(shield=True):
                    await trio.sleep(length)
            case "checkpoint":
                await trio.lowlevel.checkpoint()
            case "cancel checkpoint":
                await trio.lowlevel.checkpoint_if_cancelled()
            case "look":
                self.look(send, "look")
            case "raise":
                raise ValueError(send.number)
            case "context":
                self.note(send.number, "handles", sys.exc_info()[1])
                raise KeyError(send.number)
            case "cancel caller":
                if send.number in self.scopes:
                    self.scopes[send.number].cancel()
            case "suspend" if len(self.contexts[send.to]) == 1:
                # Two workers released at the same instant have no order.
                self.ports[send.to].suspend()
            case "resume":
                self.ports[send.to].resume()
            case "system exit":
                raise SystemExit(send.number)
            case "cancel worker":
                self.scopes[current_context()].cancel()
            case "start":
                self.nursery.start_soon(self.later, send, length)

    async def later(self, send, length):
        await trio.sleep(length)
        self.note(send.number, "later", current_level())

    async def send(self, send):
        deadline = math.inf
        if send.timeout is not None:
            deadline = trio.current_time() + send.seconds(send.timeout, "timeout")
        with trio.CancelScope() as scope:
            self.scopes[send.number] = scope
            if send.patience is not None:
                scope.deadline = trio.current_time() + send.seconds(send.patience, "patience")
            try:
                return await self.ports[send.to].call(send, deadline=deadline, statistics=self.kinds[send.to])
            except (RtosError, ValueError, KeyError) as error:
                return error
        return "cancelled"

    async def client(self, number, sends):
        try:
            raise LookupError(number)  # noqa: TRY301 - it is to be handled here
        except LookupError:
            # Client 1 calls while it handles an exception, which the handlers must not see.
            if number == 1:
                await self.client_of(number, sends)
                return
        await self.client_of(number, sends)

    async def client_of(self, number, sends):
        for delay, send in sends:
            await trio.sleep(send.seconds(delay, "delay"))
            self.note("client", number, await self.send(send))

    def accounts(self):
        ports = {
            name: (_counts(port.queue.statistics), port.queue.statistics.conserved())
            for name, port in self.ports.items()
        }
        kinds = {
            name: (
                kind.service.count,
                kind.service.total,
                kind.response.count,
                kind.response.total,
                kind.missed,
            )
            for name, kind in self.kinds.items()
        }
        jobs = {name: sum(context.jobs for context in contexts) for name, contexts in self.contexts.items()}
        return ports, kinds, jobs


def _describe(part):
    if isinstance(part, BaseException):
        context = part.__context__ and type(part.__context__).__name__
        return type(part).__name__, str(part), vars(part).get("started"), context
    return part


def by_whom(seen):
    """Group the observations by call and by client; two tasks released at once have no order."""
    sights = {}
    for time, *what in seen:
        whom = tuple(what[:2]) if isinstance(what[0], str) else what[0]
        sights.setdefault(whom, []).append((time, *what))
    return sights


def run(daemons, clients, *, direct):
    async def main():
        async with open_scheduler(direct=direct, reserve=0) as scheduler:
            async with trio.open_nursery() as nursery:
                world = World(scheduler, nursery, daemons)
                # Until each worker has run a step, whose length is known then.
                await wait_all_tasks_blocked()
                for number, (level, sends) in enumerate(clients):
                    with scheduler.context(f"client {number}", level=level):
                        nursery.start_soon(world.client, number, sends)
                await trio.sleep(100.3)
                for port in world.ports.values():
                    await trio.sleep(50.3)
                    port.resume()
                await trio.sleep(100)
                nursery.cancel_scope.cancel()
            return by_whom(world.seen), world.accounts(), scheduler.statistics().donated

    return run_virtual(main)


def uniquely_numbered(clients):
    """Return the same clients, with every call numbered by its position."""
    number = 0

    def renumber(send):
        nonlocal number
        number += 1
        mine = number
        script = tuple(renumber(part) if isinstance(part, Send) else part for part in send.script)
        return attrs.evolve(send, number=mine, script=script)

    return [(level, [(delay, renumber(send)) for delay, send in sends]) for level, sends in clients]


def _counts(statistics):
    """Everything but the high-water mark: of two tasks released at once either may run first."""
    return str(attrs.evolve(statistics, high_water=0))


def _send(number, to, *script):
    return Send(number=number, to=to, timeout=None, patience=None, script=script)


# A call cancels its caller, which calls the same port again. Its worker is idle by then.
CANCELLED_BY_ITS_CALL = [
    (
        1,
        [
            (1, _send(1, "a")),
            (1, _send(2, "a")),
            (1, _send(3, "a", _send(4, "b", ("cancel caller",)), _send(5, "b"))),
        ],
    )
]
PLAIN = {"level": 0, "workers": 1, "capacity": 1}


@settings(max_examples=short_or_full(60, 300))
@given(DAEMONS, CLIENTS)
@example({"a": {**PLAIN, "level": 1}, "b": PLAIN, "c": PLAIN}, CANCELLED_BY_ITS_CALL)
def test_direct_and_queued_path_give_the_same_observations(daemons, clients):
    clients = uniquely_numbered(clients)
    seen, accounts, donated = run(daemons, clients, direct=True)
    event(f"donated steps: {min(donated, 5)}")
    expected_seen, expected_accounts, never = run(daemons, clients, direct=False)
    assert never == 0
    assert seen == expected_seen
    assert accounts == expected_accounts


def test_scenario_with_idle_workers_takes_the_direct_path():
    """Otherwise the comparison above would compare the queued path with itself."""
    script = (("look",), ("sleep", 1), ("look",))
    clients = [(3, [(1, Send(0, name, None, None, script if name == "b" else ())) for name in NAMES * 3])]
    daemons = {name: {"level": 2, "workers": 1, "capacity": 1} for name in NAMES}
    assert run(daemons, uniquely_numbered(clients), direct=True)[2] == 9


class Served:
    """One port, whose requests are functions to run."""

    def __init__(self, scheduler, nursery, *, level=2, budget=None):
        self.scheduler = scheduler
        self.port = Port(scheduler, "daemon")
        self.kind = CallStatistics("daemon")
        self.context = scheduler.context("daemon", level=level, budget=budget)
        with self.context:
            nursery.start_soon(self.serve)

    async def serve(self):
        await self.port.serve(lambda handler: handler(), context=self.context)

    async def call(self, handler=None, **options):
        return await self.port.call(handler or _nothing, statistics=self.kind, **options)

    def donated(self):
        return self.scheduler.statistics().donated


async def _nothing():
    return "nothing"


async def _open(body, *, daemon=None, **options):
    """Run ``body(served)`` beside a worker that has run a step."""
    async with open_scheduler(reserve=0, **options) as scheduler, trio.open_nursery() as nursery:
        served = Served(scheduler, nursery, **(daemon or {}))
        await wait_all_tasks_blocked()
        result = await body(served)
        nursery.cancel_scope.cancel()
    return result


@pytest.mark.parametrize("direct", [True, False])
def test_cpu_time_is_billed_as_on_the_queued_path(direct):
    async def main(served):
        client = served.scheduler.context("client", level=4)

        async def work():
            spend(3 * TICK)

        async def ask():
            spend(1 * TICK)
            await served.call(work)
            spend(2 * TICK)
            await served.call(work)

        async with trio.open_nursery() as nursery:
            with client:
                nursery.start_soon(ask)
        contexts = (client, served.context)
        accounts = [(context.cpu_ns, context.billed_ns) for context in contexts]
        return accounts, served.scheduler.cpu_ns(client), served.donated() > 0

    accounts, cpu, donated = run_virtual(lambda: _open(main, direct=direct, quantum=1.0))
    # Each reading of the clock is rounded to a nanosecond.
    ticks = [[round(spent / 1e9 / TICK, 4) for spent in account] for account in accounts]
    assert ticks == [[3, 6], [6, 0]]
    assert cpu == accounts[0][0]
    assert donated is direct


def test_trace_shows_the_steps_of_caller_and_worker_in_order():
    async def main(served):
        async def work():
            spend(3 * TICK)

        spend(1 * TICK)
        await served.call(work)
        spend(2 * TICK)
        await trio.sleep(TICK)  # ends the pass, and closes the open account
        records = served.scheduler.trace.snapshot()
        steps = [record for record in records if isinstance(record, Step) and record.duration]
        return [(step.name, round(step.duration / 1e9 / TICK)) for step in steps], [
            step.at == before.end for before, step in pairwise(steps)
        ]

    steps, gapless = run_virtual(lambda: _open(main, quantum=1.0, trace=4096))
    assert steps == [("host", 1), ("daemon", 3), ("host", 2)]
    assert all(gapless)


def test_loop_of_calls_lets_other_tasks_run_after_each_quantum():
    async def main(served):
        others = 0

        async def work():
            spend(TICK)

        async def other():
            nonlocal others
            while True:
                others += 1
                await trio.lowlevel.checkpoint()

        await served.call(work)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(other)
            await trio.lowlevel.checkpoint()
            before = others
            for _ in range(40):
                await served.call(work)
            seen = others - before
            nursery.cancel_scope.cancel()
        return seen

    # Ten calls fit into a quantum. The other task, of the same level, runs once after each quantum.
    assert 3 <= run_virtual(lambda: _open(main, quantum=10 * TICK)) <= 8


def test_loop_of_calls_that_take_no_time_lets_other_tasks_run():
    async def main(served):
        passes = served.scheduler.statistics().passes
        for _ in range(640):
            await served.call()
        return served.scheduler.statistics().passes - passes

    assert 9 <= run_virtual(lambda: _open(main)) <= 12


def test_caller_goes_on_in_a_new_step_after_an_unexpectedly_long_call():
    async def main(served):
        async def work():
            spend(50 * TICK)

        passes = served.scheduler.statistics().passes
        await served.call(work)
        return served.donated(), served.scheduler.statistics().passes - passes

    donated, passes = run_virtual(lambda: _open(main, quantum=10 * TICK))
    assert donated == 1
    assert passes == 1


async def _call_twice(served):
    assert await served.call() == "nothing"
    assert await served.call() == "nothing"
    return served.donated()


class Nosy(trio.abc.Instrument):
    def before_task_step(self, task):
        pass


async def _call_under_an_instrument(served):
    trio.lowlevel.add_instrument(nosy := Nosy())
    try:
        return await _call_twice(served)
    finally:
        trio.lowlevel.remove_instrument(nosy)


async def _call_while_handling(served):
    try:
        raise LookupError  # noqa: TRY301 - it is to be handled here
    except LookupError:
        return await _call_twice(served)


async def _call_on_a_budget(served):
    budget = Budget(1.0, 2.0, on_exhausted=Exhausted.THROTTLE)
    with served.scheduler.context("client", budget=budget):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_call_twice, served)
    return served.donated()


@pytest.mark.parametrize(
    ("body", "options"),
    [
        pytest.param(_call_twice, {"direct": False}, id="switched off"),
        pytest.param(_call_twice, {"quantum": 0}, id="strict: one step per pass"),
        pytest.param(_call_under_an_instrument, {}, id="an instrument observes steps"),
        pytest.param(_call_while_handling, {}, id="an exception is being handled"),
        pytest.param(_call_on_a_budget, {}, id="the caller has a budget"),
        pytest.param(_call_twice, {"daemon": {"budget": Budget(1.0, 2.0)}}, id="the worker has a budget"),
    ],
)
def test_direct_path_is_not_taken_where_a_task_could_observe_it(body, options):
    assert run_virtual(lambda: _open(body, **options)) == 0
    assert run_virtual(lambda: _open(_call_twice)) == 2


def test_cancelled_caller_sends_no_call():
    async def main(served):
        with trio.CancelScope() as scope:
            scope.cancel()
            await served.call()
        return served.port.queue.statistics.accepted, scope.cancelled_caught

    assert run_virtual(lambda: _open(main)) == (0, True)


def test_call_whose_deadline_cannot_be_met_is_not_started_by_an_idle_worker():
    async def main(served):
        async def slow():
            await trio.sleep(4)

        await served.call(slow)
        with pytest.raises(RtosError, match="missed its deadline before it started; nothing happened"):
            await served.call(slow, deadline=trio.current_time() + 3)
        return str(served.port.queue.statistics), served.kind.missed

    direct = run_virtual(lambda: _open(main))
    queued = run_virtual(lambda: _open(main, direct=False))
    assert direct == queued
    assert direct[1] == 1


@pytest.mark.parametrize("direct", [True, False])
def test_plain_function_that_raises_stop_iteration_fails_its_call(direct):
    def stop():
        raise StopIteration("not a reply")

    async def main(served):
        with pytest.raises(RuntimeError, match="raised StopIteration"):
            await served.call(stop)
        return await served.call()

    assert run_virtual(lambda: _open(main, direct=direct)) == "nothing"


def test_finished_call_keeps_no_object_alive():
    class Big:
        pass

    async def main(served):
        async def fails():
            raise ValueError(Big())

        async def replies():
            return Big()

        for handler in (fails, replies):
            with suppress(ValueError):
                await served.call(handler)
        gc.disable()
        try:
            return sum(isinstance(one, Big) for one in gc.get_objects())
        finally:
            gc.enable()

    gc.collect()
    assert run_virtual(lambda: _open(main)) == 0


async def _on_semaphore(held):
    semaphore = trio.Semaphore(0)
    held.append(semaphore)
    async with semaphore:
        return "got it"


async def _on_limiter(held):
    limiter = trio.CapacityLimiter(1)
    limiter.acquire_on_behalf_of_nowait("another")
    held.append(limiter)
    async with limiter:
        return "got it"


async def _on_reading(held):
    send, receive = trio.open_memory_channel(0)
    held.append(send)
    return await receive.receive()


async def _on_writing(held):
    send, receive = trio.open_memory_channel(0)
    held.append(receive)
    await send.send("got it")
    return "got it"


def _let_go(waiting):
    match waiting:
        case trio.Semaphore():
            waiting.release()
        case trio.CapacityLimiter():
            waiting.release_on_behalf_of("another")
        case trio.MemorySendChannel():
            waiting.send_nowait("got it")
        case trio.MemoryReceiveChannel():
            waiting.receive_nowait()


@pytest.mark.parametrize("wait", [_on_semaphore, _on_limiter, _on_reading, _on_writing])
@pytest.mark.parametrize("direct", [True, False])
def test_handler_that_waits_in_trio_is_cancelled_or_resumed(wait, direct):
    """Trio keeps data of the wait in the task; it is still there when the wait is aborted."""

    async def main(served):
        held = []
        with trio.move_on_after(1) as scope:
            await served.call(lambda: wait(held))
        assert scope.cancelled_caught
        assert trio.current_time() == 1
        held.clear()
        async with trio.open_nursery() as nursery:

            async def let_go():
                await trio.sleep(1)
                _let_go(held[0])

            nursery.start_soon(let_go)
            return await served.call(lambda: wait(held)), trio.current_time(), served.donated() > 0

    assert run_virtual(lambda: _open(main, direct=direct)) == ("got it", 2, direct)


def test_closing_a_channel_wakes_the_handler_that_waits_in_it():
    async def main(served):
        _send, receive = trio.open_memory_channel(0)

        async def work():
            with suppress(trio.ClosedResourceError):
                await receive.receive()
            return "closed"

        async with trio.open_nursery() as nursery:

            async def close():
                await trio.sleep(1)
                receive.close()

            nursery.start_soon(close)
            return await served.call(work), served.donated() > 0

    assert run_virtual(lambda: _open(main)) == ("closed", True)


@pytest.mark.parametrize("direct", [True, False])
def test_iter_await_frames_shows_a_suspended_handler(direct):
    async def main(served):
        tasks = []

        async def inner():
            tasks.append(trio.lowlevel.current_task())
            await trio.sleep(1)
            await trio.sleep(1)

        async def handler():
            await inner()

        frames = []
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.call, handler)
            for _ in range(2):
                await trio.sleep(0.5)
                frames.append([frame.f_code.co_name for frame, _ in tasks[0].iter_await_frames()])
                await trio.sleep(0.5)
        return frames, served.donated() > 0

    frames, was_donated = run_virtual(lambda: _open(main, direct=direct))
    assert was_donated is direct
    for names in frames:
        assert names.index("serve") < names.index("handler") < names.index("inner") < names.index("sleep")
