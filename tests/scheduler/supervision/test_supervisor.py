"""The supervisor on Trio: start and stop order, restarts, giving up, and every way to leave its block.

All in virtual time, with a trace of what the children did.
"""

import math

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.errors import ConfigurationError, DaemonDown, SchedulerClosed
from rtos.scheduler import (
    Backoff,
    Budget,
    ChildSpec,
    PastIntensity,
    Restart,
    Strategy,
    current_context,
    open_scheduler,
    open_supervisor,
)
from rtos.scheduler.policy.bandwidth_server import BandwidthServer
from tests.support.children import BOOM, END, NO_WAIT, BoomError, Children


@pytest.fixture
async def scheduler(autojump_clock):
    async with open_scheduler(reserve=0) as opened:
        yield opened


async def _serve(ready):
    ready()
    await trio.sleep_forever()


async def _generator(ready):
    yield


# Starting and stopping.


async def test_children_start_in_order_when_the_one_before_is_ready_and_stop_in_reverse(
    scheduler, autojump_clock
):
    children, took = Children(), []
    specs = [children.spec("a", start=2, ending=1), children.spec("b", start=1), children.spec("c")]
    async with open_supervisor(scheduler, specs, on_ready=lambda *each: took.append(each)) as supervisor:
        assert children.take() == [
            "start a",
            "ready a",
            "start b",  # only now
            "ready b",
            "start c",
            "ready c",
        ]
        assert trio.current_time() == 3.0
        assert took == [("a", 2.0), ("b", 1.0), ("c", 0.0)]
        states = supervisor.children()
        assert [(child.name, child.running, child.ready, child.restarts) for child in states] == [
            ("a", True, True, 0),
            ("b", True, True, 0),
            ("c", True, True, 0),
        ]
        assert [child.ready_after for child in states] == [2.0, 1.0, 0.0]
    assert children.take() == [
        "stop c",  # the last first
        "end c",
        "stop b",  # each when the one after it has ended
        "end b",
        "stop a",
        "end a",
    ]
    assert children.downs == [(name, "it has been stopped") for name in "cba"]
    assert [child.running for child in supervisor.children()] == [False] * 3


async def test_child_that_ignores_stop_is_cancelled_after_its_shutdown_limit(scheduler, autojump_clock):
    children = Children()
    specs = [
        children.spec("plain", stop=None),
        children.spec("deaf", obeys=False, shutdown=4.0),
        children.spec("slow", ending=3.0, shutdown=2.0),
    ]
    async with open_supervisor(scheduler, specs):
        children.take()
        began = trio.current_time()
    assert children.take() == [
        "stop slow",
        "cancel slow",  # after 2 of its 3 seconds
        "stop deaf",
        "cancel deaf",  # after 4 seconds
        "cancel plain",  # it has no stop function
    ]
    assert trio.current_time() - began == 6.0


async def test_accounts_of_children_end_with_the_supervisor(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a", level=2)]):
        names = {account.name: account.level for account in scheduler.statistics().contexts}
        assert names.items() >= {"a": 2, "supervisor": 0}.items()
    assert {account.name for account in scheduler.statistics().contexts} == {"system", "host"}


async def test_failed_first_start_stops_the_children_started_before(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", start=1, bad_starts=(1,)), children.spec("c")]
    entered = False
    with pytest.raises(
        DaemonDown, match="'b' is down after 0 restarts: it did not start: BoomError: b does"
    ) as caught:
        async with open_supervisor(scheduler, specs):
            entered = True
    assert not entered
    assert isinstance(caught.value.__cause__, BoomError)
    assert children.take() == ["start a", "ready a", "start b", "stop a", "end a"]
    assert children.running == []


async def test_first_start_fails_if_the_child_is_not_ready_in_time(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("late", start=9, start_timeout=3.0)]
    with pytest.raises(DaemonDown, match=r"it did not start: not ready after 3.0 s"):
        async with open_supervisor(scheduler, specs):
            pass
    assert trio.current_time() == 3.0
    assert children.take() == ["start a", "ready a", "start late", "cancel late", "stop a", "end a"]


async def test_first_start_fails_if_the_child_returns_before_it_is_ready(scheduler, autojump_clock):
    async def run(ready):
        pass

    with pytest.raises(DaemonDown, match="it did not start: it returned"):
        async with open_supervisor(scheduler, [ChildSpec(name="a", run=run)]):
            pass


async def test_impossible_specifications_are_rejected_before_anything_starts(scheduler, autojump_clock):
    children = Children()
    twice = [children.spec("a"), children.spec("b"), children.spec("a")]
    with pytest.raises(ConfigurationError, match="two children are named 'a'; give each a name of its own"):
        async with open_supervisor(scheduler, twice):
            pass
    for options in ({"intensity": -1}, {"period": 0.0}, {"period": math.nan}):
        with pytest.raises(ConfigurationError, match="restarts in .* s is impossible"):
            async with open_supervisor(scheduler, [children.spec("a")], **options):
                pass
    assert children.trace == []
    with pytest.raises(ValueError, match=r"ChildSpec\(level\): level 9 does not exist"):
        children.spec("a", level=9)
    for limit in ("shutdown", "start_timeout"):
        with pytest.raises(ValueError, match=rf"ChildSpec\({limit}\): -1.0 is not a duration"):
            children.spec("a", **{limit: -1.0})


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"run": None}, TypeError, r"ChildSpec\(run\): None is not an async function"),
        ({"run": _generator}, TypeError, r"ChildSpec\(run\): .*_generator.* is not an async function"),
        ({"stop": _serve}, TypeError, r"ChildSpec\(stop\): .*_serve.* is not a plain function"),
        ({"on_down": 1}, TypeError, r"ChildSpec\(on_down\): 1 is not a plain function"),
        ({"restart": "permanent"}, TypeError, "'restart' must be <enum 'Restart'>"),
        ({"past_intensity": "park"}, TypeError, "'past_intensity' must be <enum 'PastIntensity'>"),
        ({"shutdown": math.nan}, ValueError, r"ChildSpec\(shutdown\): nan is not a duration"),
        ({"start_timeout": math.nan}, ValueError, r"ChildSpec\(start_timeout\): nan is not a duration"),
        ({"intensity": math.nan}, ValueError, r"ChildSpec\(intensity\): nan is not a number of restarts"),
    ],
)
def test_misused_specification_raises_at_once(options, error, text):
    with pytest.raises(error, match=text):
        ChildSpec(**{"name": "a", "run": _serve, **options})


def test_called_async_function_as_run_is_rejected():
    called = _serve(None)
    with pytest.raises(TypeError, match=r"ChildSpec\(run\): .* is already called; pass the function itself"):
        ChildSpec(name="a", run=called)
    called.close()


async def test_run_that_is_not_async_fails_its_first_start_with_a_clear_error(scheduler, autojump_clock):
    spec = ChildSpec(name="a", run=lambda ready: 7)
    with pytest.raises(
        DaemonDown, match=r"it did not start: TypeError: ChildSpec\('a'\): run returned 7; it must"
    ):
        async with open_supervisor(scheduler, [spec]):
            pass


async def test_child_runs_under_its_budget(scheduler, autojump_clock):
    budgets = []

    async def run(ready):
        budgets.append(current_context().budget)
        await _serve(ready)

    budget = Budget(0.01, 0.1)
    server = BandwidthServer(budget)
    specs = [ChildSpec(name="own", run=run, budget=budget), ChildSpec(name="shared", run=run, budget=server)]
    async with open_supervisor(scheduler, [*specs, ChildSpec(name="free", run=run)]):
        own, shared, free = budgets
    assert own.budget is budget
    assert shared is server
    assert free is None


async def test_open_supervisor_on_a_closed_scheduler_raises_scheduler_closed(autojump_clock):
    children = Children()
    async with open_scheduler() as scheduler:
        pass
    with pytest.raises(SchedulerClosed, match="open_supervisor"):
        async with open_supervisor(scheduler, [children.spec("a")]):
            pass
    assert children.trace == []


async def test_supervisor_without_children(scheduler, autojump_clock):
    async with open_supervisor(scheduler, []) as supervisor:
        assert supervisor.children() == ()


# Restart types and strategies.

MATRIX = [
    # Restart type of b, how b ends, strategy, and which of a, b and c are started again.
    (Restart.PERMANENT, BOOM, Strategy.ONE_FOR_ONE, ["b"]),
    (Restart.PERMANENT, BOOM, Strategy.REST_FOR_ONE, ["b", "c"]),
    (Restart.PERMANENT, BOOM, Strategy.ONE_FOR_ALL, ["a", "b", "c"]),
    (Restart.PERMANENT, END, Strategy.ONE_FOR_ONE, ["b"]),
    (Restart.PERMANENT, END, Strategy.REST_FOR_ONE, ["b", "c"]),
    (Restart.PERMANENT, END, Strategy.ONE_FOR_ALL, ["a", "b", "c"]),
    (Restart.TRANSIENT, BOOM, Strategy.ONE_FOR_ONE, ["b"]),
    (Restart.TRANSIENT, BOOM, Strategy.REST_FOR_ONE, ["b", "c"]),
    (Restart.TRANSIENT, BOOM, Strategy.ONE_FOR_ALL, ["a", "b", "c"]),
    *[(Restart.TRANSIENT, END, strategy, []) for strategy in Strategy],
    *[(Restart.TEMPORARY, BOOM, strategy, []) for strategy in Strategy],
    *[(Restart.TEMPORARY, END, strategy, []) for strategy in Strategy],
]


@pytest.mark.parametrize(("restart", "how", "strategy", "again"), MATRIX)
async def test_restart_type_and_strategy_decide_which_children_are_restarted(
    scheduler, autojump_clock, restart, how, strategy, again
):
    children = Children()
    specs = [children.spec("a"), children.spec("b", restart=restart), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy) as supervisor:
        children.take()
        await children("b", how)
        trace = children.take()
        assert trace[0] == ("crash b" if how == BOOM else "end b")
        # All but b are stopped, in reverse; then they start in order.
        stopped = [name for name in reversed(again) if name != "b"]
        assert [each for each in trace[1:] if each.startswith("stop")] == [f"stop {name}" for name in stopped]
        assert trace[len(trace) - 2 * len(again) :] == [
            f"{what} {name}" for name in again for what in ("start", "ready")
        ]
        assert children.running == (["a", "b", "c"] if again else ["a", "c"])
        assert [child.restarts for child in supervisor.children()] == [0, 1 if again else 0, 0]
        assert children.downs == ([] if again else [("b", "it has ended, and is not restarted")])
        reports = [(report.child, type(report.error), report.outcome) for report in supervisor.reports]
        outcome = "restarted" if again else "left"
        assert reports == ([("b", BoomError, outcome)] if how == BOOM else [])
    # on_down is called once for each child.
    assert sorted(name for name, _ in children.downs) == ["a", "b", "c"]


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_temporary_child_is_stopped_with_its_group_and_not_started_again(
    scheduler, autojump_clock, strategy
):
    children = Children()
    specs = [children.spec("a"), children.spec("t", restart=Restart.TEMPORARY), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy):
        children.take()
        await children("a", BOOM)
        assert children.take() == [
            "crash a",
            "stop c",
            "end c",
            "stop t",  # stopped with its group
            "end t",
            "start a",
            "ready a",
            "start c",  # t is not started again
            "ready c",
        ]
        assert children.downs == [("t", "it was stopped with another, and is not restarted")]


async def test_transient_child_that_has_ended_is_restarted_with_its_group(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("t", restart=Restart.TRANSIENT)]
    async with open_supervisor(scheduler, specs, strategy=Strategy.ONE_FOR_ALL):
        await children("t", END)
        assert children.running == ["a"]
        await children("a", BOOM)
        assert children.running == ["a", "t"]
        await children("t", END)
    assert [name for name, _ in children.downs] == ["t", "t", "a"]


# Restarting.


async def test_each_failed_start_counts_as_a_restart_and_is_tried_again(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", bad_starts=(2, 3)), children.spec("b")]
    async with open_supervisor(scheduler, specs, intensity=3, backoff=NO_WAIT) as supervisor:
        await children("a", BOOM)
        assert children.running == ["a", "b"]
        assert supervisor.children()[0].restarts == 3
        assert [report.outcome for report in supervisor.reports] == ["restarted"] * 3
        assert [str(report.error) for report in supervisor.reports] == ["a", *["a does not start"] * 2]
        assert [report.restarts for report in supervisor.reports] == [0, 1, 2]


@pytest.mark.parametrize("strategy", Strategy)
async def test_child_never_runs_twice_when_a_start_fails_in_the_middle_of_a_group(
    scheduler, autojump_clock, strategy
):
    children = Children()
    specs = [children.spec("a"), children.spec("b", bad_starts=(2,), start=0.01), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy, backoff=NO_WAIT) as supervisor:
        await children("a" if strategy is not Strategy.ONE_FOR_ONE else "b", BOOM)
        await trio.sleep(1)
        # Each child asserts by itself that it does not run twice.
        assert children.running == ["a", "b", "c"]
        assert all(child.ready for child in supervisor.children())


async def test_transient_child_that_is_not_ready_in_time_is_restarted(scheduler, autojump_clock):
    hangs = iter([False, True, False])

    async def run(ready):
        if next(hangs):
            await trio.sleep_forever()
        ready()
        await boom.wait()
        if trio.current_time() < 5:
            raise BoomError("x")

    boom = trio.Event()
    spec = ChildSpec(name="a", run=run, restart=Restart.TRANSIENT, start_timeout=10.0)
    async with open_supervisor(scheduler, [spec]) as supervisor:
        boom.set()
        await trio.sleep(5)
        boom = trio.Event()
        await trio.sleep(20)
        assert supervisor.children()[0].running
        assert [type(report.error) for report in supervisor.reports] == [BoomError, DaemonDown]


async def test_backoff_grows_with_restarts_in_a_row_and_is_reset_by_a_long_run(scheduler, autojump_clock):
    children = Children()
    backoff = Backoff(first=1.0, cap=3.0)
    came_up = trio.Event()
    async with open_supervisor(
        scheduler,
        [children.spec("a")],
        intensity=100,
        period=50.0,
        backoff=backoff,
        on_ready=lambda *_: came_up.set(),
    ) as supervisor:
        waits = []
        for _ in range(5):
            children.order("a", BOOM)
            at = trio.current_time()
            restarts = supervisor.children()[0].restarts
            came_up = trio.Event()
            await came_up.wait()
            assert supervisor.children()[0].restarts == restarts + 1
            waits.append(round(trio.current_time() - at))
        assert waits == [0, 1, 2, 3, 3]
        await trio.sleep(51)
        at = trio.current_time()
        await children("a", BOOM)
        assert supervisor.children()[0].ready  # without backoff: it had run for longer than the period
        assert trio.current_time() - at < 0.01


async def test_children_that_crash_while_another_is_being_restarted_are_restarted(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=2), children.spec("b"), children.spec("c")]
    async with open_supervisor(scheduler, specs, backoff=NO_WAIT) as supervisor:
        await children("a", BOOM)
        await children("b", BOOM)
        await children("c", BOOM)
        await trio.sleep(5)
        assert children.running == ["a", "b", "c"]
        assert [child.restarts for child in supervisor.children()] == [1, 1, 1]
        assert [report.child for report in supervisor.reports] == ["a", "b", "c"]


async def test_two_crashes_at_once_are_both_reported_and_restart_the_group_once(scheduler, autojump_clock):
    children = Children()
    # At the supervisor's level, so that both have crashed before it handles the first one.
    specs = [children.spec("a", level=0), children.spec("b", level=0)]
    async with open_supervisor(scheduler, specs, strategy=Strategy.ONE_FOR_ALL) as supervisor:
        children.order("a", BOOM)
        children.order("b", BOOM)
        await trio.sleep(1)
        assert sorted(report.child for report in supervisor.reports) == ["a", "b"]
        assert sum(child.restarts for child in supervisor.children()) == 1
        assert children.running == ["a", "b"]


async def test_exception_group_left_by_a_cancellation_is_a_failure_of_that_child_only(
    scheduler, autojump_clock
):
    async def run(ready):
        ready()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            try:
                await trio.sleep_forever()
            finally:
                raise BoomError("while cleaning up")

    children = Children()
    async with open_supervisor(scheduler, [children.spec("a"), ChildSpec(name="b", run=run)]) as supervisor:
        children.take()
    assert children.take() == ["stop a", "end a"]
    (report,) = supervisor.reports
    assert (report.child, report.outcome) == ("b", "left")
    assert report.error.subgroup(BoomError) is not None


async def test_reason_names_the_error_inside_an_exception_group_of_one(scheduler, autojump_clock):
    async def run(ready):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)

    async def fail():
        raise BoomError("inside")

    with pytest.raises(DaemonDown, match="it did not start: BoomError: inside;"):
        async with open_supervisor(scheduler, [ChildSpec(name="a", run=run)]):
            pass


# A child that hangs while it starts.


class Hanging:
    """A child that starts once, and then hangs before it is ready."""

    def __init__(self):
        self.starts = []

    async def run(self, ready):
        self.starts.append(trio.current_time())
        if len(self.starts) == 1:
            ready()
            await trio.sleep(1)
            raise BoomError("hanging")
        await trio.sleep_forever()


async def test_hanging_start_does_not_delay_the_restart_of_another_child(scheduler, autojump_clock):
    children, hanging = Children(), Hanging()
    async with open_supervisor(
        scheduler, [ChildSpec(name="hanging", run=hanging.run), children.spec("b")]
    ) as supervisor:
        await trio.sleep(2)
        assert len(hanging.starts) == 2
        children.take()
        began = trio.current_time()
        await children("b", BOOM)
        assert children.take() == ["crash b", "start b", "ready b"]
        assert trio.current_time() == pytest.approx(began + 0.001)
        assert [child.state for child in supervisor.children()] == ["starting", "running"]


async def test_child_that_always_hangs_while_it_starts_is_parked_after_its_intensity(
    scheduler, autojump_clock
):
    hanging = Hanging()
    spec = ChildSpec(name="a", run=hanging.run, past_intensity=PastIntensity.PARK)
    async with open_supervisor(scheduler, [spec], backoff=NO_WAIT) as supervisor:
        await trio.sleep(1200)
        # Three restarts, each 30 s long, although the period is 5 s.
        assert hanging.starts == [0, 1, 31, 61]
        (state,) = supervisor.children()
        assert (state.state, state.reason) == ("parked", "it did not start: not ready after 30.0 s")
        assert [report.outcome for report in supervisor.reports] == ["restarted"] * 3 + ["parked"]


async def test_child_that_always_hangs_while_it_starts_escalates_after_its_intensity(
    scheduler, autojump_clock
):
    hanging = Hanging()
    with pytest.raises(
        DaemonDown, match="'a' is down after 3 restarts: it did not start: not ready after 30.0 s"
    ):
        async with open_supervisor(scheduler, [ChildSpec(name="a", run=hanging.run)], backoff=NO_WAIT):
            await trio.sleep_forever()
    assert trio.current_time() == 91


async def test_backoff_of_one_child_does_not_delay_the_restart_of_another(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b")]
    async with open_supervisor(
        scheduler, specs, intensity=9, backoff=Backoff(first=60.0, cap=60.0)
    ) as supervisor:
        await children("a", BOOM)
        await children("a", BOOM)
        await children("b", BOOM)
        assert [child.state for child in supervisor.children()] == ["backing off", "running"]
        assert children.running == ["b"]
        await trio.sleep(60)
        assert children.running == ["a", "b"]


async def test_child_that_ignores_its_cancellation_does_not_delay_the_others(scheduler, autojump_clock):
    async def run(ready):
        ready()
        with trio.CancelScope(shield=True):
            await trio.sleep(60)

    children = Children()
    async with (
        open_supervisor(scheduler, [ChildSpec(name="a", run=run), children.spec("b")]) as supervisor,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(supervisor.park, "a")
        await trio.sleep(1)
        await children("b", BOOM)
        assert [child.state for child in supervisor.children()] == ["stopping", "running"]


# Giving up.


async def test_giving_up_stops_all_children_cancels_the_block_and_raises(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b"), children.spec("c")]
    went_on = False
    with pytest.raises(DaemonDown, match="'b' is down after 1 restarts: BoomError: b;") as caught:  # noqa: PT012
        async with open_supervisor(scheduler, specs, intensity=1, period=5.0) as supervisor:
            await children("b", BOOM)
            children.take()
            await children("b", BOOM)
            await trio.sleep_forever()
            went_on = True
    assert not went_on
    assert isinstance(caught.value.__cause__, BoomError)
    assert (caught.value.daemon, caught.value.restarts) == ("b", 1)
    assert children.take() == ["crash b", "stop c", "end c", "stop a", "end a"]
    assert [report.outcome for report in supervisor.reports] == ["restarted", "gave up"]
    assert supervisor.failure is caught.value


async def test_giving_up_cancels_a_nursery_in_the_block(scheduler, autojump_clock):
    children = Children()
    with pytest.raises(DaemonDown, match="'a' is down"):  # noqa: PT012 - the block is ended from outside
        async with (
            open_supervisor(scheduler, [children.spec("a")], intensity=0),
            trio.open_nursery() as nursery,
        ):
            for _ in range(3):
                nursery.start_soon(trio.sleep_forever)
            await children("a", BOOM)


async def test_error_raised_by_the_block_while_giving_up_comes_out(scheduler, autojump_clock):
    children = Children()
    with pytest.raises(ValueError, match="^in the block$"):  # noqa: PT012 - the block is ended from outside
        async with open_supervisor(scheduler, [children.spec("a")], intensity=0) as supervisor:
            children.order("a", BOOM)
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                raise ValueError("in the block") from None
    assert supervisor.failure is not None


async def test_failure_while_the_block_ends_is_reported_and_not_raised(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", ending=3)]
    async with open_supervisor(scheduler, specs, intensity=0) as supervisor:
        children.order("a", BOOM)
    # The block had ended already.
    assert [(report.child, report.outcome) for report in supervisor.reports] == [("a", "left")]


@settings(max_examples=50)
@given(
    intensity=st.integers(0, 3),
    period=st.integers(1, 8),
    gaps=st.lists(st.integers(0, 4), max_size=15),
    strategy=st.sampled_from(Strategy),
)
def test_restarts_within_any_period_never_exceed_the_intensity(intensity, period, gaps, strategy):
    restarts = []

    async def main():
        async with open_scheduler(reserve=0) as scheduler:
            children = Children()
            specs = [children.spec("a"), children.spec("b")]
            async with open_supervisor(
                scheduler,
                specs,
                intensity=intensity,
                period=float(period),
                backoff=NO_WAIT,
                strategy=strategy,
            ) as supervisor:
                for number, gap in enumerate(gaps):
                    await trio.sleep(gap)
                    children.order("ab"[number % 2], BOOM)
                    await wait_all_tasks_blocked()
                    restarts[:] = [r.at for r in supervisor.reports if r.outcome == "restarted"]

    try:
        trio.run(main, clock=MockClock(autojump_threshold=0))
    except* DaemonDown:
        assert len(gaps) > intensity
    for start in restarts:
        assert sum(start <= at < start + period for at in restarts) <= intensity


# Leaving the block.


async def test_error_raised_by_the_block_comes_out_unchanged_and_stops_the_children(
    scheduler, autojump_clock
):
    children, error = Children(), ValueError("mine")
    with pytest.raises(ValueError, match="^mine$") as caught:  # noqa: PT012 - the block is ended from outside
        async with open_supervisor(scheduler, [children.spec("a"), children.spec("b", ending=1)]):
            children.take()
            raise error
    assert caught.value is error
    assert children.take() == ["stop b", "end b", "stop a", "end a"]


async def test_cancelled_block_stops_the_children_in_reverse_order_first(scheduler, autojump_clock):
    children = Children()
    with trio.CancelScope() as scope:
        async with open_supervisor(scheduler, [children.spec("a", ending=1), children.spec("b", ending=1)]):
            children.take()
            scope.cancel()
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert children.take() == ["stop b", "end b", "stop a", "end a"]
    assert trio.current_time() == 2.0


async def test_cancelled_before_opening_starts_nothing(scheduler, autojump_clock):
    children = Children()
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_supervisor(scheduler, [children.spec("a")]):
            pass
    assert scope.cancelled_caught
    assert children.trace == []


@pytest.mark.parametrize("seconds", [0.5, 1.5])
async def test_cancelled_while_opening_stops_the_children(scheduler, autojump_clock, seconds):
    children = Children()
    with trio.move_on_after(seconds) as scope:
        async with open_supervisor(scheduler, [children.spec("a", start=1), children.spec("b", start=1)]):
            pass
    assert scope.cancelled_caught
    assert children.running == []


async def test_block_may_end_while_a_child_backs_off(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("slow", ending=4)]
    with trio.move_on_after(60) as too_long:
        async with open_supervisor(scheduler, specs, intensity=9, backoff=Backoff(first=1.0)):
            await children("a", BOOM)
            await children("a", BOOM)  # its next start is due while slow is being stopped
            children.take()
    assert not too_long.cancelled_caught
    assert children.take() == ["stop slow", "end slow"]
    assert children.running == []


async def test_block_may_end_while_a_child_starts(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=3, shutdown=1.0), children.spec("b", ending=1)]
    with trio.move_on_after(60) as too_long:
        async with open_supervisor(scheduler, specs, strategy=Strategy.ONE_FOR_ALL):
            await children("a", BOOM)
            await trio.sleep(2)
            children.take()
    assert not too_long.cancelled_caught
    assert children.running == []


async def test_failure_of_a_child_that_is_being_stopped_is_reported(scheduler, autojump_clock):
    children = Children()
    spec = children.spec("a", stop=None, raises_on_stop=BoomError("on the way out"))
    async with open_supervisor(scheduler, [children.spec("b"), spec]) as supervisor:
        pass
    assert [(report.child, str(report.error), report.outcome) for report in supervisor.reports] == [
        ("a", "on the way out", "left")
    ]
    assert children.running == []


async def test_error_in_stop_is_reported_and_the_other_children_are_stopped(scheduler, autojump_clock):
    def stop():
        raise BoomError("cannot be asked")

    children = Children()
    specs = [children.spec("a"), children.spec("b", stop=stop)]
    with trio.move_on_after(60) as too_long:
        async with open_supervisor(scheduler, specs) as supervisor:
            children.take()
    assert not too_long.cancelled_caught
    assert children.take() == ["cancel b", "stop a", "end a"]
    assert [str(report.error) for report in supervisor.reports] == ["cannot be asked"]


async def test_keyboard_interrupt_in_a_child_comes_out_and_stops_the_children(scheduler, autojump_clock):
    async def run(ready):
        ready()
        await trio.sleep(1)
        raise KeyboardInterrupt

    children = Children()
    with (
        trio.move_on_after(60) as too_long,
        pytest.raises(BaseExceptionGroup, match="Exceptions from") as caught,
    ):
        async with open_supervisor(scheduler, [children.spec("a"), ChildSpec(name="b", run=run)]):
            await trio.sleep_forever()
    assert not too_long.cancelled_caught
    assert caught.value.subgroup(KeyboardInterrupt) is not None
    assert children.running == []


# Reports.


async def test_crash_report_has_time_child_error_restarts_and_outcome(scheduler, autojump_clock, caplog):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a")]) as supervisor:
        await trio.sleep(7)
        await children("a", BOOM)
        (report,) = supervisor.reports
        assert (report.at, report.child, report.restarts, report.outcome) == (7.0, "a", 0, "restarted")
        assert isinstance(report.error, BoomError)
        assert [record.getMessage() for record in caplog.records] == ["daemon a failed, restarted"]


async def test_only_the_latest_reports_are_kept(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(
        scheduler, [children.spec("a")], intensity=1000, backoff=NO_WAIT
    ) as supervisor:
        for _ in range(150):
            await children("a", BOOM)
        assert len(supervisor.reports) == 100
        assert supervisor.reports[-1].restarts == 149


async def test_child_that_fails_to_start_38_times_comes_up_at_last(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", bad_starts=range(2, 40))]
    async with open_supervisor(
        scheduler, specs, strategy=Strategy.ONE_FOR_ALL, intensity=1000, backoff=NO_WAIT
    ):
        await children("a", BOOM)
        await trio.sleep(1)
        assert children.running == ["a", "b"]


@pytest.mark.parametrize("restarts", [False, True], ids=["running child", "child that waits for its backoff"])
async def test_supervisor_raises_when_its_scheduler_closes_before_its_block_ends(autojump_clock, restarts):
    children, closed_at = Children(), []

    async def supervise(scheduler):
        specs = [children.spec("a"), children.spec("b")]
        with pytest.RaisesGroup(SchedulerClosed, flatten_subgroups=True):
            async with open_supervisor(scheduler, specs, backoff=Backoff(first=50.0, cap=50.0)):
                for _ in range(2 if restarts else 0):
                    await children("a", BOOM)
                await trio.sleep_forever()
        closed_at.append(trio.current_time())

    with trio.fail_after(1000):
        async with trio.open_nursery() as nursery, open_scheduler() as scheduler:
            nursery.start_soon(supervise, scheduler)
            await trio.sleep(10)
            assert children.running == (["b"] if restarts else ["a", "b"])
    assert closed_at == [10.0]
    assert not children.running
