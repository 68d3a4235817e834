"""Messages that are held while they are worked on: served again once, and then quarantined."""

import logging
import math

import pytest
import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from trio.testing import wait_all_tasks_blocked

from rtos.scheduler import (
    ChildSpec,
    DropReason,
    OverloadPolicy,
    open_mailbox,
    open_scheduler,
    open_supervisor,
)
from rtos.scheduler.order import MailboxQueue, Message, State


async def _fail(receive, error=ValueError):
    async with receive.handling() as message:
        raise error(message)


def _counts(receive):
    messages = receive.statistics().messages
    assert messages.conserved()
    return {name: getattr(messages, name) for name in ("handled", "failed", "queued", "served")}


async def test_a_held_message_is_being_served_until_its_block_ends(autojump_clock):
    send, receive = open_mailbox(4)
    await send.send("a")
    async with receive.handling() as message:
        assert message == "a"
        assert _counts(receive) == {"handled": 0, "failed": 0, "queued": 0, "served": 1}
    assert _counts(receive) == {"handled": 1, "failed": 0, "queued": 0, "served": 0}


async def test_the_first_failure_puts_it_back_where_it_was_and_the_second_quarantines_it(caplog):
    send, receive = open_mailbox(4)
    for value in ("bad", "good", "urgent"):
        await send.send(value, level=0 if value == "urgent" else 3)
    async with receive.handling() as message:
        assert message == "urgent"
    with pytest.raises(ValueError, match="bad"):
        await _fail(receive)
    assert _counts(receive) == {"handled": 1, "failed": 0, "queued": 2, "served": 0}
    with caplog.at_level(logging.ERROR):
        await _fail(receive)  # before the good one, since it came before it; and raises nothing
    assert caplog.messages == ["a message to mailbox has failed twice, and is quarantined"]
    assert _counts(receive) == {"handled": 1, "failed": 1, "queued": 1, "served": 0}
    assert receive.statistics().quarantined == 1
    (poison,) = receive.take_quarantined()
    assert (poison.value, str(poison.error)) == ("bad", "bad")
    assert receive.take_quarantined() == ()
    assert receive.receive_nowait() == "good"


async def test_a_cancellation_is_no_failure(autojump_clock):
    send, receive = open_mailbox(4)
    await send.send("a")
    for _ in range(3):
        with trio.move_on_after(1):
            async with receive.handling():
                await trio.sleep(10)
        assert _counts(receive) == {"handled": 0, "failed": 0, "queued": 1, "served": 0}
    async with receive.handling() as message:
        assert message == "a"


async def test_waiting_for_a_message_to_hold(autojump_clock):
    send, receive = open_mailbox(0)
    held = []

    async def work():
        async with receive.handling() as message:
            held.append((message, _counts(receive)["served"]))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        await wait_all_tasks_blocked()
        await send.send("a")
    assert held == [("a", 1)]
    with trio.CancelScope() as scope:
        scope.cancel()
        async with receive.handling():
            pytest.fail("it must not be entered")
    await send.aclose()
    with pytest.raises(trio.EndOfChannel):
        await _fail(receive)
    await receive.aclose()
    with pytest.raises(trio.ClosedResourceError):
        await _fail(receive)


async def test_what_is_put_back_goes_to_who_waits_and_over_the_bound(autojump_clock):
    send, receive = open_mailbox(1)
    got = []

    async def take():
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        await send.send("a")
        with pytest.raises(ValueError, match="stop"):  # noqa: PT012 - what happens while it is held
            async with receive.handling():
                await send.send("b")
                raise ValueError("stop")
        statistics = receive.statistics()
        assert (statistics.current_buffer_used, statistics.messages.high_water) == (2, 2)
        assert [receive.receive_nowait(), receive.receive_nowait()] == ["a", "b"]
        await send.send("c")
        with pytest.raises(ValueError, match="stop"):  # noqa: PT012 - what happens while it is held
            async with receive.handling():
                nursery.start_soon(take)
                await wait_all_tasks_blocked()
                raise ValueError("stop")
    assert got == ["c"]


@pytest.mark.parametrize("why", ["expired", "replaced", "closed"])
async def test_what_cannot_wait_any_more_is_dropped_and_told(autojump_clock, why):
    dropped = []

    def on_drop(value, reason):
        dropped.append((value, reason))

    send, receive = open_mailbox(4, OverloadPolicy.COALESCE, on_drop=on_drop)
    await send.send("old", key="k", deadline=trio.current_time() + 5)
    with pytest.raises(ValueError, match="stop"):  # noqa: PT012 - what happens while it is held
        async with receive.handling():
            if why == "expired":
                await trio.sleep(10)
            elif why == "replaced":
                await send.send("new", key="k")
            else:
                receive.close()
            raise ValueError("stop")
    reasons = {"expired": DropReason.EXPIRED, "replaced": DropReason.SHED, "closed": DropReason.CLOSED}
    assert dropped == [("old", reasons[why])]
    assert receive.statistics().messages.conserved()


async def test_the_control_lane_can_be_held_too():
    send, receive = open_mailbox(4)
    await send.send("user")
    send.send_control("stop")
    with pytest.raises(ValueError, match="stop"):
        await _fail(receive)
    await _fail(receive)
    assert [poison.value for poison in receive.take_quarantined()] == ["stop"]
    assert receive.statistics().control.conserved()
    assert receive.receive_nowait() == "user"


async def test_the_oldest_is_dropped_first_also_when_it_has_been_put_back():
    send, receive = open_mailbox(2, OverloadPolicy.DROP_OLDEST)
    await send.send("first")
    with pytest.raises(ValueError, match="first"):  # noqa: PT012 - what happens while it is held
        async with receive.handling():
            await send.send("second")
            raise ValueError("first")
    await send.send("third")
    assert [receive.receive_nowait(), receive.receive_nowait()] == ["second", "third"]


async def test_one_message_in_ten_does_not_use_up_the_restarts_of_its_daemon(autojump_clock):
    """A daemon that crashes on what it cannot take is restarted once for each, and lives on."""
    send, receive = open_mailbox(math.inf)
    handled = []

    async def run(ready):
        ready()
        while True:
            async with receive.handling() as message:
                await trio.sleep(1)
                if message % 10 == 7:
                    raise OSError(message)
                handled.append(message)

    for number in range(40):
        await send.send(number)
    # As many restarts as poison: served again and again, one alone would use them up.
    async with (
        open_scheduler() as scheduler,
        open_supervisor(
            scheduler, [ChildSpec(name="daemon", run=run)], intensity=4, period=1000.0
        ) as supervisor,
    ):
        await trio.sleep(100)
        assert len(supervisor.reports) == 4
    assert handled == [number for number in range(40) if number % 10 != 7]
    assert [poison.value for poison in receive.take_quarantined()] == [7, 17, 27, 37]


class Held(RuleBasedStateMachine):
    """The law, and the order, over messages that are taken, put back and settled."""

    def __init__(self):
        super().__init__()
        self.queue = MailboxQueue(4, OverloadPolicy.DROP_OLDEST)
        self.served = []
        self.waiting = []

    @rule(level=st.integers(0, 3))
    def offer(self, level):
        message = Message(None, level=level)
        accepted, shed = self.queue.offer(message)
        assert accepted
        if shed is not None:
            assert shed is min(self.waiting, key=lambda each: each.arrival)
            self.waiting.remove(shed)
        self.waiting.append(message)

    @precondition(lambda self: self.waiting)
    @rule()
    def take(self):
        message = self.queue.take()
        assert message is min(self.waiting, key=lambda each: (each.level, each.arrival))
        self.waiting.remove(message)
        self.served.append(message)

    @precondition(lambda self: self.served)
    @rule(data=st.data(), back=st.booleans())
    def end(self, data, back):
        message = data.draw(st.sampled_from(self.served))
        self.served.remove(message)
        if back:
            assert self.queue.put_back(message)
            self.waiting.append(message)
        else:
            self.queue.settle(message, State.HANDLED)

    @invariant()
    def law(self):
        statistics = self.queue.statistics
        assert statistics.conserved()
        assert (statistics.queued, statistics.served) == (len(self.waiting), len(self.served))


TestHeld = Held.TestCase
TestHeld.settings = settings(max_examples=50, deadline=None)
