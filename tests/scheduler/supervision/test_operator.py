"""Parking and unparking: past the intensity and by hand, and orders that meet restarts and shutdown."""

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
    # Restart type, how b ends, strategy, and whether b is parked when no restart is allowed.
    *[(Restart.PERMANENT, how, strategy, True) for how in (BOOM, END) for strategy in Strategy],
    *[(Restart.TRANSIENT, BOOM, strategy, True) for strategy in Strategy],
    *[(Restart.TRANSIENT, END, strategy, False) for strategy in Strategy],
    *[(Restart.TEMPORARY, how, strategy, False) for how in (BOOM, END) for strategy in Strategy],
]


@pytest.mark.parametrize(("restart", "how", "strategy", "parks"), MATRIX)
async def test_child_past_its_intensity_is_parked_alone_whatever_the_strategy(
    scheduler, autojump_clock, restart, how, strategy, parks
):
    children = Children()
    specs = [children.spec("a"), children.spec("b", restart=restart, **PARK), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=strategy, intensity=0) as supervisor:
        children.take()
        await children("b", how)
        # No other child is stopped, whatever the strategy.
        assert children.take() == ["crash b" if how == BOOM else "end b"]
        assert children.running == ["a", "c"]
        why = "BoomError: b" if how == BOOM else "it returned"
        assert parked(supervisor) == ({"b": why} if parks else {})
        reason = (
            f"it is parked until `daemon/unpark b` ({why})" if parks else "it has ended, and is not restarted"
        )
        assert children.downs == [("b", reason)]
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


async def test_child_is_restarted_up_to_its_intensity_before_it_is_parked(scheduler, autojump_clock):
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
        assert children.take() == []  # it stays parked


async def test_close_skips_parked_children_and_calls_on_down_once(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(
        scheduler, [children.spec("a"), children.spec("b", **PARK)], intensity=0
    ) as supervisor:
        await children("b", BOOM)
        children.take()
    assert children.take() == ["stop a", "end a"]
    assert children.downs == [PARKED_B, ("a", "it has been stopped")]
    assert supervisor.failure is None


async def test_unpark_resets_the_window_and_the_backoff(scheduler, autojump_clock):
    children = Children()
    spec = children.spec("b", **PARK)
    backoff = Backoff(first=1.0, cap=64.0)
    async with open_supervisor(scheduler, [spec], intensity=2, period=500.0, backoff=backoff) as supervisor:
        for _ in range(3):
            began = trio.current_time()
            for _ in range(3):
                children.order("b", BOOM)
                await trio.sleep(2)
            # Restarted at once, then after a second, then parked.
            assert parked(supervisor) == {"b": "BoomError: b"}
            assert trio.current_time() == began + 6
            await supervisor.unpark("b")
            assert children.running == ["b"]
        assert [report.outcome for report in supervisor.reports] == ["restarted", "restarted", "parked"] * 3
        assert children.downs == [PARKED_B] * 3


async def test_crash_loop_of_a_child_that_parks_does_not_use_up_the_intensity_of_others(
    scheduler, autojump_clock
):
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


async def test_child_that_escalates_may_have_an_intensity_of_its_own(scheduler, autojump_clock):
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


def test_impossible_intensity_and_period_are_rejected():
    for options in ({"intensity": -1}, {"period": 0.0}, {"period": math.nan}):
        (name,) = options
        with pytest.raises(ValueError, match=rf"ChildSpec\({name}\): .*; use .* or None"):
            Children().spec("a", **options)


# Groups.


@pytest.mark.parametrize("strategy", [Strategy.REST_FOR_ONE, Strategy.ONE_FOR_ALL])
async def test_group_restart_does_not_start_a_parked_child(scheduler, autojump_clock, strategy):
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
async def test_member_that_fails_to_start_is_parked_and_the_rest_of_the_group_starts(
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


async def test_several_members_that_fail_to_start_are_parked_one_after_the_other(scheduler, autojump_clock):
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


async def test_park_and_unpark_by_hand(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("a"), children.spec("b", ending=2), children.spec("c")]
    async with open_supervisor(scheduler, specs, strategy=Strategy.ONE_FOR_ALL) as supervisor:
        children.take()
        began = trio.current_time()
        await supervisor.park("b")
        assert trio.current_time() == began + 2  # it was asked to stop, and took its time
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
async def test_child_that_has_ended_can_be_parked_and_unparked(scheduler, autojump_clock, restart):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a", restart=restart)]) as supervisor:
        await children("a", END)
        await supervisor.park("a")
        await supervisor.unpark("a")
        assert children.running == ["a"]


async def test_order_for_an_unknown_child_or_with_nothing_to_do_is_rejected(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a"), children.spec("b")]) as supervisor:
        for order, name in ((supervisor.park, "park"), (supervisor.unpark, "unpark")):
            with pytest.raises(CommandRejected, match=rf"daemon/{name}: .* no daemon 'x'; there are a, b"):
                await order("x")
        with pytest.raises(CommandRejected, match="'a' is not parked"):
            await supervisor.unpark("a")
        assert children.running == ["a", "b"]


async def test_unpark_whose_start_fails_parks_the_child_again_and_raises(scheduler, autojump_clock):
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


async def test_concurrent_unparks_start_the_child_once_and_wait_until_it_is_ready(scheduler, autojump_clock):
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


async def test_next_of_several_unparks_tries_again_when_the_first_fails(scheduler, autojump_clock):
    children, outcomes = Children(), []
    async with open_supervisor(scheduler, [children.spec("a", bad_starts=(2,))]) as supervisor:
        await supervisor.park("a")

        async def unpark():
            try:
                await supervisor.unpark("a")
            except DaemonDown:
                outcomes.append("down")
            else:
                outcomes.append("up")

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(unpark)
        assert sorted(outcomes) == ["down", "up", "up"]
        assert children.running == ["a"]


async def test_orders_are_answered_at_once_while_another_child_starts_or_backs_off(scheduler, autojump_clock):
    children = Children()
    specs = [children.spec("hangs", start=3, **PARK), children.spec("b"), children.spec("waits", **PARK)]
    backoff = Backoff(first=4.0)
    async with open_supervisor(scheduler, specs, backoff=backoff) as supervisor:
        await children("waits", BOOM)
        await children("waits", BOOM)
        await children("hangs", BOOM)
        states = {child.name: child.state for child in supervisor.children()}
        assert states == {"hangs": "starting", "b": "running", "waits": "backing off"}
        began = trio.current_time()
        await supervisor.park("b")
        await supervisor.unpark("b")
        assert trio.current_time() == began
        await trio.sleep(5)
        assert children.running == ["b", "hangs", "waits"]


async def test_child_that_hangs_while_it_starts_is_parked_at_once(scheduler, autojump_clock):
    children = Children()
    spec = children.spec("a", start=3, start_timeout=9.0, shutdown=9.0)
    async with open_supervisor(scheduler, [spec]) as supervisor:
        await children("a", BOOM)
        children.take()
        began = trio.current_time()
        await supervisor.park("a")
        # It has accepted nothing yet, so it is cancelled without being asked to stop.
        assert children.take() == ["cancel a"]
        assert trio.current_time() == began
        await trio.sleep(20)
        assert children.running == []
        await supervisor.unpark("a")
        assert trio.current_time() == began + 20 + 3


async def test_child_that_backs_off_is_parked_and_unparked_at_once(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("a")], backoff=Backoff(first=4.0)) as supervisor:
        await children("a", BOOM)
        await children("a", BOOM)
        children.take()
        began = trio.current_time()
        await supervisor.park("a")
        assert children.take() == []
        await supervisor.unpark("a")
        assert children.take() == ["start a", "ready a"]
        assert trio.current_time() == began
        await trio.sleep(20)
        assert children.take() == []  # the backoff that was under way starts nothing


async def test_park_overrides_an_unpark_whose_start_hangs(scheduler, autojump_clock):
    children = Children()
    async with (
        open_supervisor(scheduler, [children.spec("a", start=9)]) as supervisor,
        trio.open_nursery() as nursery,
    ):
        await supervisor.park("a")

        async def unpark():
            with pytest.raises(DaemonDown, match="it is parked until `daemon/unpark a` [(]by hand[)]"):
                await supervisor.unpark("a")

        nursery.start_soon(unpark)
        await trio.sleep(1)
        began = trio.current_time()
        await supervisor.park("a")
        assert trio.current_time() == began
        assert children.running == []
        assert parked(supervisor) == {"a": "by hand"}


async def test_child_that_crashes_while_it_is_being_parked_is_reported_and_not_restarted(
    scheduler, autojump_clock
):
    children = Children()
    spec = children.spec("b", stop=None, raises_on_stop=BoomError("while cancelled"))
    async with open_supervisor(scheduler, [spec]) as supervisor:
        await supervisor.park("b")
        await trio.sleep(5)
        assert parked(supervisor) == {"b": "by hand"}
        assert [(report.child, report.outcome) for report in supervisor.reports] == [("b", "parked")]


# Withdrawn and refused.


async def test_cancelled_order_is_withdrawn_unless_it_has_begun(scheduler, autojump_clock):
    children = Children()
    async with open_supervisor(scheduler, [children.spec("b", ending=2)]) as supervisor:
        with trio.move_on_after(1):
            await supervisor.park("b")  # it has begun
        with trio.move_on_after(0.5):
            await supervisor.unpark("b")  # it waits until b has been parked
        await trio.sleep(5)
        assert children.running == []
        assert parked(supervisor) == {"b": "by hand"}


async def test_unpark_is_refused_when_the_supervisor_closes(scheduler, autojump_clock):
    children = Children()
    refusals = []

    async def unpark(supervisor, after):
        await trio.sleep(after)
        try:
            await supervisor.unpark("b")
        except Refused as refused:
            refusals.append((after, trio.current_time(), str(refused)))

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
        nursery.start_soon(unpark, supervisor, 1)  # under way when the supervisor closes
        nursery.start_soon(unpark, supervisor, 4)  # while a is being stopped
        await trio.sleep(2)
    text = "b refused: its supervisor is stopping; try again later"
    assert [(after, round(at - began, 2), said) for after, at, said in refusals] == [
        (1, 2, text),
        (4, 4, text),
    ]
    assert children.running == []
    with pytest.raises(Refused, match="is stopping"):
        await supervisor.unpark("b")


async def test_unpark_under_way_is_refused_when_the_supervisor_closes(scheduler, autojump_clock):
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


@pytest.mark.parametrize("when", ["before the group stops", "while the group stops"])
async def test_child_that_serves_an_order_does_not_delay_the_restart_of_its_group(
    scheduler, autojump_clock, when
):
    """Otherwise the child would wait for the order, and the order for the stop of the child."""
    children, refused = Children(), []
    stop, ask = trio.Event(), trio.Event()

    async def serve(ready):
        ready()
        await ask.wait()
        with pytest.raises(Refused, match="b refused: children are being stopped, to be restarted") as caught:
            await supervisor.unpark("b")
        refused.append(caught.value)
        await stop.wait()

    def ask_to_stop():
        ask.set()
        stop.set()

    specs = [
        children.spec("a"),
        children.spec("b", start=6),
        ChildSpec(name="server", run=serve, stop=ask_to_stop, shutdown=60.0, restart=Restart.TEMPORARY),
        children.spec("c"),
    ]
    async with open_supervisor(scheduler, specs, strategy=Strategy.REST_FOR_ONE) as supervisor:
        await supervisor.park("b")
        if when == "before the group stops":
            ask.set()
            await trio.sleep(1)
            assert children.running == ["a", "b", "c"]  # the unpark is under way
        began = trio.current_time()
        await children("a", BOOM)
        assert trio.current_time() - began < 1
        assert children.running == ["a", "c"]
        assert parked(supervisor) == {"b": "by hand"}
        assert len(refused) == 1


# Restart intensity.

CRASHES = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 3), st.booleans()), max_size=30)


@settings(max_examples=short_or_full(40, 100))
@given(
    intensity=st.integers(0, 3), period=st.integers(1, 8), crashes=CRASHES, first=st.sampled_from([0.0, 0.4])
)
def test_restarts_within_any_period_never_exceed_the_intensity(intensity, period, crashes, first):
    """An unpark resets the count. A child that never fails is not restarted."""
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
            children.spec("steady"),
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
    assert [name for name, _ in children.started].count("steady") == 1
    for name, most, within in (("a", intensity, period), ("b", intensity, period), ("c", 1, 20)):
        for restarts in _restarts(children.started, name):
            for start in restarts:
                assert sum(start <= at < start + within for at in restarts) <= most


def _restarts(started, name):
    """Return the times of the restarts of a child, one list per span between two unparks."""
    spans = [[]]
    for each, at in started:
        if each == name and at == "unparked":
            spans.append([])
        elif each == name:
            spans[-1].append(at)
    # The first start of a span is not a restart.
    return [span[1:] for span in spans]
