"""Parking: past its intensity or by hand, back again, and every way in which orders can meet other things."""

import math
from contextlib import suppress

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.errors import CommandRejected, DaemonDown, Refused
from rtos.scheduler import (
    Backoff,
    ChildSpec,
    PastIntensity,
    Restart,
    Strategy,
    open_scheduler,
    open_supervisor,
)
from rtos.scheduler.supervision.restart_policy import RestartWindow
from rtos.scheduler.supervision.supervisor import Supervisor
from tests.support.children import BOOM, END, NO_WAIT, BoomError, Children
from tests.support.effort import short_or_full

PARK = {"past_intensity": PastIntensity.PARK}
PARKED_B = ("b", "it is parked until `daemon/unpark b` (BoomError: b)")


@pytest.fixture
async def scheduler(autojump_clock):
    async with open_scheduler(reserve=0) as opened:
        yield opened


def parked(supervisor):
    return {child.name: child.reason for child in supervisor.children() if child.parked}


MATRIX = [
    # Whether b is parked when it ends as given and may not be restarted once more.
    *[(Restart.PERMANENT, how, strategy, True) for how in (BOOM, END) for strategy in Strategy],
    *[(Restart.TRANSIENT, BOOM, strategy, True) for strategy in Strategy],
    *[(Restart.TRANSIENT, END, strategy, False) for strategy in Strategy],
    *[(Restart.TEMPORARY, how, strategy, False) for how in (BOOM, END) for strategy in Strategy],
]


@pytest.mark.parametrize(("restart", "how", "strategy", "parks"), MATRIX)
async def test_the_matrix(scheduler, autojump_clock, restart, how, strategy, parks):
    children = Children()
    specs = [children.spec("a"), children.spec("b", restart=restart, **PARK), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy, intensity=0) as supervisor:
        children.take()
        await children("b", how)
        # It alone, whatever the strategy: nobody else is touched.
        assert children.take() == ["crash b" if how == BOOM else "end b"]
        assert children.running == ["a", "c"]
        why = "BoomError: b" if how == BOOM else "it returned"
        assert parked(supervisor) == ({"b": why} if parks else {})
        told = (
            f"it is parked until `daemon/unpark b` ({why})" if parks else "it has ended, and is not restarted"
        )
        assert children.downs == [("b", told)]
        outcomes = [(report.child, report.outcome) for report in supervisor.reports]
        assert outcomes == ([("b", "parked" if parks else "left")] if how == BOOM else [])
        if parks:
            await supervisor.unpark("b")
            assert children.take() == ["start b", "ready b"]
            assert parked(supervisor) == {}
        else:
            with pytest.raises(CommandRejected, match="'b' is not parked"):
                await supervisor.unpark("b")
        assert children.running == (["a", "b", "c"] if parks else ["a", "c"])
    assert children.running == []


async def test_it_is_restarted_as_often_as_it_may_be_first(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", bad_starts=range(2, 99), **PARK)]
    async with open_supervisor(scheduler, specs, intensity=3, period=50.0) as supervisor:
        await children("b", BOOM)
        await trio.sleep(1)
        assert children.take().count("start b") == 4
        assert [report.outcome for report in supervisor.reports] == ["restarted"] * 3 + ["parked"]
        assert parked(supervisor) == {"b": "BoomError: b does not start"}
        assert supervisor.children()[1].restarts == 3
        await trio.sleep(1000)
        assert children.take() == []  # it stays where it is


async def test_stopping_all_leaves_what_is_parked_and_tells_nobody_again(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(
        scheduler, [children.spec("a"), children.spec("b", **PARK)], intensity=0
    ) as supervisor:
        await children("b", BOOM)
        children.take()
    assert children.take() == ["stop a", "end a"]
    assert children.downs == [PARKED_B, ("a", "it has been stopped")]
    assert supervisor.failure is None


async def test_it_has_a_fresh_window_and_backoff_after_an_unpark_and_can_be_parked_again(
    scheduler, autojump_clock
):
    children = Children()
    spec = children.spec("b", **PARK)
    backoff = Backoff(first=1.0, cap=64.0)
    async with open_supervisor(scheduler, [spec], intensity=2, period=500.0, backoff=backoff) as supervisor:
        for _ in range(3):
            began = trio.current_time()
            for _ in range(3):
                children.order("b", BOOM)
                await trio.sleep(2)
            # Restarted at once, then after a second, and then no more.
            assert parked(supervisor) == {"b": "BoomError: b"}
            assert trio.current_time() == began + 6
            await supervisor.unpark("b")
            assert children.running == ["b"]
        assert [report.outcome for report in supervisor.reports] == ["restarted", "restarted", "parked"] * 3
        assert children.downs == [PARKED_B] * 3


async def test_one_that_loops_leaves_the_others_their_intensity(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", **PARK), children.spec("c", **PARK)]
    async with open_supervisor(scheduler, specs, intensity=1, period=50.0, backoff=NO_WAIT) as supervisor:
        for _ in range(2):
            await children("b", BOOM)
            await children("c", BOOM)
        assert set(parked(supervisor)) == {"b", "c"}
        await children("a", BOOM)
        assert children.running == ["a"]
        with pytest.raises(CommandRejected, match="'a' is not parked"):
            await supervisor.unpark("a")


async def test_one_that_escalates_may_have_a_limit_of_its_own_too(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", intensity=1, period=100.0), children.spec("b")]
    with pytest.raises(DaemonDown, match="'a' is down after 1 restarts: BoomError: a"):  # noqa: PT012
        async with open_supervisor(scheduler, specs, intensity=3, period=5.0, backoff=NO_WAIT):
            await children("a", BOOM)
            await children("b", BOOM)
            await trio.sleep(50)
            assert children.running == ["a", "b"]
            await children("a", BOOM)
            await trio.sleep_forever()


def test_impossible_limits_are_refused():
    for options in ({"intensity": -1}, {"period": 0.0}, {"period": math.nan}):
        (name,) = options
        with pytest.raises(ValueError, match=rf"ChildSpec\({name}\): .*; use .* or None"):
            Children().spec("a", **options)


# With others.


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_the_restart_of_a_group_does_not_start_one_that_is_parked(scheduler, autojump_clock, strategy):
    children = Children()
    specs = [children.spec("a"), children.spec("b", intensity=0, **PARK), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy) as supervisor:
        await children("b", BOOM)
        children.take()
        await children("a", BOOM)
        assert children.take() == ["crash a", "stop c", "end c", "start a", "ready a", "start c", "ready c"]
        assert parked(supervisor) == {"b": "BoomError: b"}
        assert children.downs == [PARKED_B]
        await supervisor.unpark("b")
        assert children.take() == ["start b", "ready b"]


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_one_that_does_not_come_up_with_its_group_is_parked_and_the_rest_comes_up(
    scheduler, autojump_clock, strategy
):
    children = Children()
    specs = [
        children.spec("a"),
        children.spec("b", bad_starts=(2,), intensity=0, **PARK),
        children.spec("t", restart=Restart.TEMPORARY),
        children.spec("c"),
    ]
    async with open_supervisor(scheduler, specs, strategy=strategy) as supervisor:
        await children("a", BOOM)
        assert children.running == ["a", "c"]
        assert parked(supervisor) == {"b": "BoomError: b does not start"}
        await supervisor.unpark("b")
        assert children.running == ["a", "b", "c"]


async def test_one_after_the_other_that_does_not_come_up_is_parked(scheduler, autojump_clock):
    children = Children()
    specs = [
        children.spec("a"),
        *[children.spec(name, bad_starts=range(2, 9), intensity=1, **PARK) for name in "bc"],
        children.spec("d"),
    ]
    async with open_supervisor(
        scheduler, specs, strategy=Strategy.ONE_FOR_ALL, intensity=9, backoff=NO_WAIT
    ) as supervisor:
        await children("a", BOOM)
        await trio.sleep(1)
        assert set(parked(supervisor)) == {"b", "c"}
        assert children.running == ["a", "d"]


# By hand.


async def test_parked_by_hand_and_back(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", ending=2), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=Strategy.ONE_FOR_ALL) as supervisor:
        children.take()
        began = trio.current_time()
        await supervisor.park("b")
        assert trio.current_time() == began + 2  # it was stopped as always
        assert children.take() == ["stop b", "end b"]
        assert parked(supervisor) == {"b": "by hand"}
        assert children.downs == [("b", "it is parked until `daemon/unpark b` (by hand)")]
        assert supervisor.reports == []
        with pytest.raises(CommandRejected, match="'b' is parked already"):
            await supervisor.park("b")
        await supervisor.unpark("b")
        state = supervisor.children()[1]
        assert (state.running, state.ready, state.parked, state.reason) == (True, True, False, None)


@pytest.mark.parametrize("restart", Restart)
async def test_one_that_has_ended_for_good_can_be_started_by_an_operator(scheduler, autojump_clock, restart):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a", restart=restart)]) as supervisor:
        await children("a", END)
        await supervisor.park("a")
        await supervisor.unpark("a")
        assert children.running == ["a"]


async def test_one_that_is_unknown_or_not_parked_is_refused(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a"), children.spec("b")]) as supervisor:
        for order, name in ((supervisor.park, "park"), (supervisor.unpark, "unpark")):
            with pytest.raises(CommandRejected, match=rf"daemon/{name}: .* no daemon 'x'; there are a, b"):
                await order("x")
        with pytest.raises(CommandRejected, match="'a' is not parked"):
            await supervisor.unpark("a")
        assert children.running == ["a", "b"]


async def test_an_unpark_whose_start_fails_parks_it_again_and_raises(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", bad_starts=(2,), start_timeout=3.0, intensity=0, **PARK)]
    async with open_supervisor(scheduler, specs) as supervisor:
        await children("b", BOOM)
        with pytest.raises(DaemonDown, match="it did not start: BoomError: b does not start") as caught:
            await supervisor.unpark("b")
        assert isinstance(caught.value.__cause__, BoomError)
        assert parked(supervisor) == {"b": "it did not start: BoomError: b does not start"}
        assert [report.outcome for report in supervisor.reports] == ["parked", "parked"]
        assert len(children.downs) == 2
        await supervisor.unpark("b")
        assert children.running == ["a", "b"]
        assert supervisor.failure is None


async def test_concurrent_unparks_start_it_once_and_all_wait_until_it_is_ready(scheduler, autojump_clock):
    children, done = Children(), []
    async with open_supervisor(scheduler, [children.spec("a", start=2)]) as supervisor:
        await supervisor.park("a")
        children.take()

        async def unpark():
            await supervisor.unpark("a")
            done.append(trio.current_time())

        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(unpark)
        assert children.take() == ["start a", "ready a"]
        assert done == [began + 2] * 5


async def test_of_concurrent_unparks_the_next_tries_again_when_the_first_fails(scheduler, autojump_clock):
    children, came = Children(), []
    async with open_supervisor(scheduler, [children.spec("a", bad_starts=(2,))]) as supervisor:
        await supervisor.park("a")

        async def unpark():
            try:
                await supervisor.unpark("a")
            except DaemonDown:
                came.append("down")
            else:
                came.append("up")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(unpark)
        assert sorted(came) == ["down", "up", "up"]
        assert children.running == ["a"]


async def test_an_order_waits_for_the_restart_that_is_under_way(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=3), children.spec("b")]
    async with open_supervisor(scheduler, specs) as supervisor:
        await children("a", BOOM)
        began = trio.current_time()
        await supervisor.park("b")
        assert trio.current_time() == pytest.approx(began + 3, abs=0.01)
        assert children.running == ["a"]


async def test_a_crash_that_is_overtaken_by_an_order_is_reported_and_not_restarted(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=3), children.spec("b")]
    async with open_supervisor(scheduler, specs) as supervisor, trio.open_nursery() as nursery:
        await children("a", BOOM)
        nursery.start_soon(supervisor.park, "b")
        await trio.sleep(1)
        await children("b", BOOM)
        await trio.sleep(5)
        assert parked(supervisor) == {"b": "by hand"}
        assert [(report.child, report.outcome) for report in supervisor.reports] == [
            ("a", "restarted"),
            ("b", "parked"),
        ]


# Taken back, and refused.


async def test_an_order_is_taken_back_unless_it_has_begun(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a", start=3), children.spec("b", ending=2)]
    async with open_supervisor(scheduler, specs) as supervisor:
        await children("a", BOOM)
        with trio.move_on_after(1):
            await supervisor.park("b")  # a is still being restarted
        await trio.sleep(5)
        assert children.running == ["a", "b"]
        with trio.move_on_after(1):
            await supervisor.park("b")
        await trio.sleep(5)
        assert children.running == ["a"]
        assert parked(supervisor) == {"b": "by hand"}


async def test_nobody_is_unparked_while_all_are_being_stopped(scheduler, autojump_clock):
    children = Children()
    came = []

    async def unpark(supervisor, after):
        await trio.sleep(after)
        try:
            await supervisor.unpark("b")
        except Refused as refused:
            came.append((after, trio.current_time(), str(refused)))

    async with (
        trio.open_nursery() as nursery,
        open_supervisor(
            scheduler,
            [children.spec("a", ending=4), children.spec("b", start=9), children.spec("c", start=9)],
        ) as supervisor,
    ):
        await supervisor.park("b")
        await children("c", BOOM)
        began = trio.current_time()
        nursery.start_soon(unpark, supervisor, 1)  # waits for c, and is refused when all is stopped
        nursery.start_soon(unpark, supervisor, 4)  # comes while a is being stopped
        await trio.sleep(2)
    text = "b refused: its supervisor is stopping, or not up yet; try again later"
    assert [(after, round(at - began, 2), said) for after, at, said in came] == [(1, 2, text), (4, 4, text)]
    assert children.running == []
    with pytest.raises(Refused, match="is stopping"):
        await supervisor.unpark("b")


async def test_left_while_one_is_being_unparked(scheduler, autojump_clock):
    children = Children()
    async with trio.open_nursery() as nursery:
        async with open_supervisor(scheduler, [children.spec("a", start=9)]) as supervisor:
            await supervisor.park("a")

            async def unpark():
                with pytest.raises(Refused, match="is stopping"):
                    await supervisor.unpark("a")

            nursery.start_soon(unpark)
            await trio.sleep(1)
            assert children.running == ["a"]
        assert children.running == []


async def test_before_it_is_up_nothing_can_be_ordered(scheduler, autojump_clock):
    children, refused = Children(), []

    async def run(ready):
        with pytest.raises(Refused, match="a refused: its supervisor is stopping, or not up yet") as caught:
            await supervisor.park("a")
        refused.append(caught.value)
        ready()
        await trio.sleep_forever()

    supervisor = Supervisor(
        scheduler,
        [children.spec("a"), ChildSpec(name="early", run=run)],
        strategy=Strategy.ONE_FOR_ONE,
        window=RestartWindow(1, 1.0),
        backoff=NO_WAIT,
        on_ready=None,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervisor.hold)
        await supervisor.start()
        await supervisor.stop()
    assert len(refused) == 1


@pytest.mark.parametrize("when", ["before", "during"])
async def test_a_child_that_serves_an_order_does_not_hold_up_the_restart_of_its_group(
    scheduler, autojump_clock, when
):
    """Else both would wait for each other, until the limit of the child."""
    children, came = Children(), []
    stop, ask = trio.Event(), trio.Event()

    async def door(ready):
        ready()
        await ask.wait()
        with pytest.raises(Refused, match="b refused: children are being stopped, to be restarted") as caught:
            await supervisor.unpark("b")
        came.append(caught.value)
        await stop.wait()

    def stop_the_door():
        ask.set()
        stop.set()

    specs = [
        children.spec("a"),
        children.spec("b"),
        ChildSpec(name="door", run=door, stop=stop_the_door, shutdown=60.0, restart=Restart.TEMPORARY),
        children.spec("z", start=3),
    ]
    async with open_supervisor(scheduler, specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        await supervisor.park("b")
        began = trio.current_time()
        await children("z", BOOM)  # the supervisor is busy for 3 seconds
        await children("a", BOOM)
        if when == "before":
            ask.set()
        await trio.sleep(10)
        assert trio.current_time() - began < 11
        assert children.running == ["a", "z"]
        assert len(came) == 1


# The law.

CRASHES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=30)


@settings(max_examples=short_or_full(40, 100))
@given(
    intensity=st.integers(0, 3), period=st.integers(1, 8), crashes=CRASHES, first=st.sampled_from([0.0, 0.4])
)
def test_no_child_is_restarted_more_often_than_its_intensity_within_any_period(
    intensity, period, crashes, first
):
    """Whatever the crash pattern; an unpark begins anew, and what is sound is left alone."""
    children = Children()

    async def crash_or_unpark(supervisor, name, unparks):
        if name in children.running:
            children.order(name, BOOM)
        elif unparks and name in parked(supervisor):
            children.started.append((name, "unparked"))
            with suppress(DaemonDown):
                await supervisor.unpark(name)
        await wait_all_tasks_blocked()

    async def main():
        specs = [
            children.spec("a", bad_starts=range(3, 9), **PARK),
            children.spec("b", **PARK),
            children.spec("c", intensity=1, period=20.0, **PARK),
            children.spec("sound"),
        ]
        backoff = Backoff(first=first, cap=3.0)
        async with (
            open_scheduler(reserve=0) as scheduler,
            open_supervisor(
                scheduler, specs, intensity=intensity, period=float(period), backoff=backoff
            ) as supervisor,
        ):
            for name, gap, unparks in crashes:
                await trio.sleep(gap)
                await crash_or_unpark(supervisor, name, unparks)
            await trio.sleep(100)
            assert all(child.ready is not child.parked for child in supervisor.children())

    trio.run(main, clock=MockClock(autojump_threshold=0))
    assert [name for name, _ in children.started].count("sound") == 1
    for name, most, within in (("a", intensity, period), ("b", intensity, period), ("c", 1, 20)):
        for restarts in _restarts(children.started, name):
            for start in restarts:
                assert sum(start <= at < start + within for at in restarts) <= most


def _restarts(started, name):
    """When it was restarted, for every span between two unparks."""
    spans = [[]]
    for each, at in started:
        if each == name and at == "unparked":
            spans.append([])
        elif each == name:
            spans[-1].append(at)
    # The first start of a span is not the supervisor's doing.
    return [span[1:] for span in spans]
