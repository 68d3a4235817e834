"""Events: delivery by pattern, slow subscribers, and an ``emit`` that never fails."""

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from rtos.bus import Event, Events


async def waiting(subscription):
    """Receive the events that wait for a subscriber now."""
    events = []
    while subscription._receive.statistics().current_buffer_used:
        events.append(await subscription.receive())
    return events


async def test_events_are_delivered_by_pattern_and_in_order():
    events = Events()
    with events.subscribe("data:users:*") as users, events.subscribe("data:*:deleted") as deleted:
        assert events.emit("data:users:created", 1) == 1
        assert events.emit("data:users:deleted", 2) == 2
        assert events.emit("data:rooms:deleted", 3) == 1
        assert events.emit("chat:users:deleted", 4) == 0
        assert [(event.name, event.payload) for event in await waiting(users)] == [
            ("data:users:created", 1),
            ("data:users:deleted", 2),
        ]
        assert [event.payload for event in await waiting(deleted)] == [2, 3]


async def test_subscription_with_several_patterns_gets_each_event_once_and_in_order():
    events = Events()
    with events.subscribe("a:*", "*:b", "a:b") as subscription:
        assert [events.emit(name) for name in ("a:b", "c:b", "a:c", "c:c")] == [1, 1, 1, 0]
        assert [event.name for event in await waiting(subscription)] == ["a:b", "c:b", "a:c"]


async def test_event_name_with_a_star_is_delivered_once():
    events = Events()
    with events.subscribe("a:*") as subscription:
        assert events.emit("a:*") == 1
        assert len(await waiting(subscription)) == 1


async def test_receive_is_a_checkpoint_and_emit_is_not():
    events = Events()
    with events.subscribe("a") as subscription:
        with assert_no_checkpoints():
            events.emit("a")
        with assert_checkpoints():
            assert await subscription.receive() == Event("a", None, 0)


async def test_slow_subscriber_learns_once_how_many_events_it_lost():
    events = Events()
    with events.subscribe("n", backlog=2) as subscription:
        for number in range(5):
            events.emit("n", number)
        assert (await subscription.receive()).lost == 0
        events.emit("n", 5)
        assert [(event.payload, event.lost) for event in await waiting(subscription)] == [
            (1, 0),
            (5, 3),  # the first event after the gap: 2, 3 and 4 were lost
        ]
        events.emit("n", 6)
        assert [(event.payload, event.lost) for event in await waiting(subscription)] == [(6, 0)]


async def test_gap_without_a_following_event_is_reported_by_the_event_before_it():
    events = Events()
    with events.subscribe("n", backlog=1) as subscription:
        for number in range(3):
            events.emit("n", number)
        assert await subscription.receive() == Event("n", 0, 2)
        events.emit("n", 3)
        assert await subscription.receive() == Event("n", 3, 0)


async def test_slow_subscriber_does_not_affect_others():
    events = Events()
    with events.subscribe("n", backlog=1) as slow, events.subscribe("n") as quick:
        for number in range(3):
            events.emit("n", number)
        assert [event.lost for event in await waiting(quick)] == [0, 0, 0]
        assert [event.lost for event in await waiting(slow)] == [2]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 4))
def test_received_and_lost_add_up_to_emitted(script, backlog):
    async def main():
        events = Events()
        received = lost = emitted = 0
        with events.subscribe("n", backlog=backlog) as subscription:
            for is_emit in script:
                if is_emit:
                    events.emit("n", emitted)
                    emitted += 1
                elif subscription._receive.statistics().current_buffer_used:
                    event = await subscription.receive()
                    # The gap is reported by the event just before or just after it.
                    assert event.payload <= received + lost + event.lost
                    received, lost = received + 1, lost + event.lost
            for event in await waiting(subscription):
                received, lost = received + 1, lost + event.lost
            assert received + lost == emitted

    trio.run(main)


async def test_emit_never_fails_because_of_a_subscriber():
    events = Events()

    async def listen(task_status):
        with events.subscribe("a") as subscription:
            task_status.started()
            async for _ in subscription:
                pass

    with events.subscribe("a") as abandoned:
        abandoned.close()
        abandoned._receive.close()
    async with trio.open_nursery() as nursery:
        await nursery.start(listen)
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
        events.emit("a")  # its reader is cancelled, but has not run yet
    assert events.emit("a") == 0
    assert events.emit("") == 0
    assert events.emit(":") == 0


async def test_emit_skips_a_closed_subscription():
    events = Events()
    with events.subscribe("a") as closed, events.subscribe("a") as other:
        closed.close()
        events.emit("a", 1)
        assert [event.payload for event in await waiting(other)] == [1]


async def test_iteration_ends_after_the_waiting_events():
    events = Events()
    with events.subscribe("a") as subscription:
        events.emit("a", 1)
        events.emit("a", 2)
    events.emit("a", 3)
    assert [event.payload async for event in subscription] == [1, 2]
    with pytest.raises(trio.EndOfChannel, match="^$"):
        await subscription.receive()


async def test_cancelled_receive_loses_no_event():
    events = Events()
    with events.subscribe("a") as subscription:
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive()
        events.emit("a", 1)
        with trio.CancelScope() as scope:
            scope.cancel()
            await subscription.receive()
        assert (await subscription.receive()).payload == 1


async def test_bad_pattern_or_backlog_subscribes_nothing():
    events = Events()
    with (
        pytest.raises(ValueError, match="pattern 'a::b' has the segment ''"),
        events.subscribe("fine", "a::b"),
    ):
        pass
    with pytest.raises(ValueError, match="max_buffer_size"), events.subscribe("fine", backlog=-1):
        pass
    assert events.emit("fine") == 0
    assert not events._index
