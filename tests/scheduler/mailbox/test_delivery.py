"""``handling()``: messages that are put back, quarantined and released, and never lost."""

from __future__ import annotations

import contextlib
import logging
import math
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, assert_checkpoints, assert_no_checkpoints, wait_all_tasks_blocked

from rtos.errors import DaemonDown, MailboxFull
from rtos.scheduler import (
    ChildSpec,
    DropReason,
    OverloadPolicy,
    open_mailbox,
    open_scheduler,
    open_supervisor,
)
from tests.support.children import NO_WAIT
from tests.support.effort import short_or_full

BLOCK = OverloadPolicy.BLOCK


def fail(text: object) -> None:
    raise ValueError(text)


async def fail_on_next(receive: Any, text: str = "no", *, meanwhile: Any = None) -> Any:
    """Raise while handling the next message; return its value if the error left the block."""
    try:
        async with receive.handling() as value:
            if meanwhile is not None:
                meanwhile()
            fail(text)
    except ValueError:
        return value


async def hold_next(receive: Any, held: list[Any], *, task_status: Any = trio.TASK_STATUS_IGNORED) -> None:
    async with receive.handling() as value:
        held.append(value)
        task_status.started()
        await trio.sleep_forever()


def counts(receive: Any) -> dict[str, int]:
    messages = receive.statistics().messages
    assert messages.conserved()
    names = ("queued", "served", "handled", "failed", "expired", "shed", "cancelled")
    return {name: getattr(messages, name) for name in names if getattr(messages, name)}


async def test_message_is_served_in_the_block_and_handled_at_its_end() -> None:
    send, receive = open_mailbox(2)
    send.send_nowait("a")
    handling = receive.handling()
    with assert_checkpoints():
        value = await handling.__aenter__()
    assert (value, counts(receive)) == ("a", {"served": 1})
    with assert_no_checkpoints():
        await handling.__aexit__(None, None, None)
    assert counts(receive) == {"handled": 1}


async def test_error_leaves_the_block_and_the_message_returns_to_its_position() -> None:
    send, receive = open_mailbox(2)
    send.send_nowait("a")
    send.send_nowait("b")
    assert await fail_on_next(receive, meanwhile=lambda: send.send_nowait("c")) == "a"
    # Three messages are queued at capacity 2; none was shed and no sender blocked.
    assert counts(receive) == {"queued": 3}
    with pytest.raises(trio.WouldBlock):
        send.send_nowait("d")
    assert [receive.receive_nowait() for _ in range(3)] == ["a", "b", "c"]


async def test_second_failure_quarantines_the_message_and_is_not_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    told: list[Any] = []
    send, receive = open_mailbox(2, name="letters", on_poison=told.append)
    send.send_nowait("bad", level=3, key="k")
    send.send_nowait("good", level=5)
    assert await fail_on_next(receive, "first") == "bad"
    assert await fail_on_next(receive, "second") is None
    assert counts(receive) == {"queued": 1, "failed": 1}
    (poison,) = receive.quarantined()
    assert told == [poison]
    assert (poison.value, poison.level, poison.key, poison.is_control) == ("bad", 3, "k", False)
    assert poison.errors == ("ValueError: first", "ValueError: second")
    assert poison.at <= trio.current_time()
    assert receive.statistics().quarantined == 1
    (record,) = caplog.records
    assert (record.levelno, record.message) == (
        logging.ERROR,
        "mailbox letters: quarantined a message that failed twice",
    )
    assert receive.receive_nowait() == "good"


async def test_cancellation_is_not_a_failure(autojump_clock: MockClock) -> None:
    send, receive = open_mailbox(2)
    send.send_nowait("a")
    for _ in range(3):
        with trio.move_on_after(1) as scope:
            async with receive.handling():
                await trio.sleep_forever()
        assert scope.cancelled_caught
        assert counts(receive) == {"queued": 1}
    assert await fail_on_next(receive) == "a"
    assert not receive.quarantined()


async def test_cancellation_goes_on_when_it_comes_with_a_second_failure() -> None:
    async def fail_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("no")

    send, receive = open_mailbox(2)
    send.send_nowait("a")
    assert await fail_on_next(receive) == "a"
    reached = False
    with trio.CancelScope() as scope:
        async with receive.handling(), trio.open_nursery() as nursery:
            nursery.start_soon(fail_when_cancelled)
            nursery.start_soon(trio.sleep_forever)
            await wait_all_tasks_blocked()
            scope.cancel()
        reached = True
    assert scope.cancelled_caught
    assert not reached
    assert [poison.errors[1] for poison in receive.quarantined()] == ["ValueError: no"]


async def test_cancelled_entry_takes_no_message() -> None:
    send, receive = open_mailbox(2)
    with trio.CancelScope() as scope:
        scope.cancel()
        async with receive.handling():
            pytest.fail("entered")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_next, receive, [])
        await wait_all_tasks_blocked()
        assert receive.statistics().tasks_waiting_receive == 1
        nursery.cancel_scope.cancel()
    assert receive.statistics().tasks_waiting_receive == 0
    send.send_nowait("a")
    assert counts(receive) == {"queued": 1}


@pytest.mark.parametrize("capacity", [0, 1])
async def test_message_delivered_to_a_waiting_receiver_is_put_back_before_later_ones(
    capacity: int,
) -> None:
    send, receive = open_mailbox(capacity)
    held: list[Any] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold_next, receive, held)
        await wait_all_tasks_blocked()
        send.send_nowait("a")
        assert counts(receive) == {"served": 1}
        nursery.start_soon(send.send, "b")
        await wait_all_tasks_blocked()
        assert held == ["a"]
        nursery.cancel_scope.cancel()
    assert receive.receive_nowait() == "a"
    assert counts(receive) == ({"handled": 1, "queued": 1} if capacity else {"handled": 1})


async def test_messages_delivered_to_waiting_receivers_are_put_back_in_order_of_arrival() -> None:
    send, receive = open_mailbox(1)
    held: list[Any] = []
    async with trio.open_nursery() as nursery:
        scopes = []
        for _ in range(2):
            scopes.append(await nursery.start(_scoped, receive, held))
            await wait_all_tasks_blocked()
        send.send_nowait("a")
        send.send_nowait("b")
        await wait_all_tasks_blocked()
        for scope in reversed(scopes):
            scope.cancel()
            await wait_all_tasks_blocked()
    assert sorted(held) == ["a", "b"]
    assert [receive.receive_nowait() for _ in range(2)] == ["a", "b"]


async def test_task_may_handle_one_message_and_receive_the_next() -> None:
    send, receive = open_mailbox(1)
    got: list[Any] = []

    async def work() -> None:
        with trio.CancelScope() as scope:
            nursery.start_soon(_cancel_when_blocked, scope)
            async with receive.handling():
                pytest.fail("entered")
        async with receive.handling() as value:
            got.append(value)
        got.append(await receive.receive())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(work)
        for value in "ab":
            await wait_all_tasks_blocked(0.01)
            send.send_nowait(value)
    assert got == ["a", "b"]
    assert counts(receive) == {"handled": 2}


async def _cancel_when_blocked(scope: trio.CancelScope) -> None:
    await wait_all_tasks_blocked()
    scope.cancel()


async def test_message_that_is_put_back_goes_to_a_waiting_receiver() -> None:
    send, first = open_mailbox(1)
    second, held = first.clone(), []
    got: list[Any] = []

    async def receive() -> None:
        got.append(await second.receive())

    async with trio.open_nursery() as nursery:
        inner = await nursery.start(_scoped, first, held)
        send.send_nowait("a")
        await wait_all_tasks_blocked()
        nursery.start_soon(receive)
        await wait_all_tasks_blocked()
        assert (held, got) == (["a"], [])
        inner.cancel()
    assert got == ["a"]
    assert counts(first) == {"handled": 1}


async def _scoped(receive: Any, held: list[Any], *, task_status: Any) -> None:
    with trio.CancelScope() as scope:
        task_status.started(scope)
        await hold_next(receive, held)


async def test_message_that_expired_in_the_block_is_dropped_when_put_back(mock_clock: MockClock) -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(2, on_drop=lambda *drop: dropped.append(drop))
    now = trio.current_time()
    send.send_nowait("late", deadline=now + 1)
    send.send_nowait("later", deadline=now + 3)
    assert await fail_on_next(receive, meanwhile=lambda: mock_clock.jump(2)) == "late"
    assert dropped == [("late", DropReason.EXPIRED)]
    assert await fail_on_next(receive) == "later"
    mock_clock.jump(2)
    # A message that was put back can still expire.
    with pytest.raises(trio.WouldBlock):
        receive.receive_nowait()
    assert counts(receive) == {"expired": 2}


async def test_message_that_was_replaced_in_the_block_is_shed_when_put_back() -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(2, OverloadPolicy.COALESCE, on_drop=lambda *drop: dropped.append(drop))
    send.send_nowait("old", key="k")
    assert await fail_on_next(receive, meanwhile=lambda: send.send_nowait("new", key="k")) == "old"
    assert dropped == [("old", DropReason.SHED)]
    assert receive.receive_nowait() == "new"
    assert counts(receive) == {"handled": 1, "shed": 1}


async def test_message_is_dropped_when_put_back_after_the_last_receiver_closed() -> None:
    dropped: list[Any] = []
    send, receive = open_mailbox(2, on_drop=lambda *drop: dropped.append(drop))
    send.send_nowait("a")
    assert await fail_on_next(receive, meanwhile=receive.close) == "a"
    assert dropped == [("a", DropReason.CLOSED)]
    assert counts(receive) == {"cancelled": 1}


async def test_message_is_put_back_while_a_clone_is_open() -> None:
    send, receive = open_mailbox(2)
    clone = receive.clone()
    send.send_nowait("a")

    def close_both() -> None:
        receive.close()
        send.close()

    assert await fail_on_next(receive, meanwhile=close_both) == "a"
    assert clone.receive_nowait() == "a"
    with pytest.raises(trio.EndOfChannel):
        async with clone.handling():
            pytest.fail("entered")


async def test_control_messages_are_handled_by_the_same_rules() -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("a")
    send.send_control("first")
    send.send_control("second")
    assert await fail_on_next(receive) == "first"
    assert receive.statistics().control.queued == 2
    assert await fail_on_next(receive) is None
    (poison,) = receive.quarantined()
    assert poison.is_control
    receive.release(poison)
    assert [receive.receive_nowait() for _ in range(3)] == ["second", "first", "a"]
    control = receive.statistics().control
    assert (control.accepted, control.failed, control.handled) == (3, 1, 2)


async def test_released_message_may_fail_twice_again_and_has_no_deadline(autojump_clock: MockClock) -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("bad", level=2, deadline=trio.current_time() + 1)
    for _ in range(2):
        await fail_on_next(receive)
    await trio.sleep(2)
    (poison,) = receive.quarantined()
    send.send_nowait("other")
    with pytest.raises(trio.WouldBlock):
        receive.release(poison)
    assert receive.quarantined() == (poison,)
    receive.receive_nowait()
    receive.release(poison)  # the deadline has passed, and is not kept
    assert not receive.quarantined()
    assert await fail_on_next(receive) == "bad"
    assert await fail_on_next(receive) is None
    assert counts(receive) == {"failed": 2, "handled": 1}


async def test_message_whose_release_is_refused_stays_in_quarantine() -> None:
    send, receive = open_mailbox(1, OverloadPolicy.REJECT)
    send.send_nowait("bad")
    for _ in range(2):
        await fail_on_next(receive)
    (poison,) = receive.quarantined()
    send.send_nowait("other")
    with pytest.raises(MailboxFull, match="holds 1 of 1"):
        receive.release(poison)
    assert receive.quarantined() == (poison,)
    receive.close()
    with pytest.raises(trio.ClosedResourceError):
        receive.release(poison)


async def test_discarded_message_leaves_the_quarantine() -> None:
    send, receive = open_mailbox(1)
    send.send_nowait("bad")
    for _ in range(2):
        await fail_on_next(receive)
    (poison,) = receive.quarantined()
    receive.discard(poison)
    assert not receive.quarantined()
    assert counts(receive) == {"failed": 1}
    with pytest.raises(ValueError, match=r"discard: .* is not in quarantine; use one of quarantined"):
        receive.discard(poison)
    with pytest.raises(ValueError, match=r"release: .* is not in quarantine; use one of quarantined"):
        receive.release(poison)


async def test_full_quarantine_removes_and_logs_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    send, receive = open_mailbox(math.inf)
    for number in range(66):
        send.send_nowait(number)
        for _ in range(2):
            await fail_on_next(receive)
    assert [poison.value for poison in receive.quarantined()] == [*range(2, 66)]
    forgotten = [record.message for record in caplog.records if "removed the oldest" in record.message]
    assert len(forgotten) == 2
    assert "value=0" in forgotten[0]
    assert counts(receive) == {"failed": 66}


# With a supervisor.


class _Daemon:
    """Handles numbers, and always fails on those in ``bad``."""

    def __init__(self, bad: set[int]) -> None:
        self.bad = bad
        self.starts = 0
        self.handled: list[int] = []
        self.send, self.receive = open_mailbox(100)

    async def run(self, ready: Any) -> None:
        self.starts += 1
        ready()
        while True:
            async with self.receive.handling() as number:
                await trio.sleep(0.01)
                if number in self.bad:
                    raise ValueError(f"cannot take {number}")
                self.handled.append(number)


async def _supervise(daemon: _Daemon, numbers: range) -> None:
    async with (
        open_scheduler(reserve=0) as scheduler,
        open_supervisor(
            scheduler,
            [ChildSpec(name="d", run=daemon.run)],
            intensity=3,
            period=60.0,
            backoff=NO_WAIT,
        ),
    ):
        for number in numbers:
            daemon.send.send_nowait(number)
        await trio.sleep(5)


async def test_daemon_restarts_once_for_a_message_that_always_fails(
    autojump_clock: MockClock,
) -> None:
    daemon = _Daemon(bad={4})
    await _supervise(daemon, range(10))
    assert daemon.starts == 2
    assert daemon.handled == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    assert [poison.value for poison in daemon.receive.quarantined()] == [4]
    assert counts(daemon.receive) == {"handled": 9, "failed": 1}


async def test_daemon_survives_as_many_bad_messages_as_its_restart_intensity(
    autojump_clock: MockClock,
) -> None:
    daemon = _Daemon(bad={4, 14, 24})
    await _supervise(daemon, range(30))
    assert daemon.starts == 4
    assert daemon.handled == [number for number in range(30) if number not in daemon.bad]

    another = _Daemon(bad={4, 14, 24, 34})
    with pytest.raises(DaemonDown, match="cannot take 34"):
        await _supervise(another, range(40))
    # The message that it failed on and those behind it are still queued.
    assert another.handled == [number for number in range(34) if number not in another.bad]
    assert counts(another.receive) == {"handled": 31, "failed": 3, "queued": 6}


# The law with tasks: every message is handled, dropped or quarantined exactly once.


@settings(max_examples=short_or_full(40, 100))
@given(
    capacity=st.integers(0, 3),
    policy=st.sampled_from(OverloadPolicy),
    operations=st.lists(
        st.tuples(
            st.sampled_from(
                [*["send", "hold", "fail"] * 3, "done", "cancel", "receive", "control", "pass_time"],
            ),
            st.integers(0, 9),
            st.sampled_from([1.0, 3.0, math.inf, math.inf]),
        ),
        min_size=20,
        max_size=60,
    ),
)
def test_every_message_has_exactly_one_outcome(
    capacity: int, policy: OverloadPolicy, operations: Any
) -> None:
    if not capacity and policy is not OverloadPolicy.REJECT:
        policy = BLOCK

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            model = _Workers(capacity, policy, nursery)
            for name, number, relative in operations:
                if name == "pass_time":
                    clock.jump(2)
                else:
                    model.apply(name, number, relative)
                model.check()
                await wait_all_tasks_blocked()
                model.check()
            model.receive.close()
            nursery.cancel_scope.cancel()
        assert model.send.statistics().messages.waiting == model.send.statistics().control.waiting == 0
        assert all(len(outcome) == 1 for outcome in model.outcomes.values()), model.outcomes

    clock = MockClock()
    trio.run(main, clock=clock)


class _Workers:
    """Workers that hold a message until the test ends their block, and the outcome of each value."""

    def __init__(self, capacity: int, policy: OverloadPolicy, nursery: trio.Nursery) -> None:
        self.outcomes: dict[int, list[str]] = {}
        self.send, self.receive = open_mailbox(
            capacity,
            policy,
            on_drop=lambda value, reason: self.outcomes[value].append(reason.value),
            on_poison=lambda poison: self.outcomes[poison.value].append("poison"),
        )
        self.nursery = nursery
        self.failures: dict[int, int] = {}
        self.busy: list[tuple[trio.CancelScope, trio.Event, list[str]]] = []

    async def sender(self, value: int, level: int, deadline: float, key: int) -> None:
        accepted = False
        try:
            await self.send.send(value, level=level, deadline=deadline, key=key)
            accepted = True
        except Exception:  # noqa: BLE001 - refused, late or broken: not accepted
            pass
        finally:
            if not accepted:
                self.outcomes[value].append("not accepted")

    async def receiver(self) -> None:
        with contextlib.suppress(trio.ClosedResourceError):
            self.outcomes[await self.receive.receive()].append("received")

    async def worker(self) -> None:
        event, end = trio.Event(), ["cancel"]
        with trio.CancelScope() as scope:
            try:
                async with self.receive.handling() as value:
                    self.busy.append((scope, event, end))
                    await event.wait()
                    if end[0] == "fail":
                        self.failures[value] = self.failures.get(value, 0) + 1
                        fail(value)
                    self.outcomes[value].append("done")
            except ValueError:
                assert self.failures[value] == 1
            except trio.ClosedResourceError:
                pass

    def apply(self, name: str, number: int, relative: float) -> None:
        if name in ("send", "control"):
            value = len(self.outcomes)
            self.outcomes[value] = []
            if name == "control":
                self.send.send_control(value)
            else:
                due = trio.current_time() + relative
                self.nursery.start_soon(self.sender, value, number % 3, due, value % 2)
        elif name == "hold":
            self.nursery.start_soon(self.worker)
        elif name == "receive":
            self.nursery.start_soon(self.receiver)
        elif self.busy:
            scope, event, end = self.busy.pop(number % len(self.busy))
            end[0] = name
            if name == "cancel":
                scope.cancel()
            else:
                event.set()

    def check(self) -> None:
        snapshot = self.send.statistics()
        assert snapshot.messages.conserved()
        assert snapshot.control.conserved()
        assert snapshot.quarantined == snapshot.messages.failed + snapshot.control.failed
        if snapshot.tasks_waiting_send:
            assert snapshot.current_buffer_used >= snapshot.max_buffer_size
        if snapshot.tasks_waiting_receive:
            assert snapshot.messages.queued + snapshot.control.queued + snapshot.tasks_waiting_send == 0
