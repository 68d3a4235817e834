from __future__ import annotations

import contextlib
import itertools
import math
from collections import deque
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import assert_checkpoints, wait_all_tasks_blocked

from rtos.errors import DeadlineMissed, MailboxFull
from rtos.scheduler import OverloadPolicy, SchedulingContext, open_scheduler
from rtos.scheduler.mailbox.channels import open_mailbox
from rtos.scheduler.mailbox.dead_letters import Quarantine
from rtos.scheduler.mailbox.envelope import DropReason, Envelope
from rtos.scheduler.mailbox.state import MailboxState
from rtos.scheduler.policy.overload import MailboxQueue, State
from tests.support.effort import short_or_full

BLOCK = OverloadPolicy.BLOCK


def drain(receive: Any) -> list[Any]:
    got = []
    while True:
        try:
            got.append(receive.receive_nowait())
        except (trio.WouldBlock, trio.EndOfChannel):
            return got


# The behaviour of a Trio memory channel.


@pytest.mark.parametrize("capacity", [1.0, 2.5, "3", None])
def test_capacity_that_is_not_a_count_is_rejected(capacity: Any) -> None:
    with pytest.raises(TypeError, match=r"use an integer or math\.inf"):
        open_mailbox(capacity)


def test_negative_capacity_is_rejected() -> None:
    with pytest.raises(ValueError, match="is negative; use 0 for a rendezvous"):
        open_mailbox(-1)


@pytest.mark.parametrize("policy", sorted(set(OverloadPolicy) - {BLOCK, OverloadPolicy.REJECT}, key=str))
def test_capacity_0_is_rejected_with_a_policy_that_keeps_messages(policy: OverloadPolicy) -> None:
    with pytest.raises(ValueError, match="keeps messages; use a capacity of 1 or more"):
        open_mailbox(0, policy)


async def test_send_and_receive_with_and_without_waiting() -> None:
    send, receive = open_mailbox(2, name="letters")
    assert "letters" in repr(send)
    assert "letters" in repr(receive)
    send.send_nowait(1)
    with assert_checkpoints():
        await send.send("two")
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(None)
    with assert_checkpoints():
        assert await receive.receive() == 1
    assert receive.receive_nowait() == "two"
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()


async def test_queued_messages_are_received_before_end_of_channel() -> None:
    send, receive = open_mailbox(2)
    send.send_nowait("last")
    await send.aclose()
    for _ in range(2):
        with pytest.raises(trio.ClosedResourceError):
            await send.send("too late")
        with pytest.raises(trio.ClosedResourceError):
            send.send_nowait("too late")
        with pytest.raises(trio.ClosedResourceError):
            send.send_control("too late")
        with pytest.raises(trio.ClosedResourceError):
            send.clone()
        await send.aclose()
    assert receive.receive_nowait() == "last"
    with pytest.raises(trio.EndOfChannel):
        await receive.receive()
    await receive.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await receive.receive()
    with pytest.raises(trio.ClosedResourceError):
        receive.receive_nowait()
    await receive.aclose()


async def test_cancelled_receive_takes_no_message(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = open_mailbox(1)
    with trio.move_on_after(10) as scope:
        await receive.receive()
    assert scope.cancelled_caught
    await send.send("kept")
    assert receive.receive_nowait() == "kept"


async def test_cancelled_send_adds_no_message(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("first")
    with trio.move_on_after(10) as scope:
        await send.send("second")
    assert scope.cancelled_caught
    assert drain(receive) == ["first"]
    assert send.statistics().messages.accepted == 1


async def test_cancelled_task_neither_sends_nor_receives() -> None:
    send, receive = open_mailbox(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await send.send("never")
    assert drain(receive) == []
    send.send_nowait("stays")
    with trio.CancelScope() as scope:
        scope.cancel()
        await receive.receive()
    assert drain(receive) == ["stays"]


async def test_one_receiver_gets_the_messages_of_many_senders() -> None:
    async def produce(end: Any, start: int) -> None:
        async with end:
            for value in range(start, start + 3):
                await end.send(value)

    send, receive = open_mailbox(0)
    async with trio.open_nursery() as nursery:
        async with send:
            for start in range(0, 30, 3):
                nursery.start_soon(produce, send.clone(), start)
        assert sorted([value async for value in receive]) == list(range(30))


async def test_each_of_many_receivers_gets_messages() -> None:
    got: dict[int, list[int]] = {name: [] for name in range(5)}

    async def consume(end: Any, name: int) -> None:
        async for value in end:
            got[name].append(value)

    send, receive = open_mailbox(1)
    async with trio.open_nursery() as nursery:
        for name in got:
            nursery.start_soon(consume, receive, name)
        await wait_all_tasks_blocked()
        async with send:
            for value in range(10):
                await send.send(value)
    assert sorted(itertools.chain(*got.values())) == list(range(10))
    assert all(got.values())


@pytest.mark.parametrize("synchronous", [False, True])
async def test_closing_an_end_wakes_the_tasks_that_wait(synchronous: bool) -> None:
    async def expect(error: type[Exception], wait: Any, *args: Any) -> None:
        with pytest.raises(error):
            await wait(*args)

    async def close(end: Any) -> None:
        if synchronous:
            end.close()
        else:
            with assert_checkpoints():
                await end.aclose()

    # The sending end is closed while a sender is blocked.
    send, receive = open_mailbox(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.ClosedResourceError, send.send, None)
        await wait_all_tasks_blocked()
        await close(send)
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()
    # The receiving end is closed while a sender is blocked; later sends fail too.
    send, receive = open_mailbox(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.BrokenResourceError, send.send, None)
        await wait_all_tasks_blocked()
        await close(receive)
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(None)
    with pytest.raises(trio.BrokenResourceError):
        await send.send(None)
    with pytest.raises(trio.BrokenResourceError):
        send.send_control(None)
    # The receiving end is closed while a receiver waits.
    send, receive = open_mailbox(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.ClosedResourceError, receive.receive)
        await wait_all_tasks_blocked()
        await close(receive)
    # The last sending end is closed while a receiver waits.
    send, receive = open_mailbox(0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, trio.EndOfChannel, receive.receive)
        await wait_all_tasks_blocked()
        await close(send)


async def test_cancelled_aclose_closes_the_end() -> None:
    send, receive = open_mailbox(1)
    with trio.CancelScope() as scope:
        scope.cancel()
        await send.aclose()
    with pytest.raises(trio.EndOfChannel):
        receive.receive_nowait()


async def test_sending_fails_once_the_last_receiving_end_is_closed() -> None:
    send, receive = open_mailbox(10)
    second, third = receive.clone(), receive.clone()
    send.send_nowait(None)
    await receive.aclose()
    with second:
        pass
    for closed in (receive, second):
        with pytest.raises(trio.ClosedResourceError):
            closed.clone()
    send.send_nowait(None)
    await third.aclose()
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait(None)


async def test_closing_an_end_does_not_wake_tasks_in_its_clones() -> None:
    async def rejected(end: Any) -> None:
        with pytest.raises(trio.ClosedResourceError):
            await (end.send("no") if hasattr(end, "send") else end.receive())

    send, receive = open_mailbox(0)
    other_send = send.clone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected, send)
        nursery.start_soon(other_send.send, "ok")
        await wait_all_tasks_blocked()
        await send.aclose()
        assert await receive.receive() == "ok"

    other_receive = receive.clone()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rejected, receive)
        got = []

        async def take() -> None:
            got.append(await other_receive.receive())

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        await receive.aclose()
        await other_send.send("fine")
    assert got == ["fine"]


async def test_send_to_an_unbounded_mailbox_never_blocks() -> None:
    send, receive = open_mailbox(math.inf)
    with send:
        for value in range(1000):
            send.send_nowait(value)
    assert [value async for value in receive] == list(range(1000))


async def test_statistics_count_ends_waiting_tasks_and_peaks() -> None:
    send, receive = open_mailbox(2)
    assert send.statistics() == receive.statistics()
    snapshot = send.statistics()
    assert (snapshot.current_buffer_used, snapshot.max_buffer_size, snapshot.peak_buffer_used) == (0, 2, 0)
    assert (snapshot.open_send_channels, snapshot.open_receive_channels) == (1, 1)
    assert (snapshot.tasks_waiting_send, snapshot.tasks_waiting_receive) == (0, 0)
    second, reader = send.clone(), receive.clone()
    assert (send.statistics().open_send_channels, send.statistics().open_receive_channels) == (2, 2)
    second.close()
    reader.close()
    assert (send.statistics().open_send_channels, send.statistics().open_receive_channels) == (1, 1)
    send.send_nowait(None)
    send.send_nowait(None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, None)
        nursery.start_soon(send.send, None)
        await wait_all_tasks_blocked()
        assert send.statistics().tasks_waiting_send == 2
        nursery.cancel_scope.cancel()
    assert send.statistics().tasks_waiting_send == 0
    assert send.statistics().peak_tasks_waiting_send == 2
    drain(receive)
    assert (send.statistics().current_buffer_used, send.statistics().peak_buffer_used) == (0, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(receive.receive)
        await wait_all_tasks_blocked()
        assert send.statistics().tasks_waiting_receive == 1
        nursery.cancel_scope.cancel()
    assert send.statistics().tasks_waiting_receive == 0


async def test_statistics_are_a_snapshot() -> None:
    send, _receive = open_mailbox(2)
    before = send.statistics()
    send.send_nowait(None)
    assert before.messages.accepted == 0


async def test_message_sent_to_a_waiting_receiver_is_not_taken_by_another() -> None:
    send, receive = open_mailbox(1)
    send.send_nowait(1)
    assert receive.receive_nowait() == 1
    got = []

    async def take() -> None:
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        send.send_nowait(2)
        with pytest.raises(trio.WouldBlock):
            receive.receive_nowait()
    assert got == [2]


async def test_control_message_goes_to_a_waiting_receiver() -> None:
    send, receive = open_mailbox(1)
    async with trio.open_nursery() as nursery:
        got = []

        async def take() -> None:
            got.append(await receive.receive())

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        send.send_control("stop")
    assert got == ["stop"]
    assert send.statistics().control.handled == 1


async def test_free_room_goes_to_a_blocked_sender() -> None:
    send, receive = open_mailbox(1)
    send.send_nowait(1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send.send, 2)
        await wait_all_tasks_blocked()
        assert receive.receive_nowait() == 1
        with pytest.raises(trio.WouldBlock):
            send.send_nowait(3)
        assert await receive.receive() == 2


async def test_capacity_0_delivers_only_when_sender_and_receiver_wait() -> None:
    send, receive = open_mailbox(0)
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    with pytest.raises(trio.WouldBlock):
        send.send_nowait(1)

    async def offer() -> None:
        with assert_checkpoints():
            await send.send(1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer)
        with assert_checkpoints():
            assert await receive.receive() == 1
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    assert send.statistics().peak_buffer_used == 0
    assert send.statistics().messages.conserved()


# The order.


async def test_order_is_level_then_deadline_then_arrival() -> None:
    send, receive = open_mailbox(math.inf)
    now = trio.current_time()
    for value, level, deadline in [
        ("fourth: less urgent level, near deadline", 5, now + 1),
        ("third: no deadline, came last", 2, math.inf),
        ("first: nearest deadline of the level", 2, now + 10),
        ("second: later deadline", 2, now + 20),
    ]:
        send.send_nowait(value, level=level, deadline=deadline)
    send.send_nowait("third and a half: came after its equal", level=2, deadline=math.inf)
    assert [value.split(":")[0] for value in drain(receive)] == [
        "first",
        "second",
        "third",
        "third and a half",
        "fourth",
    ]


async def test_level_and_deadline_default_to_those_of_the_senders_context() -> None:
    send, receive = open_mailbox(math.inf)
    later = trio.current_time() + 100
    send.send_nowait("host: default level")
    with SchedulingContext("near", level=3, deadline=later):
        send.send_nowait("near")
        send.send_nowait("own deadline", deadline=later - 1)
        send.send_nowait("own level", level=1)
    with SchedulingContext("far", level=3, deadline=later + 1):
        send.send_nowait("far")
    assert drain(receive) == ["own level", "own deadline", "near", "far", "host: default level"]


BAD_MESSAGES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "NaN deadline": ({"deadline": math.nan}, ValueError, "send: deadline nan is not a time"),
    "text as deadline": ({"deadline": "soon"}, TypeError, "must be real number"),
    "level out of range": ({"level": 8}, ValueError, "send: level 8 does not exist"),
    "negative level": ({"level": -1}, ValueError, "send: level -1 does not exist"),
    "fractional level": ({"level": 1.5}, ValueError, "send: level 1.5 does not exist"),
    "unhashable key": ({"key": ["k"]}, TypeError, "unhashable type: 'list'"),
}


@pytest.mark.parametrize("policy", [BLOCK, OverloadPolicy.COALESCE])
@pytest.mark.parametrize(("options", "error", "text"), BAD_MESSAGES.values(), ids=BAD_MESSAGES)
@pytest.mark.parametrize("state", ["empty", "full", "receiver waits"])
async def test_bad_message_is_rejected_before_anything_changes(
    policy: OverloadPolicy, options: Any, error: type[Exception], text: str, state: str
) -> None:
    send, receive = open_mailbox[Any](1, policy)
    got: list[Any] = []

    async def take() -> None:
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        if state == "full":
            send.send_nowait("first")
        elif state == "receiver waits":
            nursery.start_soon(take)
            await wait_all_tasks_blocked()
        before = send.statistics()
        with pytest.raises(error, match=text):
            send.send_nowait("bad", **options)
        with pytest.raises(error, match=text):
            await send.send("bad", **options)
        assert send.statistics() == before
        if state != "full":
            send.send_nowait("good")
    assert got + drain(receive) == ["first" if state == "full" else "good"]


@pytest.mark.parametrize("seed", range(8))
async def test_most_urgent_blocked_sender_gets_the_free_room(seed: int) -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("accepted", level=3)
    now = trio.current_time()
    blocked = [
        ("last: least urgent", 6, math.inf),
        ("third: an equal of what was accepted", 3, math.inf),
        ("second: near deadline", 3, now + 50),
        ("first: overtakes what was accepted", 0, math.inf),
    ]
    async with trio.open_nursery() as nursery:
        for value, level, deadline in blocked[seed % 4 :] + blocked[: seed % 4]:
            nursery.start_soon(lambda v, a, d: send.send(v, level=a, deadline=d), value, level, deadline)
            await wait_all_tasks_blocked()
        # Room that becomes free goes to the most urgent blocked sender, never to a new one.
        with pytest.raises(trio.WouldBlock):
            send.send_nowait("no", level=0)
        got = [(await receive.receive()).split(":")[0] for _ in range(5)]
    assert got == ["first", "second", "accepted", "third", "last"]
    assert send.statistics().peak_buffer_used == 1


async def test_blocked_sender_follows_the_level_of_its_context() -> None:
    send, receive = open_mailbox(0)
    slow = SchedulingContext("slow", level=6)

    async def offer(context: SchedulingContext, value: str) -> None:
        with context:
            await send.send(value)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer, SchedulingContext("quick", level=2), "quick")
        nursery.start_soon(offer, slow, "slow")
        await wait_all_tasks_blocked()
        slow.inherit(1, math.inf)
        assert [await receive.receive() for _ in range(2)] == ["slow", "quick"]
    assert not slow.waits


# The control lane.


async def test_control_messages_go_first_in_order_of_arrival() -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("message", level=0)
    for value in ("suspend", "resume"):
        send.send_control(value)
    assert drain(receive) == ["suspend", "resume", "message"]


@pytest.mark.parametrize("policy", list(OverloadPolicy))
async def test_control_lane_is_unbounded_and_never_sheds(policy: OverloadPolicy) -> None:
    send, receive = open_mailbox(1, policy)
    for value in range(100):
        send.send_control(value)
    for value in range(100, 110):
        with contextlib.suppress(trio.WouldBlock, MailboxFull):
            send.send_nowait(value, level=0)
    assert drain(receive)[:100] == list(range(100))
    assert send.statistics().control.high_water == 100
    assert send.statistics().control.conserved()


async def test_control_message_needs_no_waiting_receiver_at_capacity_0() -> None:
    send, receive = open_mailbox(0)
    send.send_control("stop")
    assert await receive.receive() == "stop"


# Deadlines.


async def test_expired_messages_are_dropped_before_delivery(autojump_clock: trio.testing.MockClock) -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(10, on_drop=lambda value, reason: dropped.append((value, reason)))
    now = trio.current_time()
    send.send_nowait("expires second", level=0, deadline=now + 2)
    send.send_nowait("expires first", level=5, deadline=now + 1)
    send.send_nowait("lives", level=5, deadline=now + 10)
    await trio.sleep(3)
    assert dropped == []
    assert drain(receive) == ["lives"]
    assert dropped == [("expires first", DropReason.EXPIRED), ("expires second", DropReason.EXPIRED)]
    assert (send.statistics().messages.expired, send.statistics().messages.handled) == (2, 1)


async def test_message_that_would_finish_late_is_dropped(autojump_clock: trio.testing.MockClock) -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(
        10, on_drop=lambda value, reason: dropped.append((value, reason)), service_time=lambda: 0.5
    )
    now = trio.current_time()
    send.send_nowait("too tight", deadline=now + 1)
    send.send_nowait("enough", deadline=now + 2)
    await trio.sleep(0.75)
    assert drain(receive) == ["enough"]
    assert dropped == [("too tight", DropReason.EXPIRED)]
    with pytest.raises(DeadlineMissed):
        send.send_nowait("cannot be met", deadline=trio.current_time() + 0.4)


async def test_message_past_its_deadline_is_not_accepted(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = open_mailbox(10, name="letters")
    await trio.sleep(1)
    with pytest.raises(DeadlineMissed, match="letters missed its deadline before it started"):
        send.send_nowait("late", deadline=trio.current_time())
    with pytest.raises(DeadlineMissed) as caught:
        await send.send("later", deadline=trio.current_time() - 0.25)
    assert (caught.value.started, caught.value.late) == (False, 0.25)
    assert drain(receive) == []
    assert (send.statistics().messages.accepted, send.statistics().messages.refused) == (0, 2)


async def test_blocked_sender_waits_until_its_deadline(autojump_clock: trio.testing.MockClock) -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("first")
    began = trio.current_time()
    with pytest.raises(DeadlineMissed):
        await send.send("second", deadline=began + 5)
    assert trio.current_time() == began + 5
    assert send.statistics().tasks_waiting_send == 0
    assert drain(receive) == ["first"]


async def test_expired_messages_are_dropped_before_the_overload_policy_applies(
    autojump_clock: trio.testing.MockClock,
) -> None:
    for policy in OverloadPolicy:
        send, receive = open_mailbox(2, policy)
        send.send_nowait("expired", deadline=trio.current_time() + 1)
        send.send_nowait("lives")
        await trio.sleep(2)
        send.send_nowait("fits")
        assert drain(receive) == ["lives", "fits"], policy
        assert send.statistics().messages.shed == 0, policy


async def test_blocked_sender_that_expired_is_not_admitted(autojump_clock: trio.testing.MockClock) -> None:
    # A message and a blocked sender expire together: the sender must not get the free room.
    send, receive = open_mailbox(1)
    due = trio.current_time() + 1
    outcomes = []

    async def offer(value: str, deadline: float) -> None:
        try:
            await send.send(value, deadline=deadline)
        except DeadlineMissed:
            outcomes.append((value, "missed"))
        else:
            outcomes.append((value, "sent"))

    send.send_nowait("inside", deadline=due)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(offer, "blocked", due)
        nursery.start_soon(offer, "patient", math.inf)
        await wait_all_tasks_blocked()
        autojump_clock.jump(1)
        assert receive.receive_nowait() == "patient"
    assert sorted(outcomes) == [("blocked", "missed"), ("patient", "sent")]
    counts = send.statistics().messages
    assert (counts.accepted, counts.expired, counts.handled) == (2, 1, 1)


# The overload policies: messages sent (value, level, key), received, shed and refused.

A, B, C = ("a", 4, "x"), ("b", 2, "y"), ("c", 4, "x")
POLICIES = [
    (OverloadPolicy.REJECT, [A, B, C], ["b", "a"], [], ["c"]),
    (OverloadPolicy.DROP_OLDEST, [A, B, C], ["b", "c"], ["a"], []),
    (OverloadPolicy.DROP_LEAST_URGENT, [A, B, C], ["b", "a"], [], ["c"]),
    (OverloadPolicy.DROP_LEAST_URGENT, [A, C, B], ["b", "a"], ["c"], []),
    (OverloadPolicy.COALESCE, [A, B, C], ["b", "c"], ["a"], []),
    (OverloadPolicy.COALESCE, [A, C], ["c"], ["a"], []),
    (OverloadPolicy.COALESCE, [A, B, ("d", 0, "z")], ["b", "a"], [], ["d"]),
]


@pytest.mark.parametrize(("policy", "sent", "received", "shed", "refused"), POLICIES)
async def test_each_overload_policy(
    policy: OverloadPolicy, sent: Any, received: list[str], shed: list[str], refused: list[str]
) -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(2, policy, on_drop=lambda value, reason: dropped.append((value, reason)))
    full = []
    for number, (value, level, key) in enumerate(sent):
        try:
            if number % 2:
                await send.send(value, level=level, key=key)
            else:
                send.send_nowait(value, level=level, key=key)
        except MailboxFull:
            full.append(value)
    assert (dropped, full) == ([(value, DropReason.SHED) for value in shed], refused)
    assert drain(receive) == received
    counts = send.statistics().messages
    assert (counts.shed, counts.refused) == (len(shed), len(refused))
    assert counts.conserved()


async def test_refusal_names_the_mailbox_and_its_size() -> None:
    send, _receive = open_mailbox(0, OverloadPolicy.REJECT, name="letters")
    with pytest.raises(MailboxFull, match="letters refused: its mailbox holds 0 of 0"):
        await send.send(1)


async def test_messages_left_when_the_last_receiver_closes_are_passed_to_on_drop() -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(5, on_drop=lambda value, reason: dropped.append((value, reason)))
    send.send_nowait("less urgent", level=5)
    send.send_nowait("urgent", level=0, deadline=trio.current_time() + 5)
    send.send_control("stop")
    receive.close()
    assert dropped == [(value, DropReason.CLOSED) for value in ("stop", "less urgent", "urgent")]
    counts = send.statistics()
    assert (counts.messages.cancelled, counts.control.cancelled) == (2, 1)
    assert counts.messages.conserved()
    assert counts.control.conserved()


async def test_on_drop_that_raises_is_still_called_for_every_dropped_message() -> None:
    dropped: list[Any] = []

    def on_drop(value: Any, reason: DropReason) -> None:
        dropped.append((value, reason))
        if value in ("a", "c"):
            raise RuntimeError(value)

    send, receive = open_mailbox[str](5, name="letters", on_drop=on_drop)
    for value in "abcd":
        send.send_nowait(value)
    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="^a$"),
        pytest.RaisesExc(RuntimeError, match="^c$"),
        match="^on_drop of mailbox letters raised",
    ):
        receive.close()
    assert dropped == [(value, DropReason.CLOSED) for value in "abcd"]
    assert send.statistics().messages.cancelled == 4
    with pytest.raises(trio.BrokenResourceError):
        send.send_nowait("e")


async def test_on_drop_that_raises_for_expired_messages_leaves_the_mailbox_usable(
    mock_clock: trio.testing.MockClock,
) -> None:
    dropped: list[str] = []

    def on_drop(value: str, _: DropReason) -> None:
        dropped.append(value)
        raise RuntimeError(value)

    send, receive = open_mailbox[str](5, on_drop=on_drop)
    for number, value in enumerate("abc"):
        send.send_nowait(value, deadline=trio.current_time() + 1 + number)
    send.send_nowait("d")
    mock_clock.jump(2.5)
    with pytest.RaisesGroup(
        pytest.RaisesExc(RuntimeError, match="^a$"), pytest.RaisesExc(RuntimeError, match="^b$")
    ):
        receive.receive_nowait()
    assert dropped == ["a", "b"]
    assert drain(receive) == ["c", "d"]
    assert send.statistics().messages.conserved()


async def test_on_drop_that_raises_for_a_shed_message_leaves_the_new_one_accepted() -> None:
    def on_drop(value: int, _: DropReason) -> None:
        raise RuntimeError(value)

    send, receive = open_mailbox[int](1, OverloadPolicy.DROP_OLDEST, on_drop=on_drop)
    send.send_nowait(1)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="^1$")):
        await send.send(2)
    assert drain(receive) == [2]


async def test_on_drop_may_send_again() -> None:
    def again(value: Any, _: DropReason) -> None:
        overflow_send.send_nowait(value)

    overflow_send, overflow = open_mailbox(math.inf)
    send, receive = open_mailbox(1, OverloadPolicy.DROP_OLDEST, on_drop=again)
    for value in range(4):
        send.send_nowait(value)
    assert (drain(overflow), drain(receive)) == ([0, 1, 2], [3])


async def test_messages_of_urgent_senders_are_received_first_under_a_scheduler() -> None:
    send, receive = open_mailbox(1)
    async with open_scheduler() as scheduler, trio.open_nursery() as nursery:
        for name, level in (("low", 6), ("middle", 4), ("high", 1)):
            for number in range(2):
                with scheduler.context(name, level=level):
                    nursery.start_soon(send.send, f"{name} {number}")
        await wait_all_tasks_blocked()
        got = [await receive.receive() for _ in range(6)]
    # The most urgent sender ran first, and its message took the room.
    assert [value.split()[0] for value in got] == ["high"] * 2 + ["middle"] * 2 + ["low"] * 2


# The law of conservation and a naive model, after any sequence of operations.


class _Model(RuleBasedStateMachine):
    """A mailbox without waiting tasks: every operation is synchronous."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = trio.testing.MockClock()
        self.count = itertools.count()
        self.dropped: list[tuple[int, DropReason]] = []
        self.naive: list[tuple[int, float, int, object]] = []
        self.naive_control: deque[int] = deque()
        self.settled = dict.fromkeys(("handled", "failed", "expired", "shed"), 0)
        self.held: list[tuple[Envelope, Any]] = []
        self.failed_once: set[int] = set()
        self.newest: dict[object, int] = {}
        self.most_held = 0
        self.refused = 0
        self.poisoned: list[int] = []
        self.told: list[int] = []

    @rule(policy=st.sampled_from(sorted(set(OverloadPolicy) - {BLOCK}, key=str)), capacity=st.integers(1, 4))
    @precondition(lambda self: not hasattr(self, "policy"))
    def make(self, policy: OverloadPolicy, capacity: int) -> None:
        self.policy, self.capacity = policy, capacity
        self.state = MailboxState(
            MailboxQueue(capacity, policy),
            "m",
            lambda value, reason: self.dropped.append((value, reason)),
            None,
            lambda poison: self.told.append(poison.value),
        )
        self.state.quarantine = Quarantine(limit=2)
        self.state.open_receivers = 1
        self.state._horizon = lambda: self.now  # type: ignore[method-assign]
        self.state.missed = lambda _: DeadlineMissed("m", started=False)  # type: ignore[method-assign]
        self.now = 0.0

    @precondition(lambda self: hasattr(self, "policy"))
    @rule(
        level=st.integers(0, 3),
        relative=st.sampled_from([0.0, 1.0, 2.0, 3.0, math.inf]),
        key=st.sampled_from([None, "x", "y"]),
    )
    def send(self, level: int, relative: float, key: str | None) -> None:
        number, due = next(self.count), self.now + relative
        message = Envelope(number, level, due, key, self.state.queue)
        expected = self._naive_send(number, level, due, key)
        if expected is None:
            self.state.submit(message)
        else:
            with pytest.raises(expected):
                self.state.submit(message)

    def _naive_send(self, number: int, level: int, due: float, key: str | None) -> type[Exception] | None:
        if due <= self.now:
            self.refused += 1
            return DeadlineMissed
        if len(self.naive) >= self.capacity:
            self._naive_expire()
        newcomer = (level, due, number, key)
        same = [entry for entry in self.naive if entry[3] == key and key is not None]
        if self.policy is OverloadPolicy.COALESCE and same:
            self._naive_shed(max(same, key=lambda entry: entry[2]))
        elif len(self.naive) >= self.capacity:
            if self.policy is OverloadPolicy.DROP_OLDEST:
                self._naive_shed(min(self.naive, key=lambda entry: entry[2]))
            elif self.policy is OverloadPolicy.DROP_LEAST_URGENT and newcomer[:3] < max(self.naive)[:3]:
                self._naive_shed(max(self.naive, key=lambda entry: entry[:3]))
            else:
                self.refused += 1
                return MailboxFull
        self.naive.append(newcomer)
        self.newest[key] = number
        return None

    def _naive_shed(self, entry: Any) -> None:
        self.naive.remove(entry)
        self.settled["shed"] += 1

    def _naive_expire(self) -> None:
        for entry in list(self.naive):
            if entry[1] <= self.now:
                self.naive.remove(entry)
                self.settled["expired"] += 1

    @precondition(lambda self: hasattr(self, "policy"))
    @rule()
    def control(self) -> None:
        number = next(self.count)
        self.state.submit_control(number)
        self.naive_control.append(number)

    @precondition(lambda self: hasattr(self, "policy"))
    @rule(holds=st.booleans())
    def receive(self, holds: bool) -> None:
        message = self.state.take(holds=holds)
        got = None if message is None else message.value
        if self.naive_control:
            assert got == self.naive_control.popleft()
            if holds:
                self.held.append((message, None))
            return
        self._naive_expire()
        if not self.naive:
            assert got is None
            return
        entry = min(self.naive, key=lambda entry: entry[:3])
        self.naive.remove(entry)
        assert got == entry[2]
        if holds:
            self.held.append((message, entry))
            self.most_held = max(self.most_held, len(self.held))
        else:
            self.settled["handled"] += 1

    @precondition(lambda self: getattr(self, "held", None))
    @rule(data=st.data(), end=st.sampled_from(["done", "cancelled", "failed"]))
    def end(self, data: Any, end: str) -> None:
        message, entry = self.held.pop(data.draw(st.integers(0, len(self.held) - 1)))
        poisons = end == "failed" and message.value in self.failed_once
        if end == "done":
            message.lane.settle(message, State.HANDLED)
        elif end == "cancelled":
            self.state.put_back(message)
        else:
            self.failed_once.add(message.value)
            assert self.state.fail(message, ValueError("no"), at=self.now) is poisons
        if poisons:
            self.poisoned.append(message.value)
        if entry is None:
            if end != "done" and not poisons:
                self.naive_control = deque(sorted([*self.naive_control, message.value]))
            return
        self._naive_end(entry, end, poisons=poisons)

    def _naive_end(self, entry: Any, end: str, *, poisons: bool) -> None:
        _, due, number, key = entry
        newer = self.policy is OverloadPolicy.COALESCE and key is not None and self.newest[key] != number
        if end == "done":
            self.settled["handled"] += 1
        elif poisons:
            self.settled["failed"] += 1
        elif due <= self.now:
            self.settled["expired"] += 1
        elif newer:
            self.settled["shed"] += 1
        else:
            self.naive.append(entry)

    @precondition(lambda self: hasattr(self, "policy"))
    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def conserved(self) -> None:
        if not hasattr(self, "policy"):
            return
        counts = self.state.queue.statistics
        assert counts.conserved()
        assert self.state.control.statistics.conserved()
        assert counts.queued == len(self.naive)
        assert counts.waiting <= self.capacity + self.most_held
        assert counts.served == sum(entry is not None for _, entry in self.held)
        assert counts.cancelled == 0
        assert self.told == self.poisoned
        assert [poison.value for poison in self.state.quarantine] == self.poisoned[-2:]
        assert {name: getattr(counts, name) for name in self.settled} == self.settled
        assert counts.refused == self.refused
        assert len(self.dropped) == counts.shed + counts.expired
        assert len(self.state._timers) == sum(entry[1] != math.inf for entry in self.naive)


TestModel = _Model.TestCase
TestModel.settings = settings(max_examples=short_or_full(50, 150), stateful_step_count=40)


# The same law with tasks that wait, are cancelled, and expire while they wait.

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.integers(0, 3), st.sampled_from([1.0, 3.0, math.inf])),
        st.tuples(st.just("send_nowait"), st.integers(0, 3), st.sampled_from([1.0, 3.0, math.inf])),
        st.tuples(st.sampled_from(["receive", "receive_nowait", "control", "pass_time"])),
        st.tuples(st.just("cancel"), st.integers(0, 20)),
    ),
    max_size=30,
)


class _Tasks:
    """Operates a mailbox from tasks, and records the outcome of every value."""

    def __init__(self, capacity: int, policy: OverloadPolicy, nursery: trio.Nursery) -> None:
        self.send, self.receive = open_mailbox(capacity, policy, on_drop=self.on_drop)
        self.nursery = nursery
        self.outcomes: dict[int, list[str]] = {}
        self.scopes: list[trio.CancelScope] = []

    def on_drop(self, value: int, reason: DropReason) -> None:
        self.outcomes[value].append(reason.value)

    def got(self, value: int) -> None:
        self.outcomes[value].append("received")

    def new(self) -> int:
        value = len(self.outcomes)
        self.outcomes[value] = []
        return value

    async def sender(self, value: int, level: int, deadline: float) -> None:
        accepted = False
        with trio.CancelScope() as scope:
            self.scopes.append(scope)
            try:
                await self.send.send(value, level=level, deadline=deadline)
                accepted = True
            except (MailboxFull, DeadlineMissed, trio.BrokenResourceError):
                self.outcomes[value].append("not accepted")
        if not accepted and scope.cancelled_caught:
            self.outcomes[value].append("sender cancelled")

    async def receiver(self) -> None:
        with trio.CancelScope() as scope, contextlib.suppress(trio.ClosedResourceError):
            self.scopes.append(scope)
            self.got(await self.receive.receive())

    def apply(self, name: str, *args: Any) -> None:
        now = trio.current_time()
        if name == "send":
            self.nursery.start_soon(self.sender, self.new(), args[0], now + args[1])
        elif name == "send_nowait":
            value = self.new()
            try:
                self.send.send_nowait(value, level=args[0], deadline=now + args[1])
            except (MailboxFull, trio.WouldBlock):
                self.outcomes[value].append("not accepted")
        elif name == "receive":
            self.nursery.start_soon(self.receiver)
        elif name == "receive_nowait":
            with contextlib.suppress(trio.WouldBlock):
                self.got(self.receive.receive_nowait())
        elif name == "control":
            self.send.send_control(self.new())
        elif name == "cancel" and self.scopes:
            self.scopes[args[0] % len(self.scopes)].cancel()

    def check(self) -> None:
        snapshot = self.send.statistics()
        assert snapshot.messages.conserved()
        assert snapshot.control.conserved()
        assert snapshot.current_buffer_used <= snapshot.max_buffer_size
        if snapshot.tasks_waiting_send:
            assert snapshot.current_buffer_used == snapshot.max_buffer_size
        if snapshot.tasks_waiting_receive:
            assert snapshot.messages.waiting + snapshot.control.waiting + snapshot.tasks_waiting_send == 0


@settings(max_examples=short_or_full(50, 150))
@given(capacity=st.integers(0, 2), policy=st.sampled_from(OverloadPolicy), operations=OPERATIONS)
def test_every_message_has_exactly_one_outcome(
    capacity: int, policy: OverloadPolicy, operations: Any
) -> None:
    if not capacity and policy is not OverloadPolicy.REJECT:
        policy = BLOCK

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            tasks = _Tasks(capacity, policy, nursery)
            for name, *args in operations:
                if name == "pass_time":
                    clock.jump(2)
                tasks.apply(name, *args)
                tasks.check()
                await wait_all_tasks_blocked()
                tasks.check()
            tasks.receive.close()
            tasks.check()
            assert tasks.send.statistics().messages.waiting == 0
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
        assert all(len(outcome) == 1 for outcome in tasks.outcomes.values()), tasks.outcomes

    clock = trio.testing.MockClock()
    trio.run(main, clock=clock)
