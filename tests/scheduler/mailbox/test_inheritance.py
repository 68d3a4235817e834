"""Priority inheritance of receivers that are bound to a mailbox."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import Lock, OverloadPolicy, open_mailbox, open_scheduler
from rtos.testing import TICK, run_virtual, spend
from tests.support.contexts import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rtos.scheduler import Scheduler, SchedulingContext


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_scheduler(reserve=0) as scheduler:
        yield scheduler


class Receiver:
    """A bound receiver that does one thing each time it is told to."""

    def __init__(self, end: Any, *, bind: bool = True) -> None:
        self.end = end
        self.bind = bind
        self.orders, self._next_order = trio.open_memory_channel[str](math.inf)
        self.got: list[Any] = []

    async def run(self) -> None:
        if self.bind:
            self.end.bind()
        async for order in self._next_order:
            if order == "receive":
                self.got.append(await self.end.receive())
            elif order == "try":
                self.got.append(self.end.receive_nowait())
            else:
                with trio.CancelScope() as self.scope:
                    async with self.end.handling() as value:
                        self.got.append(value)
                        assert await self._next_order.receive() == "end"

    async def order(self, *orders: str) -> None:
        for order in orders:
            self.orders.send_nowait(order)
        await wait_all_tasks_blocked()


def place(context: SchedulingContext) -> tuple[int, float]:
    return context.level, context.deadline


# The inversion.


def run_inversion(*, bind: bool, is_waiting: bool) -> list[str]:
    """Steps of a level-6 receiver and of busy level-3 work, once a level-0 message is sent."""
    steps: list[str] = []

    async def receiver(end: Any) -> None:
        if bind:
            end.bind()
        if not is_waiting:
            # Something to do before it comes to receive.
            for _ in range(3):
                spend(TICK)
                await trio.lowlevel.checkpoint()
        steps.append(await end.receive())

    async def middle() -> None:
        for _ in range(20):
            spend(TICK)
            steps.append("middle")
            await trio.lowlevel.checkpoint()

    async def main() -> None:
        send, receive = open_mailbox[str](5)
        async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
            start(nursery, scheduler.context("low", level=6), receiver, receive)
            await trio.sleep(1.5 * TICK)
            start(nursery, scheduler.context("middle", level=3), middle)
            send.send_nowait("urgent", level=0)

    run_virtual(main)
    return steps


@pytest.mark.parametrize("is_waiting", [True, False], ids=["receiver waits", "receiver is busy"])
def test_bound_receiver_gets_an_urgent_message_before_less_urgent_work(is_waiting: bool) -> None:
    assert run_inversion(bind=True, is_waiting=is_waiting) == ["urgent", *["middle"] * 20]
    assert run_inversion(bind=False, is_waiting=is_waiting) == [*["middle"] * 20, "urgent"]


# What a bound receiver inherits.


async def test_receiver_inherits_from_the_next_message_until_it_has_received_it(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](5)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("c", level=7)
        assert place(context) == (6, math.inf)
        due = trio.current_time() + 1000
        send.send_nowait("b", level=4, deadline=due)
        send.send_nowait("a", level=2)
        assert place(context) == (2, math.inf)
        await receiver.order("try")
        assert place(context) == (4, due)
        await receiver.order("receive")
        assert place(context) == (6, math.inf)
        send.send_nowait("a", level=1)
        receiver.end.close()
        assert place(context) == (6, math.inf)
        nursery.cancel_scope.cancel()
    assert receiver.got == ["a", "b"]


async def test_message_under_handling_is_inherited_until_the_block_ends(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](5)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("queued", level=3)
        await receiver.order("handle")
        assert context.level == 3
        send.send_nowait("next", level=5)
        await receiver.order("end")
        assert context.level == 5
        await receiver.order("receive", "handle")
        assert context.level == 6
        send.send_nowait("to a waiting receiver", level=2)
        await wait_all_tasks_blocked()
        assert context.level == 2
        # A cancelled block puts its message back, and the context inherits from it as it waits.
        receiver.scope.cancel()
        await wait_all_tasks_blocked()
        assert (context.level, end.statistics().messages.queued) == (2, 1)
        await receiver.order("try")
        assert context.level == 6
        nursery.cancel_scope.cancel()


async def test_blocked_sender_raises_the_receiver_and_is_followed(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](1)
    receiver, context = Receiver(end), scheduler.context("receiver", level=7)
    sender = scheduler.context("sender", level=4)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("first", level=6)
        async with trio.open_nursery() as inner:
            start(inner, sender, send.send, "blocked")
            await wait_all_tasks_blocked()
            assert context.level == 4
            sender.rebase(1)
            assert context.level == 1
            sender.rebase(5)
            assert context.level == 5
            inner.cancel_scope.cancel()
        assert context.level == 6
        nursery.cancel_scope.cancel()


async def test_inheritance_passes_through_a_lock_that_a_blocked_sender_holds(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](0)
    receiver, context, lock = Receiver(end), scheduler.context("receiver", level=7), Lock()

    async def send_holding_the_lock() -> None:
        async with lock:
            await send.send("blocked")

    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        start(nursery, scheduler.context("sender", level=5), send_holding_the_lock)
        await wait_all_tasks_blocked()
        assert context.level == 5
        start(nursery, scheduler.context("urgent", level=1), lock.acquire)
        await wait_all_tasks_blocked()
        assert context.level == 1
        nursery.cancel_scope.cancel()


async def test_receiver_does_not_raise_itself_through_its_own_blocked_message(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](1)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("first", level=6)
        start(nursery, context, send.send, "own")
        await wait_all_tasks_blocked()
        context.inherit(2, math.inf)
        assert context.level == 2
        context.fall_back()
        assert context.level == 6
        nursery.cancel_scope.cancel()


async def test_control_message_counts_as_level_0(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](1)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_control("stop")
        assert context.level == 0
        await receiver.order("receive")
        assert context.level == 6
        nursery.cancel_scope.cancel()


async def test_expired_shed_and_dropped_messages_are_inherited_no_longer(
    scheduler: Scheduler, mock_clock: MockClock
) -> None:
    send, end = open_mailbox[str](1, OverloadPolicy.DROP_OLDEST)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("shed", level=1)
        send.send_nowait("expires", level=3, deadline=trio.current_time() + 1)
        assert context.level == 3
        mock_clock.jump(2)
        with pytest.raises(trio.WouldBlock):
            end.receive_nowait()
        assert context.level == 6
        send.send_nowait("dropped", level=2)
        assert context.level == 2
        clone = end.clone()
        end.close()
        assert context.level == 6
        clone.close()
        nursery.cancel_scope.cancel()


async def test_each_bound_receiver_inherits_and_an_unbound_one_does_not(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](5)
    contexts = [scheduler.context(f"receiver {number}", level=6) for number in range(3)]
    receivers = [Receiver(end.clone(), bind=number < 2) for number in range(3)]
    async with trio.open_nursery() as nursery:
        for context, receiver in zip(contexts, receivers, strict=True):
            start(nursery, context, receiver.run)
        await wait_all_tasks_blocked()
        send.send_nowait("urgent", level=1)
        assert [context.level for context in contexts] == [1, 1, 6]
        receivers[0].end.close()
        assert [context.level for context in contexts] == [6, 1, 6]
        await receivers[2].order("receive")
        assert [context.level for context in contexts] == [6, 6, 6]
        nursery.cancel_scope.cancel()


async def test_binding_again_moves_the_binding(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](5)
    contexts = [scheduler.context(f"receiver {number}", level=6) for number in range(2)]
    send.send_nowait("urgent", level=1)
    async with trio.open_nursery() as nursery:
        for context, levels in zip(contexts, ([1, 6], [6, 1]), strict=True):
            start(nursery, context, Receiver(end).run)
            await wait_all_tasks_blocked()
            assert [each.level for each in contexts] == levels
        nursery.cancel_scope.cancel()


async def test_context_of_two_bound_tasks_inherits_until_both_ends_are_closed(scheduler: Scheduler) -> None:
    send, end = open_mailbox[str](5)
    context, clone = scheduler.context("receivers", level=6), end.clone()
    async with trio.open_nursery() as nursery:
        for each in (end, clone):
            start(nursery, context, Receiver(each).run)
        await wait_all_tasks_blocked()
        send.send_nowait("urgent", level=1)
        end.close()
        assert context.level == 1
        clone.close()
        assert context.level == 6
        nursery.cancel_scope.cancel()


async def test_end_that_closes_while_a_message_is_delivered_leaves_nothing_inherited(
    scheduler: Scheduler,
) -> None:
    send, end = open_mailbox[str](5)
    receiver, context = Receiver(end), scheduler.context("receiver", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, context, receiver.run)
        await receiver.order("receive")
        send.send_nowait("urgent", level=1)
        end.close()
        # Delivered, but its task has not run since.
        assert (context.level, receiver.got) == (1, [])
        await wait_all_tasks_blocked()
        assert (context.level, receiver.got) == (6, ["urgent"])
        nursery.cancel_scope.cancel()


async def test_bind_of_a_closed_end_raises(scheduler: Scheduler) -> None:
    _, end = open_mailbox[str](5)
    end.close()
    with pytest.raises(trio.ClosedResourceError):
        end.bind()


async def test_bind_without_a_scheduler_has_no_effect() -> None:
    send, end = open_mailbox[str](5)
    end.bind()
    send.send_nowait("a", level=0)
    assert end.receive_nowait() == "a"


# Against a naive model: at rest, the level is that of the most urgent thing that waits or is held.


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 2),
    operations=st.lists(
        st.tuples(
            st.sampled_from(["send", "send", "receive", "handle", "end", "cancel", "control", "close"]),
            st.integers(0, 7),
        ),
        max_size=30,
    ),
)
def test_level_is_that_of_a_naive_model(capacity: int, operations: Any) -> None:
    async def main() -> None:
        send, end = open_mailbox[int](capacity)
        keep_open, receiver = end.clone(), Receiver(end)
        async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
            context = scheduler.context("receiver", level=6)
            start(nursery, context, receiver.run)
            await wait_all_tasks_blocked()
            waiting: list[int] = []  # levels of the messages and blocked senders; a control message is -1
            held: int | None = None
            is_idle = is_bound = True

            def take() -> int | None:
                # Takes what is next, if the receiver asks for it.
                if is_idle or not waiting:
                    return None
                waiting.remove(level := min(waiting))
                return level

            order = ""
            for name, level in operations:
                if name == "send":
                    start(nursery, scheduler.context("sender", level=level), send.send, level)
                    waiting.append(level)
                elif name == "control":
                    send.send_control(-1)
                    waiting.append(-1)
                elif name in ("receive", "handle") and is_idle and is_bound:
                    receiver.orders.send_nowait(name)
                    is_idle, order = False, name
                elif name == "end" and held is not None:
                    receiver.orders.send_nowait("end")
                    held, is_idle = None, True
                elif name == "cancel" and held is not None:
                    receiver.scope.cancel()
                    waiting.append(held)
                    held, is_idle = None, True
                elif name == "close" and is_idle:
                    end.close()
                    is_bound = False
                await wait_all_tasks_blocked()
                if held is None and (taken := take()) is not None:
                    held, is_idle = (taken, False) if order == "handle" else (None, True)
                levels = [6, *waiting, *([] if held is None else [held])]
                assert context.level == (max(min(levels), 0) if is_bound else 6)
            nursery.cancel_scope.cancel()
        keep_open.close()

    trio.run(main, clock=MockClock())
