"""Trio's own tests of ``Lock``, ``Semaphore`` and ``Condition``, run against the ones here."""

from __future__ import annotations

import re
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio._tests.test_sync as trio_tests
from trio.testing import wait_all_tasks_blocked

from rtos.scheduler import open_scheduler
from rtos.scheduler.locks import Condition, Lock, Semaphore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FACTORIES = {"Lock": Lock, "Semaphore(1)": lambda: Semaphore(1)}
GENERIC = [
    trio_tests.test_generic_lock_exclusion,
    trio_tests.test_generic_lock_fifo_fairness,
    trio_tests.test_generic_lock_acquire_nowait_blocks_acquire,
]


@asynccontextmanager
async def no_scheduler() -> AsyncIterator[None]:
    yield


ORDERS = {
    "no scheduler": no_scheduler,
    "run queue": open_scheduler,
    "Trio's order": lambda: open_scheduler(ordered=False),
}
in_each_order = pytest.mark.parametrize("opened", ORDERS.values(), ids=ORDERS)


@pytest.fixture(autouse=True)
def replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, replacement in (("Lock", Lock), ("Semaphore", Semaphore), ("Condition", Condition)):
        monkeypatch.setattr(trio_tests, name, replacement)


@in_each_order
@pytest.mark.parametrize("test", [trio_tests.test_Semaphore, trio_tests.test_Condition])
async def test_trio_test_passes(opened: Any, test: Any) -> None:
    async with opened():
        await test()


@in_each_order
async def test_trio_test_of_lock_passes(opened: Any) -> None:
    async with opened():
        await trio_tests.test_Lock_and_StrictFIFOLock(Lock)


@in_each_order
@pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)
@pytest.mark.parametrize("test", GENERIC)
async def test_trio_generic_lock_test_passes(opened: Any, factory: Any, test: Any) -> None:
    async with opened():
        await test(factory)


def test_trio_test_of_bounded_semaphore_passes() -> None:
    trio_tests.test_Semaphore_bounded()


# Trio's other tests look into private attributes of its lock.


async def test_lock_of_exited_owner_is_broken() -> None:
    lock = Lock()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.acquire)
    owner = re.escape(str(lock.statistics().owner))
    for _ in range(2):
        with pytest.raises(
            trio.BrokenResourceError, match=f"^Owner of this lock exited without releasing: {owner}$"
        ):
            await lock.acquire()
    with pytest.raises(trio.WouldBlock):
        lock.acquire_nowait()


async def test_waiters_fail_when_the_owner_exits() -> None:
    lock = Lock()
    broken = pytest.RaisesExc(
        trio.BrokenResourceError, match="^Owner of this lock exited without releasing: "
    )
    with pytest.RaisesGroup(broken, broken):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(lock.acquire)
    assert lock.statistics().tasks_waiting == 0


async def test_waiter_of_a_condition_fails_when_the_owner_exits() -> None:
    condition = Condition()

    async def wait() -> None:
        await condition.acquire()
        with pytest.raises(trio.BrokenResourceError, match="^Owner of this lock exited"):
            await condition.wait()

    async def notify_and_exit() -> None:
        await condition.acquire()
        condition.notify()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        await wait_all_tasks_blocked()
        nursery.start_soon(notify_and_exit)


async def test_lock_that_was_handed_over_breaks_with_its_new_owner() -> None:
    lock = Lock()
    lock.acquire_nowait()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lock.acquire)
        await wait_all_tasks_blocked()
        lock.release()
        new_owner = lock.statistics().owner
    assert lock.statistics().owner is new_owner
    with pytest.raises(trio.BrokenResourceError):
        await lock.acquire()


async def test_released_lock_is_not_broken_when_its_last_owner_exits() -> None:
    lock = Lock()

    async def hold() -> None:
        async with lock:
            pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
    async with lock:
        pass


def test_all_can_be_weakly_referenced() -> None:
    for each in (Lock(), Semaphore(1), Condition()):
        assert weakref.ref(each)() is each


@pytest.mark.parametrize("name", ["Lock", "Semaphore", "Condition"])
def test_public_attributes_are_those_of_trio(name: str) -> None:
    theirs, ours = getattr(trio, name), {"Lock": Lock, "Semaphore": Semaphore, "Condition": Condition}[name]
    assert {each for each in dir(theirs) if not each.startswith("_")} == {
        each for each in dir(ours) if not each.startswith("_")
    }
