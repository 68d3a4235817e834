"""Priority inheritance through locks, semaphores and conditions, in virtual time."""

from __future__ import annotations

import math
import signal
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from rtos.scheduler import open_scheduler
from rtos.scheduler.calls.port import Port
from rtos.scheduler.locks import Condition, Lock, Semaphore
from rtos.scheduler.policy.wait_queue import WaitQueue
from rtos.testing import TICK, run_virtual, spend
from tests.support.contexts import start

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from rtos.scheduler import Scheduler


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_scheduler(reserve=0) as scheduler:
        yield scheduler


async def hold(lock: Any, until: trio.Event) -> None:
    async with lock:
        await until.wait()


async def take(lock: Any, record: list[str] | None = None, name: str = "") -> None:
    async with lock:
        if record is not None:
            record.append(name)


# The inversion.


def run_inversion(make_lock: Callable[[], Any]) -> list[str]:
    """Steps of a level-6 owner, busy level-3 work, and a level-0 task that wants the lock."""
    steps: list[str] = []

    async def low(lock: Any) -> None:
        async with lock:
            for _ in range(5):
                spend(TICK)
                steps.append("low")
                await trio.lowlevel.checkpoint()

    async def middle() -> None:
        for _ in range(50):
            spend(TICK)
            steps.append("middle")
            await trio.lowlevel.checkpoint()

    async def high(lock: Any) -> None:
        async with lock:
            steps.append("high")

    async def main() -> None:
        lock = make_lock()
        async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
            start(nursery, scheduler.context("low", level=6), low, lock)
            while not steps:
                await trio.lowlevel.checkpoint()
                await trio.sleep(TICK)
            start(nursery, scheduler.context("middle", level=3), middle)
            start(nursery, scheduler.context("high", level=0), high, lock)

    run_virtual(main)
    return steps


@pytest.mark.parametrize("make_lock", [Lock, partial(Semaphore, 1), Condition])
def test_urgent_task_waits_only_for_the_owner_of_the_lock(make_lock: Callable[[], Any]) -> None:
    # The owner finishes its five steps at level 0, and the urgent task goes on at once.
    assert run_inversion(make_lock) == ["low"] * 5 + ["high"] + ["middle"] * 50


def test_with_a_lock_of_trio_the_urgent_task_waits_for_everything_in_between() -> None:
    assert run_inversion(trio.Lock) == ["low"] + ["middle"] * 50 + ["low"] * 4 + ["high"]


# What the owner inherits.


async def test_owner_inherits_until_it_releases(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()
    owner = scheduler.context("owner", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, owner, hold, lock, done)
        await wait_all_tasks_blocked()
        assert owner.level == 6
        start(nursery, scheduler.context("near", level=2, deadline=9.0), take, lock)
        await wait_all_tasks_blocked()
        assert (owner.level, owner.deadline) == (2, 9.0)
        start(nursery, scheduler.context("nearer", level=2, deadline=8.0), take, lock)
        start(nursery, scheduler.context("urgent", level=1), take, lock)
        await wait_all_tasks_blocked()
        assert (owner.level, owner.deadline) == (1, math.inf)
        done.set()
    assert (owner.level, owner.deadline) == (6, math.inf)


async def test_owner_gives_back_when_the_waiter_is_cancelled(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()
    owner = scheduler.context("owner", level=6)
    async with trio.open_nursery() as nursery:
        start(nursery, owner, hold, lock, done)
        await wait_all_tasks_blocked()
        start(nursery, scheduler.context("less urgent", level=4), take, lock)
        async with trio.open_nursery() as inner:
            start(inner, scheduler.context("urgent", level=0), take, lock)
            await wait_all_tasks_blocked()
            assert owner.level == 0
            inner.cancel_scope.cancel()
        assert owner.level == 4
        done.set()
    assert owner.level == 6


async def test_new_owner_inherits_from_the_tasks_that_still_wait(scheduler: Scheduler) -> None:
    lock, events = Lock(), [trio.Event() for _ in range(3)]
    contexts = [scheduler.context(f"c{number}", level=level) for number, level in enumerate((6, 4, 5))]
    async with trio.open_nursery() as nursery:
        for context, event in zip(contexts, events, strict=True):
            start(nursery, context, hold, lock, event)
            await wait_all_tasks_blocked()
        assert [context.level for context in contexts] == [4, 4, 5]
        events[0].set()
        await wait_all_tasks_blocked()
        assert [context.level for context in contexts] == [6, 4, 5]
        contexts[2].rebase(1)
        assert [context.level for context in contexts] == [6, 1, 1]
        events[1].set()
        await wait_all_tasks_blocked()
        assert [context.level for context in contexts] == [6, 4, 1]
        events[2].set()


async def test_owner_gives_back_when_it_exits_without_releasing(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()
    owner = scheduler.context("owner", level=6)

    async def acquire_and_exit() -> None:
        await lock.acquire()
        await done.wait()

    with pytest.RaisesGroup(trio.BrokenResourceError):
        async with trio.open_nursery() as nursery:
            start(nursery, owner, acquire_and_exit)
            await wait_all_tasks_blocked()
            start(nursery, scheduler.context("urgent", level=0), take, lock)
            await wait_all_tasks_blocked()
            assert owner.level == 0
            done.set()
    assert owner.level == 6


async def test_change_of_the_waiting_context_reaches_the_owner(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()
    owner, waiting = scheduler.context("owner", level=6), scheduler.context("waiting", level=3)
    async with trio.open_nursery() as nursery:
        start(nursery, owner, hold, lock, done)
        await wait_all_tasks_blocked()
        start(nursery, waiting, take, lock)
        await wait_all_tasks_blocked()
        for level in (1, 5, 7):
            waiting.rebase(level)
            assert owner.level == min(level, 6)
        done.set()


async def test_waiters_of_the_owners_context_do_not_raise_it(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()
    shared = scheduler.context("shared", level=5)
    async with trio.open_nursery() as nursery:
        start(nursery, shared, hold, lock, done)
        await wait_all_tasks_blocked()
        start(nursery, shared, take, lock)
        async with trio.open_nursery() as inner:
            start(inner, scheduler.context("urgent", level=2), take, lock)
            await wait_all_tasks_blocked()
            assert shared.level == 2
            inner.cancel_scope.cancel()
        # Its own waiter ran at level 2 with it, and must not keep it there.
        assert shared.level == 5
        done.set()


async def test_tasks_without_a_context_inherit_as_the_host(scheduler: Scheduler) -> None:
    lock = Lock()
    async with lock, trio.open_nursery() as nursery:
        start(nursery, scheduler.context("urgent", level=1), take, lock)
        await wait_all_tasks_blocked()
        assert scheduler.host.level == 1
        lock.release()
        await wait_all_tasks_blocked()
        assert scheduler.host.level == scheduler.host_level
        await lock.acquire()


async def test_without_a_scheduler_the_order_is_that_of_arrival() -> None:
    async with open_scheduler() as scheduler:
        urgent = scheduler.context("urgent", level=0)
    lock, record = Lock(), list[str]()
    async with trio.open_nursery() as nursery, lock:
        nursery.start_soon(take, lock, record, "first")
        await wait_all_tasks_blocked()
        start(nursery, urgent, take, lock, record, "second")
        await wait_all_tasks_blocked()
    assert record == ["first", "second"]


# Transitive inheritance.


async def test_inheritance_passes_through_a_chain_of_locks(scheduler: Scheduler) -> None:
    locks, done = [Lock(), Lock(), Lock()], trio.Event()
    contexts = [scheduler.context(f"c{number}", level=7 - number) for number in range(3)]

    async def link(number: int) -> None:
        async with locks[number]:
            if number:
                await take(locks[number - 1])
            else:
                await done.wait()

    async with trio.open_nursery() as nursery:
        for number, context in enumerate(contexts):
            start(nursery, context, link, number)
            await wait_all_tasks_blocked()
        assert [context.level for context in contexts] == [5, 5, 5]
        async with trio.open_nursery() as inner:
            start(inner, scheduler.context("urgent", level=1), take, locks[2])
            await wait_all_tasks_blocked()
            assert [context.level for context in contexts] == [1, 1, 1]
            inner.cancel_scope.cancel()
        assert [context.level for context in contexts] == [5, 5, 5]
        done.set()
    assert [context.level for context in contexts] == [7, 6, 5]


async def test_inheritance_passes_through_a_call_of_the_owner(scheduler: Scheduler) -> None:
    lock, done = Lock(), trio.Event()

    async def handle(_: None) -> None:
        await done.wait()

    port, server = Port(scheduler, "server"), scheduler.context("server", level=7)

    async def call_holding_the_lock() -> None:
        async with lock:
            await port.call(None)

    async with trio.open_nursery() as nursery:
        start(nursery, server, partial(port.serve, handle, context=server))
        start(nursery, scheduler.context("owner", level=6), call_holding_the_lock)
        await wait_all_tasks_blocked()
        assert server.level == 6
        start(nursery, scheduler.context("urgent", level=1), take, lock)
        await wait_all_tasks_blocked()
        assert server.level == 1
        done.set()
        await wait_all_tasks_blocked()
        assert server.level == 7
        nursery.cancel_scope.cancel()


# The order of waiting tasks.


async def test_waiters_go_by_level_deadline_and_arrival(scheduler: Scheduler) -> None:
    lock, record = Lock(), list[str]()
    async with trio.open_nursery() as nursery:
        async with lock:
            for name, level, deadline in (
                ("third", 4, math.inf),
                ("fourth", 4, math.inf),
                ("second", 4, 9.0),
                ("first", 1, math.inf),
                ("fifth", 6, 1.0),
            ):
                start(
                    nursery, scheduler.context(name, level=level, deadline=deadline), take, lock, record, name
                )
                await wait_all_tasks_blocked()
        with pytest.raises(trio.WouldBlock):
            lock.acquire_nowait()
    assert record == ["first", "second", "third", "fourth", "fifth"]


async def test_notify_wakes_the_most_urgent(scheduler: Scheduler) -> None:
    condition, record = Condition(), list[str]()

    async def wait(name: str) -> None:
        async with condition:
            await condition.wait()
            record.append(name)

    async with trio.open_nursery() as nursery:
        for name, level in (("last", 6), ("first", 0), ("middle", 3)):
            start(nursery, scheduler.context(name, level=level), wait, name)
            await wait_all_tasks_blocked()
        async with condition:
            condition.notify()
        await wait_all_tasks_blocked()
        assert record == ["first"]
        async with condition:
            condition.notify(5)
    assert record == ["first", "middle", "last"]


async def test_notified_tasks_raise_the_owner_of_the_lock(scheduler: Scheduler) -> None:
    condition, done = Condition(), trio.Event()
    notifier = scheduler.context("notifier", level=6)

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def notify() -> None:
        async with condition:
            assert notifier.level == 6
            condition.notify_all()
            assert notifier.level == 1
            await done.wait()

    async with trio.open_nursery() as nursery:
        start(nursery, scheduler.context("urgent", level=1), wait)
        await wait_all_tasks_blocked()
        start(nursery, notifier, notify)
        await wait_all_tasks_blocked()
        done.set()
    assert notifier.level == 6


# Semaphores.


async def test_all_holders_of_a_semaphore_inherit(scheduler: Scheduler) -> None:
    semaphore, events = Semaphore(2), [trio.Event(), trio.Event()]
    holders = [scheduler.context(f"holder {number}", level=6) for number in range(2)]
    async with trio.open_nursery() as nursery:
        for holder, event in zip(holders, events, strict=True):
            start(nursery, holder, hold, semaphore, event)
        await wait_all_tasks_blocked()
        start(nursery, scheduler.context("urgent", level=1), hold, semaphore, events[1])
        await wait_all_tasks_blocked()
        assert [holder.level for holder in holders] == [1, 1]
        events[0].set()
        await wait_all_tasks_blocked()
        assert [holder.level for holder in holders] == [6, 6]
        events[1].set()


async def test_release_by_another_task_ends_the_oldest_hold(scheduler: Scheduler) -> None:
    semaphore = Semaphore(2)
    holders = [scheduler.context(f"holder {number}", level=6) for number in range(2)]

    async def acquire_for_ever() -> None:
        await semaphore.acquire()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        for holder in holders:
            start(nursery, holder, acquire_for_ever)
            await wait_all_tasks_blocked()
        semaphore.release()
        start(nursery, scheduler.context("third", level=6), acquire_for_ever)
        await wait_all_tasks_blocked()
        start(nursery, scheduler.context("urgent", level=1), semaphore.acquire)
        await wait_all_tasks_blocked()
        assert [holder.level for holder in holders] == [6, 1]
        nursery.cancel_scope.cancel()


async def test_task_that_exits_without_releasing_holds_the_semaphore_no_longer(scheduler: Scheduler) -> None:
    semaphore, done = Semaphore(1), trio.Event()
    holder = scheduler.context("holder", level=6)

    async def acquire_and_exit() -> None:
        await semaphore.acquire()
        await done.wait()

    async with trio.open_nursery() as nursery:
        start(nursery, holder, acquire_and_exit)
        await wait_all_tasks_blocked()
        start(nursery, scheduler.context("urgent", level=1), semaphore.acquire)
        await wait_all_tasks_blocked()
        assert holder.level == 1
        done.set()
        await wait_all_tasks_blocked()
        assert holder.level == 6
        semaphore.release()
    assert not semaphore._holders.tasks


async def test_semaphore_that_is_acquired_twice_is_held_until_the_second_release(
    scheduler: Scheduler,
) -> None:
    semaphore = Semaphore(2)
    async with semaphore, semaphore:
        semaphore.release()
        async with trio.open_nursery() as nursery:
            await semaphore.acquire()
            start(nursery, scheduler.context("urgent", level=1), take, semaphore)
            await wait_all_tasks_blocked()
            assert scheduler.host.level == 1
            nursery.cancel_scope.cancel()


# Ctrl-C.


@pytest.mark.parametrize("make_lock", [Lock, partial(Semaphore, 1)])
def test_interrupted_acquire_leaves_no_waiter(monkeypatch: pytest.MonkeyPatch, make_lock: Any) -> None:
    add = WaitQueue.add

    def add_and_interrupt(queue: WaitQueue, waiter: Any) -> None:
        add(queue, waiter)
        signal.raise_signal(signal.SIGINT)

    async def main() -> None:
        lock, done = make_lock(), trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hold, lock, done)
            await wait_all_tasks_blocked()
            with pytest.raises(KeyboardInterrupt):
                await lock.acquire()
            assert lock.statistics().tasks_waiting == 0
            done.set()
        lock.acquire_nowait()

    monkeypatch.setattr(WaitQueue, "add", add_and_interrupt)
    trio.run(main)


@pytest.mark.parametrize("wrong", ["text", None, trio.Lock, trio.Lock(), Semaphore(1)])
def test_condition_takes_only_a_lock_of_its_own_module(wrong: Any) -> None:
    if wrong is None:
        assert not Condition(None).locked()
        return
    with pytest.raises(TypeError, match=r"^lock must be an rtos\.scheduler\.Lock, not "):
        Condition(wrong)


# Against a naive model: one task for each context, locks acquired in order, so nothing deadlocks.

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("next"), st.integers(0, 5), st.integers(0, 3)),
        st.tuples(st.just("cancel"), st.integers(0, 5), st.just(0)),
        st.tuples(st.just("rebase"), st.integers(0, 5), st.integers(0, 7)),
        st.tuples(st.just("release"), st.integers(0, 5), st.just(0)),
    ),
    max_size=40,
)


class _Model:
    """Tasks that acquire locks in increasing order, and release all of them together."""

    def __init__(self, scheduler: Scheduler, nursery: trio.Nursery) -> None:
        self.locks = [Lock() for _ in range(4)]
        self.contexts = [scheduler.context(str(number), level=number + 1) for number in range(6)]
        self.held: list[list[int]] = [[] for _ in self.contexts]
        self.wanted: list[int | None] = [None] * 6
        self.scopes: list[trio.CancelScope | None] = [None] * 6
        self.orders = [trio.open_memory_channel[Any](math.inf) for _ in self.contexts]
        for number, context in enumerate(self.contexts):
            start(nursery, context, self._work, number)

    async def _work(self, number: int) -> None:
        async for lock in self.orders[number][1]:
            if lock is None:
                for each in self.held[number]:
                    self.locks[each].release()
                self.held[number].clear()
                continue
            with trio.CancelScope() as self.scopes[number]:
                self.wanted[number] = lock
                await self.locks[lock].acquire()
                self.held[number].append(lock)
            self.wanted[number] = None

    def apply(self, name: str, number: int, argument: int) -> None:
        is_idle = self.wanted[number] is None
        scope = self.scopes[number]
        if name == "rebase":
            self.contexts[number].rebase(argument)
        elif name == "cancel" and scope is not None:
            scope.cancel()
        elif name == "release" and is_idle:
            self.orders[number][0].send_nowait(None)
        elif name == "next" and is_idle and argument > max(self.held[number], default=-1):
            self.orders[number][0].send_nowait(argument)

    def check(self) -> None:
        levels = [context.base_level for context in self.contexts]
        for _ in self.contexts:
            for waiting, wanted in enumerate(self.wanted):
                for holder, held in enumerate(self.held):
                    if wanted in held:
                        levels[holder] = min(levels[holder], levels[waiting])
        assert [context.level for context in self.contexts] == levels
        for number, lock in enumerate(self.locks):
            assert lock.statistics().tasks_waiting == self.wanted.count(number)


@settings(max_examples=60, deadline=None)
@given(OPERATIONS)
def test_levels_are_those_of_a_naive_model(operations: Any) -> None:
    async def main() -> None:
        async with open_scheduler(reserve=0) as scheduler, trio.open_nursery() as nursery:
            model = _Model(scheduler, nursery)
            for operation in operations:
                model.apply(*operation)
                await wait_all_tasks_blocked()
                model.check()
            nursery.cancel_scope.cancel()

    trio.run(main, clock=MockClock())
